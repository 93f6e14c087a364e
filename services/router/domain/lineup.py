"""A route's models for one prompt: two tiers, which of them comes first, and in which order all are asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.router.domain.candidates import Weighed, first_able
from services.router.domain.catalogue import Capability, Model
from services.router.domain.judgement import Judged
from services.router.domain.policy import Calibration
from services.router.domain.routes import Route
from services.router.domain.tiers import CHEAPER, STRONG, Tiers, choose_tiers


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """The models of a route, weighed.

    Attributes:
        strong, cheaper: The two tiers, each in the route's order.
        tiers: What the route's policies say; None where it has none, or only one tier can serve.
    """

    route: Route
    strong: Sequence[Weighed]
    cheaper: Sequence[Weighed]
    tiers: Tiers | None

    @property
    def prefers_cheaper(self) -> bool:
        """Whether the route's policy sends the prompt to the cheaper models."""
        return self.tiers is not None and self.tiers.live == CHEAPER

    @property
    def cascades(self) -> bool:
        """Whether the cheaper models' answers are to be checked."""
        return self.route.cascade is not None and (self.prefers_cheaper or self.route.policy is None)

    def in_order(self, own: Weighed | None = None) -> list[Weighed]:
        """All models, each once, the preferred one first: the session's own before all, where it has one."""
        cheaper_first = self.prefers_cheaper or self.cascades
        ordered = [*self.cheaper, *self.strong] if cheaper_first else [*self.strong, *self.cheaper]
        if own is not None:
            ordered.insert(0, own)
        unique: dict[str, Weighed] = {}
        for each in ordered:
            unique.setdefault(each.model.id, each)
        # What answers from passages alone is the last resort of both tiers.
        return sorted(unique.values(), key=_answers_passages_only)

    def find(self, name: str) -> Weighed | None:
        """The model of an id; None for one of another route."""
        return next((each for each in (*self.strong, *self.cheaper) if each.model.id == name), None)

    def tier_of(self, model: Model) -> str:
        """`cheaper` or `strong`; empty for a model of another route."""
        if any(each.model.id == model.id for each in self.strong):
            return STRONG
        return CHEAPER if any(each.model.id == model.id for each in self.cheaper) else ""

    def first_of(self, tier: str) -> Weighed | None:
        """The first of a tier's models that can serve, whatever is asked; None for no tier."""
        models = {STRONG: self.strong, CHEAPER: self.cheaper}.get(tier, ())
        return first_able([each for each in models if not each.model.can(Capability.PASSAGES_ONLY)])

    def drafting(self, models: Sequence[Model]) -> frozenset[str]:
        """Of the models that can serve, the cheaper ones to check, where another is there to escalate to.

        None where a session has begun with a stronger one.
        """
        if not self.cascades or not models or self.tier_of(models[0]) != CHEAPER:
            return frozenset()
        able = {model.id for model in models if not model.can(Capability.PASSAGES_ONLY)}
        cheaper = {each.model.id for each in self.cheaper}
        return frozenset(able & cheaper) if able - cheaper else frozenset()


def _answers_passages_only(weighed: Weighed) -> bool:
    return weighed.model.can(Capability.PASSAGES_ONLY)


def line_up(
    route: Route,
    strong: Sequence[Weighed],
    cheaper: Sequence[Weighed],
    judged: Judged,
    calibration: Calibration | None,
) -> Lineup:
    """The models with what the route's policies say; the judge is asked only where they have a choice."""
    return Lineup(
        route=route,
        strong=strong,
        cheaper=cheaper,
        tiers=_choose_tiers(route, strong, cheaper, judged, calibration),
    )


def _choose_tiers(
    route: Route,
    strong: Sequence[Weighed],
    cheaper: Sequence[Weighed],
    judged: Judged,
    calibration: Calibration | None,
) -> Tiers | None:
    first_strong, first_cheaper = first_able(strong), first_able(cheaper)
    if first_strong is None or first_cheaper is None or calibration is None:
        return None
    if (uplift := judged.uplift) is None:
        return None
    return choose_tiers(
        route,
        calibration,
        uplift=uplift,
        cheaper_models=frozenset([each.model.id for each in cheaper]),
        cheaper_cost_micro_usd=first_cheaper.cost_micro_usd,
        strong_cost_micro_usd=first_strong.cost_micro_usd,
    )
