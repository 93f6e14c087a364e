"""The models of a route as candidates for a prompt: what each would cost, or why it cannot serve."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.router.domain.catalogue import Capability, Catalogue, Model
from services.router.domain.features import Features
from services.router.domain.fitness import objections
from services.router.domain.fleet import Fleet
from services.router.domain.lengths import OutputLengths
from services.router.domain.prices import estimate_cost
from services.router.domain.roster import Entrant, Roster
from services.router.domain.routes import Route

FORBIDDEN = "this key may not use it"


@dataclass(slots=True)
class Weighed:
    """A model as a candidate; made for one decision, and written down in it.

    Attributes:
        cost_micro_usd: What the answer would cost.
        rejected_because: Empty when it could serve.
        rests: It could serve, were it not cooling.
    """

    model: Model
    cost_micro_usd: int
    rejected_because: str
    rests: bool

    @property
    def can_serve(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.rejected_because


class Scales:
    """Weighs models against prompts.

    Args:
        roster: Tells who serves under which name.
        fleet: Tells which models are cooling; without one, none is.
        lengths: Tells how long answers will be.
        permitted: Ids of the models that the key may use; None for any.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        roster: Roster,
        fleet: Fleet | None,
        lengths: OutputLengths,
        permitted: frozenset[str] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._roster = roster
        self._fleet = fleet
        self._lengths = lengths
        self.permitted = permitted

    def held_to(self, names: Sequence[str] | None) -> "Scales":
        """The same for a key that may use the models of these names alone; None for any.

        A name stands for the model that serves under it today.
        """
        if names is None:
            return self
        permitted = self._roster.list_permitted(names)
        return Scales(self._catalogue, self._roster, self._fleet, self._lengths, permitted)

    def permits(self, model: str) -> bool:
        """Whether the key may use the model of an id."""
        return self.permitted is None or model in self.permitted

    def list_permitted(self) -> tuple[str, ...]:
        """Ids of the writing models that the key may use, where its scopes name some."""
        return tuple(
            model.id
            for model in self._catalogue
            if self.permitted is not None
            and model.id in self.permitted
            and not model.can(Capability.EMBEDDINGS)
        )

    def find_ready(self, name: str) -> Model | None:
        """The model of a name, or its successor; None where it could not be called now, or is cooling."""
        (entrant,) = self._roster.enlist((name,))
        is_resting = self._fleet is not None and self._fleet.why_resting(entrant.model)
        return None if entrant.unavailable_because or is_resting else entrant.model

    def weigh(
        self, route: Route, names: tuple[str, ...], features: Features, warnings: list[str]
    ) -> list[Weighed]:
        """The models of these names, or their successors, each once; what callers should know is added."""
        weighed = []
        for entrant in self._roster.enlist(names):
            warnings.extend(entrant.notes)
            weighed.append(self._weigh(route, entrant, features))
        return weighed

    def least_resting(self, weighed: Sequence[Weighed], warnings: list[str]) -> tuple[Model, ...]:
        """Where all that could serve are cooling, they are candidates all the same: first who cools least."""
        resting = [each for each in weighed if each.rests]
        if self._fleet is None or not resting:
            return ()
        rest_s = self._fleet.rest_s
        resting.sort(key=lambda each: rest_s(each.model))
        first = resting[0]
        warnings.append(f"{first.model.id} is asked as the last resort, though {first.rejected_because}")
        first.rejected_because = ""
        return tuple(each.model for each in resting)

    def _weigh(self, route: Route, entrant: Entrant, features: Features) -> Weighed:
        model = entrant.model
        rejected = (
            ("" if self.permits(model.id) else FORBIDDEN)
            or entrant.unavailable_because
            or next(objections(model, features), "")
        )
        resting = "" if rejected or self._fleet is None else self._fleet.why_resting(model)
        expected = self._lengths.predict(route.name, model.id, otherwise=route.expected_output_tokens)
        cost_micro_usd = estimate_cost(
            model.prices,
            input_tokens=features.input_tokens,
            output_tokens=min(expected, output_limit(route, model, features)),
        )
        return Weighed(model, cost_micro_usd, rejected or resting, bool(resting))


def output_limit(route: Route, model: Model, features: Features) -> int:
    """The smallest of what the request asks, the route allows and the model can.

    A named model has no route.
    """
    asked = features.max_output_tokens
    if asked is None:
        return min(model.max_output_tokens, route.max_output_tokens)
    if not route.candidates:
        return min(model.max_output_tokens, asked)
    return min(model.max_output_tokens, asked, route.max_output_tokens)


def first_able(weighed: Sequence[Weighed]) -> Weighed | None:
    """The first that can serve."""
    for each in weighed:
        if not each.rejected_because:
            return each
    return None
