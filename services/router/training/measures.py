"""How good a score is at choosing the prompts that go to the strong model.

Prompts are sent to the strong model from the highest score down; `weak` and `strong` hold what each model
earned on each prompt, 0..1.
"""

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.floating]

COST_RATIO = 20.0
"""Price of a strong call over that of a weak one."""
QUALITY_SHARE = 0.95


def recovered_gap_area(score: Column, weak: Column, strong: Column) -> float:
    """Area under the performance-gap-recovered curve (APGR; Ong et al. 2024, RouteLLM).

    The curve is (quality at this strong share - weak) / (strong - weak) over the share 0..1, by trapezoids
    between single prompts. Random order gives 0.5, and a good order more than 1 where the weak model is at
    times the better.
    """
    gained = np.concatenate(([0.0], np.cumsum((strong - weak)[_order(score)], dtype=np.float64)))
    return float(np.trapezoid(gained, dx=1.0 / len(weak)) / gained[-1])


def saving_at_quality(score: Column, weak: Column, strong: Column) -> float:
    """Share of the always-strong cost saved where 95 % of the strong mean quality is first reached.

    With the smallest such strong share s a prompt costs s + (1 - s) / 20 strong calls; the saving is one
    minus that.
    """
    quality = weak.sum() + np.concatenate(
        ([0.0], np.cumsum((strong - weak)[_order(score)], dtype=np.float64))
    )
    share = float(np.argmax(quality >= QUALITY_SHARE * strong.sum() - 1e-9)) / len(weak)
    return 1.0 - share - (1.0 - share) / COST_RATIO


def _order(score: Column) -> NDArray[np.intp]:
    return np.argsort(-score, kind="stable")
