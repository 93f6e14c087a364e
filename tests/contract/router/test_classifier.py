"""A model names the route where neither a rule nor the learned classifier is sure, if it is asked to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.router.settings import Settings
from services.router.wiring import build
from tests.contract.router.conftest import Ask
from tests.doubles.provider import Fault, ProviderDouble, Reply

CONFIG = Path(__file__).parents[3] / "config"
NAMER, COMPLEX, TECHNICAL = "gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra"
POEM = "The old lighthouse keeper dreamt of snow and of a city that nobody had ever seen."
Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def serve(double: ProviderDouble, tmp_path: Path) -> Serve:
    """A router that asks a model whatever the learned classifier thinks; `llm` changes how."""

    @asynccontextmanager
    async def serving(settings: dict[str, Any] | None = None, **llm: Any) -> AsyncIterator[Any]:
        routes = yaml.safe_load((CONFIG / "routes.yaml").read_text(encoding="utf-8"))
        routes["classifier"]["llm"] = {"model": NAMER, "below": 1.0, "timeout_ms": 5000} | llm
        (tmp_path / "routes.yaml").write_text(yaml.safe_dump(routes), encoding="utf-8")
        (tmp_path / "models.yaml").write_bytes((CONFIG / "models.yaml").read_bytes())
        given: dict[str, Any] = {"openai_base_url": double.openai_url, "config_dir": tmp_path}
        # Without the local embedder, which nothing here asks.
        given["artifacts_dir"] = tmp_path
        async with build(Settings(**given | (settings or {}))) as (binding,):
            yield binding.service

    return serving


async def answer(router: Any, prompt: pb.Prompt, *, tenant: str = "acme") -> pb.GenerateResponse:
    call = Call.root(timeout_s=60, tenant=tenant)
    response: pb.GenerateResponse = await router.generate(pb.GenerateRequest(prompt=prompt), call)
    return response


async def test_the_label_that_the_model_says_is_the_route(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text=" Technical.\n"))
    labels = {"technical": "how things work", "complex": ""}
    async with serve(labels=labels, max_prompt_chars=100) as router:
        response = await answer(router, ask(POEM + " snow" * 300))
    decision, usage = response.decision, response.completion.usage
    assert (decision.route, decision.rule, decision.model) == ("technical", "llm_classifier", TECHNICAL)
    asked, answered = double.requests
    assert "- technical: how things work" in asked.body["messages"][0]["content"]
    assert len(asked.body["messages"]) == 1
    assert asked.body["messages"][0]["content"].count("snow") < 10
    assert asked.body["max_completion_tokens"] == 16
    assert answered.model == TECHNICAL
    # Both calls are the request's.
    assert usage.model_calls == 2
    alone = len(answered.body["messages"][0]["content"]) // 4
    assert usage.input_tokens > alone + len(asked.body["messages"][0]["content"]) // 5


async def test_a_streams_usage_has_the_question_in_it(serve: Serve, double: ProviderDouble, ask: Ask) -> None:
    double.script(match=NAMER, reply=Reply(text="technical"))
    async with serve() as router:
        whole = await answer(router, ask(POEM), tenant="other")
        double.script(match=NAMER, reply=Reply(text="technical"))
        request = pb.StreamGenerateRequest(prompt=ask(POEM))
        async with aclosing(
            router.stream_generate(request, Call.root(timeout_s=60, tenant="acme"))
        ) as events:
            heard = [event async for event in events]
    assert heard[0].decision.rule == "llm_classifier"
    assert heard[-1].end.usage == whole.completion.usage
    assert double.calls(model=NAMER) == 2


async def test_it_is_not_asked_again_of_what_it_has_named(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text="technical"), times=None)
    async with serve() as router:
        first = await answer(router, ask(POEM))
        again = await answer(router, ask(POEM))
        assert double.calls(model=NAMER) == 1
        await answer(router, ask(POEM), tenant="other")
    assert double.calls(model=NAMER) == 2
    assert again.decision.rule == "llm_classifier"
    assert (first.completion.usage.model_calls, again.completion.usage.model_calls) == (2, 1)


async def test_those_who_ask_the_same_at_once_share_one_question(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text="technical"), fault=Fault(delay_s=0.3), times=None)
    async with serve() as router:
        answers = await asyncio.gather(*(answer(router, ask(POEM)) for _ in range(20)))
    assert {each.decision.rule for each in answers} == {"llm_classifier"}
    assert double.calls(model=NAMER) == 1
    assert sorted(each.completion.usage.model_calls for each in answers) == [1] * 19 + [2]


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply(text="This is technical, I think."), None),
        (None, Fault(status=500)),
        (None, Fault(drop=True)),
        (None, Fault(delay_s=30)),
    ],
    ids=["garbage", "failing", "broken", "slow"],
)
async def test_without_a_label_the_tables_decide_and_soon_it_is_not_asked_any_more(
    serve: Serve, double: ProviderDouble, ask: Ask, reply: Reply | None, fault: Fault | None
) -> None:
    double.script(match=NAMER, reply=reply, fault=fault, times=None)
    settings = {"breaker_failures": 3, "breaker_cooldown_s": 600, "breaker_max_cooldown_s": 600}
    async with serve(settings, timeout_ms=500 if fault and fault.delay_s else 5000, below=0.99) as router:
        without = router._decider.decide(ask(POEM)).decision
        for _ in range(6):
            decision = (await answer(router, ask(POEM))).decision
            assert (decision.route, decision.rule) == (without.route, without.rule)
    assert without.route == "complex"
    assert double.calls(model=NAMER) == 3
    assert double.calls(model=COMPLEX) == 6


async def test_it_is_asked_again_when_its_breaker_has_cooled(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text="?"), times=2)
    double.script(match=NAMER, reply=Reply(text="technical"), times=None)
    async with serve({"breaker_failures": 2, "breaker_cooldown_s": 0.01}) as router:
        rules = [(await answer(router, ask(POEM))).decision.rule for _ in range(2)]
        async with asyncio.timeout(20):
            while "llm_classifier" not in rules:
                rules.append((await answer(router, ask(POEM))).decision.rule)
    assert rules.index("llm_classifier") >= 2
    assert double.calls(model=NAMER) == 3


async def test_it_is_not_asked_where_there_is_nothing_to_ask(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    prompts = [
        ask(POEM, model="gpt-6.1-terra"),
        ask(POEM, route="technical"),
        ask("Explain how garbage collection works in Go."),
        ask(POEM, budget={"max_model_calls": 1}),
        ask(""),
    ]
    async with serve() as router:
        for prompt in prompts:
            assert (await answer(router, prompt)).completion.usage.model_calls == 1
    assert len(double.requests) == len(prompts)


@pytest.mark.parametrize("llm", [{"below": 0.0}, {"model": "claude-haiku-5-5"}], ids=["sure", "no key"])
async def test_it_is_not_asked_where_the_classifier_is_sure_or_it_has_no_key(
    serve: Serve, double: ProviderDouble, ask: Ask, llm: dict[str, Any]
) -> None:
    async with serve(**llm) as router:
        assert (await answer(router, ask(POEM))).completion.usage.model_calls == 1
    assert double.calls() == 1


async def test_what_the_question_took_is_taken_from_the_budget(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text="technical"))
    double.script(match=TECHNICAL, fault=Fault(status=500), times=None)
    async with serve() as router:
        with pytest.raises(Exception, match="max_model_calls"):
            await answer(router, ask(POEM, budget={"max_model_calls": 2}))
    assert (double.calls(model=NAMER), double.calls(model=TECHNICAL)) == (1, 1)


async def test_an_explanation_spends_nothing_and_says_whom_it_would_ask(
    serve: Serve, double: ProviderDouble, ask: Ask
) -> None:
    double.script(match=NAMER, reply=Reply(text="technical"))
    call = Call.root(timeout_s=60, tenant="acme")
    async with serve() as router:
        first = (await router.route(pb.RouteRequest(prompt=ask(POEM)), call)).decision
        assert not double.requests
        await answer(router, ask(POEM))
        second = (await router.route(pb.RouteRequest(prompt=ask(POEM)), call)).decision
    assert first.route == "complex"
    assert [NAMER in warning and "would be asked" in warning for warning in first.warnings] == [True]
    assert (second.route, second.rule, list(second.warnings)) == ("technical", "llm_classifier", [])
    assert double.calls(model=NAMER) == 1


async def test_as_shipped_nobody_is_asked(router: Any, double: ProviderDouble, ask: Ask) -> None:
    response = await answer(router, ask(POEM))
    assert response.decision.rule != "llm_classifier"
    explained = await router.route(pb.RouteRequest(prompt=ask(POEM)), Call.root(timeout_s=20, tenant="acme"))
    assert not explained.decision.warnings
    assert double.calls() == 1
