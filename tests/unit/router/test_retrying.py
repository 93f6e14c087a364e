"""Which deployment is asked first and which next, and how often at all."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.call import Call
from services.kit.errors import QuartetError, ResourceExhausted, Unavailable
from services.router.domain import failures
from services.router.domain.breaker import BreakerPolicy
from services.router.domain.catalogue import Balance, Catalogue, Model, Site
from services.router.domain.fleet import Fleet
from services.router.domain.retrying import Attempts, RetryBudget, Retrying, RetryPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


DOWN = failures.unreachable("openai", "gpt-6-luna", "gone")
BUSY = failures.from_http_status(429, "", provider="openai", model="gpt-6-luna", retry_after_s=60)
WRONG_KEY = failures.from_http_status(401, "", provider="openai", model="gpt-6-luna")


@pytest.fixture
def luna(catalogue: Catalogue) -> Model:
    sites = (
        Site(provider="openai", upstream="gpt-6-luna", weight=3),
        Site(provider="east", upstream="luna-east", weight=1),
    )
    return replace(catalogue.find("gpt-6-luna"), sites=sites)


@pytest.fixture
def haiku(catalogue: Catalogue) -> Model:
    return catalogue.find("claude-haiku-5-5")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_fleet(clock: Clock, *models: Model, draw: float = 0.0) -> Fleet:
    policy = BreakerPolicy(consecutive_failures=1, cooldown_s=5)
    return Fleet(models, {"openai", "east", "anthropic"}, policy, clock=clock, draw=lambda: draw)


async def begin(fleet: Fleet, *models: Model, max_retries: int = 2, timeout_s: float = 10) -> Attempts:
    policy = RetryPolicy(max_retries=max_retries, base_delay_s=0.001)
    return await Retrying(fleet, policy).attempts(models, Call.root(timeout_s=timeout_s))


async def fail(attempts: Attempts, failure: QuartetError) -> None:
    try:
        with attempts.deployment.begin():
            raise failure
    except QuartetError as raised:
        await attempts.after(raised)


async def fail_whole(fleet: Fleet, *models: Model) -> None:
    """A request that fails wherever it goes."""
    attempts = await begin(fleet, *models)

    async def fail_on() -> None:
        while True:
            await fail(attempts, DOWN)

    with pytest.raises(QuartetError):
        await fail_on()


async def test_a_failure_moves_to_the_other_deployment_then_to_the_next_model(
    clock: Clock, luna: Model, haiku: Model
) -> None:
    attempts = await begin(make_fleet(clock, luna, haiku), luna, haiku)
    seen = [attempts.deployment.model.provider]
    for _ in range(2):
        await fail(attempts, DOWN)
        seen.append(attempts.deployment.model.provider)
    assert seen == ["openai", "east", "anthropic"]
    assert attempts.deployment.model.id == "claude-haiku-5-5"
    with pytest.raises(Unavailable):
        await fail(attempts, DOWN)


async def test_a_refused_key_is_not_tried_twice_but_another_deployment_is(
    clock: Clock, luna: Model, haiku: Model
) -> None:
    attempts = await begin(make_fleet(clock, luna, haiku), luna)
    await fail(attempts, WRONG_KEY)
    assert attempts.deployment.model.upstream == "luna-east"
    with pytest.raises(QuartetError) as caught:
        await fail(attempts, WRONG_KEY)
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"


async def test_what_cools_is_passed_over_and_comes_back(clock: Clock, luna: Model) -> None:
    fleet = make_fleet(clock, luna)
    await fail(await begin(fleet, luna), DOWN)
    assert (await begin(fleet, luna)).deployment.model.provider == "east"
    assert fleet.why_resting(luna) == ""
    clock.now += 5
    healed = await begin(fleet, luna)
    assert healed.deployment.model.provider == "openai"


async def test_where_all_cool_the_one_that_cools_least_is_asked_once(
    clock: Clock, luna: Model, haiku: Model
) -> None:
    fleet = make_fleet(clock, luna, haiku)
    await fail_whole(fleet, haiku)
    clock.now += 1
    await fail_whole(fleet, luna)
    assert "cooling for 5 s" in fleet.why_resting(luna)
    attempts = await begin(fleet, luna, haiku)
    assert attempts.deployment.model.id == "claude-haiku-5-5"
    with pytest.raises(Unavailable):
        await fail(attempts, DOWN)
    assert "cooling for 4 s" in fleet.why_resting(haiku), "a last resort that fails cools no longer for it"


async def test_a_provider_that_wants_a_long_pause_is_not_asked(clock: Clock, haiku: Model) -> None:
    fleet = make_fleet(clock, haiku)
    attempts = await begin(fleet, haiku)
    with pytest.raises(ResourceExhausted):
        await fail(attempts, BUSY)
    with pytest.raises(ResourceExhausted) as caught:
        await begin(fleet, haiku)
    assert caught.value.retry_after_s == 60
    assert caught.value.reason == "PROVIDER_RATE_LIMITED"


async def test_a_session_begins_where_its_prompt_cache_is_and_need_not_end_there(
    clock: Clock, luna: Model, haiku: Model
) -> None:
    fleet = make_fleet(clock, luna, haiku)
    retrying = Retrying(fleet, RetryPolicy(max_retries=2, base_delay_s=0.001))
    call = Call.root(timeout_s=10)
    for site in ("openai", "east"):
        attempts = await retrying.attempts([luna, haiku], call, site=site)
        assert attempts.deployment.model.provider == site
        assert (await retrying.attempts([haiku], call, site=site)).deployment.model.provider == "anthropic"
    await fail(attempts, DOWN)
    assert attempts.deployment.model.provider == "openai"
    cooling = await retrying.attempts([luna, haiku], call, site="east")
    assert cooling.deployment.model.provider == "openai", "east cools"


def test_weights_are_kept_to(clock: Clock, luna: Model) -> None:
    counts: Counter[str] = Counter()
    for number in range(100):
        chosen = make_fleet(clock, luna, draw=number / 100).choose(luna)
        assert chosen is not None
        counts[chosen.model.provider] += 1
    assert counts == {"openai": 75, "east": 25}


def test_the_faster_deployment_is_chosen_until_its_figures_fade(clock: Clock, luna: Model) -> None:
    fleet = make_fleet(clock, luna)
    slow, fast = fleet.of(luna)
    slow.first_word.note(2.0)
    slow.whole.note(3.0)
    fast.first_word.note(0.5)
    fast.whole.note(1.0)
    assert fleet.choose(luna, Balance.LEAST_LATENCY) is fast
    assert fleet.choose(luna) is slow
    with fast.begin(), fast.begin(), fast.begin(), fast.begin():
        assert fleet.choose(luna, Balance.LEAST_LATENCY) is slow, "it is busy"
    clock.now += 600
    fast.first_word.note(0.5)
    assert fleet.choose(luna, Balance.LEAST_LATENCY) is slow, "nothing is known of it any more"


def test_a_client_that_leaves_says_nothing_of_the_provider(clock: Clock, haiku: Model) -> None:
    fleet = make_fleet(clock, haiku)
    (deployment,) = fleet.of(haiku)
    short = failures.out_of_time("anthropic", "claude-haiku-5-5")
    for left in (GeneratorExit(), short):
        with pytest.raises(type(left)), deployment.begin():
            raise left
    assert not fleet.rest_s(haiku)
    trial = deployment.begin()
    clock.now += 30
    with pytest.raises(type(short)), trial:
        raise short
    assert fleet.rest_s(haiku), "thirty seconds were enough to say something"


@given(
    share=st.floats(0, 1),
    min_per_s=st.floats(0, 20),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5), st.integers(0, 20)), max_size=50),
)
def test_retries_never_exceed_their_share_of_requests(
    share: float, min_per_s: float, steps: list[tuple[float, int, int]]
) -> None:
    clock = Clock()
    budget = RetryBudget(share=share, min_per_s=min_per_s, clock=clock)
    requests = retries = 0
    begun, saved = clock.now, max(1.0, min_per_s * RetryBudget.KEPT_S)
    for duration_s, asked, wanted in steps:
        clock.now += duration_s
        for _ in range(asked):
            budget.deposit()
            requests += 1
        retries += sum(budget.withdraw() for _ in range(wanted))
        assert retries <= saved + share * requests + min_per_s * (clock.now - begun) + 1e-6


async def test_without_a_retry_left_the_next_model_is_asked(clock: Clock, luna: Model, haiku: Model) -> None:
    fleet = make_fleet(clock, luna, haiku)
    retrying = Retrying(fleet, RetryPolicy(), RetryBudget(share=0, min_per_s=0, clock=clock))
    assert retrying.budget.withdraw()
    attempts = await retrying.attempts((luna, haiku), Call.root(timeout_s=5))
    await fail(attempts, DOWN)
    assert attempts.deployment.model.id == "claude-haiku-5-5"


@given(retry=st.integers(0, 10), drawn=st.floats(0, 1))
def test_pauses_have_full_jitter_and_a_bound(retry: int, drawn: float) -> None:
    policy = RetryPolicy(random=lambda: drawn)
    delay_s = policy.delay_s(retry, None)
    assert delay_s is not None
    assert 0 <= delay_s <= min(policy.max_delay_s, policy.base_delay_s * 2**retry)
    asked_s = policy.delay_s(retry, 2.0)
    assert asked_s is not None
    assert 2.0 <= asked_s <= 2.2
    assert policy.delay_s(retry, policy.max_delay_s + 0.1) is None
