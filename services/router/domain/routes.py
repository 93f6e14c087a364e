"""The table of routes: for each intent the models that serve it, in order, and how much they may write."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.kit.errors import NotFound
from services.router.domain.catalogue import Balance
from services.router.domain.checking import Cascade
from services.router.domain.labelling import Labelling
from services.router.domain.latency import Hedge
from services.router.domain.policy import Policy
from services.router.domain.rules import RuleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """How answers of a route are kept.

    Attributes:
        ttl_s: For how long.
        only_deterministic: Only where the caller asks for temperature 0.
        semantic: Least cosine similarity at which the answer to another wording may be given; None for never.
    """

    ttl_s: int
    only_deterministic: bool
    semantic: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of `routes.yaml`.

    Attributes:
        max_output_tokens: Most that a model may write; a request for more gets this.
        expected_output_tokens: What answers usually have, for estimates of cost.
        candidates: Ids of models, the preferred one first.
        reasoning_effort: Asked for where the caller says nothing; empty for the model's own default.
        cheaper: Ids of the models that take over where the policy finds them good enough.
        policy: When they do; None for never.
        shadow: A policy that decides, too, and is only noted.
        caching: How answers are kept; None for not at all.
        balance: How calls are spread over a model's deployments; None for as the model says.
        last_resort: Id of the model that is asked where all others are cooling; empty for the one that cools
            least.
        first_token_s, between_tokens_s: Longest silence of streams, before the model's own; None for that.
        cascade: How answers of the cheaper models are checked; None for not at all.
        hedge: When a second deployment is asked beside a slow one; None for never.
    """

    name: str
    max_output_tokens: int
    expected_output_tokens: int
    candidates: tuple[str, ...]
    reasoning_effort: str = ""
    cheaper: tuple[str, ...] = ()
    policy: Policy | None = None
    shadow: Policy | None = None
    caching: Caching | None = None
    balance: Balance | None = None
    last_resort: str = ""
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    hedge: Hedge | None = None
    cascade: Cascade | None = None

    @property
    def has_choice(self) -> bool:
        """Whether more than one model may serve it."""
        return len({*self.candidates, *self.cheaper}) > 1


class RouteTable:
    """Routes by name, the rules that lead to them, and the route of prompts that no rule recognises.

    Args:
        baseline: Id of the model that would serve everything if nothing were routed; savings are told against
            it.
        classifier_confidence: From this on the learned intent decides where no rule does; None for never.
        labelling: How a model is asked where that one is not sure; None for not at all.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        rules: RuleSet,
        *,
        default: str,
        named: Route,
        baseline: str,
        classifier_confidence: float | None = None,
        labelling: Labelling | None = None,
    ) -> None:
        self._routes = {route.name: route for route in routes}
        self.rules = rules
        self.baseline = baseline
        self.classifier_confidence = classifier_confidence
        self.labelling = labelling
        self.default = self._routes[default]
        self.named = named
        """Bounds for requests that name a model; it has no candidates."""

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __contains__(self, name: str) -> bool:
        return name in self._routes

    def find(self, name: str) -> Route:
        """The route of a name; raises NotFound naming those that there are."""
        route = self._routes.get(name)
        if route is None:
            message = f"there is no route {name!r}: name one of {', '.join(self._routes)}"
            raise NotFound(message, reason="ROUTE_NOT_FOUND", metadata={"route": name[:128]})
        return route
