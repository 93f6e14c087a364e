from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1.generation_pb2 import Usage
from services.kit.errors import NotFound
from services.router.domain.catalogue import Capability, Catalogue, CatalogueError, Dialect, Model
from services.router.domain.prices import Prices, Tier, TokenKind, cost_of
from tests.unit.router.conftest import TODAY


def model(name: str, **fields: object) -> Model:
    base = Model(
        id=name,
        provider="openai",
        dialect=Dialect.OPENAI,
        upstream=name,
        prices=Prices({}),
        context_window=1000,
        max_output_tokens=100,
        capabilities=frozenset({Capability.EMBEDDINGS}),
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def test_older_models_are_dead_or_alive_as_their_vendors_say(catalogue: Catalogue) -> None:
    assert not catalogue.find("gpt-4o-mini").is_dead(TODAY)
    assert catalogue.find("gpt-4o-mini").is_dead(date(2027, 1, 14))
    for name, successor in (
        ("claude-sonnet-4-20250514", "claude-sonnet-5-5"),
        ("claude-opus-4-20250514", "claude-opus-5-5"),
    ):
        served, warnings = catalogue.succeed(catalogue.find(name), TODAY)
        assert served.id == successor
        assert len(warnings) == 1


def test_a_model_that_will_be_shut_down_is_served_with_a_warning(catalogue: Catalogue) -> None:
    served, warnings = catalogue.succeed(catalogue.find("gpt-4o-mini"), TODAY)
    assert served.id == "gpt-4o-mini"
    assert "2027-01-14" in warnings[0]
    assert "gpt-6-luna" in warnings[0]


def test_every_figure_of_the_shipped_models_has_a_source(catalogue: Catalogue) -> None:
    for entry in catalogue:
        assert TokenKind.INPUT in entry.prices.by_kind, entry.id
        lengths = (entry.prices, *(longer.prices for longer in entry.prices.longer))
        listed = [each for prices in lengths for each in (prices, *prices.tiers.values())]
        assert all(price.source and price.as_of for prices in listed for price in prices.by_kind.values())


@given(
    usage=st.builds(
        Usage,
        input_tokens=st.integers(0, 10**6),
        output_tokens=st.integers(0, 10**6),
        cached_input_tokens=st.integers(0, 10**6),
        reasoning_tokens=st.integers(0, 10**6),
    ),
    data=st.data(),
)
def test_no_shipped_model_costs_more_in_a_batch_or_less_with_priority(
    catalogue: Catalogue, usage: Usage, data: st.DataObject
) -> None:
    entry = data.draw(st.sampled_from(list(catalogue)))
    costs = []
    for tier in ("batch", "default", "priority"):
        usage.service_tier = tier
        costs.append(cost_of(usage, entry.prices))
    assert costs == sorted(costs)


def test_a_batch_costs_half_with_both_vendors_line_ups(catalogue: Catalogue) -> None:
    for name in ("gpt-6-luna", "gpt-6-astra", "claude-haiku-5-5", "claude-opus-5-5"):
        prices = catalogue.find(name).prices
        for kind in (TokenKind.INPUT, TokenKind.OUTPUT, TokenKind.CACHED_INPUT, TokenKind.CACHE_WRITE):
            assert 2 * prices.tiers[Tier.BATCH].per_mtok(kind) == prices.per_mtok(kind), (name, kind)


def test_priority_costs_what_the_source_lists(catalogue: Catalogue) -> None:
    listed = [catalogue.find(name).prices for name in ("gpt-6-luna", "gpt-5.5", "gpt-5-mini", "gpt-4o")]
    assert [prices.of(1, "priority").per_mtok(TokenKind.INPUT) for prices in listed] == [
        200_000,
        12_500_000,
        450_000,
        4_250_000,
    ]
    assert Tier.PRIORITY not in catalogue.find("gpt-5-nano").prices.tiers


@pytest.mark.parametrize(
    ("name", "above", "shorter", "longer"),
    [
        ("gpt-6-luna", 272_000, (100_000, 500_000), (200_000, 750_000)),
        ("gpt-5.4", 272_000, (2_500_000, 15_000_000), (5_000_000, 22_500_000)),
        ("claude-haiku-5-5", 100_000, (100_000, 500_000), (500_000, 2_500_000)),
        ("claude-opus-5-5", 100_000, (4_000_000, 20_000_000), (4_000_000, 20_000_000)),
    ],
)
def test_long_requests_cost_what_the_source_lists(
    catalogue: Catalogue, name: str, above: int, shorter: tuple[int, int], longer: tuple[int, int]
) -> None:
    prices = catalogue.find(name).prices
    for input_tokens, figures in ((above, shorter), (above + 1, longer)):
        listed = prices.of(input_tokens)
        assert (listed.per_mtok(TokenKind.INPUT), listed.per_mtok(TokenKind.OUTPUT)) == figures


def test_the_price_that_the_vendor_s_page_corrects_is_the_page_s(catalogue: Catalogue) -> None:
    price = catalogue.find("claude-sonnet-5-5").prices.by_kind[TokenKind.CACHED_INPUT]
    assert (price.micro_usd_per_mtok, price.source) == (200_000, "anthropic-page")


def test_an_alias_leads_to_its_model(catalogue: Catalogue) -> None:
    assert catalogue.find("claude-sonnet-4-0").id == "claude-sonnet-4-20250514"


def test_an_unknown_name_is_answered_with_those_that_come_close(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound, match=r"did you mean .*claude-haiku-5-5"):
        catalogue.find("claude-haiku-55")
    with pytest.raises(NotFound, match="ask for the list"):
        catalogue.find("zzzzzz")


def test_successors_in_a_circle_are_refused() -> None:
    models = [model("a", successor="b"), model("b", successor="c"), model("c", successor="a")]
    with pytest.raises(CatalogueError, match="circle"):
        Catalogue(models, default_embedding="a")


def test_a_chain_of_dead_models_ends_at_the_first_that_lives() -> None:
    dead = date(2020, 1, 1)
    models = [model("a", successor="b", shutdown=dead), model("b", successor="c", shutdown=dead), model("c")]
    served, warnings = Catalogue(models, default_embedding="a").succeed(models[0], TODAY)
    assert served.id == "c"
    assert len(warnings) == 2


@pytest.mark.parametrize(
    ("models", "fault"),
    [
        ([model("a"), model("b", aliases=("a",))], "names two models"),
        ([model("a", successor="ghost")], "ghost"),
    ],
)
def test_contradictions_are_refused_with_the_model_at_fault(models: list[Model], fault: str) -> None:
    with pytest.raises(CatalogueError, match=fault) as caught:
        Catalogue(models, default_embedding="a")
    assert caught.value.model == len(models) - 1
