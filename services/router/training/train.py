"""Trains the router's learned weights and writes the file that is shipped.

`python -m services.router.training.train [--data DIR] [--minilm DIR] [--out FILE]`: DIR of --data holds the
routing files (`*.jsonl.gz`), without it QUARTET_DATA_DIR's folder `routing/` does. Seeds are fixed; the same
data and numpy give the same file. Takes some minutes on one core, most of them MiniLM's.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.kit.artifacts import minilm_directory
from services.router.adapters.minilm.model import MiniLM
from services.router.learned.learned import LESSON, SHARED
from services.router.learned.weights import SHIPPED, Weights, quantise, write_weights
from services.router.training import lesson
from services.router.training.bag import BagOptions, TrainedBag, softmax
from services.router.training.calibration import calibrate, earn_by_uplift
from services.router.training.corpus import FAMILIES, Corpus, data_directory
from services.router.training.intents import (
    OUTSIDE,
    SENSE_SHARE,
    IntentData,
    SenseFit,
    Terms,
    blend,
    fit_bag,
    fit_sense,
    outside_threshold,
)
from services.router.training.recipes import BANKING, CLINC, Recipe
from services.router.training.uplift import BITS, Examples, fit_uplift, predict_held_out_questions

LESSON_THRESHOLD = 0.5

Arrays = dict[str, NDArray[Any]]


def main() -> None:
    """Train everything and write the file."""
    parser = argparse.ArgumentParser(description="Train the router's learned weights.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minilm", type=Path, help="folder of the MiniLM model")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    directory = data_directory(options.data)
    embedder = MiniLM(options.minilm or minilm_directory())
    corpus = Corpus.load(directory)
    examples = Examples.read(corpus)
    arrays, uplift, scorer = _train_uplift(examples)
    sets: dict[str, Any] = {}
    services: list[str] = []
    for recipe in (CLINC, BANKING):
        data = IntentData.load(directory / f"intent_{recipe.name}.jsonl.gz")
        services += data.texts[::2]
        sets[recipe.name] = _train_intents(arrays, recipe, data, embedder)
    sets[LESSON], bag = _train_lesson(examples, services)
    _store(arrays, SHARED, scorer.beside(bag))
    arrays[f"{SHARED}.frequencies"] = examples.frequencies.astype(np.float16)
    write_weights(options.out, Weights(arrays=arrays, description={"label_sets": sets, "uplift": uplift}))


def _train_uplift(examples: Examples) -> tuple[Arrays, dict[str, Any], TrainedBag]:
    """Fit on all rows; the curve and what is earned along it come from scores of held-out questions."""
    corpus = examples.corpus
    rows = np.arange(len(corpus))
    fit = fit_uplift(examples, rows)
    weights = 1.0 / np.bincount(corpus.families, minlength=len(FAMILIES))[corpus.families]
    events = np.maximum(corpus.strong - corpus.weak, 0.0)
    held_out = predict_held_out_questions(examples)
    knots, probabilities = calibrate(held_out, events, weights.astype(np.float32))
    bins = earn_by_uplift(np.interp(held_out, knots, probabilities), corpus.weak, corpus.strong, weights)
    arrays: Arrays = {
        "uplift.gains": fit.gains,
        "uplift.curve_scores": knots,
        "uplift.curve_probabilities": probabilities,
    }
    about = {
        "bins": bins,
        "length": float(fit.line.dense[0]),
        "length_mean": fit.length_scale.mean,
        "length_deviation": fit.length_scale.deviation,
    }
    return arrays, about, fit.scorer()


def _train_intents(arrays: Arrays, recipe: Recipe, data: IntentData, embedder: MiniLM) -> dict[str, Any]:
    """Fit on all texts in scope; thresholds come from a fit to the training part alone."""
    name, options = recipe.name, recipe.options
    terms = Terms.read(data.texts, recipe.bits, with_grams=True)
    vectors = embedder.embed(data.texts)[0]
    inside, count = data.labels >= 0, len(data.names)
    thresholds = (0.0, 0.0)
    outside = np.flatnonzero(~inside & data.is_train)
    if len(outside):
        rows = np.flatnonzero(inside & data.is_train)
        bag = fit_bag(terms, data.labels, rows, count, options)
        sense = fit_sense(vectors[rows], data.labels[rows], count)
        by_words = softmax(bag.logits(terms.rows.take(outside)))
        thresholds = (
            outside_threshold(by_words),
            outside_threshold(blend(by_words, sense.probabilities(vectors[outside]))),
        )
    rows = np.flatnonzero(inside)
    sense = fit_sense(vectors[rows], data.labels[rows], count)
    _store(arrays, name, fit_bag(terms, data.labels, rows, count, options))
    _store_sense(arrays, name, sense)
    arrays[f"{name}.frequencies"] = terms.frequencies.astype(np.float16)
    return {
        "labels": list(data.names),
        "outside": OUTSIDE if len(outside) else "",
        "threshold": thresholds[0],
        "sense_share": SENSE_SHARE,
        "sense_threshold": thresholds[1],
        "reads_grams": True,
    }


def _train_lesson(examples: Examples, services: list[str]) -> tuple[dict[str, Any], TrainedBag]:
    texts, labels = lesson.label(examples.corpus, services)
    terms = Terms.read(texts, BITS, with_grams=False, frequencies=examples.frequencies)
    options = BagOptions(rank=8, epochs=6, dropout=0.4)
    rows = np.arange(len(texts))
    bag = fit_bag(terms, np.array(labels), rows, len(lesson.LABELS), options)
    about = {
        "labels": list(lesson.LABELS),
        "outside": lesson.UNSURE,
        "threshold": LESSON_THRESHOLD,
        "reads_grams": False,
    }
    return about, bag


def _store(arrays: Arrays, name: str, bag: TrainedBag) -> None:
    table, scale = quantise(bag.table)
    arrays |= {
        f"{name}.table": table,
        f"{name}.table.scale": scale,
        f"{name}.projection": bag.projection.astype(np.float16),
        f"{name}.bias": bag.bias.astype(np.float16),
    }


def _store_sense(arrays: Arrays, name: str, sense: SenseFit) -> None:
    weights, scale = quantise(sense.weights)
    arrays |= {
        f"{name}.sense": weights,
        f"{name}.sense.scale": scale,
        f"{name}.sense_bias": sense.bias.astype(np.float16),
    }


if __name__ == "__main__":
    main()
