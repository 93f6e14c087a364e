"""The probability that the strong model is right where the weak one is wrong, from the words alone."""

from dataclasses import dataclass

import numpy as np

from services.router.learned.bag import Bag, Floats, Terms
from services.router.learned.features import Reading

SHAPE_SCALE = 0.05
"""Weight of a standardised shape number beside the words' unit length."""
SHAPE_CLIP = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplift:
    """What the topics gain, plus what words and shape add, read off a calibrated curve.

    Attributes:
        topics: Tells the topic.
        gains: Mean uplift of each topic.
        words: Weight of each term.
        shape: Weight of each shape number.
        shape_mean, shape_deviation: How shapes are standardised.
        curve_scores, curve_probabilities: Rising knots from score to probability.
    """

    topics: Bag
    gains: Floats
    words: Floats
    shape: Floats
    shape_mean: Floats
    shape_deviation: Floats
    curve_scores: Floats
    curve_probabilities: Floats

    def estimate(self, reading: Reading, terms: Terms) -> float:
        """Estimate the probability, 0..1; it rises strictly with the score, so that no order is lost."""
        return float(np.interp(self.score(reading, terms), self.curve_scores, self.curve_probabilities))

    def score(self, reading: Reading, terms: Terms) -> float:
        """Score in the scale of uplift within a family of questions, before calibration."""
        shape = ((reading.shape - self.shape_mean) / self.shape_deviation).clip(-SHAPE_CLIP, SHAPE_CLIP)
        topic = self.topics.probabilities(terms) @ self.gains
        return float(topic + terms.values @ self.words[terms.rows] + (shape @ self.shape) * SHAPE_SCALE)
