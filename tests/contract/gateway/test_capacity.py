"""Priorities and the adaptive limit, with a router that is slow, away or waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from opentelemetry.metrics import NoOpMeter

from quartet.common.v1 import generation_pb2
from quartet.gateway.v1 import document_pb2, gateway_pb2
from services.gateway.domain.capacity import Bounds, Capacity
from services.gateway.domain.keys import make_key
from services.gateway.settings import Settings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER, assemble
from services.kit.call import Call
from services.kit.client import local
from services.kit.errors import PermissionDenied, Unavailable
from services.kit.testing import client_of
from tests.contract.gateway.conftest import PACKAGE, Gateway, read_to_error
from tests.contract.gateway.neighbours import FakeKeys, FakeOrchestrator, FakePipeline, FakeRouter

BODY = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9})
GENERATION = gateway_pb2.Generation(
    messages=[{"role": "ROLE_USER", "parts": [{"text": "Hi"}]}]  # type: ignore[list-item]
)


@asynccontextmanager
async def gateway_with(
    capacity: Capacity, *, scopes: frozenset[str] = frozenset({"*"}), settings: Settings | None = None
) -> AsyncIterator[Gateway]:
    """Native calls go over gRPC, so that refusals travel; the router is near."""
    key, secret = make_key(tenant="acme", scopes=scopes)
    gateway = Gateway(
        router=FakeRouter(),
        pipeline=FakePipeline(),
        orchestrator=FakeOrchestrator(),
        keys=FakeKeys(key),
        secret=secret,
    )
    async with AsyncExitStack() as stack:
        bindings = assemble(
            settings or Settings(),
            gateway.keys,
            local(ROUTER, gateway.router),
            local(PIPELINE, gateway.pipeline),
            local(ORCHESTRATOR, gateway.orchestrator),
            capacity=capacity,
        )
        for binding in bindings:
            client = await stack.enter_async_context(
                client_of("remote", binding.service_name, binding.service)
            )
            gateway.clients[binding.service_name.removeprefix(f"{PACKAGE}.")] = client
        yield gateway


def make(most: int, *, least: int = 1) -> Capacity:
    return Capacity(Bounds(least=least, most=most), NoOpMeter("test"))


def generate(gateway: Gateway, **headers: str) -> Any:
    return gateway.native.generate(
        gateway_pb2.GenerateRequest(generation=GENERATION), gateway.call(**headers)
    )


def stream(gateway: Gateway, call: Call | None = None) -> Any:
    request = gateway_pb2.StreamGenerateRequest(generation=GENERATION)
    return gateway.native.stream_generate(request, call or gateway.call())


async def settle(capacity: Capacity, calls: int) -> None:
    async with asyncio.timeout(5):
        while capacity.calls != calls:  # noqa: ASYNC110 - a capacity has nothing to wait on
            await asyncio.sleep(0.005)


async def test_with_half_the_places_taken_only_the_sheddable_are_refused() -> None:
    capacity = make(4)
    async with gateway_with(capacity) as gateway:
        gateway.router.pause = asyncio.Event()
        running = [asyncio.ensure_future(generate(gateway)) for _ in range(2)]
        await settle(capacity, 2)
        with pytest.raises(Unavailable) as refused:
            await generate(gateway, x_quartet_priority="sheddable")
        assert refused.value.reason == "OVERLOADED"
        assert refused.value.retry_after_s
        assert len(gateway.router.prompts) == 2
        running += [
            asyncio.ensure_future(generate(gateway, x_quartet_priority=name))
            for name in ("default", "critical")
        ]
        await settle(capacity, 4)
        gateway.router.pause.set()
        await asyncio.gather(*running)
        assert capacity.calls == 0


async def test_a_refusal_reads_as_the_vendors_own() -> None:
    capacity = make(1)
    async with gateway_with(capacity) as gateway:
        with capacity.hold(generation_pb2.PRIORITY_CRITICAL):
            openai, anthropic = gateway.call(), gateway.call()
            (said,) = await gateway.chat(BODY, openai)
            assert openai.response_headers["x-quartet-status"] == "503"
            assert int(openai.response_headers["retry-after"]) >= 1
            assert orjson.loads(said.data)["error"]["code"] == "overloaded"
            (said,) = await gateway.message(BODY, anthropic)
            assert anthropic.response_headers["x-quartet-status"] == "529"
            assert int(anthropic.response_headers["retry-after"]) >= 1
            assert orjson.loads(said.data)["error"]["type"] == "overloaded_error"
        assert not gateway.router.prompts


@pytest.mark.parametrize("method", ["create_embedding", "embed", "count_tokens", "search"])
async def test_every_rpc_that_works_takes_a_place(method: str) -> None:
    capacity = make(1)
    async with gateway_with(capacity) as gateway:
        with capacity.hold(generation_pb2.PRIORITY_CRITICAL):
            if method == "create_embedding":
                call = gateway.call()
                await gateway.post("OpenAIService", method, b'{"model":"x","input":"y"}', call)
                assert call.response_headers["x-quartet-status"] == "503"
                return
            service, request = {
                "embed": ("GatewayService", gateway_pb2.EmbedRequest(texts=["a"])),
                "count_tokens": (
                    "GatewayService",
                    gateway_pb2.CountTokensRequest(messages=GENERATION.messages),
                ),
                "search": ("DocumentService", document_pb2.SearchRequest(query="moon")),
            }[method]
            with pytest.raises(Unavailable, match="overloaded"):
                await getattr(gateway.clients[service], method)(request, gateway.call())


async def test_work_can_be_looked_at_and_ended_under_overload() -> None:
    capacity = make(1)
    async with gateway_with(capacity) as gateway:
        with capacity.hold(generation_pb2.PRIORITY_CRITICAL):
            models = await gateway.native.list_models(gateway_pb2.ListModelsRequest(), gateway.call())
            assert models.models


async def test_the_router_learns_the_priority() -> None:
    async with gateway_with(make(9)) as gateway:
        await generate(gateway)
        await generate(gateway, x_quartet_priority="Sheddable")
        own = gateway_pb2.Generation(priority=generation_pb2.PRIORITY_CRITICAL)
        own.MergeFrom(GENERATION)
        await gateway.native.generate(
            gateway_pb2.GenerateRequest(generation=own), gateway.call(x_quartet_priority="sheddable")
        )
        assert [prompt.priority for prompt in gateway.router.prompts] == [
            generation_pb2.PRIORITY_DEFAULT,
            generation_pb2.PRIORITY_SHEDDABLE,
            generation_pb2.PRIORITY_CRITICAL,
        ]


async def test_a_key_for_batches_makes_sheddable_calls_and_no_others() -> None:
    async with gateway_with(make(9), scopes=frozenset({"priority:sheddable"})) as gateway:
        await generate(gateway)
        assert gateway.router.prompts[0].priority == generation_pb2.PRIORITY_SHEDDABLE
        with pytest.raises(PermissionDenied) as refused:
            await generate(gateway, x_quartet_priority="critical")
        assert refused.value.metadata == {"scope": "priority:critical"}


async def test_a_client_that_goes_away_gives_its_place_back() -> None:
    capacity = make(4)
    async with gateway_with(capacity) as gateway:
        gateway.router.pause = asyncio.Event()
        whole = asyncio.ensure_future(generate(gateway))
        events = stream(gateway)
        await anext(events)
        await settle(capacity, 2)
        whole.cancel()
        await events.aclose()
        await settle(capacity, 0)


async def test_first_events_that_are_late_lower_the_limit_before_they_come() -> None:
    capacity = make(100)
    async with gateway_with(capacity, settings=Settings(first_event_s=0.02)) as gateway:
        gateway.router.hold_back = asyncio.Event()
        running = [asyncio.ensure_future(read_to_error(stream(gateway))) for _ in range(10)]
        await settle(capacity, 10)
        async with asyncio.timeout(5):
            while capacity.limit == 100:  # a capacity has nothing to wait on
                await asyncio.sleep(0.005)
                capacity.adjust()
        assert capacity.limit == 8
        gateway.router.hold_back.set()
        assert [error for _, error in await asyncio.gather(*running)] == [None] * 10


async def test_answers_that_take_long_after_their_first_event_do_not() -> None:
    capacity = make(100)
    async with gateway_with(capacity, settings=Settings(first_event_s=0.2)) as gateway:
        gateway.router.pause = asyncio.Event()
        running = [stream(gateway) for _ in range(10)]
        for events in running:
            await anext(events)
        # On a busy machine first events themselves may have been late.
        capacity.adjust()
        limit = capacity.limit
        await asyncio.sleep(0.4)
        capacity.adjust()
        assert capacity.limit >= limit
        gateway.router.pause.set()
        await asyncio.gather(*map(read_to_error, running))


async def test_a_clients_own_short_time_does_not_lower_the_limit() -> None:
    capacity = make(100)
    async with gateway_with(capacity) as gateway:
        gateway.router.hold_back = asyncio.Event()
        calls = [gateway.call(x_quartet_timeout_ms="20") for _ in range(10)]
        ended = await asyncio.gather(*(read_to_error(stream(gateway, call)) for call in calls))
        assert {error.reason for _, error in ended if error} == {"DEADLINE_EXCEEDED"}
        capacity.adjust()
        assert capacity.limit == 100


async def test_a_router_that_cannot_be_reached_lowers_the_limit() -> None:
    capacity = make(100)
    async with gateway_with(capacity) as gateway:
        gateway.router.error = Unavailable("cannot reach it", reason="PEER_UNREACHABLE")
        with ExitStack() as others:
            for _ in range(19):
                others.enter_context(capacity.hold(generation_pb2.PRIORITY_DEFAULT))
            with pytest.raises(Unavailable, match="cannot reach it"):
                await generate(gateway)
        capacity.adjust()
        assert capacity.limit == 16


async def test_a_providers_trouble_does_not() -> None:
    capacity = make(100)
    async with gateway_with(capacity) as gateway:
        gateway.router.error = Unavailable("no model answers", reason="ALL_CANDIDATES_FAILED")
        with ExitStack() as others:
            for _ in range(19):
                others.enter_context(capacity.hold(generation_pb2.PRIORITY_DEFAULT))
            with pytest.raises(Unavailable, match="no model answers"):
                await generate(gateway)
        capacity.adjust()
        assert capacity.limit == 100


async def test_a_watched_capacity_adjusts_by_itself() -> None:
    capacity = make(100)
    with ExitStack() as calls:
        for _ in range(20):
            calls.enter_context(capacity.hold(generation_pb2.PRIORITY_DEFAULT))
        capacity.note(is_overload=True)
        watching = asyncio.create_task(capacity.watch())
        async with asyncio.timeout(5):
            while capacity.limit != 16:  # noqa: ASYNC110 - a capacity has nothing to wait on
                await asyncio.sleep(0.005)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
