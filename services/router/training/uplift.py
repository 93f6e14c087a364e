"""Fits the uplift estimator: where does the strong model win what the weak one loses?

Three parts are added. The topic part says what a topic's prompts gain on average, weighed by the topics'
probabilities. The line, a ridge regression on words and length, ranks the prompts within a family; its target
is mostly the uplift and partly the weak model's failure. The prior says that longer is harder; the ridge
penalty pulls towards it instead of towards nothing, which keeps the estimate sane on kinds of prompts that
were never seen.

Targets and gains are centred by family, because the pairs of models differ and only the order within a family
can be learnt from. Families weigh by size**-0.7 and gap**-0.7: the measure is a mean over families of gains
divided by the gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.router.learned.features import buckets, read
from services.router.learned.uplift import LENGTH_CLIP, LENGTH_SCALE, LengthScale
from services.router.training.bag import BagOptions, TrainedBag, softmax, train_bag
from services.router.training.corpus import FAMILIES, Corpus
from services.router.training.ridge import Line, fit_ridge
from services.router.training.sparse import Floats, Ints, SparseRows, inverse_frequencies

BITS = 15
LENGTH_PRIOR = 1.5
"""Prior weight of the standardised log length, times `LENGTH_SCALE`."""

_TOPIC = BagOptions(rank=24, epochs=5)
_PENALTY = 20.0
_FAILURE_SHARE = 0.3
_GAIN_ROWS = 20.0
"""A topic's gain is shrunk to its family's as by so many rows of it."""
_SMOOTHED = ("llmrouter_mix", "mmlupro_gemini15", "mmlupro_llama31", "routellm_mmlu")
"""Families with real categories and enough rows of each to replace a row's noise by its topic's mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """A corpus as its features: words and pairs, and the lengths in characters [rows]."""

    corpus: Corpus
    words: SparseRows
    frequencies: Floats
    lengths: Floats

    @classmethod
    def read(cls, corpus: Corpus) -> Self:
        """Read every prompt once."""
        readings = [read(prompt, with_grams=False) for prompt in corpus.prompts]
        terms = [_terms(reading.hashes) for reading in readings]
        frequencies = inverse_frequencies(terms, 1 << BITS)
        return cls(
            corpus=corpus,
            words=SparseRows.stack(terms, frequencies),
            frequencies=frequencies,
            lengths=np.array([reading.length_chars for reading in readings], dtype=np.float32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpliftFit:
    """A fitted estimator: the topics' bag and gains, the line, and how lengths are standardised."""

    topics: TrainedBag
    gains: Floats
    line: Line
    length_scale: LengthScale

    def predict(self, examples: Examples, rows: Ints) -> Floats:
        """Score the rows; a higher score needs the strong model more, the scale is that of centred uplift."""
        words = examples.words.take(rows)
        lengths = standardise(examples.lengths[rows], self.length_scale)
        predicted: Floats = softmax(self.topics.logits(words)) @ self.gains + self.line.predict(
            words, lengths
        )
        return predicted

    def scorer(self) -> TrainedBag:
        """What `Uplift.estimate` reads of a text's words: each topic's score, and last the line's."""
        line = TrainedBag(
            table=self.line.sparse[:, None],
            projection=np.ones((1, 1), dtype=np.float32),
            bias=np.zeros(1, dtype=np.float32),
        )
        return self.topics.beside(line)


def standardise(lengths: Floats, scale: LengthScale) -> Floats:
    """What `LengthScale.measure` says of each length, as a column [rows, 1]."""
    deviations = (np.log1p(lengths) - np.float32(scale.mean)) / np.float32(scale.deviation)
    scaled: Floats = np.clip(deviations, -LENGTH_CLIP, LENGTH_CLIP)[:, None] * np.float32(LENGTH_SCALE)
    return scaled


def fit_uplift(examples: Examples, rows: Ints, seed: int = 0) -> UpliftFit:
    """Fit on these rows alone; only word frequencies, which no label touches, are of all rows."""
    corpus = examples.corpus
    weights = _family_weights(corpus, rows)
    logarithms = np.log1p(examples.lengths[rows])
    scale = LengthScale(mean=float(logarithms.mean()), deviation=float(logarithms.std()) + 1e-6)
    lengths = standardise(examples.lengths[rows], scale)
    uplift: Floats = (corpus.strong - corpus.weak + corpus.ladder)[rows] / np.float32(2)
    target = _centred(corpus, rows, _smoothed(corpus, rows, uplift, 0.7))
    target += _FAILURE_SHARE * _centred(corpus, rows, _smoothed(corpus, rows, corpus.failure[rows], 0.5))
    line = fit_ridge(examples.words.take(rows), lengths, target, weights, penalty=_PENALTY)
    line.dense[0] += LENGTH_PRIOR
    once = _first_of_each(corpus, rows)
    targets = np.eye(len(corpus.topic_names), dtype=np.float32)[corpus.topics[once]]
    return UpliftFit(
        topics=train_bag(examples.words.take(once), targets, _TOPIC, seed),
        gains=_topic_gains(corpus, rows),
        line=line,
        length_scale=scale,
    )


def question_folds(corpus: Corpus, count: int) -> Ints:
    """Deal the questions into folds by their hash, so that one question's rows stay together."""
    return np.array([int(question[:6], 16) % count for question in corpus.questions])


def predict_held_out_questions(examples: Examples, count: int = 5) -> Floats:
    """Score each row by a fit that saw its family, but not its question."""
    folds = question_folds(examples.corpus, count)
    return _predict_held_out(examples, [(folds != fold, folds == fold) for fold in range(count)])


def predict_left_out_families(examples: Examples) -> Floats:
    """Score each row by a fit that saw neither its family nor any question of it in another family."""
    corpus = examples.corpus
    splits = []
    for family in range(len(FAMILIES)):
        held = corpus.families == family
        splits.append((~np.isin(corpus.questions, corpus.questions[held]), held))
    return _predict_held_out(examples, splits)


def _predict_held_out(
    examples: Examples, splits: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]
) -> Floats:
    scores = np.zeros(len(examples.corpus), dtype=np.float32)
    for trained, held in splits:
        fit = fit_uplift(examples, np.flatnonzero(trained))
        scores[held] = fit.predict(examples, np.flatnonzero(held))
    return scores


def _terms(hashes: NDArray[np.uint64]) -> Ints:
    """Rows of a text's words and pairs, each once; an empty text has row 0."""
    terms = np.unique(buckets(hashes, BITS))
    return terms if len(terms) else np.zeros(1, dtype=np.int64)


def _family_weights(corpus: Corpus, rows: Ints) -> Floats:
    families = corpus.families[rows]
    sizes = np.bincount(families, minlength=len(FAMILIES))
    gaps = np.bincount(families, weights=(corpus.strong - corpus.weak)[rows], minlength=len(FAMILIES))
    gaps = np.maximum(gaps / np.maximum(sizes, 1), 0.02)
    weights: Floats = ((np.maximum(sizes, 1) * gaps)[families] ** -0.7).astype(np.float32)
    weights /= weights.mean()
    return weights


def _centred(corpus: Corpus, rows: Ints, values: Floats) -> Floats:
    families = corpus.families[rows]
    sums = np.bincount(families, weights=values, minlength=len(FAMILIES))
    sizes = np.bincount(families, minlength=len(FAMILIES))
    return (values - (sums / np.maximum(sizes, 1))[families]).astype(np.float32)


def _smoothed(corpus: Corpus, rows: Ints, values: Floats, share: float) -> Floats:
    """Replace a share of each value by the shrunk mean of its family's topic."""
    values = values.copy()
    for name in _SMOOTHED:
        chosen = np.flatnonzero(corpus.families[rows] == FAMILIES.index(name))
        if len(chosen):
            topics = corpus.topics[rows[chosen]]
            sums = np.bincount(topics, weights=values[chosen])
            means = (sums + _GAIN_ROWS * values[chosen].mean()) / (np.bincount(topics) + _GAIN_ROWS)
            values[chosen] = (1 - share) * values[chosen] + share * means[topics]
    return values


def _topic_gains(corpus: Corpus, rows: Ints) -> Floats:
    """Mean centred uplift of each topic over its families, these weighed by 1 / gap, shrunk to nothing."""
    uplift = (corpus.strong - corpus.weak)[rows]
    centred = _centred(corpus, rows, uplift)
    families = corpus.families[rows]
    sizes = np.maximum(np.bincount(families, minlength=len(FAMILIES)), 1)
    gaps = np.maximum(np.bincount(families, weights=uplift, minlength=len(FAMILIES)) / sizes, 0.02)
    topic_count = len(corpus.topic_names)
    won, weight = np.zeros(topic_count), np.full(topic_count, 1e-9)
    for family in range(len(FAMILIES)):
        topics = corpus.topics[rows[families == family]]
        counts = np.bincount(topics, minlength=topic_count)
        won += np.bincount(topics, weights=centred[families == family], minlength=topic_count) / gaps[family]
        weight += (counts + _GAIN_ROWS * (counts > 0)) / gaps[family]
    gains: Floats = (won / weight).astype(np.float32)
    return gains


def _first_of_each(corpus: Corpus, rows: Ints) -> Ints:
    """The rows without repetitions of a question in its topic."""
    keys = [f"{corpus.questions[row]} {corpus.topics[row]}" for row in rows]
    return rows[np.sort(np.unique(keys, return_index=True)[1])]
