"""What decisions make of models that are cooling."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.router.domain.catalogue import Catalogue
from services.router.domain.decision import Decider
from services.router.domain.fleet import Fleet
from services.router.domain.routes import Route, RouteTable
from tests.unit.router.conftest import TODAY, Ask, provider_states

LUNA, HAIKU = "gpt-6-luna", "claude-haiku-5-5"
Make = Callable[..., Decider]


@pytest.fixture
def fleet(catalogue: Catalogue) -> Fleet:
    return Fleet(catalogue, {"openai", "anthropic", "local"}, clock=lambda: 100.0)


@pytest.fixture
def make(catalogue: Catalogue, routes: RouteTable, fleet: Fleet) -> Make:
    """A decider whose routes have a last resort, or none."""

    def made(last_resort: str = "") -> Decider:
        def change(route: Route) -> Route:
            return replace(route, last_resort=last_resort)

        table = RouteTable(
            [change(route) for route in routes],
            routes.rules,
            default=routes.default.name,
            named=routes.named,
            baseline=routes.baseline,
        )
        return Decider(catalogue, table, provider_states(), lambda: TODAY, fleet=fleet)

    return made


def test_a_cooling_model_is_passed_over_and_told_of(make: Make, fleet: Fleet, ask: Ask) -> None:
    fleet.throttle(LUNA, "openai", 12)
    decision = make().decide(ask("hi")).decision
    assert decision.model == HAIKU
    assert decision.candidates[0].rejected_because == "its provider takes no more requests for 12 s"
    assert not decision.warnings


def test_where_all_are_cooling_the_one_that_cools_least_is_chosen(make: Make, fleet: Fleet, ask: Ask) -> None:
    fleet.throttle(LUNA, "openai", 12)
    fleet.throttle(HAIKU, "anthropic", 5)
    plan = make().decide(ask("hi"))
    assert [model.id for model in plan.models] == [HAIKU, LUNA]
    assert plan.decision.model == HAIKU
    assert "last resort" in plan.decision.warnings[0]


def test_a_last_resort_comes_in_only_then(make: Make, fleet: Fleet, ask: Ask) -> None:
    decider = make(last_resort="gpt-6.1-terra")
    fleet.throttle(LUNA, "openai", 12)
    assert decider.decide(ask("hi")).decision.model == HAIKU
    fleet.throttle(HAIKU, "anthropic", 5)
    decision = decider.decide(ask("hi")).decision
    assert decision.model == "gpt-6.1-terra"
    assert [each.model for each in decision.candidates if each.chosen] == ["gpt-6.1-terra"]
    fleet.throttle("gpt-6.1-terra", "openai", 3)
    assert decider.decide(ask("hi")).decision.model == "gpt-6.1-terra", "it cools least"


def test_a_named_model_is_asked_though_it_cools(make: Make, fleet: Fleet, ask: Ask) -> None:
    fleet.throttle(LUNA, "openai", 12)
    decision = make().decide(ask("hi", model=LUNA)).decision
    assert decision.model == LUNA
    assert "takes no more requests for 12 s" in decision.warnings[-1]


def test_what_cannot_serve_anyhow_is_told_so_first(make: Make, fleet: Fleet, ask: Ask) -> None:
    fleet.throttle(LUNA, "openai", 12)
    decision = make().decide(ask("hi", input_tokens=950_000)).decision
    assert "922000" in decision.candidates[0].rejected_because
