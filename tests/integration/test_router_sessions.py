"""Sessions as two routers remember them in one real Redis, and without one."""

import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from quartet.common.v1 import message_pb2 as message
from quartet.common.v1.decision_pb2 import Decision
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.doubles.provider import Fault, ProviderDouble

SERVICE = "quartet.router.v1.RouterService"
HARD = "Design a sharding strategy for a multi-tenant database."
THANKS = "Thanks, that helped."


@pytest_asyncio.fixture(scope="module")
async def module_double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(module_double: ProviderDouble) -> ProviderDouble:
    module_double.reset()
    return module_double


@pytest_asyncio.fixture(scope="module")
async def routers(module_double: ProviderDouble, redis_server: str) -> AsyncIterator[list[Any]]:
    """Clients of two routers that share a Redis."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            settings = make_settings(module_double, redis_server, session_timeout_s=2)
            (binding,) = await stack.enter_async_context(build(settings))
            client = client_of("remote", SERVICE, binding.service)
            clients.append(await stack.enter_async_context(client))
        yield clients


def make_settings(double: ProviderDouble, redis_url: str, **others: Any) -> Settings:
    return Settings(
        openai_base_url=double.openai_url,
        anthropic_base_url=double.url,
        redis_url=redis_url,
        max_retries=0,
        **others,
    )


def call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=20, tenant=tenant)


def turn(text: str, *, session: str = "s1") -> pb.Prompt:
    said = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    return pb.Prompt(messages=[said], input_tokens=3_000, session=session)


async def ask(router: Any, text: str, *, by: Call | None = None, session: str = "s1") -> Decision:
    request = pb.GenerateRequest(prompt=turn(text, session=session))
    decision: Decision = (await router.generate(request, by or call())).decision
    return decision


async def stream(router: Any, text: str) -> Decision:
    request = pb.StreamGenerateRequest(prompt=turn(text))
    events = [event async for event in router.stream_generate(request, call())]
    assert events[-1].HasField("end")
    decision: Decision = events[0].decision
    return decision


async def test_a_session_stays_on_its_model_whichever_router_and_however_it_is_asked(
    routers: list[Any], redis_url: str
) -> None:
    first, second = routers
    begun = await ask(first, HARD)
    assert (begun.rule, begun.session) == ("reason", "")
    for decision in (await ask(second, THANKS), await stream(first, THANKS), await stream(second, THANKS)):
        assert (decision.model, decision.rule) == (begun.model, "session")
        assert decision.session == f"stays on {begun.model}"
    explained = (await second.route(pb.RouteRequest(prompt=turn(THANKS)), call())).decision
    assert (explained.model, explained.rule, explained.session) == (
        begun.model,
        "session",
        f"stays on {begun.model}",
    )
    for other in (await ask(second, THANKS, session="s2"), await ask(second, THANKS, by=call("other"))):
        assert (other.model, other.rule) == ("gpt-6-luna", "greeting")


@pytest.mark.usefixtures("double")
async def test_explaining_writes_nothing_and_what_is_written_lapses(
    routers: list[Any], redis_url: str
) -> None:
    async with Redis.from_url(redis_url) as redis:
        await routers[0].route(pb.RouteRequest(prompt=turn(HARD)), call())
        assert not [key async for key in redis.scan_iter("quartet:{acme}:session:*")]
        await ask(routers[0], HARD)
        (key,) = [key async for key in redis.scan_iter("quartet:{acme}:session:*")]
        assert 3_500 < await redis.ttl(key) <= 3_600


async def test_a_session_moves_with_the_model_that_answers_when_its_own_fails(
    routers: list[Any], double: ProviderDouble, redis_url: str
) -> None:
    begun = await ask(routers[0], HARD)
    double.script(fault=Fault(status=500), times=1)
    moved = await ask(routers[0], THANKS)
    assert (begun.model, moved.model) == ("gpt-6.1-sol", "gpt-6-luna")
    assert moved.session == "leaves gpt-6.1-sol: it failed"
    assert "failed" in next(each.rejected_because for each in moved.candidates if each.model == begun.model)
    assert (await ask(routers[1], THANKS)).session == "stays on gpt-6-luna"


async def test_a_redis_that_says_nothing_holds_a_session_up_briefly(double: ProviderDouble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = make_settings(double, f"redis://127.0.0.1:{silent.getsockname()[1]}")
        async with build(settings) as (binding,):
            begun = time.monotonic()
            decisions = [await ask(binding.service, text) for text in (HARD, THANKS)]
            assert [decision.rule for decision in decisions] == ["reason", "greeting"]
            assert time.monotonic() - begun < 2
