import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from quartet.router.v1 import router_pb2
from services.cli.settings import SERVICES
from services.cli.stack.services import PEERS
from services.cli.stack.serving import Part, serve_together
from services.kit.binding import Binding
from services.kit.settings import KitSettings

ROUTER = "quartet.router.v1.RouterService"


class Router:
    async def list_models(self, request: object, call: object) -> router_pb2.ListModelsResponse:
        return router_pb2.ListModelsResponse()


def test_a_service_starts_after_those_that_it_calls() -> None:
    assert all(SERVICES.index(peer) < SERVICES.index(name) for name in SERVICES for peer in PEERS[name])


async def test_a_co_located_service_gets_its_peers_as_objects_and_ends_before_them() -> None:
    events: list[str] = []
    seen: dict[str, object] = {}
    router = Router()

    @asynccontextmanager
    async def build_router(
        settings: KitSettings, peers: Mapping[str, object]
    ) -> AsyncIterator[Sequence[Binding]]:
        assert peers == {}
        yield [Binding(ROUTER, router)]
        events.append("router closed")

    @asynccontextmanager
    async def build_gateway(
        settings: KitSettings, peers: Mapping[str, object]
    ) -> AsyncIterator[Sequence[Binding]]:
        seen.update(peers)
        yield []
        events.append("gateway closed")

    async def wait() -> None:
        events.append("serving")
        await asyncio.sleep(0)

    settings = KitSettings(drain_timeout_s=0.1)
    parts = [Part(settings=settings, build=build_router), Part(settings=settings, build=build_gateway)]
    await serve_together(parts, wait)
    assert seen == {ROUTER: router}
    assert events == ["serving", "gateway closed", "router closed"]
