"""The models of a route as candidates for a prompt: what each would cost, or why it cannot serve."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from quartet.common.v1 import decision_pb2 as pb
from quartet.router.v1.router_pb2 import Prompt
from services.router.domain.catalogue import Capability, Catalogue, Model, Providers
from services.router.domain.features import Features
from services.router.domain.fitness import objections
from services.router.domain.fleet import Fleet
from services.router.domain.lengths import OutputLengths
from services.router.domain.prices import estimate_cost
from services.router.domain.routes import Route

FORBIDDEN = "this key may not use it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A model as a candidate.

    Attributes:
        candidate: As the decision tells it.
        rests: It could serve, were it not cooling.
    """

    model: Model
    candidate: pb.Candidate
    rests: bool

    @property
    def can_serve(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.candidate.rejected_because


class Scales:
    """Weighs models against prompts.

    Args:
        providers: Which can be called; every provider of the catalogue is in it.
        today: Gives the day by which shutdowns are judged.
        fleet: Tells which models are cooling; without one, none is.
        lengths: Tells how long answers will be.
        permitted: Ids of the models that the key may use; None for any.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Providers,
        today: Callable[[], date],
        fleet: Fleet | None,
        lengths: OutputLengths,
        permitted: frozenset[str] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._today = today
        self._fleet = fleet
        self._lengths = lengths
        self.permitted = permitted

    def held_to(self, names: Sequence[str] | None) -> "Scales":
        """The same for a key that may use the models of these names alone; None for any.

        A name stands for the model that serves under it today.
        """
        if names is None:
            return self
        known = (self._catalogue.find(name) for name in names if name in self._catalogue)
        permitted = frozenset(self._catalogue.succeed(model, self._today())[0].id for model in known)
        return Scales(self._catalogue, self._providers, self._today, self._fleet, self._lengths, permitted)

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

    def why_unavailable(self, model: Model) -> str:
        """Why a model could not be called now, whatever the prompt; empty when it could."""
        if model.is_dead(self._today()):
            hint = f"; name {model.successor} instead" if model.successor else ""
            return f"it was shut down on {model.shutdown}{hint}"
        reasons = [self._providers[site.provider].unavailable_because for site in model.all_sites()]
        return min(reasons, key=bool)

    def find_ready(self, name: str) -> Model | None:
        """The model of a name, or its successor; None where it could not be called now, or is cooling."""
        model, _ = self._catalogue.succeed(self._catalogue.find(name), self._today())
        if self.why_unavailable(model) or (self._fleet is not None and self._fleet.why_resting(model)):
            return None
        return model

    def weigh(
        self, prompt: Prompt, route: Route, names: Sequence[str], features: Features, warnings: list[str]
    ) -> Iterator[Weighed]:
        """The models of these names, or their successors, each once; what callers should know is added."""
        today, seen = self._today(), set[str]()
        for name in names:
            model, notes = self._catalogue.succeed(self._catalogue.find(name), today)
            if model.id in seen:
                continue
            seen.add(model.id)
            warnings.extend(notes)
            yield self._weigh(prompt, route, model, features)

    def least_resting(self, weighed: Sequence[Weighed], warnings: list[str]) -> tuple[Model, ...]:
        """Where all that could serve are cooling, they are candidates all the same: first who cools least."""
        resting = [each for each in weighed if each.rests]
        if self._fleet is None or not resting:
            return ()
        rest_s = self._fleet.rest_s
        resting.sort(key=lambda each: rest_s(each.model))
        first = resting[0]
        warnings.append(
            f"{first.model.id} is asked as the last resort, though {first.candidate.rejected_because}"
        )
        first.candidate.rejected_because = ""
        return tuple(each.model for each in resting)

    def _weigh(self, prompt: Prompt, route: Route, model: Model, features: Features) -> Weighed:
        rejected = (
            ("" if self.permits(model.id) else FORBIDDEN)
            or self.why_unavailable(model)
            or next(objections(model, features), "")
        )
        resting = self._fleet.why_resting(model) if self._fleet is not None and not rejected else ""
        expected = self._lengths.predict(route.name, model.id, otherwise=route.expected_output_tokens)
        candidate = pb.Candidate(
            model=model.id,
            provider=model.provider,
            estimated_cost_micro_usd=estimate_cost(
                model.prices,
                input_tokens=features.input_tokens,
                output_tokens=min(expected, output_limit(prompt, route, model)),
            ),
            rejected_because=rejected or resting,
        )
        return Weighed(model=model, candidate=candidate, rests=bool(resting))


def output_limit(prompt: Prompt, route: Route, model: Model) -> int:
    """The smallest of what the request asks, the route allows and the model can.

    A named model has no route.
    """
    limits = [model.max_output_tokens]
    if prompt.spec.HasField("max_output_tokens"):
        limits.append(prompt.spec.max_output_tokens)
    if route.candidates or len(limits) == 1:
        limits.append(route.max_output_tokens)
    return min(limits)


def first_able(weighed: Sequence[Weighed]) -> Weighed | None:
    """The first that can serve."""
    return next((each for each in weighed if each.can_serve), None)
