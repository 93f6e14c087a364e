"""What a key whose scopes name models is decided, and which answers it shares."""

from dataclasses import replace
from datetime import date

import pytest

from services.kit.errors import InvalidArgument, PermissionDenied
from services.router.domain.caching import name_answer, name_context
from services.router.domain.catalogue import Catalogue
from services.router.domain.decision import Decider
from services.router.domain.fleet import Fleet
from services.router.domain.routes import RouteTable
from services.router.domain.staying import Memory
from tests.unit.router.conftest import TODAY, Ask, Decide, provider_states

LUNA, HAIKU, TERRA, SOL, OPUS = (
    "gpt-6-luna",
    "claude-haiku-5-5",
    "gpt-6.1-terra",
    "gpt-6.1-sol",
    "claude-opus-5-5",
)
FORBIDDEN = "this key may not use it"
CODE = "Implement binary search in Rust."


@pytest.mark.parametrize("route", ["", "simple_faq"])
def test_a_route_is_decided_among_the_permitted_models(decider: Decide, ask: Ask, route: str) -> None:
    plan = decider().decide(ask("hi", route=route), models=[HAIKU])
    assert [model.id for model in plan.models] == [HAIKU]
    objections = {each.model: each.rejected_because for each in plan.decision.candidates}
    assert objections == {LUNA: FORBIDDEN, HAIKU: "", "local/extractive": FORBIDDEN}
    assert decider().explain(ask("hi", route=route), models=[HAIKU]) == plan.decision


def test_without_models_nothing_is_narrowed(decider: Decide, ask: Ask) -> None:
    plan = decider().decide(ask("hi"))
    assert [model.id for model in plan.models] == [LUNA, HAIKU]
    assert plan.permitted is None


def test_under_auto_the_models_of_the_key_stand_for_those_of_the_route(decider: Decide, ask: Ask) -> None:
    plan = decider().decide(ask(CODE), models=[OPUS, HAIKU, "local/minilm"])
    assert plan.decision.route == "code_gen"
    # The cheapest first.
    assert [model.id for model in plan.models] == [HAIKU, OPUS]
    assert {each.model for each in plan.decision.candidates if each.rejected_because == FORBIDDEN} == {
        TERRA,
        "claude-sonnet-5-5",
        "local/extractive",
    }


def test_a_named_route_without_them_is_refused_and_told_so(decider: Decide, ask: Ask) -> None:
    prompt = ask(CODE, route="code_gen")
    with pytest.raises(PermissionDenied, match=f"{LUNA}, {HAIKU}") as caught:
        decider().decide(prompt, models=[LUNA, HAIKU])
    assert caught.value.reason == "SCOPE_MISSING"
    assert f"model:{TERRA}" in caught.value.metadata["scope"]
    explained = decider().explain(prompt, models=[LUNA, HAIKU])
    assert not explained.HasField("handler")
    assert {each.rejected_because for each in explained.candidates} == {FORBIDDEN}


@pytest.mark.parametrize("models", [["local/minilm"], ["no-such-model"]])
def test_a_key_without_a_writing_model_is_refused_under_auto(
    decider: Decide, ask: Ask, models: list[str]
) -> None:
    with pytest.raises(PermissionDenied, match=models[0]):
        decider().decide(ask("hi"), models=models)


def test_a_named_model_is_held_to_the_key_too(decider: Decide, ask: Ask) -> None:
    with pytest.raises(PermissionDenied, match=LUNA):
        decider().decide(ask("hi", model=SOL), models=[LUNA])
    assert decider().decide(ask("hi", model=LUNA), models=[LUNA]).decision.model == LUNA


def test_a_permitted_model_that_cannot_serve_says_why(decider: Decide, ask: Ask) -> None:
    with pytest.raises(InvalidArgument, match="window") as caught:
        decider(anthropic=False).decide(ask("hi", route="simple_faq", input_tokens=950_000), models=[LUNA])
    # The other one's provider is not configured, which would not help this key.
    assert caught.value.reason == "NO_MODEL_FITS"


@pytest.mark.parametrize(
    ("models", "variables"),
    [
        (None, ["OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"]),
        ([LUNA], ["OPENAI_API_KEY", "OPENAI_BASE_URL"]),
        ([HAIKU, SOL], ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"]),
    ],
)
@pytest.mark.parametrize("route", ["", "simple_faq"])
def test_only_variables_that_would_help_the_key_are_named(
    decider: Decide, ask: Ask, models: list[str] | None, variables: list[str], route: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decider(openai=False, anthropic=False).decide(ask("hi", route=route), models=models)
    assert caught.value.reason == "NO_MODEL_CONFIGURED"
    assert caught.value.metadata == {"variables": ",".join(variables)}
    assert f"set one of {', '.join(variables)} (" in caught.value.message


def test_scopes_name_models_by_alias_and_their_successors(decider: Decide, ask: Ask) -> None:
    alias = "claude-haiku-4-5-20251001"
    assert decider().decide(ask(CODE), models=[alias]).decision.model == "claude-haiku-4-5"
    later = decider(today=date(2027, 5, 1))
    assert later.decide(ask(CODE, route="code_gen"), models=["gpt-4o"]).decision.model == TERRA
    with pytest.raises(PermissionDenied):
        decider().decide(ask(CODE, route="code_gen"), models=["gpt-4o"])


def test_a_session_leaves_a_model_that_the_key_may_not_use(decider: Decide, ask: Ask) -> None:
    last = Memory(model=SOL, provider="openai", cached_tokens=9_000)
    plan = decider().decide(ask("thanks", session="s"), last, models=[LUNA])
    assert [model.id for model in plan.models] == [LUNA]
    assert plan.decision.session == f"leaves {SOL}: {FORBIDDEN}"


def test_the_last_resort_is_no_way_round(catalogue: Catalogue, routes: RouteTable, ask: Ask) -> None:
    fleet = Fleet(catalogue, {"openai", "anthropic", "local"}, clock=lambda: 100.0)
    table = RouteTable(
        [replace(route, last_resort=SOL) for route in routes],
        routes.rules,
        default=routes.default.name,
        named=routes.named,
        baseline=routes.baseline,
    )
    decider = Decider(catalogue, table, provider_states(), lambda: TODAY, fleet=fleet)
    fleet.throttle(LUNA, "openai", 12)
    plan = decider.decide(ask("hi"), models=[LUNA])
    assert [model.id for model in plan.models] == [LUNA]


def test_answers_are_shared_among_keys_of_the_same_models_alone(decider: Decide, ask: Ask) -> None:
    prompt = ask("hi")
    narrowed: list[list[str] | None] = [None, [LUNA], [LUNA, HAIKU], [HAIKU, LUNA]]
    plans = [decider().decide(prompt, models=models) for models in narrowed]
    assert {plan.models[0].id for plan in plans} == {LUNA}
    for name in (name_answer, name_context):
        free, luna, both, again = (name(prompt, plan, "acme") for plan in plans)
        assert both == again
        assert len({free, luna, both}) == 3
