from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1.generation_pb2 import Usage
from services.router.domain.prices import (
    Price,
    Prices,
    Tier,
    TokenKind,
    affordable_output_tokens,
    cost_of,
    estimate_cost,
)

tokens = st.integers(0, 10_000_000)
figures = st.integers(0, 100_000_000)


def priced(**by_kind: int) -> Prices:
    return Prices(
        {
            TokenKind(kind): Price(micro_usd_per_mtok=figure, source="test", as_of="2026-11")
            for kind, figure in by_kind.items()
        }
    )


@given(plain=tokens, cached=tokens, written=tokens, output=tokens, a=figures, b=figures, c=figures, d=figures)
def test_a_cost_is_the_exact_sum_rounded_up_once(
    plain: int, cached: int, written: int, output: int, a: int, b: int, c: int, d: int
) -> None:
    usage = Usage(
        input_tokens=plain + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )
    exact = Fraction(plain * a + cached * b + written * c + output * d, 1_000_000)
    assert cost_of(usage, priced(input=a, cached_input=b, cache_write=c, output=d)) == ceil(exact)


@given(usage=st.builds(Usage, input_tokens=tokens, output_tokens=tokens), price=figures)
def test_more_tokens_never_cost_less(usage: Usage, price: int) -> None:
    prices = priced(input=price, output=price)
    more = Usage(input_tokens=usage.input_tokens + 1, output_tokens=usage.output_tokens)
    assert cost_of(more, prices) >= cost_of(usage, prices)


@given(input_tokens=tokens, micro_usd=st.integers(0, 10**12), a=figures, b=st.integers(1, 100_000_000))
def test_what_is_affordable_is_the_most_that_fits(input_tokens: int, micro_usd: int, a: int, b: int) -> None:
    prices = priced(input=a, output=b)
    affordable = affordable_output_tokens(prices, input_tokens=input_tokens, micro_usd=micro_usd)
    assert affordable is not None
    if affordable < 0:
        assert estimate_cost(prices, input_tokens=input_tokens, output_tokens=0) > micro_usd
    else:
        assert estimate_cost(prices, input_tokens=input_tokens, output_tokens=affordable) <= micro_usd
        assert estimate_cost(prices, input_tokens=input_tokens, output_tokens=affordable + 1) > micro_usd


def test_a_kind_without_a_price_costs_what_the_kind_that_contains_it_costs() -> None:
    prices = priced(input=2_000_000, output=10_000_000)
    usage = Usage(input_tokens=10, cached_input_tokens=10, output_tokens=5, reasoning_tokens=5)
    assert cost_of(usage, prices) == 20 + 50


def test_counts_that_contradict_each_other_never_make_a_negative_cost() -> None:
    usage = Usage(input_tokens=5, cached_input_tokens=10, output_tokens=1, reasoning_tokens=9)
    assert cost_of(usage, priced(input=1_000_000, output=1_000_000)) == 11


def test_a_free_model_affords_any_output() -> None:
    assert affordable_output_tokens(priced(input=0, output=0), input_tokens=10**9, micro_usd=0) is None


counts = st.builds(
    Usage,
    input_tokens=tokens,
    output_tokens=tokens,
    cached_input_tokens=tokens,
    cache_write_tokens=tokens,
    reasoning_tokens=tokens,
)
lists = st.dictionaries(st.sampled_from(TokenKind), figures)


@pytest.mark.parametrize(
    ("tier", "cost"),
    [
        ("flex", 500),
        ("batch", 500),
        ("priority", 2500),
        ("fast", 2500),
        ("default", 1000),
        ("", 1000),
    ],
)
def test_an_answer_costs_what_its_tier_costs(tier: str, cost: int) -> None:
    tiers = {Tier.BATCH: priced(input=500_000), Tier.PRIORITY: priced(input=2_500_000)}
    prices = Prices(priced(input=1_000_000).by_kind, tiers)
    assert cost_of(Usage(input_tokens=1000, service_tier=tier), prices) == cost
    assert estimate_cost(prices, input_tokens=1000, output_tokens=0, service_tier=tier) == cost


@pytest.mark.parametrize("tier", ["priority", "scale", "standard", "whatever"])
def test_a_tier_without_a_list_costs_the_standard_price(tier: str) -> None:
    prices = Prices(priced(input=1_000_000).by_kind, {Tier.BATCH: priced(input=500_000)})
    assert cost_of(Usage(input_tokens=1000, service_tier=tier), prices) == 1000


@given(usage=counts, standard=lists, tier=st.sampled_from(["", "flex", "batch", "default", "priority"]))
def test_a_model_without_prices_for_tiers_costs_the_same_at_every_tier(
    usage: Usage, standard: dict[str, int], tier: str
) -> None:
    plain = cost_of(usage, priced(**standard))
    usage.service_tier = tier
    assert cost_of(usage, priced(**standard)) == plain
