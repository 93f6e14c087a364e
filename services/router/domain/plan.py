"""A decision with what carrying it out needs, and the decision as it turns out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quartet.common.v1 import decision_pb2 as pb
from quartet.common.v1.generation_pb2 import Usage
from services.router.domain.catalogue import Model
from services.router.domain.checking import Cascade
from services.router.domain.routes import Route
from services.router.domain.tiers import Tiers


@dataclass(slots=True, kw_only=True)
class Course:
    """What became of a plan on the way to its answer; written by whoever carries the plan out.

    Attributes:
        due: Id of the model whose answer the plan leads to where nothing fails; empty where something did,
            None while it is the plan's first.
        ran_short: Whether the asker's own means, and nothing else, kept a better answer back.
        beside: What was used beside the answer itself: by a draft that was thrown away, by a judge.
    """

    due: str | None = None
    ran_short: bool = False
    beside: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decision, and what carrying it out needs.

    Attributes:
        decision: As it goes to the caller; not to be changed.
        models: The models that can serve, the preferred one first; empty when the handler is not a model.
        route: The route's bounds; those of a named model when one was named.
        input_tokens: As counted or estimated.
        tiers: What the route's policies say; None where the route has none, or only one tier can serve.
        drafting: Ids of the models whose answers are checked; empty for none.
        permitted: Ids of the models that the key may use; None for any.
        superseded: What an earlier answer to the same prompt used; None where there was none.
        overhead: As the ledger's; for a question of the router's own.
        site: The provider that holds the session in its prompt cache, before others where the first model is
            deployed; empty for any.
        course: Of this request alone; answers may be shared, what was used beside them is not.
    """

    decision: pb.Decision
    models: tuple[Model, ...]
    route: Route
    input_tokens: int
    tiers: Tiers | None = None
    drafting: frozenset[str] = frozenset()
    permitted: frozenset[str] | None = None
    superseded: Usage | None = None
    overhead: str = ""
    site: str = ""
    course: Course = field(default_factory=Course)

    @property
    def asked(self) -> tuple[str, ...]:
        """Ids of all models that were weighed."""
        return tuple(candidate.model for candidate in self.decision.candidates)

    @property
    def due(self) -> str:
        """Id of the model whose answer stands for the plan; empty where none does."""
        return self.models[0].id if self.course.due is None else self.course.due

    @property
    def escalation(self) -> tuple[Model, ...]:
        """The models that are asked where a draft will not do, the preferred one first."""
        return tuple(model for model in self.models if model.id not in self.drafting)

    @property
    def cascade(self) -> Cascade | None:
        """How the drafting models' answers are checked; None where none is."""
        return self.route.cascade if self.drafting else None


def tell_stay(model: str) -> str:
    """What a decision says of a session whose model serves on."""
    return f"stays on {model}"


def note_failures(decision: pb.Decision, failures: Mapping[str, str]) -> pb.Decision:
    """The decision with what speaks against models that were asked before."""
    noted = pb.Decision()
    noted.CopyFrom(decision)
    for candidate in noted.candidates:
        if candidate.model in failures and not candidate.chosen:
            candidate.rejected_because = f"it failed: {failures[candidate.model]}"
    return noted


def revise(decision: pb.Decision, model: Model, failures: Mapping[str, str]) -> pb.Decision:
    """The decision as it turned out: the model that answers, and where; how those before it failed, by id."""
    if model.id == decision.model and not failures and _provider_of(decision, model) == model.provider:
        return decision
    revised = pb.Decision()
    revised.CopyFrom(decision)
    revised.model = revised.handler.model = model.id
    if model.id != decision.model and decision.session == tell_stay(decision.model):
        revised.session = f"leaves {decision.model}: it failed"
    for candidate in revised.candidates:
        candidate.chosen = candidate.model == model.id
        if candidate.chosen:
            candidate.provider = model.provider
        if candidate.model in failures and not candidate.chosen:
            candidate.rejected_because = f"it failed: {failures[candidate.model]}"
    return revised


def _provider_of(decision: pb.Decision, model: Model) -> str:
    chosen = (candidate.provider for candidate in decision.candidates if candidate.model == model.id)
    return next(chosen, model.provider)
