"""The learned part of a decision: how much a prompt needs the strong model, and what it wants."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.kit.errors import InvalidArgument
from services.router.domain.judgement import Judgement
from services.router.domain.policy import Bin, Calibration
from services.router.learned.bag import Vocabulary
from services.router.learned.features import read
from services.router.learned.intent import Intent, IntentClassifier, Sense
from services.router.learned.uplift import Uplift
from services.router.learned.weights import SHIPPED, Weights, read_weights

LESSON = "lesson"
"""The label set of the shipped routes; it shares its vocabulary with the uplift estimator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """All heads over one reading of a text.

    Attributes:
        vocabulary: Of words and pairs, for the uplift and the lesson's intents.
        estimator: The uplift estimator.
        calibration: What weak and strong models earned on the shipped data, by uplift.
        heads: The classifier of each label set, by its name.
    """

    vocabulary: Vocabulary
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
        vocabulary = weights.vocabulary("uplift")
        sets = weights.description["label_sets"]
        return cls(
            vocabulary=vocabulary,
            estimator=_uplift(weights),
            calibration=Calibration([Bin(**part) for part in weights.description["uplift_bins"]]),
            heads={
                name: _head(weights, name, vocabulary if name == LESSON else weights.vocabulary(name))
                for name in sets
            },
        )

    def judge(self, text: str) -> Judgement:
        """Give the uplift and the lesson's intent, of one reading: what a live decision asks for."""
        reading = read(text, with_grams=False)
        terms = self.vocabulary.terms(reading.words, reading.pairs)
        intent = self.heads[LESSON].classify(terms)
        return Judgement(
            uplift=self.estimator.estimate(reading, terms),
            intent=intent.name,
            confidence=intent.confidence,
            is_known=intent.is_known,
        )

    def uplift(self, text: str) -> float:
        """Estimate P(the strong model is right where the weak one is wrong), 0..1."""
        reading = read(text, with_grams=False)
        return self.estimator.estimate(reading, self.vocabulary.terms(reading.words, reading.pairs))

    def intent(self, text: str, labels: str = LESSON, vector: NDArray[np.float32] | None = None) -> Intent:
        """Name what the text wants, from a label set; MiniLM's vector of the text makes it surer.

        Raises:
            InvalidArgument: there is no such label set.
        """
        head = self.heads.get(labels)
        if head is None:
            known = ", ".join(self.heads)
            raise InvalidArgument.field("labels", f"There is no label set {labels!r}, only: {known}.")
        return head.classify(head.terms(read(text, with_grams=head.reads_grams)), vector)


def _head(weights: Weights, name: str, vocabulary: Vocabulary) -> IntentClassifier:
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
        bag=weights.bag(name),
        reads_grams=about["reads_grams"],
        sense=sense,
    )


def _uplift(weights: Weights) -> Uplift:
    names = (
        "gains",
        "words",
        "shape",
        "shape_mean",
        "shape_deviation",
        "curve_scores",
        "curve_probabilities",
    )
    return Uplift(
        topics=weights.bag("uplift"),
        **{name: weights.floats(f"uplift.{name}") for name in names},
    )
