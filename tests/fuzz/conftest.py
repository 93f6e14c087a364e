from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2
from quartet.gateway.v1 import gateway_pb2, key_pb2
from services.gateway import wiring as gateway_wiring
from services.gateway.adapters.postgres.keys import ensure_dev_key
from services.gateway.settings import Settings as GatewaySettings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.client import remote
from services.kit.testing import serve
from services.router import wiring as router_wiring
from services.router.settings import Settings as RouterSettings
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline
from tests.databases import copy_database
from tests.doubles.provider import ProviderDouble
from tests.fuzz.door import Door, open_door
from tests.fuzz.effort import register_profile
from tests.fuzz.neighbours import Forgetful

register_profile()

VICTIMS = 3
TRACE = "a" * 32
NATIVE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The real gateway and router in this process, between a client and the provider double."""

    door: Door
    bindings: list[Binding]
    known: dict[str, list[str]]
    """What exists, by the fields that may hold it: keys to rotate and revoke, an answer's trace."""
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
        gateway_settings = GatewaySettings(
            database_url=database,
            redis_url=redis_server,
            # A machine that is busy with this is no store that is away.
            account_timeout_s=5,
            response_log_timeout_s=5,
        )
        bindings = await stack.enter_async_context(gateway_wiring.build(gateway_settings, peers))
        server = await stack.enter_async_context(serve(*bindings))
        known = {
            "key_id": await _make_victims(server.address, secret),
            "trace_id": [await _make_answer(server.address, secret)],
        }
        door = await stack.enter_async_context(open_door(server.address, secret))
        yield Gateway(door=door, bindings=bindings, known=known, neighbours=[pipeline, orchestrator])


async def _make_victims(address: str, secret: str) -> list[str]:
    names = [f"victim {number}" for number in range(VICTIMS)]
    requests = [key_pb2.CreateKeyRequest(name=name, scopes=["rpc:Generate"]) for name in names]
    async with client_at(gateway_wiring.KEYS, address) as keys:
        return [(await keys.create_key(request, _call(secret))).key.id for request in requests]


async def _make_answer(address: str, secret: str) -> str:
    """The trace of an answer; its ledger row is awaited, since an unknown trace is looked for three times."""
    request = gateway_pb2.GenerateRequest()
    request.generation.messages.add(role=message_pb2.ROLE_USER).parts.add(text="hello")
    async with client_at(NATIVE, address) as native:
        call = _call(secret, traceparent=f"00-{TRACE}-{'b' * 16}-01")
        await native.generate(request, call)
        await native.record_outcome(gateway_pb2.RecordOutcomeRequest(trace_id=TRACE, score=1), _call(secret))
    return TRACE


@asynccontextmanager
async def client_at(contract: str, address: str) -> AsyncIterator[Any]:
    client = remote(contract, address)
    try:
        yield client
    finally:
        await client.close()


def _call(secret: str, **metadata: str) -> Call:
    return Call.root(timeout_s=10, metadata={"x-api-key": secret, **metadata})
