"""The probability that the strong model is right where the weak one is wrong, from the words alone."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from services.router.learned.bag import Floats, softmax

LENGTH_SCALE = 0.05
"""Weight of the standardised length beside the words' unit length."""
LENGTH_CLIP = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthScale:
    """How the logarithm of a text's length in characters is standardised."""

    mean: float
    deviation: float

    def measure(self, length_chars: int) -> float:
        """The length in deviations from the mean, clipped and scaled."""
        deviations = (math.log1p(length_chars) - self.mean) / self.deviation
        return min(max(deviations, -LENGTH_CLIP), LENGTH_CLIP) * LENGTH_SCALE


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Straight lines between rising knots; beyond the outer ones it stays level."""

    scores: Sequence[float]
    probabilities: Sequence[float]

    def read(self, score: float) -> float:
        """The probability of a score; as `numpy.interp`, at a fifth of its price for a single one."""
        after = bisect_right(self.scores, score)
        if after == 0 or after == len(self.scores):
            return self.probabilities[max(after - 1, 0)]
        low, high = self.scores[after - 1], self.scores[after]
        rise = self.probabilities[after] - self.probabilities[after - 1]
        return self.probabilities[after - 1] + rise * (score - low) / (high - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplift:
    """What the topics gain, plus what words and length add, read off a calibrated curve.

    Attributes:
        gains: Mean uplift of each topic.
        length: Weight of the length.
        length_scale: How the length is standardised.
        curve: From score to probability.
    """

    gains: Floats
    length: float
    length_scale: LengthScale
    curve: Curve

    @property
    def width(self) -> int:
        """How many scores it reads."""
        return len(self.gains) + 1

    def estimate(self, scores: Floats, length_chars: int) -> float:
        """Estimate the probability, 0..1; it rises strictly with the score, so that no order is lost.

        Args:
            scores: The words' score of each topic, and last their own uplift.
            length_chars: Of the whole text.
        """
        topic = softmax(scores[:-1]) @ self.gains
        score = float(topic + scores[-1]) + self.length * self.length_scale.measure(length_chars)
        return self.curve.read(score)
