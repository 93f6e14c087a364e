import asyncio
import gc
from typing import Any

import pytest

from services.kit.call import Call
from services.kit.handling import _send_headers


class ClientThatLeaves:
    """A context whose client is gone by the time that the headers are sent."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.is_gone = asyncio.Event()

    async def send_initial_metadata(self, headers: Any) -> None:
        del headers
        self.begun.set()
        await self.is_gone.wait()
        raise ConnectionError("nobody is there")


async def test_headers_for_a_client_that_is_gone_end_without_a_word() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    context, call = ClientThatLeaves(), Call.root(timeout_s=5)
    call.response_headers["x-quartet-model"] = "luna"
    sending = asyncio.create_task(_send_headers(context, call))  # type: ignore[arg-type]
    await context.begun.wait()
    sending.cancel()
    context.is_gone.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
    del sending
    gc.collect()
    await asyncio.sleep(0)
    asyncio.get_running_loop().set_exception_handler(None)
    assert not reported
