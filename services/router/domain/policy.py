"""Which of a route's two tiers a prompt goes to, so that money is saved and quality kept.

A policy names an aim. The calibration knows, for prompts in the order of their uplift, what the weak and the
strong tier earn on them, and so which uplift must be exceeded for the strong tier to be worth its price.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a route aims at; exactly one of the two is set.

    Attributes:
        keep: A quality floor: this share, 0..1, of what the strong tier alone would earn.
        save: A savings target: this share, 0..1, of what the strong tier alone would cost.
    """

    keep: float | None = None
    save: float | None = None

    def __str__(self) -> str:
        return f"save {self.save:g}" if self.keep is None else f"keep {self.keep:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Prompts of similar uplift.

    Attributes:
        least_uplift: The lower edge; the bins follow each other upwards.
        mass: Their share of all prompts; the masses add up to 1.
        weak: What the weak tier earns on them, 0..1.
        strong: The same of the strong tier.
    """

    least_uplift: float
    mass: float
    weak: float
    strong: float


class Calibration:
    """What the tiers earn on prompts, by uplift."""

    def __init__(self, bins: Sequence[Bin]) -> None:
        if not bins:
            raise ValueError("a calibration has at least one bin")
        self.bins = tuple(bins)
        total = sum(part.mass for part in bins)
        always_strong = sum(part.mass * part.strong for part in bins) or 1.0
        # Place n: the prompts below bin n go to the weak tier, the others to the strong one.
        weak_mass = accumulate((part.mass for part in bins), initial=0.0)
        lost = accumulate((part.mass * (part.strong - part.weak) for part in bins), initial=0.0)
        self._weak_shares = tuple(mass / total for mass in weak_mass)
        self._qualities = tuple(1.0 - loss / always_strong for loss in lost)
        # The best from each place on, negated so that they rise: the last place above a floor is looked up.
        best = accumulate((-quality for quality in reversed(self._qualities)), min)
        self._best_onwards = tuple(best)[::-1]

    def threshold(self, policy: Policy, *, cost_ratio: float) -> float:
        """The least uplift that goes to the strong tier; above 1 where none does.

        `cost_ratio` is the cost of the prompt with the strong tier over that with the weak one.
        """
        if policy.keep is not None:
            return self._edge(max(0, bisect_right(self._best_onwards, 1e-9 - policy.keep) - 1))
        most = 1.0 - 1.0 / max(cost_ratio, 1.0)
        wanted = policy.save or 0.0
        return self._edge(bisect_left(self._weak_shares, wanted - 1e-9, key=lambda share: share * most))

    def expect(self, threshold: float, *, cost_ratio: float) -> tuple[float, float]:
        """Quality and saving, as shares of the strong tier's own, with such a threshold."""
        place = sum(part.least_uplift < threshold for part in self.bins)
        saving = self._weak_shares[place] * (1.0 - 1.0 / max(cost_ratio, 1.0))
        return self._qualities[place], saving

    def _edge(self, place: int) -> float:
        """The edge at a place; the first is open downwards, the last beyond every uplift."""
        if place == 0:
            return 0.0
        return self.bins[place].least_uplift if 0 < place < len(self.bins) else 2.0
