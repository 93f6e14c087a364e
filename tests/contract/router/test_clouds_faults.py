"""What comes of a cloud that refuses, fails or falls silent: the same as of the vendors themselves."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from quartet.router.v1 import router_pb2 as pb
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    QuartetError,
    ResourceExhausted,
    Unavailable,
)
from services.kit.testing import client_of
from tests.contract.router.clouds import MODELS, open_router, open_service
from tests.contract.router.conftest import Ask
from tests.contract.router.test_patience import DEADLINE_S, WORDS, read
from tests.doubles.provider import Fault, ProviderDouble, Reply

pytestmark = pytest.mark.parametrize("model", MODELS)


BOUNDS: dict[str, Any] = {
    "max_answer_bytes": 100_000,
    "max_retries": 0,
    # What one test breaks must not cool down for the next.
    "breaker_failures": 1000,
    "breaker_min_calls": 100_000,
}


@pytest_asyncio.fixture(scope="module")
async def binding(
    session_double: ProviderDouble, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Binding]:
    """A router that takes nothing long and tries once."""
    async with open_service(tmp_path_factory.mktemp("clouds"), session_double, **BOUNDS) as binding:
        yield binding


@pytest_asyncio.fixture(scope="module")
async def router(binding: Binding) -> AsyncIterator[Any]:
    async with client_of("local", binding.service_name, binding.service) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def hasty_router(
    session_double: ProviderDouble, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """One that waits for nothing long, either."""
    folder = tmp_path_factory.mktemp("clouds")
    hurry = {"first_token_timeout_s": 0.6, "between_tokens_timeout_s": 0.4}
    async with open_router(folder, session_double, **BOUNDS, **hurry) as client:
        yield client


async def generate(router: Any, prompt: pb.Prompt, timeout_s: float = DEADLINE_S) -> pb.GenerateResponse:
    call = Call.root(timeout_s=timeout_s, tenant="acme")
    response: pb.GenerateResponse = await router.generate(pb.GenerateRequest(prompt=prompt), call)
    return response


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, InvalidArgument, "PROVIDER_REFUSED"),
        (401, FailedPrecondition, "PROVIDER_KEY_REFUSED"),
        (404, NotFound, "PROVIDER_MODEL_NOT_FOUND"),
        (429, ResourceExhausted, "PROVIDER_RATE_LIMITED"),
        (500, Unavailable, "PROVIDER_UNAVAILABLE"),
        (307, Unavailable, "PROVIDER_UNAVAILABLE"),
    ],
)
async def test_a_refusal_has_the_type_that_fits_and_the_cloud_s_words(
    router: Any,
    double: ProviderDouble,
    ask: Ask,
    model: str,
    status: int,
    kind: type[QuartetError],
    reason: str,
) -> None:
    headers = {"location": f"{double.url}/elsewhere"}
    double.script(
        fault=Fault(status=status, message="so it is", headers=headers, retry_after_s=0.01), times=None
    )
    with pytest.raises(kind, match="so it is") as caught:
        await generate(router, ask("Count.", model=model))
    assert caught.value.reason == reason
    assert await read(router, ask("Count.", model=model)) == ("", reason)
    assert double.calls() == 2, "nothing is tried again, no redirect followed"


async def test_retry_after_is_what_the_cloud_says(
    router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(fault=Fault(status=429, retry_after_s=0.25), times=None)
    with pytest.raises(ResourceExhausted) as caught:
        await generate(router, ask("Count.", model=model))
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 0.25
    double.reset()
    await asyncio.sleep(0.3)
    assert (await generate(router, ask("Count.", model=model))).completion.model == model


@pytest.mark.parametrize(
    ("fault", "text", "declared"),
    [
        (Fault(delay_s=30), "", "PROVIDER_UNAVAILABLE"),
        (Fault(hang_after_chunks=0), "", "PROVIDER_INTERRUPTED"),
        (Fault(hang_after_chunks=2), "one two ", "PROVIDER_INTERRUPTED"),
        (Fault(drip_bytes=1, drip_interval_s=0.02), "", "PROVIDER_INTERRUPTED"),
    ],
    ids=["no byte", "no word", "silence", "slow drip"],
)
async def test_a_stream_that_falls_silent_ends_long_before_its_deadline(
    hasty_router: Any, double: ProviderDouble, ask: Ask, model: str, fault: Fault, text: str, declared: str
) -> None:
    double.script(reply=Reply(text=WORDS), fault=fault, times=None)
    begun = time.monotonic()
    assert await read(hasty_router, ask("Count.", model=model)) == (text, declared)
    assert time.monotonic() - begun < DEADLINE_S / 2
    assert double.calls() == 1


@pytest.mark.parametrize(
    ("fault", "text", "declared"),
    [
        (Fault(oversize_bytes=1_000_000), "", "PROVIDER_INTERRUPTED"),
        (Fault(content_type="text/html"), "", "PROVIDER_INTERRUPTED"),
        (Fault(malformed_after_chunks=2), "one two ", "PROVIDER_INTERRUPTED"),
        (Fault(cut_after_chunks=2), "one two ", "PROVIDER_INTERRUPTED"),
        (Fault(error_after_chunks=2), "one two ", "PROVIDER_UNAVAILABLE"),
        (Fault(drop=True), "", "PROVIDER_UNAVAILABLE"),
    ],
    ids=["oversized", "wrong type", "malformed", "cut", "error event", "dropped"],
)
async def test_a_stream_that_breaks_ends_as_declared(
    router: Any, double: ProviderDouble, ask: Ask, model: str, fault: Fault, text: str, declared: str
) -> None:
    double.script(reply=Reply(text=WORDS), fault=fault, times=None)
    assert await read(router, ask("Count.", model=model)) == (text, declared)
    assert double.calls() == 1


@pytest.mark.parametrize(
    ("fault", "timeout_s", "declared"),
    [
        (Fault(delay_s=30), 0.3, "PROVIDER_TIMEOUT"),
        (Fault(hang_after_chunks=0), 0.3, "PROVIDER_TIMEOUT"),
        (Fault(drop=True), DEADLINE_S, "PROVIDER_UNAVAILABLE"),
        (Fault(cut_after_chunks=2), DEADLINE_S, "PROVIDER_INTERRUPTED"),
        (Fault(malformed_after_chunks=0), DEADLINE_S, "PROVIDER_INTERRUPTED"),
        (Fault(oversize_bytes=200_000), DEADLINE_S, "PROVIDER_INTERRUPTED"),
        (Fault(content_type="text/html"), DEADLINE_S, "PROVIDER_INTERRUPTED"),
    ],
    ids=["no byte", "no body", "dropped", "cut", "malformed", "oversized", "wrong type"],
)
async def test_a_whole_answer_that_fails_ends_as_declared(
    binding: Binding,
    double: ProviderDouble,
    ask: Ask,
    model: str,
    fault: Fault,
    timeout_s: float,
    declared: str,
) -> None:
    double.script(reply=Reply(text=WORDS), fault=fault, times=None)
    with pytest.raises(QuartetError) as caught:
        await generate(binding.service, ask("Count.", model=model), timeout_s)
    assert caught.value.reason == declared


async def test_a_stream_may_pause_for_less_than_is_borne(
    hasty_router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(reply=Reply(text=WORDS), fault=Fault(chunk_delay_s=0.03), times=None)
    assert await read(hasty_router, ask("Count.", model=model)) == (WORDS, "")


async def test_a_client_that_leaves_a_stream_takes_the_cloud_s_socket_with_it(
    router: Any, double: ProviderDouble, ask: Ask, call: Call, model: str
) -> None:
    double.script(reply=Reply(text=WORDS), fault=Fault(chunk_delay_s=0.1))
    request = pb.StreamGenerateRequest(prompt=ask("Count.", model=model))
    async with aclosing(router.stream_generate(request, call)) as events:
        async for event in events:
            if event.delta.text:
                break
    await double.wait_disconnects()
    assert double.disconnects[0].chunks_sent < len(WORDS.split())


async def test_a_client_that_leaves_a_whole_answer_takes_the_cloud_s_socket_with_it(
    router: Any, double: ProviderDouble, ask: Ask, model: str
) -> None:
    double.script(fault=Fault(delay_s=30))
    asking = asyncio.create_task(generate(router, ask("Count.", model=model)))
    await double.wait_calls()
    asking.cancel()
    await double.wait_disconnects()
    await asyncio.gather(asking, return_exceptions=True)


async def comes_to(double: ProviderDouble, connections: int) -> None:
    """The double learns of a closed connection a moment later."""
    for _ in range(500):
        if double.open_connections == connections:
            break
        await asyncio.sleep(0.01)
    assert double.open_connections == connections


async def test_connections_are_used_again_and_closed_with_the_router(
    ask: Ask, tmp_path_factory: pytest.TempPathFactory, model: str
) -> None:
    # The double of the other tests may still be closing connections of theirs.
    async with ProviderDouble() as own:
        async with open_router(tmp_path_factory.mktemp("clouds"), own) as router:
            for _ in range(3):
                assert (await read(router, ask("Count.", model=model)))[1] == ""
                await generate(router, ask("Count.", model=model))
            # Google's library keeps none after it has its token.
            await comes_to(own, 1)
        await comes_to(own, 0)
