"""The breaker against a model of it that is told in other words, and what it promises."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.router.domain.breaker import MAX_THROTTLE_S, Breaker, BreakerPolicy, State

POLICY = BreakerPolicy(
    consecutive_failures=3, error_rate=0.5, min_calls=8, window_s=10, cooldown_s=4, max_cooldown_s=16
)
ROUNDING_S = 1e-6


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Machine(RuleBasedStateMachine):
    """Calls begin, end one way or another in any order, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(POLICY, self.clock, lambda state: None)
        self.under_way: list[int] = []
        self.history: list[tuple[float, bool]] = []
        self.forbidden_until = 0.0

    @rule()
    def begin(self) -> None:
        if not self.breaker.rest_s():
            was = self.breaker.state
            self.under_way.append(self.breaker.begin())
            if was is not State.CLOSED:
                assert self.breaker.state is State.HALF_OPEN
                assert self.breaker.rest_s() > 0

    @precondition(lambda self: self.under_way)
    @rule(place=st.integers(0, 50))
    def succeed(self, place: int) -> None:
        generation = self.under_way.pop(place % len(self.under_way))
        was, current = self.breaker.state, generation == self.breaker.generation
        self.breaker.succeed(generation)
        if current:
            assert self.breaker.state is State.CLOSED
            self.history = [] if was is not State.CLOSED else [*self.history, (self.clock.now, False)]
        else:
            assert self.breaker.state is was

    @precondition(lambda self: self.under_way)
    @rule(place=st.integers(0, 50))
    def fail(self, place: int) -> None:
        generation = self.under_way.pop(place % len(self.under_way))
        was, current = self.breaker.state, generation == self.breaker.generation
        self.breaker.fail(generation)
        if not current or was is State.OPEN:
            assert self.breaker.state is was
            return
        if was is State.HALF_OPEN:
            assert self.breaker.state is State.OPEN
            assert self.breaker.rest_s() >= POLICY.cooldown_s - ROUNDING_S or self.breaker.throttled_s() > 0
            return
        self.history.append((self.clock.now, True))
        latest = [failed for _, failed in self.history[-POLICY.consecutive_failures :]]
        if len(latest) == POLICY.consecutive_failures and all(latest):
            assert self.breaker.state is State.OPEN
        elif self.breaker.state is State.OPEN:
            # Only a share of failures among enough calls of the window can have opened it.
            recent = [failed for at, failed in self.history if at > self.clock.now - POLICY.window_s]
            assert len(recent) >= POLICY.min_calls
            assert sum(recent) >= POLICY.error_rate * len(recent) - 1
        if self.breaker.state is State.OPEN:
            assert self.breaker.rest_s() >= POLICY.cooldown_s - ROUNDING_S
            self.history = []

    @precondition(lambda self: self.under_way)
    @rule(place=st.integers(0, 50))
    def abandon(self, place: int) -> None:
        generation = self.under_way.pop(place % len(self.under_way))
        was, current = self.breaker.state, generation == self.breaker.generation
        self.breaker.abandon(generation)
        if current and was is State.HALF_OPEN:
            assert self.breaker.state is State.OPEN
        else:
            assert self.breaker.state is was

    @rule(wait_s=st.floats(0, 10))
    def throttle(self, wait_s: float) -> None:
        self.breaker.throttle(wait_s)
        self.forbidden_until = max(self.forbidden_until, self.clock.now + wait_s)

    @rule(duration_s=st.floats(0, 20))
    def pass_time(self, duration_s: float) -> None:
        self.clock.now += duration_s

    @invariant()
    def never_rests_longer_than_bounds(self) -> None:
        longest = max(POLICY.max_cooldown_s, self.forbidden_until - self.clock.now)
        assert 0 <= self.breaker.rest_s() <= longest + ROUNDING_S

    @invariant()
    def keeps_to_the_providers_word(self) -> None:
        if self.clock.now < self.forbidden_until - ROUNDING_S:
            assert self.breaker.rest_s() > 0

    @invariant()
    def lets_calls_through_while_closed_and_not_throttled(self) -> None:
        if self.breaker.state is State.CLOSED and self.clock.now >= self.forbidden_until:
            assert self.breaker.rest_s() == 0


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestBreaker = Machine.TestCase


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(POLICY, clock, lambda state: None)
    for _ in range(POLICY.consecutive_failures):
        breaker.fail(breaker.begin())
    assert state_of(breaker) is State.OPEN
    return breaker


def state_of(breaker: Breaker) -> State:
    return breaker.state


def test_each_probe_that_fails_doubles_the_cooling_up_to_its_bound() -> None:
    clock = Clock()
    breaker = opened(clock)
    rests = []
    for _ in range(4):
        rests.append(breaker.rest_s())
        clock.now += breaker.rest_s()
        breaker.fail(breaker.begin())
    assert rests == [4, 8, 16, 16]
    clock.now += breaker.rest_s()
    breaker.succeed(breaker.begin())
    for _ in range(POLICY.consecutive_failures):
        breaker.fail(breaker.begin())
    assert breaker.rest_s() == 4


def test_a_call_from_before_it_opened_neither_heals_nor_harms() -> None:
    clock = Clock()
    breaker = Breaker(POLICY, clock, lambda state: None)
    early = breaker.begin()
    for _ in range(POLICY.consecutive_failures):
        breaker.fail(breaker.begin())
    breaker.succeed(early)
    assert state_of(breaker) is State.OPEN
    clock.now += 4
    probe = breaker.begin()
    breaker.fail(early)
    assert state_of(breaker) is State.HALF_OPEN
    breaker.succeed(probe)
    assert state_of(breaker) is State.CLOSED


def test_a_probe_that_is_lost_gives_way_to_another_in_time() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 4
    lost = breaker.begin()
    assert breaker.rest_s() == POLICY.max_cooldown_s
    clock.now += POLICY.max_cooldown_s
    breaker.succeed(breaker.begin())
    assert state_of(breaker) is State.CLOSED
    breaker.fail(lost)
    assert state_of(breaker) is State.CLOSED


def test_half_of_many_calls_failing_opens_it_and_old_failures_are_forgotten() -> None:
    clock = Clock()
    breaker = Breaker(POLICY, clock, lambda state: None)
    for _ in range(3):
        breaker.fail(breaker.begin())
        breaker.succeed(breaker.begin())
    clock.now += POLICY.window_s * 2
    breaker.succeed(breaker.begin())
    breaker.fail(breaker.begin())
    assert state_of(breaker) is State.CLOSED
    for _ in range(3):
        breaker.succeed(breaker.begin())
        breaker.fail(breaker.begin())
    assert state_of(breaker) is State.OPEN


def test_a_providers_word_is_believed_for_an_hour_at_most() -> None:
    breaker = Breaker(POLICY, Clock(), lambda state: None)
    breaker.throttle(1e9)
    assert breaker.rest_s() == breaker.throttled_s() == MAX_THROTTLE_S
