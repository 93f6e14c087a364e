"""Whether a deployment may be called now: it cools after failures, and for as long as its provider asks.

The states are those of M. Nygard's circuit breaker (Release It!, 2007). The results of calls that began in an
earlier state are told by their generation, and change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

SLICES = 10
"""Of the window in which failures are counted: its whole memory."""
MAX_THROTTLE_S = 3600.0
"""Longest pause that is taken on a provider's word."""


class State(Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    """Calls go through."""
    OPEN = "open"
    """No call goes through until the cooling is over; the next one then is a probe."""
    HALF_OPEN = "half_open"
    """A probe is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        consecutive_failures: So many in a row open it.
        error_rate: So does this share of failures, 0..1, among at least `min_calls` within `window_s`.
        cooldown_s: How long it first stays open; twice as long after each probe that fails.
        max_cooldown_s: Longest cooling; also how long a probe may take until another is let through.
        min_timeout_s: A call that its own deadline ended is a failure only when it had so long.
    """

    consecutive_failures: int = 5
    error_rate: float = 0.5
    min_calls: int = 20
    window_s: float = 30.0
    cooldown_s: float = 5.0
    max_cooldown_s: float = 120.0
    min_timeout_s: float = 30.0


class Breaker:
    """The health of one deployment.

    Attributes:
        generation: Of calls that begin in the present state; others no longer count.

    Args:
        clock: Seconds that never go back.
        on_change: Is told of each new state, and `throttled` where the provider asks for a pause.
    """

    __slots__ = (
        "_clock",
        "_on_change",
        "_openings",
        "_policy",
        "_streak",
        "_throttled_until",
        "_until",
        "_window",
        "generation",
        "state",
    )

    def __init__(
        self, policy: BreakerPolicy, clock: Callable[[], float], on_change: Callable[[str], None]
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self.state = State.CLOSED
        self.generation = 0
        self._until = 0.0
        self._throttled_until = 0.0
        self._openings = 0
        self._streak = 0
        self._window = _Window(policy.window_s)

    def rest_s(self) -> float:
        """Seconds until a call may begin; 0 when one may now."""
        if self.state is State.CLOSED and not self._throttled_until:
            return 0.0
        due = self._throttled_until if self.state is State.CLOSED else max(self._until, self._throttled_until)
        return max(0.0, due - self._clock())

    def throttled_s(self) -> float:
        """Seconds for which the provider wants no call."""
        return max(0.0, self._throttled_until - self._clock()) if self._throttled_until else 0.0

    def begin(self) -> int:
        """Tells that a call begins, on a last resort also while it cools; returns its generation."""
        if self.state is not State.CLOSED and self._clock() >= self._until:
            self._move(State.HALF_OPEN, self._policy.max_cooldown_s)
        return self.generation

    def succeed(self, generation: int) -> None:
        """Tells that a call of this generation went well."""
        if generation != self.generation:
            return
        if self.state is not State.CLOSED:
            self._openings = 0
            self._move(State.CLOSED)
            return
        self._streak = 0
        self._window.note(self._clock(), failed=False)

    def fail(self, generation: int) -> None:
        """Tells that a call of this generation failed, by the provider's fault."""
        if generation != self.generation or self.state is State.OPEN:
            return
        if self.state is State.CLOSED:
            self._streak += 1
            self._window.note(self._clock(), failed=True)
            if not self._has_failed_enough():
                return
        cooldown_s = self._policy.cooldown_s * 2.0 ** min(self._openings, 30)
        self._openings += 1
        self._move(State.OPEN, min(cooldown_s, self._policy.max_cooldown_s))

    def abandon(self, generation: int) -> None:
        """Tells that a call of this generation ended and says nothing of the provider."""
        if generation == self.generation and self.state is State.HALF_OPEN:
            self._move(State.OPEN, 0.0)

    def throttle(self, wait_s: float) -> None:
        """Lets no call through for a while, because the provider said so."""
        until = self._clock() + min(wait_s, MAX_THROTTLE_S)
        if wait_s <= 0 or until <= self._throttled_until:
            return
        was_free = not self.throttled_s()
        self._throttled_until = until
        if was_free:
            self._on_change("throttled")

    def _has_failed_enough(self) -> bool:
        policy = self._policy
        if self._streak >= policy.consecutive_failures:
            return True
        calls, failures = self._window.count(self._clock())
        return calls >= policy.min_calls and failures >= policy.error_rate * calls

    def _move(self, state: State, for_s: float = 0.0) -> None:
        self.generation += 1
        self._until = self._clock() + for_s
        self._streak = 0
        self._window = _Window(self._policy.window_s)
        if state is not self.state:
            self.state = state
            self._on_change(state.value)


class _Window:
    """Calls and failures of the last seconds, in slices of time."""

    __slots__ = ("_calls", "_failures", "_latest", "_slice_s")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self._calls = [0] * SLICES
        self._failures = [0] * SLICES
        self._latest: int | None = None

    def note(self, now: float, *, failed: bool) -> None:
        place = self._advance(now)
        self._calls[place] += 1
        self._failures[place] += failed

    def count(self, now: float) -> tuple[int, int]:
        self._advance(now)
        return sum(self._calls), sum(self._failures)

    def _advance(self, now: float) -> int:
        """Empties the slices that have become too old; returns the place of the present one."""
        number = int(now // self._slice_s)
        last = number if self._latest is None else self._latest
        for passed in range(max(last + 1, number - SLICES + 1), number + 1):
            self._calls[passed % SLICES] = self._failures[passed % SLICES] = 0
        self._latest = number
        return number % SLICES
