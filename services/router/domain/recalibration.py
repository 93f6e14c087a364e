"""What the tiers earn, corrected by what people said of answers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.router.domain.policy import Bin, Calibration
from services.router.domain.tiers import CHEAPER

SCORE_WEIGHT = 50.0
"""So many outcomes of a bin's tier count as much as what was known before."""
MASS_WEIGHT = 500.0
"""The same for decisions, which tell how prompts spread over the bins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How good an answer was, 0..1, with the uplift by which its tier was chosen."""

    uplift: float
    tier: str
    score: float


def recalibrate(
    calibration: Calibration, uplifts: Iterable[float], outcomes: Iterable[Outcome]
) -> Calibration:
    """The calibration after these decisions and outcomes.

    Each bin's earnings are a mean of what was known, worth `SCORE_WEIGHT` outcomes, and of its outcomes; a
    tier that nobody spoke of stays as it was. Masses likewise.
    """
    bins = calibration.bins
    seen = [0] * len(bins)
    for uplift in uplifts:
        seen[_place(bins, uplift)] += 1
    cheaper, strong = [(0.0, 0)] * len(bins), [(0.0, 0)] * len(bins)
    for outcome in outcomes:
        told = cheaper if outcome.tier == CHEAPER else strong
        place = _place(bins, outcome.uplift)
        total, count = told[place]
        told[place] = (total + outcome.score, count + 1)
    whole = sum(seen)
    return Calibration(
        [
            replace(
                known,
                mass=(count + MASS_WEIGHT * known.mass) / (whole + MASS_WEIGHT),
                weak=_mean(known.weak, cheap),
                strong=_mean(known.strong, dear),
            )
            for known, count, cheap, dear in zip(bins, seen, cheaper, strong, strict=True)
        ]
    )


def _place(bins: tuple[Bin, ...], uplift: float) -> int:
    """The bin that holds an uplift; what is below all of them belongs to the first."""
    return max(0, sum(known.least_uplift <= uplift for known in bins) - 1)


def _mean(known: float, told: tuple[float, int]) -> float:
    total, count = told
    return (known * SCORE_WEIGHT + total) / (SCORE_WEIGHT + count)
