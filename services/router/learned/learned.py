"""The learned part of a decision: how much a prompt needs the strong model, and what it wants."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.kit.errors import InvalidArgument
from services.router.domain.judgement import Judgement
from services.router.domain.policy import Bin, Calibration
from services.router.learned.bag import Bag, Vocabulary
from services.router.learned.features import read
from services.router.learned.intent import Intent, IntentClassifier, Sense
from services.router.learned.uplift import Curve, LengthScale, Uplift
from services.router.learned.weights import SHIPPED, Weights, read_weights

LESSON = "lesson"
"""The label set of the shipped routes."""
SHARED = "shared"
"""One vocabulary and bag score topics, uplift and lesson: a live decision looks each term up once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """All heads over one reading of a text.

    Attributes:
        vocabulary: Of words and pairs, for the uplift and the lesson's intents.
        bag: Scores what the estimator reads, and after it the lesson's intents.
        estimator: The uplift estimator.
        calibration: What weak and strong models earned on the shipped data, by uplift.
        heads: The classifier of each label set, by its name.
    """

    vocabulary: Vocabulary
    bag: Bag
    estimator: Uplift
    calibration: Calibration
    heads: dict[str, IntentClassifier]

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the weights, the shipped ones without a path; takes some 5 ms.

        Raises:
            FailedPrecondition: the file is missing, damaged, or of another format.
        """
        weights = read_weights(path or SHIPPED)
        vocabulary, bag, estimator = weights.vocabulary(SHARED), weights.bag(SHARED), _uplift(weights)
        sets = weights.description["label_sets"]
        return cls(
            vocabulary=vocabulary,
            bag=bag,
            estimator=estimator,
            calibration=Calibration([Bin(**part) for part in weights.description["uplift"]["bins"]]),
            heads={
                name: _head(weights, name, weights.vocabulary(name), weights.bag(name))
                for name in sets
                if name != LESSON
            }
            | {LESSON: _head(weights, LESSON, vocabulary, bag.only(slice(estimator.width, None)))},
        )

    def judge(self, text: str) -> Judgement:
        """Give the uplift and the lesson's intent, of one reading: what a live decision asks for."""
        reading = read(text, with_grams=False)
        scores = self.bag.logits(self.vocabulary.terms(reading.hashes))
        width = self.estimator.width
        intent = self.heads[LESSON].weigh(scores[width:])
        return Judgement(
            uplift=self.estimator.estimate(scores[:width], reading.length_chars),
            intent=intent.name,
            confidence=intent.confidence,
            is_known=intent.is_known,
        )

    def uplift(self, text: str) -> float:
        """Estimate P(the strong model is right where the weak one is wrong), 0..1."""
        return self.judge(text).uplift

    def intent(self, text: str, labels: str = LESSON, vector: NDArray[np.float32] | None = None) -> Intent:
        """Name what the text wants, from a label set; MiniLM's vector of the text makes it surer.

        Raises:
            InvalidArgument: there is no such label set.
        """
        head = self.heads.get(labels)
        if head is None:
            known = ", ".join(self.heads)
            raise InvalidArgument.field("labels", f"There is no label set {labels!r}, only: {known}.")
        return head.classify(head.terms(text), vector)


def _head(weights: Weights, name: str, vocabulary: Vocabulary, bag: Bag) -> IntentClassifier:
    about = weights.description["label_sets"][name]
    sense = None
    if f"{name}.sense" in weights.arrays:
        sense = Sense(
            weights=weights.floats(f"{name}.sense"),
            bias=weights.floats(f"{name}.sense_bias"),
            share=about["sense_share"],
            threshold=about["sense_threshold"],
        )
    return IntentClassifier(
        labels=tuple(about["labels"]),
        outside=about["outside"],
        threshold=about["threshold"],
        vocabulary=vocabulary,
        bag=bag,
        reads_grams=about["reads_grams"],
        sense=sense,
    )


def _uplift(weights: Weights) -> Uplift:
    about = weights.description["uplift"]
    return Uplift(
        length=about["length"],
        length_scale=LengthScale(mean=about["length_mean"], deviation=about["length_deviation"]),
        gains=weights.floats("uplift.gains"),
        curve=Curve(
            scores=weights.arrays["uplift.curve_scores"].tolist(),
            probabilities=weights.arrays["uplift.curve_probabilities"].tolist(),
        ),
    )
