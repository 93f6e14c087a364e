from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1.generation_pb2 import Usage
from services.router.domain.prices import (
    Longer,
    Price,
    Prices,
    Tier,
    TokenKind,
    affordable_output_tokens,
    cached_discount,
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


LONGER = Prices(
    priced(input=1_000_000, output=4_000_000, cached_input=100_000).by_kind,
    {Tier.BATCH: priced(input=500_000, output=2_000_000)},
    (
        Longer(
            above_tokens=1000,
            prices=Prices(
                priced(input=2_000_000, output=6_000_000, cached_input=200_000).by_kind,
                {Tier.PRIORITY: priced(input=5_000_000)},
            ),
        ),
        Longer(above_tokens=5000, prices=priced(input=3_000_000, output=6_000_000)),
    ),
)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=1000, output_tokens=10), 1000 + 40),
        (Usage(input_tokens=1001, output_tokens=10), 2002 + 60),
        (Usage(input_tokens=5000), 10_000),
        (Usage(input_tokens=5001), 15_003),
        # What is read from the cache counts for the length.
        (Usage(input_tokens=1001, cached_input_tokens=1000), 2 + 200),
        (Usage(input_tokens=5, cached_input_tokens=1001), 201),
        (Usage(input_tokens=1000, service_tier="flex"), 500),
        (Usage(input_tokens=1001, service_tier="flex"), 2002),
        (Usage(input_tokens=1001, service_tier="priority"), 5005),
        (Usage(input_tokens=1000, service_tier="priority"), 1000),
    ],
    ids=lambda value: str(value).replace("\n", " "),
)
def test_the_length_of_the_input_decides_what_all_tokens_cost(usage: Usage, cost: int) -> None:
    assert cost_of(usage, LONGER) == cost


@given(input_tokens=st.integers(0, 7000), output_tokens=st.integers(0, 10_000))
def test_an_estimate_is_the_cost_of_what_it_foresees(input_tokens: int, output_tokens: int) -> None:
    estimate = estimate_cost(LONGER, input_tokens=input_tokens, output_tokens=output_tokens)
    assert cost_of(Usage(input_tokens=input_tokens, output_tokens=output_tokens), LONGER) == estimate


@given(input_tokens=st.integers(0, 7000), micro_usd=st.integers(0, 100_000))
def test_what_is_affordable_goes_by_the_length_of_the_input(input_tokens: int, micro_usd: int) -> None:
    affordable = affordable_output_tokens(LONGER, input_tokens=input_tokens, micro_usd=micro_usd)
    assert affordable is not None
    costs = [
        estimate_cost(LONGER, input_tokens=input_tokens, output_tokens=max(0, affordable + more))
        for more in (0, 1)
    ]
    assert [cost <= micro_usd for cost in costs] == [affordable >= 0, False]


@pytest.mark.parametrize(("input_tokens", "saved"), [(1000, 900), (1001, 1800), (5001, 0)])
def test_the_prompt_cache_saves_what_the_length_makes_it_worth(input_tokens: int, saved: int) -> None:
    assert cached_discount(LONGER, input_tokens=input_tokens, cached_tokens=1000) == saved


def test_a_model_is_free_when_no_length_and_no_tier_costs_anything() -> None:
    free, dear = priced(input=0), priced(input=1)
    assert Prices(free.by_kind, {Tier.BATCH: free}, (Longer(above_tokens=1, prices=free),)).are_free
    assert not Prices(free.by_kind, {Tier.PRIORITY: dear}).are_free
    assert not Prices(free.by_kind, {}, (Longer(above_tokens=1, prices=dear),)).are_free
