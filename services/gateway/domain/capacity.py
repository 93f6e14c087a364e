"""How many calls this process takes on at once: a limit that follows overload, and who is refused first.

The limit is AIMD, as TCP's congestion window. Each window of time that shows overload takes it down to a
share of the calls that were under way (RFC 5681, section 3.1: of the flight, not of the limit, which may
never have been reached); each window without overload in which at least half was used raises it by its
square root (the half as in Netflix's concurrency-limits, AIMDLimit; the root as the headroom of Envoy's
adaptive concurrency). What counts as overload is what a call's length does not change: the time until a
stream's first event, a peer that cannot be reached or calls itself overloaded, the delay of our own event
loop. The whole time of a call tells nothing here, since a long answer takes long on an idle machine.

Criticality is the site reliability book's (Beyer et al., chapter 21, "Handling Overload"): under pressure the
sheddable go first, then the default, last the critical.
"""

import asyncio
import logging
import math
import random as randomness
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from quartet.common.v1.generation_pb2 import (
    PRIORITY_CRITICAL,
    PRIORITY_DEFAULT,
    PRIORITY_SHEDDABLE,
    PRIORITY_UNSPECIFIED,
    Priority,
)
from services.kit import names
from services.kit.errors import Unavailable

WINDOW_S = 0.25
DECREASE = 0.8
"""Of the calls that were under way when overload showed; Netflix's AIMD has 0.9, for each bad call."""
BAD_SHARE = 0.1
"""More than this share of the signals must be bad, so that a few slow calls move nothing."""
MAX_LOOP_DELAY_S = 0.25
"""Beyond, the process has more to do than it can."""

PRIORITY_NAMES: Mapping[Priority.ValueType, str] = {
    PRIORITY_CRITICAL: "critical",
    PRIORITY_DEFAULT: "default",
    PRIORITY_SHEDDABLE: "sheddable",
}
_SHARES: Mapping[Priority.ValueType, float] = {
    PRIORITY_CRITICAL: 1.0,
    PRIORITY_DEFAULT: 0.9,
    PRIORITY_SHEDDABLE: 0.5,
}
"""How much of the limit a call may find taken and still be let in."""
_RETRY_S: Mapping[Priority.ValueType, tuple[float, float]] = {
    PRIORITY_CRITICAL: (0.5, 1.5),
    PRIORITY_DEFAULT: (1.0, 3.0),
    PRIORITY_SHEDDABLE: (3.0, 9.0),
}
"""Drawn from evenly, so that those who were refused together do not come back together."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the limit never leaves, in calls; it starts at the most."""

    least: int
    most: int


class Capacity:
    """The calls under way in this process, and how many there may be."""

    def __init__(
        self, bounds: Bounds, meter: Meter, *, random: Callable[[], float] = randomness.random
    ) -> None:
        self._bounds = bounds
        self._random = random
        self._shed = meter.create_counter(names.CAPACITY_SHED, unit="{call}")
        meter.create_observable_gauge(names.CAPACITY_LIMIT, [self._observe_limit], unit="{call}")
        meter.create_observable_gauge(names.CAPACITY_CALLS, [self._observe_calls], unit="{call}")
        self.limit = bounds.most
        self.calls = 0
        self._peak = 0
        self._good = self._bad = 0

    def hold(self, priority: Priority.ValueType) -> "Hold":
        """A place for one call, taken on entering and given back on leaving.

        Entering raises Unavailable (`OVERLOADED`, with a time to try again) when too many are under way for a
        call of this priority.
        """
        return Hold(self, priority or PRIORITY_DEFAULT)

    def note(self, *, is_overload: bool) -> None:
        """Takes in one signal of how the peers do."""
        if is_overload:
            self._bad += 1
        else:
            self._good += 1

    def adjust(self, loop_delay_s: float = 0.0) -> None:
        """Ends a window: moves the limit by what was noted since the last one."""
        if self._bad > BAD_SHARE * (self._bad + self._good) or loop_delay_s > MAX_LOOP_DELAY_S:
            lower = max(self._bounds.least, int(min(self.limit, self._peak) * DECREASE))
            # A flight below the least is no reason: the limit did not let it in, and could not keep it out.
            if self._peak > self._bounds.least and lower < self.limit:
                self.limit = lower
                log.warning(
                    "overload: fewer calls at once",
                    extra={"limit": lower, "calls": self.calls, "loop_delay_s": round(loop_delay_s, 3)},
                )
        elif 2 * self._peak >= self.limit:
            self.limit = min(self._bounds.most, self.limit + math.isqrt(self.limit))
        self._peak = self.calls
        self._good = self._bad = 0

    async def watch(self) -> None:
        """Adjusts at the end of every window, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + WINDOW_S
            await asyncio.sleep(WINDOW_S)
            self.adjust(loop.time() - due)

    def take(self, priority: Priority.ValueType) -> None:
        if self.calls >= self.limit * _SHARES[priority]:
            self._refuse(priority)
        self.calls += 1
        self._peak = max(self._peak, self.calls)

    def give_back(self) -> None:
        self.calls -= 1

    def _refuse(self, priority: Priority.ValueType) -> None:
        name = PRIORITY_NAMES[priority]
        self._shed.add(1, {names.PRIORITY: name})
        least_s, most_s = _RETRY_S[priority]
        raise Unavailable(
            f"the gateway is overloaded and takes no more {name} calls at present: try again after the time "
            "given, and send what may wait with the priority `sheddable`",
            reason="OVERLOADED",
            metadata={"priority": name},
            retry_after_s=least_s + (most_s - least_s) * self._random(),
        )

    def _observe_limit(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self.limit)]

    def _observe_calls(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self.calls)]


class Hold:
    """One call's place."""

    __slots__ = ("_capacity", "_priority")

    def __init__(self, capacity: Capacity, priority: Priority.ValueType) -> None:
        self._capacity = capacity
        self._priority = priority

    def __enter__(self) -> None:
        self._capacity.take(self._priority)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._capacity.give_back()


def settle_priority(asked: Priority.ValueType, allowed: Callable[[str], bool]) -> Priority.ValueType | None:
    """The priority of a call: the one asked for, or None where it is not allowed.

    Who asks for none gets the default, else the lowest that is allowed, so that a key for batches alone needs
    no header.
    """
    if asked != PRIORITY_UNSPECIFIED:
        return asked if allowed(PRIORITY_NAMES[asked]) else None
    for priority in (PRIORITY_DEFAULT, PRIORITY_SHEDDABLE, PRIORITY_CRITICAL):
        if allowed(PRIORITY_NAMES[priority]):
            return priority
    return PRIORITY_DEFAULT
