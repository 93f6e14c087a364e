import pytest

from quartet.common.v1.generation_pb2 import Budget, GenerationSpec
from services.kit.errors import ResourceExhausted
from services.router.domain.budget import Spending, covers, expected_tier
from services.router.domain.catalogue import Catalogue


def test_without_bounds_everything_is_allowed(catalogue: Catalogue) -> None:
    spending = Spending(Budget())
    assert spending.admit(catalogue.find("gpt-6-astra"), input_tokens=10**6, output_tokens=128_000) == 128_000


def test_output_shrinks_to_what_the_budget_covers(catalogue: Catalogue) -> None:
    luna = catalogue.find("gpt-6-luna")
    assert Spending(Budget(max_tokens=150)).admit(luna, input_tokens=100, output_tokens=200) == 50
    # 100 tokens in cost 10 micro-USD, which leaves 90 for output at half a micro-USD each.
    assert Spending(Budget(max_cost_micro_usd=100)).admit(luna, input_tokens=100, output_tokens=500) == 180


def test_a_budget_that_does_not_cover_the_input_is_spent(catalogue: Catalogue) -> None:
    for budget in (Budget(max_tokens=100), Budget(max_cost_micro_usd=9)):
        with pytest.raises(ResourceExhausted):
            Spending(budget).admit(catalogue.find("gpt-6-luna"), input_tokens=100, output_tokens=200)


def test_retries_count_as_calls(catalogue: Catalogue) -> None:
    spending = Spending(Budget(max_model_calls=2))
    for _ in range(2):
        spending.admit(catalogue.find("gpt-6-luna"), input_tokens=1, output_tokens=1)
    with pytest.raises(ResourceExhausted, match="max_model_calls of 2"):
        spending.admit(catalogue.find("gpt-6-luna"), input_tokens=1, output_tokens=1)


def test_embeddings_need_no_output(catalogue: Catalogue) -> None:
    small = catalogue.find("text-embedding-3-small")
    assert Spending(Budget(max_tokens=100)).admit(small, input_tokens=100, output_tokens=0) == 0
    with pytest.raises(ResourceExhausted):
        Spending(Budget(max_tokens=0)).admit(small, input_tokens=0, output_tokens=0)


@pytest.mark.parametrize(
    ("budget", "is_enough"),
    [
        (Budget(), True),
        (Budget(max_tokens=1200), True),
        (Budget(max_tokens=1199), False),
        # Each model costs 10 for what it reads and 250 for what it writes.
        (Budget(max_cost_micro_usd=520), True),
        (Budget(max_cost_micro_usd=519), False),
        (Budget(max_model_calls=2), True),
        (Budget(max_model_calls=1), False),
        (Budget(max_tokens=0), False),
    ],
    ids=str,
)
def test_a_budget_covers_all_models_one_after_the_other_or_it_may_cut_short(
    catalogue: Catalogue, budget: Budget, is_enough: bool
) -> None:
    luna = catalogue.find("gpt-6-luna")
    assert covers(budget, (luna, luna), input_tokens=100, output_tokens=500) is is_enough


@pytest.mark.parametrize(
    ("extra", "allowed"),
    [
        ('{"service_tier":"priority"}', 80),
        ('{"service_tier":"fast"}', 80),
        ('{"service_tier":"flex"}', 180),
        ('{"service_tier":["priority"]}', 180),
        ('{"user":"service_tier"}', 180),
        ("", 180),
    ],
)
def test_a_budget_holds_at_the_tier_that_is_asked_for(catalogue: Catalogue, extra: str, allowed: int) -> None:
    luna, budget = catalogue.find("gpt-6-luna"), Budget(max_cost_micro_usd=100)
    tier = expected_tier(GenerationSpec(extra_json=extra))
    admitted = Spending(budget).admit(luna, input_tokens=100, output_tokens=500, service_tier=tier)
    assert admitted == allowed
    for output_tokens in (allowed, allowed + 1):
        enough = covers(budget, (luna,), input_tokens=100, output_tokens=output_tokens, service_tier=tier)
        assert enough is (output_tokens == allowed)
