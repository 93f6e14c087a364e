"""How fast a deployment answers, by what it did lately."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SHARE_OF_NEWEST = 0.3
"""Of a new measurement in the moving average."""
FADING_S = 60.0
"""After so long without a measurement a third of the average is left: a slow one is tried again some day."""
MAX_SAMPLES = 64
MIN_SAMPLES = 20
"""Fewer say nothing of a quantile."""


class Latency:
    """A fading average and the newest measurements, in seconds."""

    __slots__ = ("_at", "_average_s", "_clock", "_samples")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._average_s = 0.0
        self._at = 0.0
        self._samples: deque[float] = deque(maxlen=MAX_SAMPLES)

    def note(self, duration_s: float) -> None:
        """Takes a measurement in."""
        known = self.average_s()
        self._average_s = known + SHARE_OF_NEWEST * (duration_s - known) if self._samples else duration_s
        self._at = self._clock()
        self._samples.append(duration_s)

    def average_s(self) -> float:
        """The exponentially weighted average, fading with time; 0 when nothing is known."""
        if not self._average_s:
            return 0.0
        return self._average_s * math.exp((self._at - self._clock()) / FADING_S)

    def quantile_s(self, share: float) -> float | None:
        """The newest measurements' quantile; None while they are too few."""
        if len(self._samples) < MIN_SAMPLES:
            return None
        return sorted(self._samples)[min(len(self._samples) - 1, math.floor(share * len(self._samples)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """When a second deployment is asked.

    Attributes:
        after_s: When nothing came for so long.
        quantile: Once enough is known, when nothing came for as long as this share, 0..1, of the latest calls
            took; None for never.
    """

    after_s: float
    quantile: float | None = None

    def delay_s(self, latency: Latency) -> float:
        """The pause before the second call."""
        known_s = None if self.quantile is None else latency.quantile_s(self.quantile)
        return self.after_s if known_s is None else known_s
