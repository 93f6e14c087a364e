"""How well the learned routing decides, by cross-validation on the development data.

`python bench/routing.py [--data DIR] [--minilm]`: DIR of --data holds the routing files, without it
QUARTET_DATA_DIR's folder `routing/` does. Everything is fitted anew, in some three minutes on one core.
Printed are

- APGR and the saving at 95 % of the strong model's quality, a strong call costing 20 weak ones
  (`training/measures.py` defines both), for each family and as the mean over families: of the prompt's length
  alone, of a fit that saw other questions of the family, and of one that saw neither the family nor its
  questions elsewhere; and which families lie below their length's figure, with the standard error;
- how far the calibrated probability is from what happened, on held-out questions;
- accuracy on CLINC150's validation part and on a fifth of BANKING77, fitted to the rest, the out-of-scope
  threshold from the training part; with --minilm also of words and MiniLM's vector together.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.kit.artifacts import minilm_directory
from services.router.adapters.minilm.model import MiniLM
from services.router.training.bag import softmax
from services.router.training.calibration import calibrate
from services.router.training.corpus import FAMILIES, Corpus, data_directory
from services.router.training.intents import IntentData, Terms, blend, fit_bag, fit_sense, outside_threshold
from services.router.training.measures import recovered_gap_area, saving_at_quality
from services.router.training.recipes import BANKING, CLINC, Recipe
from services.router.training.uplift import (
    Examples,
    predict_held_out_questions,
    predict_left_out_families,
    question_folds,
)

Figures = list[tuple[float, float]]
RESAMPLES = 200


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description="Measure the learned routing by cross-validation.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minilm", action="store_true", help="also measure intents with MiniLM's vectors")
    options = parser.parse_args()
    directory = data_directory(options.data)
    measure_uplift(Corpus.load(directory))
    embedder = MiniLM(minilm_directory()) if options.minilm else None
    clinc = IntentData.load(directory / "intent_clinc150.jsonl.gz")
    measure_intents(CLINC, clinc, clinc.is_train, embedder)
    banking = IntentData.load(directory / "intent_banking77.jsonl.gz")
    is_train = np.random.default_rng(0).random(len(banking.texts)) >= 0.2
    measure_intents(BANKING, banking, is_train, embedder)


def measure_uplift(corpus: Corpus) -> None:
    """Print a line for each family and their mean, then the calibration."""
    examples = Examples.read(corpus)
    held_out = predict_held_out_questions(examples)
    columns = {
        "length": np.array([len(prompt) for prompt in corpus.prompts], dtype=np.float32),
        "held-out questions": held_out,
        "left-out family": predict_left_out_families(examples),
    }
    print(f"{'APGR, saving at 95 %':22}" + "".join(f"{name:>22}" for name in columns))
    figures = [_by_family(corpus, scores) for scores in columns.values()]
    for number, family in enumerate(FAMILIES):
        print(f"{family:22}" + "".join(_cell(*column[number]) for column in figures))
    print(f"{'macro':22}" + "".join(_cell(*np.mean(column, axis=0)) for column in figures))
    for name in ("held-out questions", "left-out family"):
        below = [
            f"{family} {gain:+.3f} ± {error:.3f}"
            for family, (gain, error) in _gains_over(columns["length"], columns[name], corpus).items()
            if gain < 0
        ]
        print(f"{name}: below their own length baseline: {', '.join(below) or 'none'}")
    _print_calibration(corpus, held_out)


def _by_family(corpus: Corpus, scores: NDArray[np.float32]) -> Figures:
    figures = []
    for number in range(len(FAMILIES)):
        rows = corpus.families == number
        part = (scores[rows], corpus.weak[rows], corpus.strong[rows])
        figures.append((recovered_gap_area(*part), saving_at_quality(*part)))
    return figures


def _gains_over(
    baseline: NDArray[np.float32], scores: NDArray[np.float32], corpus: Corpus
) -> dict[str, tuple[float, float]]:
    """By how much APGR exceeds the baseline's in each family, and the standard error (bootstrap)."""
    generator = np.random.default_rng(0)
    gains = {}
    for number, family in enumerate(FAMILIES):
        rows = np.flatnonzero(corpus.families == number)
        found = []
        for drawn in (rows, *(generator.choice(rows, len(rows)) for _ in range(RESAMPLES))):
            areas = [
                recovered_gap_area(column[drawn], corpus.weak[drawn], corpus.strong[drawn])
                for column in (scores, baseline)
            ]
            found.append(areas[0] - areas[1])
        gains[family] = found[0], float(np.std(found[1:]))
    return gains


def _cell(area: float, saving: float) -> str:
    return f"{area:13.3f} {saving:7.1%} "


def _print_calibration(corpus: Corpus, scores: NDArray[np.float32]) -> None:
    """Fit the curve on one half of the questions and compare it with the other half's events."""
    events = np.maximum(corpus.strong - corpus.weak, 0.0)
    sizes = np.bincount(corpus.families, minlength=len(FAMILIES))
    weights = (1.0 / sizes[corpus.families]).astype(np.float32)
    half = question_folds(corpus, 2) == 0
    curve = calibrate(scores[half], events[half], weights[half])
    probabilities = np.interp(scores[~half], *curve)
    weights, events = weights[~half] / weights[~half].sum(), events[~half]
    bins = np.minimum((np.argsort(np.argsort(probabilities)) * 10) // len(probabilities), 9)
    gaps = [abs(float((weights * (probabilities - events))[bins == number].sum())) for number in range(10)]
    print(f"calibration error over deciles, families weighing alike: {sum(gaps):.3f}")


def measure_intents(
    recipe: Recipe, data: IntentData, is_train: NDArray[np.bool_], embedder: MiniLM | None
) -> None:
    """Print accuracy in scope, and how many out-of-scope texts are recognised."""
    terms = Terms.read(data.texts, recipe.bits, with_grams=True)
    inside, count = data.labels >= 0, len(data.names)
    parts = [np.flatnonzero(rows) for rows in (inside & is_train, ~inside & is_train, ~is_train)]
    trained = parts[0]
    bag = fit_bag(terms, data.labels, trained, count, recipe.options)
    shares = [softmax(bag.logits(terms.rows.take(rows))) if len(rows) else None for rows in parts[1:]]
    _print_accuracy(f"{recipe.name}, words", data, parts[2], shares)
    if embedder is not None:
        vectors = embedder.embed(data.texts)[0]
        sense = fit_sense(vectors[trained], data.labels[trained], count)
        blended = [
            None if words is None else blend(words, sense.probabilities(vectors[rows]))
            for words, rows in zip(shares, parts[1:], strict=True)
        ]
        _print_accuracy(f"{recipe.name}, words and MiniLM", data, parts[2], blended)


def _print_accuracy(
    title: str, data: IntentData, tested: NDArray[np.int64], shares: Sequence[NDArray[np.float32] | None]
) -> None:
    outside, test = shares
    if test is None:
        raise SystemExit(f"{title}: there is nothing to test on.")
    labels = data.labels[tested]
    right = test.argmax(axis=1) == labels
    line = f"{title:28} accuracy {right[labels >= 0].mean():.4f}"
    if outside is not None:
        certain = test.max(axis=1) >= outside_threshold(outside)
        line += (
            f"; with refusals: in scope {(right & certain)[labels >= 0].mean():.4f}, "
            f"out-of-scope recall {(~certain)[labels < 0].mean():.2f}"
        )
    print(line)


if __name__ == "__main__":
    main()
