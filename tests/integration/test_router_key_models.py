"""Answers kept or under way, for keys that may use other models: a real Redis behind a router."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from quartet.common.v1 import message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.settings import Settings
from services.router.wiring import build
from tests.cascades import Heard, hear
from tests.doubles.provider import Fault, ProviderDouble

LUNA, HAIKU = "gpt-6-luna", "claude-haiku-5-5"

pytestmark = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest_asyncio.fixture(scope="module")
async def service(provider: ProviderDouble, redis_server: str) -> AsyncIterator[Any]:
    settings = Settings(
        config_dir=Path(__file__).parents[2] / "config",
        openai_base_url=provider.openai_url,
        anthropic_base_url=provider.url,
        redis_url=redis_server,
        cache_timeout_s=5.0,
        max_retries=0,
        breaker_failures=1000,
        breaker_min_calls=100_000,
    )
    async with build(settings) as (binding,):
        yield binding.service


async def ask(service: Any, tenant: str, models: tuple[str, ...] | None, *, streamed: bool) -> Heard:
    turn = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="What is a moon?")])
    prompt = pb.Prompt(messages=[turn], target=pb.Target(route="simple_faq"))
    prompt.spec.temperature = 0
    return await hear(
        service, prompt, Call.root(timeout_s=20, tenant=tenant, models=models), streamed=streamed
    )


async def test_kept_answers_are_for_keys_of_the_same_models(
    service: Any, reset_provider: ProviderDouble, tenant: str, streamed: bool
) -> None:
    asked = [None, (LUNA,), (LUNA, HAIKU), None, (LUNA,), (HAIKU, LUNA)]
    heard = [await ask(service, tenant, models, streamed=streamed) for models in asked]
    assert [each.cache for each in heard] == ["miss"] * 3 + ["exact_hit"] * 3
    assert reset_provider.calls(model=LUNA) == 3


async def test_nobody_boards_an_answer_that_may_come_from_a_model_not_theirs(
    service: Any, reset_provider: ProviderDouble, tenant: str, streamed: bool
) -> None:
    reset_provider.script(match=LUNA, fault=Fault(delay_s=0.5, status=500), times=None)
    free = asyncio.create_task(ask(service, tenant, None, streamed=streamed))
    await reset_provider.wait_calls(1)
    with pytest.raises(QuartetError):
        await ask(service, tenant, (LUNA,), streamed=streamed)
    assert (await free).answered == HAIKU
    assert (reset_provider.calls(model=LUNA), reset_provider.calls(model=HAIKU)) == (2, 1)
