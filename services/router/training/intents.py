"""Fits the intent classifiers: a bag of words and n-grams, and a linear layer over MiniLM's vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.router.learned.features import buckets, read
from services.router.training.bag import BagOptions, TrainedBag, softmax, train_bag
from services.router.training.corpus import read_rows
from services.router.training.sparse import Floats, Ints, SparseRows, inverse_frequencies

OUTSIDE = "oos"
OUTSIDE_RECALL = 0.68
"""Share of the out-of-scope training texts that a threshold must refuse: a margin over the aim of 0.60."""
SENSE_SHARE = 0.5
"""Weight of MiniLM's opinion beside that of the words, where its vector is given."""

_SENSE_SCALE = 8.0
_SENSE_EPOCHS = 20
_SENSE_STEP = 0.02
_SENSE_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentData:
    """Labelled texts; label -1 is out of scope.

    Attributes:
        texts: What was said.
        labels: Number of each text's label.
        names: Names of the labels.
        is_train: The official training part.
    """

    texts: tuple[str, ...]
    labels: Ints
    names: tuple[str, ...]
    is_train: NDArray[np.bool_]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `text`, `intent`, `split`."""
        rows = list(read_rows(path))
        names = sorted({row["intent"] for row in rows} - {OUTSIDE})
        number_of = {name: number for number, name in enumerate(names)} | {OUTSIDE: -1}
        return cls(
            texts=tuple(row["text"] for row in rows),
            labels=np.array([number_of[row["intent"]] for row in rows]),
            names=tuple(names),
            is_train=np.array([row["split"] in {"train", "oos_train"} for row in rows]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Texts as rows of terms, and the terms' weights by rarity."""

    rows: SparseRows
    frequencies: Floats

    @classmethod
    def read(
        cls, texts: Sequence[str], bits: int, *, with_grams: bool, frequencies: Floats | None = None
    ) -> Self:
        """Read every text once; the frequencies are those of these texts unless they are given."""
        terms = [_terms(text, bits, with_grams) for text in texts]
        if frequencies is None:
            frequencies = inverse_frequencies(terms, 1 << bits)
        return cls(rows=SparseRows.stack(terms, frequencies), frequencies=frequencies)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenseFit:
    """A linear layer over MiniLM's vectors [384, labels], with its bias."""

    weights: Floats
    bias: Floats

    def probabilities(self, vectors: Floats) -> Floats:
        """Weigh the labels for each row."""
        return softmax(vectors @ self.weights + self.bias)


def fit_bag(terms: Terms, labels: Ints, rows: Ints, label_count: int, options: BagOptions) -> TrainedBag:
    """Fit on these rows, none of which is out of scope."""
    targets = np.eye(label_count, dtype=np.float32)[labels[rows]]
    return train_bag(terms.rows.take(rows), targets, options, seed=0)


def fit_sense(vectors: Floats, labels: Ints, label_count: int) -> SenseFit:
    """Fit a softmax regression by Adam (Kingma and Ba 2015) with a step that falls to zero."""
    generator = np.random.default_rng(0)
    inputs = np.hstack((vectors * _SENSE_SCALE, np.ones((len(vectors), 1)))).astype(np.float32)
    targets = np.eye(label_count, dtype=np.float32)[labels]
    weights = np.zeros((inputs.shape[1], label_count), dtype=np.float32)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    steps = _SENSE_EPOCHS * -(-len(inputs) // _SENSE_BATCH)
    step = 0
    for _ in range(_SENSE_EPOCHS):
        order = generator.permutation(len(inputs))
        for first in range(0, len(order), _SENSE_BATCH):
            chosen = order[first : first + _SENSE_BATCH]
            step += 1
            slope = softmax(inputs[chosen] @ weights) - targets[chosen]
            slope = inputs[chosen].T @ slope / len(chosen) + 1e-5 * weights
            mean += 0.1 * (slope - mean)
            square += 0.01 * (slope * slope - square)
            size = _SENSE_STEP * (1 - step / steps) / (1 - 0.9**step)
            weights -= np.float32(size) * mean / (np.sqrt(square / (1 - 0.99**step)) + np.float32(1e-8))
    return SenseFit(weights=weights[:-1] * np.float32(_SENSE_SCALE), bias=weights[-1])


def blend(by_words: Floats, by_sense: Floats) -> Floats:
    """Mean of the two opinions by `SENSE_SHARE`."""
    return (1 - SENSE_SHARE) * by_words + SENSE_SHARE * by_sense


def outside_threshold(shares: Floats) -> float:
    """The confidence below which `OUTSIDE_RECALL` of these out-of-scope texts lie."""
    return float(np.quantile(shares.max(axis=1), OUTSIDE_RECALL))


def _terms(text: str, bits: int, with_grams: bool) -> Ints:
    reading = read(text, with_grams=with_grams)
    terms = np.unique(buckets(reading.hashes, bits))
    return terms if len(terms) else np.zeros(1, dtype=np.int64)
