import asyncio

import pytest

from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, NotFound, Unauthenticated
from services.kit.execution import Execution

ENDED = Unauthenticated("the key was revoked", reason="CREDENTIAL_ENDED")


async def interrupted(call: Call, held: Call, other: Exception | None = None) -> None:
    """A method that is interrupted by way of `held`, and raises another error at that."""
    async with Execution("X/Y", call):
        held.interrupt = held.interrupt or call.interrupt
        assert held.interrupt is not None
        asyncio.get_running_loop().call_soon(held.interrupt, ENDED)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if other is None:
                raise
            raise other from None


async def test_an_interrupt_ends_a_method_with_its_error() -> None:
    call = Call.root(timeout_s=60)
    with pytest.raises(Unauthenticated) as caught:
        await interrupted(call, call)
    assert caught.value is ENDED


@pytest.mark.parametrize("other", [NotFound("gone"), RuntimeError("a bug")])
async def test_what_a_method_makes_of_an_interrupt_does_not_hide_it(other: Exception) -> None:
    call = Call.root(timeout_s=60)
    with pytest.raises(Unauthenticated):
        await interrupted(call, call, other)


async def test_a_copy_of_the_call_interrupts_the_same_method() -> None:
    call = Call.root(timeout_s=60)
    with pytest.raises(Unauthenticated):
        await interrupted(call, call.identified(tenant="acme", key_id="qk_1"))


async def test_an_interrupt_comes_too_late_for_what_is_over() -> None:
    call = Call.root(timeout_s=60)
    async with Execution("X/Y", call):
        interrupt = call.interrupt
    assert call.interrupt is None
    assert interrupt is not None
    interrupt(ENDED)
    await asyncio.sleep(0)
    late = Call.root(timeout_s=0.01)
    with pytest.raises(DeadlineExceeded):
        await serve_until_late(late)


async def serve_until_late(call: Call) -> None:
    async with Execution("X/Y", call):
        await asyncio.sleep(1)


async def test_the_callers_own_cancellation_stays_one() -> None:
    call = Call.root(timeout_s=60)

    async def serve() -> None:
        async with Execution("X/Y", call):
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
