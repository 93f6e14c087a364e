"""Turns scores into probabilities: isotonic regression over quantile bins, kept strictly rising."""

import numpy as np
from numpy.typing import NDArray

from services.router.training.sparse import Floats

BINS = 24
EARNING_BINS = 40
_RISE = 1e-3
"""Least rise of the probability from knot to knot, so that calibrating never ties two scores."""
_MARGIN = 4.0
"""How far beyond the outermost bins the curve goes on, in deviations of the score, to 0 and to 1."""


def calibrate(scores: Floats, events: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Fit knots (scores, probabilities), both strictly rising, to events in 0..1.

    Pool-adjacent-violators (Ayer et al. 1955) over bins of equal weight.
    """
    order = np.argsort(scores, kind="stable")
    bins = np.minimum((np.cumsum(weights[order]) / weights.sum() * BINS).astype(np.int64), BINS - 1)
    mass = np.bincount(bins, weights=weights[order], minlength=BINS).astype(np.float64)
    centres = np.bincount(bins, weights=(weights * scores)[order], minlength=BINS) / mass
    rates: NDArray[np.float64] = np.bincount(bins, weights=(weights * events)[order], minlength=BINS) / mass
    levels = _pooled(rates, mass) + _RISE * np.arange(BINS)
    spread = _MARGIN * scores.std()
    knots = np.concatenate(([centres[0] - spread], centres, [centres[-1] + spread]))
    probabilities = np.concatenate(([0.0], np.clip(levels, 1e-6, 1 - 1e-6), [1.0]))
    return knots.astype(np.float32), probabilities.astype(np.float32)


def earn_by_uplift(
    uplifts: NDArray[np.floating],
    weak: NDArray[np.floating],
    strong: NDArray[np.floating],
    weights: NDArray[np.floating],
) -> list[dict[str, float]]:
    """Tell what the two models earn on prompts of similar uplift: `domain.policy.Bin`s, from low to high."""
    order = np.argsort(uplifts, kind="stable")
    places = np.minimum(
        (np.cumsum(weights[order]) / weights.sum() * EARNING_BINS).astype(np.int64), EARNING_BINS - 1
    )
    bins = []
    for number in range(EARNING_BINS):
        rows = order[places == number]
        mass = float(weights[rows].sum())
        bins.append(
            {
                "least_uplift": round(float(uplifts[rows[0]]), 6),
                "mass": round(mass / float(weights.sum()), 6),
                "weak": round(float(weights[rows] @ weak[rows]) / mass, 6),
                "strong": round(float(weights[rows] @ strong[rows]) / mass, 6),
            }
        )
    return bins


def _pooled(rates: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """The closest rates that never fall."""
    blocks: list[tuple[float, float, int]] = []
    for rate, weight in zip(rates.tolist(), mass.tolist(), strict=True):
        level, total, size = rate, weight, 1
        while blocks and blocks[-1][0] >= level:
            before, before_total, before_size = blocks.pop()
            level = (before * before_total + level * total) / (before_total + total)
            total, size = total + before_total, size + before_size
        blocks.append((level, total, size))
    return np.repeat([level for level, _, _ in blocks], [size for _, _, size in blocks])
