"""Calls of keys whose scopes name models: no way leads to another model."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import PermissionDenied, QuartetError
from services.router.settings import Settings
from services.router.wiring import build
from tests.cascades import CHEAP, STRONG, configure, hear
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, ProviderDouble, Reply

LUNA, HAIKU, NAMER = "gpt-6-luna", "claude-haiku-5-5", "gpt-6.1-terra"
QUESTION = "What is the capital of France?"
POEM = "The old lighthouse keeper dreamt of snow and of a city that nobody had ever seen."


def narrow(*models: str) -> Call:
    return Call.root(timeout_s=20, tenant="acme", key_id="k", models=models)


@pytest_asyncio.fixture(scope="module")
async def cascading(
    session_double: ProviderDouble, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """A router with a cascade, and a model that names routes."""
    folder = configure(tmp_path_factory.mktemp("config"), check=["form", "judge"])
    routes = yaml.safe_load((folder / "routes.yaml").read_text(encoding="utf-8"))
    routes["classifier"]["llm"] = {"model": NAMER, "below": 1.0, "timeout_ms": 5000}
    (folder / "routes.yaml").write_text(yaml.safe_dump(routes), encoding="utf-8")
    settings = Settings(
        config_dir=folder,
        openai_base_url=session_double.openai_url,
        max_retries=0,
        breaker_failures=1000,
        breaker_min_calls=100_000,
    )
    async with build(settings) as (binding,):
        yield binding.service


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_failure_leads_to_no_other_model(
    router: Any, double: ProviderDouble, ask: Ask, streamed: bool
) -> None:
    double.script(match=LUNA, fault=Fault(status=500), times=None)
    prompt = ask(QUESTION, route="simple_faq")
    assert (await hear(router, prompt, narrow(LUNA, HAIKU), streamed=streamed)).answered == HAIKU
    asked = double.calls(model=HAIKU)
    with pytest.raises(QuartetError):
        await hear(router, prompt, narrow(LUNA), streamed=streamed)
    assert double.calls(model=HAIKU) == asked


async def test_the_decision_says_what_the_key_may_not_use(router: Any, ask: Ask) -> None:
    request = pb.RouteRequest(prompt=ask(QUESTION))
    decision = (await router.route(request, narrow(HAIKU))).decision
    assert decision.model == HAIKU
    assert decision.candidates[0].rejected_because == "this key may not use it"
    with pytest.raises(PermissionDenied) as caught:
        await router.generate(pb.GenerateRequest(prompt=ask(QUESTION, route="technical")), narrow(HAIKU))
    assert (caught.value.reason, HAIKU in caught.value.message) == ("SCOPE_MISSING", True)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_cascade_ends_at_the_models_of_the_key(
    cascading: Any, double: ProviderDouble, ask: Ask, streamed: bool
) -> None:
    double.script(match=CHEAP, reply=Reply(text="I'm not sure."), times=None)
    prompt = ask(QUESTION, route="complex")
    assert (await hear(cascading, prompt, narrow(CHEAP), streamed=streamed)).answered == CHEAP
    # With nobody to escalate to there is nothing to check.
    assert (double.calls(model=CHEAP), double.calls(model=STRONG)) == (1, 0)
    await hear(cascading, prompt, narrow(STRONG), streamed=streamed)
    assert (double.calls(model=CHEAP), double.calls(model=STRONG)) == (1, 1)


async def test_a_model_that_the_key_may_not_use_names_no_route(
    cascading: Any, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text="code_gen"), times=None)
    free = await hear(cascading, ask(POEM), Call.root(timeout_s=20, tenant="acme"), streamed=False)
    assert (free.answered, double.calls(model=NAMER)) == (NAMER, 2)
    # Not even what it said before to another key.
    narrowed = await hear(cascading, ask(POEM), narrow(CHEAP), streamed=False)
    assert (narrowed.answered, double.calls(model=NAMER)) == (CHEAP, 2)
    explained = await cascading.route(pb.RouteRequest(prompt=ask(POEM)), narrow(CHEAP))
    assert (explained.decision.route, list(explained.decision.warnings)) == ("complex", [])
