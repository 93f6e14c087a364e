from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from quartet.gateway.v1 import key_pb2
from services.gateway import wiring as gateway_wiring
from services.gateway.adapters.postgres.keys import ensure_dev_key
from services.gateway.settings import Settings as GatewaySettings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.client import Channel, remote
from services.kit.testing import serve
from services.router import wiring as router_wiring
from services.router.settings import Settings as RouterSettings
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline
from tests.databases import copy_database
from tests.doubles.provider import ProviderDouble
from tests.fuzz.door import Door, open_door
from tests.fuzz.neighbours import Forgetful

VICTIMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The real gateway and router in this process, between a client and the provider double."""

    door: Door
    bindings: list[Binding]
    victims: list[str]
    """Ids of keys that may be rotated and revoked."""
    neighbours: list[Forgetful]


@pytest_asyncio.fixture(scope="session")
async def gateway(
    database_template: str, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(copy_database(database_template))
        secret = await ensure_dev_key(database, tmp_path_factory.mktemp("fuzz") / "dev.key")
        provider = await stack.enter_async_context(ProviderDouble(keep=0))
        router_settings = RouterSettings(
            database_url=database,
            redis_url=redis_server,
            openai_base_url=provider.openai_url,
            anthropic_base_url=provider.url,
        )
        (router,) = await stack.enter_async_context(router_wiring.build(router_settings))
        pipeline = Forgetful(PIPELINE, FakePipeline())
        orchestrator = Forgetful(ORCHESTRATOR, FakeOrchestrator())
        peers = {ROUTER: router.service, PIPELINE: pipeline, ORCHESTRATOR: orchestrator}
        gateway_settings = GatewaySettings(database_url=database, redis_url=redis_server)
        bindings = await stack.enter_async_context(gateway_wiring.build(gateway_settings, peers))
        server = await stack.enter_async_context(serve(*bindings))
        victims = await _make_victims(server.address, secret)
        door = await stack.enter_async_context(open_door(server.address, secret))
        yield Gateway(door=door, bindings=bindings, victims=victims, neighbours=[pipeline, orchestrator])


async def _make_victims(address: str, secret: str) -> list[str]:
    channel = Channel(address)
    keys = remote(gateway_wiring.KEYS, channel)
    try:
        victims = []
        for number in range(VICTIMS):
            request = key_pb2.CreateKeyRequest(name=f"victim {number}", scopes=["rpc:Generate"])
            call = Call.root(timeout_s=10, metadata={"x-api-key": secret})
            victims.append((await keys.create_key(request, call)).key.id)
        return victims
    finally:
        await channel.close()
