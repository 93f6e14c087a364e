"""Deployments that fail cool down, are passed over, and heal; a provider's word on its limits is obeyed."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError, ResourceExhausted
from services.router.settings import Settings
from services.router.wiring import build
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, Match, ProviderDouble

CONFIG = Path(__file__).parents[3] / "config"
QUESTION = "What is the capital of France?"
COOLDOWN_S = 0.6


@pytest.fixture
def config_dir(tmp_path: Path, double: ProviderDouble) -> Path:
    """The shipped files, with a second deployment of `gpt-6-luna` at a server of its own."""
    models = yaml.safe_load((CONFIG / "models.yaml").read_text(encoding="utf-8"))
    models["servers"] = [{"name": "east", "base_url": double.openai_url}]
    luna = next(model for model in models["models"] if model["id"] == "gpt-6-luna")
    luna["deployments"] = [
        {"provider": "openai", "weight": 1000},
        {"provider": "east", "upstream": "luna-east", "weight": 0.001},
    ]
    haiku = next(model for model in models["models"] if model["id"] == "claude-haiku-5-5")
    haiku["deployments"] = [{"provider": "anthropic", "limits": HAIKU_LIMITS}]
    haiku["first_token_s"] = 0.3
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(models), encoding="utf-8")
    (tmp_path / "routes.yaml").write_bytes((CONFIG / "routes.yaml").read_bytes())
    return tmp_path


HAIKU_LIMITS = {"concurrent": 1}


@pytest_asyncio.fixture
async def service(config_dir: Path, double: ProviderDouble) -> AsyncIterator[Any]:
    """A router of the test's own, that cools down soon and not for long."""
    settings = Settings(
        config_dir=config_dir,
        openai_base_url=double.openai_url,
        anthropic_base_url=double.url,
        max_retries=1,
        breaker_failures=2,
        breaker_cooldown_s=COOLDOWN_S,
    )
    async with build(settings) as (binding,):
        yield binding.service


async def ask_router(service: Any, prompt: pb.Prompt, call: Call) -> pb.GenerateResponse:
    answer: pb.GenerateResponse = await service.generate(pb.GenerateRequest(prompt=prompt), call)
    return answer


async def explain(service: Any, prompt: pb.Prompt, call: Call) -> Any:
    return (await service.route(pb.RouteRequest(prompt=prompt), call)).decision


async def test_another_deployment_answers_at_once_and_is_named(
    service: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(match="gpt-6-luna", fault=Fault(status=500), times=None)
    answer = await ask_router(service, ask(QUESTION), call)
    assert answer.decision.model == answer.completion.model == "gpt-6-luna"
    assert next(each.provider for each in answer.decision.candidates if each.chosen) == "east"
    assert [request.model for request in double.requests] == ["gpt-6-luna", "luna-east"]


async def test_a_breaker_opens_tells_so_and_heals_by_one_probe(
    service: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(match="claude-haiku-5-5", fault=Fault(status=500), times=2)
    named = ask(QUESTION, model="claude-haiku-5-5")
    with pytest.raises(QuartetError):
        await ask_router(service, named, call)
    assert double.calls(model="claude-haiku-5-5") == 2
    prompt = ask(QUESTION)
    decision = await explain(service, prompt, call)
    rejected = {each.model: each.rejected_because for each in decision.candidates}
    assert "cooling for 1 s" in rejected["claude-haiku-5-5"]
    assert decision.model == "gpt-6-luna"
    await asyncio.sleep(COOLDOWN_S)
    double.script(match="claude-haiku-5-5", fault=Fault(delay_s=1.0))
    asked = double.calls()
    probe = asyncio.create_task(ask_router(service, named, call))
    await double.wait_calls(asked + 1)
    during = await explain(service, prompt, call)
    assert any("tried again just now" in each.rejected_because for each in during.candidates)
    assert (await probe).completion.model == "claude-haiku-5-5"
    after = await explain(service, prompt, call)
    assert not any("fail" in each.rejected_because for each in after.candidates)


async def test_where_all_models_cool_one_is_asked_all_the_same(
    service: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    rule = double.script(fault=Fault(status=500), times=None)
    for _ in range(3):
        with pytest.raises(QuartetError):
            await ask_router(service, ask(QUESTION), call)
    before = rule.used
    with pytest.raises(QuartetError):
        await ask_router(service, ask(QUESTION), call)
    assert rule.used - before == 1, "once, and without retries"
    double.reset()
    answer = await ask_router(service, ask(QUESTION), call)
    assert "last resort" in answer.decision.warnings[-1]


async def test_a_long_pause_that_a_provider_asks_for_is_spent_at_the_next_model(
    service: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    busy = Match(where=lambda request: "luna" in request.model)
    double.script(match=busy, fault=Fault(status=429, retry_after_s=3000), times=None)
    begun = time.monotonic()
    answer = await ask_router(service, ask(QUESTION), call)
    assert answer.completion.model == "claude-haiku-5-5"
    calls = double.calls()
    with pytest.raises(ResourceExhausted) as caught:
        await ask_router(service, ask(QUESTION, model="gpt-6-luna"), call)
    assert 2990 < (caught.value.retry_after_s or 0) <= 3000
    assert double.calls() == calls, "nobody was asked"
    assert time.monotonic() - begun < 20, "far less than it asks for"
    rejected = (await explain(service, ask(QUESTION), call)).candidates[0].rejected_because
    assert "takes no more requests" in rejected


EXHAUSTED = (
    {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "40s"},
    {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0m40s"},
)


@pytest.mark.parametrize("headers", EXHAUSTED)
async def test_a_deployment_with_nothing_left_rests_until_its_reset(
    service: Any, double: ProviderDouble, call: Call, ask: Ask, headers: dict[str, str]
) -> None:
    double.script(match="gpt-6-luna", fault=Fault(headers=headers))
    prompt = ask(QUESTION, model="gpt-6-luna")
    for _ in range(2):
        assert (await ask_router(service, prompt, call)).completion.model == "gpt-6-luna"
    assert [request.model for request in double.requests] == ["gpt-6-luna", "luna-east"]


async def test_a_declared_limit_is_kept_without_asking_the_provider(
    service: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(match="claude-haiku-5-5", fault=Fault(delay_s=0.6))
    named = ask(QUESTION, model="claude-haiku-5-5")
    first = asyncio.create_task(ask_router(service, named, call))
    await double.wait_calls(1)
    with pytest.raises(ResourceExhausted) as caught:
        await ask_router(service, named, call)
    assert caught.value.reason == "PROVIDER_RATE_LIMITED"
    assert double.calls() == 1
    assert (await first).completion.usage.model_calls == 1
    await asyncio.sleep(0.15)
    assert (await ask_router(service, named, call)).completion.usage.model_calls == 1


async def test_a_model_that_is_silent_for_longer_than_it_may_gives_way(
    service: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    double.script(match="claude-haiku-5-5", fault=Fault(hang_after_chunks=0), times=None)
    begun = time.monotonic()
    request = pb.StreamGenerateRequest(prompt=ask(QUESTION, model="claude-haiku-5-5"))
    with pytest.raises(QuartetError) as caught:
        async for _ in service.stream_generate(request, call):
            pass
    assert caught.value.reason == "PROVIDER_INTERRUPTED"
    assert 0.6 <= time.monotonic() - begun < 20, "two attempts of 0.3 s"
