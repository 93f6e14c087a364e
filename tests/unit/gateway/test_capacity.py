import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from opentelemetry.metrics import NoOpMeter

from quartet.common.v1.generation_pb2 import (
    PRIORITY_CRITICAL,
    PRIORITY_DEFAULT,
    PRIORITY_SHEDDABLE,
    PRIORITY_UNSPECIFIED,
)
from services.gateway.domain.capacity import (
    MAX_LOOP_DELAY_S,
    Bounds,
    Capacity,
    Hold,
    settle_priority,
)
from services.kit.errors import Unavailable

PRIORITIES = (PRIORITY_SHEDDABLE, PRIORITY_DEFAULT, PRIORITY_CRITICAL)
LEAST, MOST = 4, 40


def make(least: int = LEAST, most: int = MOST, *, random: float = 0.5) -> Capacity:
    return Capacity(Bounds(least=least, most=most), NoOpMeter("test"), random=lambda: random)


def fill(capacity: Capacity, calls: int) -> list[Hold]:
    holds = [capacity.hold(PRIORITY_CRITICAL) for _ in range(calls)]
    for hold in holds:
        hold.__enter__()
    return holds


def empty(holds: list[Hold]) -> None:
    for hold in holds:
        hold.__exit__(None, None, None)


def is_let_in(capacity: Capacity, priority: int) -> bool:
    try:
        with capacity.hold(priority):  # type: ignore[arg-type]
            return True
    except Unavailable:
        return False


class Traffic(RuleBasedStateMachine):
    """Any order of calls, signals and windows."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.capacity = make()
        self.held = 0

    @rule(target=holds, priority=st.sampled_from(PRIORITIES))
    def come(self, priority: int) -> list[Hold]:
        hold = self.capacity.hold(priority)  # type: ignore[arg-type]
        free = self.held < self.capacity.limit
        try:
            hold.__enter__()
        except Unavailable:
            assert not (free and priority == PRIORITY_CRITICAL)
            return []
        assert free
        self.held += 1
        return [hold]

    @rule(holds=consumes(holds))
    def go(self, holds: list[Hold]) -> None:
        empty(holds)
        self.held -= len(holds)

    @rule(is_overload=st.booleans())
    def note(self, is_overload: bool) -> None:
        self.capacity.note(is_overload=is_overload)

    @rule(loop_delay_s=st.sampled_from([0.0, 1.0]))
    def adjust(self, loop_delay_s: float) -> None:
        self.capacity.adjust(loop_delay_s)

    @invariant()
    def every_place_is_known(self) -> None:
        assert self.capacity.calls == self.held

    @invariant()
    def the_limit_keeps_within_its_bounds(self) -> None:
        assert LEAST <= self.capacity.limit <= MOST

    @invariant()
    def who_matters_less_is_never_let_in_where_one_who_matters_more_is_not(self) -> None:
        admitted = [is_let_in(self.capacity, priority) for priority in PRIORITIES]
        assert admitted == sorted(admitted)


TestTraffic = Traffic.TestCase


@given(calls=st.integers(0, MOST))
def test_the_sheddable_are_refused_first_and_the_critical_last(calls: int) -> None:
    capacity = make()
    fill(capacity, calls)
    assert is_let_in(capacity, PRIORITY_SHEDDABLE) == (calls < MOST * 0.5)
    assert is_let_in(capacity, PRIORITY_DEFAULT) == (calls < MOST * 0.9)
    assert is_let_in(capacity, PRIORITY_CRITICAL) == (calls < MOST)


@pytest.mark.parametrize(("random", "retry_after_s"), [(0.0, 3.0), (1.0, 9.0)])
def test_a_refusal_says_when_to_come_back(random: float, retry_after_s: float) -> None:
    capacity = make(random=random)
    fill(capacity, MOST)
    with pytest.raises(Unavailable) as refused, capacity.hold(PRIORITY_SHEDDABLE):
        pass
    assert refused.value.reason == "OVERLOADED"
    assert refused.value.metadata == {"priority": "sheddable"}
    assert refused.value.retry_after_s == retry_after_s
    assert not refused.value.quota_violations


def test_a_place_is_given_back_when_the_call_fails() -> None:
    capacity = make()
    with pytest.raises(KeyError), capacity.hold(PRIORITY_DEFAULT):
        raise KeyError
    assert capacity.calls == 0


def test_overload_takes_the_limit_below_the_calls_that_were_under_way() -> None:
    capacity = make()
    empty(fill(capacity, 20))
    capacity.note(is_overload=True)
    capacity.adjust()
    assert capacity.limit == 16


def test_a_late_event_loop_is_overload() -> None:
    capacity = make()
    fill(capacity, 20)
    capacity.adjust(MAX_LOOP_DELAY_S * 1.1)
    assert capacity.limit == 16


def test_a_few_bad_signals_among_many_move_nothing() -> None:
    capacity = make()
    fill(capacity, 20)
    for number in range(100):
        capacity.note(is_overload=number < 10)
    capacity.adjust()
    assert capacity.limit == MOST


def test_overload_that_few_calls_see_does_not_take_the_limit_to_the_least() -> None:
    capacity = make()
    fill(capacity, LEAST)
    capacity.note(is_overload=True)
    capacity.adjust(10.0)
    assert capacity.limit == MOST


def test_the_limit_comes_back_while_it_is_used() -> None:
    capacity = make()
    empty(fill(capacity, 20))
    capacity.adjust(1.0)
    limits = []
    while capacity.limit < MOST:
        empty(fill(capacity, capacity.limit))
        capacity.note(is_overload=False)
        capacity.adjust()
        limits.append(capacity.limit)
    assert limits == [20, 24, 28, 33, 38, MOST]


def test_a_limit_that_nobody_uses_stays() -> None:
    capacity = make()
    empty(fill(capacity, 20))
    capacity.adjust(1.0)
    capacity.adjust()
    assert capacity.limit == 16


@pytest.mark.parametrize(
    ("asked", "allowed", "settled"),
    [
        (PRIORITY_UNSPECIFIED, {"critical", "default", "sheddable"}, PRIORITY_DEFAULT),
        (PRIORITY_UNSPECIFIED, {"sheddable"}, PRIORITY_SHEDDABLE),
        (PRIORITY_UNSPECIFIED, {"critical"}, PRIORITY_CRITICAL),
        (PRIORITY_CRITICAL, {"critical"}, PRIORITY_CRITICAL),
        (PRIORITY_CRITICAL, {"default", "sheddable"}, None),
    ],
)
def test_the_key_settles_what_was_not_asked_for_and_may_refuse_what_was(
    asked: int, allowed: set[str], settled: int | None
) -> None:
    assert settle_priority(asked, allowed.__contains__) == settled  # type: ignore[arg-type]
