"""What stands behind the gateway: every rpc is answered, nothing is kept."""

from collections.abc import AsyncIterator
from typing import Any

from services.kit.binding import Rpc, rpcs_of
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline

WITHOUT = {"watch_ingest_job"}
"""The double's own always ends in an error."""


class Forgetful:
    """A double that forgets what it was asked, with an empty answer where it has none of its own."""

    def __init__(self, contract: str, double: FakePipeline | FakeOrchestrator) -> None:
        self._kept = [kept for name in double.__slots__ if isinstance(kept := getattr(double, name), list)]
        for rpc in rpcs_of(contract):
            own = None if rpc.attribute in WITHOUT else getattr(double, rpc.attribute, None)
            setattr(self, rpc.attribute, own or _willing(rpc))

    def forget(self) -> None:
        for kept in self._kept:
            kept.clear()


def _willing(rpc: Rpc) -> Any:
    async def answer(request: Any, call: Any) -> Any:
        if rpc.client_streaming:
            async for _ in request:
                pass
        return rpc.response_type()

    async def stream(request: Any, call: Any) -> AsyncIterator[Any]:
        yield rpc.response_type()

    return stream if rpc.server_streaming else answer
