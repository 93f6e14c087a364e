"""What a call took is free as soon as it is over, and does not wait for the collector."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import NotFound
from tests.contract.kit.asking import Connect, a_call, a_request, a_stream_request, read


class Leaving:
    """Knows the ends of the tasks that served its calls."""

    def __init__(self, *, fails: bool) -> None:
        self._fails = fails
        self.gone: list[asyncio.Event] = []

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        del request
        self._begin(call)
        return pb.GenerateResponse()

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        del request
        self._begin(call)
        yield pb.StreamGenerateResponse()

    def _begin(self, call: Call) -> None:
        call.response_headers["x-request-id"] = "r1"
        self.gone.append(_end_of_task())
        if self._fails:
            raise NotFound("there is none")


def _end_of_task() -> asyncio.Event:
    """Is set once nothing holds the running task any more."""
    task, gone = asyncio.current_task(), asyncio.Event()
    assert task is not None
    weakref.finalize(task, gone.set)
    return gone


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("streams", [False, True])
async def test_a_call_that_is_over_leaves_nothing(connect: Connect, *, streams: bool, fails: bool) -> None:
    service = Leaving(fails=fails)
    async with connect(service) as client, asyncio.timeout(30):
        with contextlib.suppress(NotFound):
            if streams:
                await read(client.stream_generate(a_stream_request(), a_call()))
            else:
                await client.generate(a_request(), a_call())
        (gone,) = service.gone
        await gone.wait()
