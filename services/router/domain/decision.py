"""Decides who serves a prompt, and says of every candidate what it would cost or why it cannot."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date

from quartet.common.v1 import decision_pb2 as pb
from quartet.common.v1.generation_pb2 import Usage
from quartet.router.v1.router_pb2 import Prompt
from services.kit.errors import InvalidArgument
from services.router.domain.catalogue import Capability, Catalogue, Model, Providers
from services.router.domain.checking import Cascade
from services.router.domain.features import Features, read_features
from services.router.domain.fitness import objections
from services.router.domain.fleet import Fleet
from services.router.domain.judgement import Judge, Judged
from services.router.domain.lengths import OutputLengths
from services.router.domain.policy import Calibration
from services.router.domain.prices import estimate_cost
from services.router.domain.routes import Route, RouteTable
from services.router.domain.rules import AgentHandler, PipelineHandler, Rule
from services.router.domain.tiers import CHEAPER, Tiers, choose_tiers

UNKNOWN_INTENT = "unknown"
BY_NAME = "named"
BY_DEFAULT = "default"
BY_CLASSIFIER = "classifier"

VENDOR_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


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
        superseded: What an earlier answer to the same prompt used; None where there was none.
        is_overhead: True for a question of the router's own.
    """

    decision: pb.Decision
    models: tuple[Model, ...]
    route: Route
    input_tokens: int
    tiers: Tiers | None = None
    drafting: frozenset[str] = frozenset()
    superseded: Usage | None = None
    is_overhead: bool = False

    @property
    def cascade(self) -> Cascade | None:
        """How the drafting models' answers are checked; None where none is."""
        return self.route.cascade if self.drafting else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """A model as a candidate; it can serve when nothing speaks against it.

    `rests` when it could serve, were it not cooling.
    """

    model: Model
    candidate: pb.Candidate
    rests: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Which way a prompt goes, and why."""

    route: Route
    rule_name: str
    intent: str
    confidence: float
    rule: Rule | None = None


class Decider:
    """Makes decisions from the tables alone: no call, no spending, well under a millisecond.

    Args:
        providers: Which providers can be called; every provider of the catalogue is in it.
        today: Gives the day by which shutdowns are judged.
        judge: Tells intent and uplift; without one, prompts that no rule recognises go to the default route,
            and policies always choose the strong models.
        calibration: What uplift is worth; may be replaced while the decider is in use.
        lengths: Tells how long answers will be.
        fleet: Tells which models are cooling; without one, none is.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        routes: RouteTable,
        providers: Providers,
        today: Callable[[], date],
        *,
        fleet: Fleet | None = None,
        judge: Judge | None = None,
        calibration: Calibration | None = None,
        lengths: OutputLengths | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._routes = routes
        self._providers = providers
        self._today = today
        self._fleet = fleet
        self._judge = judge
        self.calibration = calibration
        self._lengths = lengths or OutputLengths()

    def decide(self, prompt: Prompt) -> Plan:
        """The plan for a prompt.

        Raises:
            NotFound: The named model or route does not exist.
            InvalidArgument: No model can serve it: `NO_MODEL_CONFIGURED` when a setting would help,
            `NO_MODEL_FITS`
                when the prompt asks for what none can do.
        """
        plan = self._plan(prompt, Judged(read_features(prompt), self._judge))
        if not plan.decision.HasField("handler"):
            raise self._refuse(plan)
        return plan

    def explain(self, prompt: Prompt) -> pb.Decision:
        """The decision; where no model can serve, without a handler and with every objection."""
        judged = Judged(read_features(prompt), self._judge)
        decision = self._plan(prompt, judged).decision
        if judged.uplift is not None:
            decision.uplift = judged.uplift
        return decision

    def _plan(self, prompt: Prompt, judged: Judged) -> Plan:
        features = judged.features
        target = prompt.target.WhichOneof("kind")
        if target == "model":
            return self._plan_named(prompt, features)
        if target == "route":
            route = self._routes.find(prompt.target.route)
            choice = _Choice(route=route, rule_name=BY_NAME, intent=route.name, confidence=1.0)
        else:
            choice = self._recognise(judged, models_only=prompt.models_only)
        if choice.rule is not None and choice.rule.handler is not None:
            return self._plan_handler(choice, choice.rule.handler, features)
        return self._plan_route(prompt, choice, judged)

    def why_unavailable(self, model: Model) -> str:
        """Why a model could not be called now, whatever the prompt; empty when it could."""
        if model.is_dead(self._today()):
            hint = f"; name {model.successor} instead" if model.successor else ""
            return f"it was shut down on {model.shutdown}{hint}"
        reasons = [self._providers[site.provider].unavailable_because for site in model.all_sites()]
        return min(reasons, key=bool)

    def find_embedding(self, name: str) -> Model:
        """The embedding model of a name, or the default one for none.

        Raises:
            NotFound: There is no such model.
            InvalidArgument: It does not embed, or its provider is not configured.
        """
        model = self._catalogue.find(name or self._catalogue.default_embedding)
        if not model.can(Capability.EMBEDDINGS):
            names = ", ".join(other.id for other in self._catalogue if other.can(Capability.EMBEDDINGS))
            raise InvalidArgument.field("model", f"{model.id} does not embed: name one of {names}")
        reason = self.why_unavailable(model)
        if reason:
            raise InvalidArgument(f"{model.id} cannot be used: {reason}", reason="NO_MODEL_CONFIGURED")
        return model

    def _recognise(self, judged: Judged, *, models_only: bool) -> _Choice:
        features = judged.features
        only_models = models_only or features.has_tools or features.has_passages
        rule = self._routes.rules.decide(features, models_only=only_models)
        if rule is None:
            return self._classify(judged) or _Choice(
                route=self._routes.default, rule_name=BY_DEFAULT, intent=UNKNOWN_INTENT, confidence=0.0
            )
        route = self._routes.find(rule.route)
        return _Choice(route=route, rule_name=rule.name, intent=route.name, confidence=1.0, rule=rule)

    def _classify(self, judged: Judged) -> _Choice | None:
        """The learned intent, where it is sure enough and there is a route of that name."""
        least = self._routes.classifier_confidence
        if least is None or (judgement := judged.judgement) is None:
            return None
        if not judgement.is_known or judgement.confidence < least or judgement.intent not in self._routes:
            return None
        route = self._routes.find(judgement.intent)
        return _Choice(
            route=route, rule_name=BY_CLASSIFIER, intent=judgement.intent, confidence=judgement.confidence
        )

    def _plan_handler(
        self, choice: _Choice, handler: PipelineHandler | AgentHandler, features: Features
    ) -> Plan:
        if isinstance(handler, PipelineHandler):
            target = pb.PipelineTarget(name=handler.name, collection=handler.collection)
            chosen = pb.Handler(pipeline=target)
        else:
            chosen = pb.Handler(agent=pb.AgentTarget(collection=handler.collection))
        decision = _decision(choice, chosen, choice.route.max_output_tokens)
        return Plan(decision=decision, models=(), route=choice.route, input_tokens=features.input_tokens)

    def _plan_route(self, prompt: Prompt, choice: _Choice, judged: Judged) -> Plan:
        route, features = choice.route, judged.features
        warnings: list[str] = []
        strong = list(self._weigh(prompt, route, route.candidates, features, warnings))
        cheaper = list(self._weigh(prompt, route, route.cheaper, features, warnings))
        tiers = self._choose_tiers(route, strong, cheaper, judged)
        cheaper_first = tiers is not None and tiers.live == CHEAPER
        cascades = route.cascade is not None and (cheaper_first or route.policy is None)
        ordered = cheaper + strong if cheaper_first or cascades else strong + cheaper
        by_id = {weighed.model.id: weighed for weighed in reversed(ordered)}
        weighed = [by_id[name] for name in dict.fromkeys(each.model.id for each in ordered)]
        # What answers from passages alone is the last resort of both tiers.
        weighed.sort(key=lambda each: each.model.can(Capability.PASSAGES_ONLY))
        models = tuple(each.model for each in weighed if not each.candidate.rejected_because)
        if not models and route.last_resort and any(each.rests for each in weighed):
            weighed.extend(self._weigh(prompt, route, (route.last_resort,), features, warnings))
            models = tuple(each.model for each in weighed if not each.candidate.rejected_because)
        models = models or self._least_resting(weighed, warnings)
        chosen = models[0] if models else None
        decision = _decision(choice, chosen, _output_limit(prompt, route, chosen) if chosen else 0)
        _complete(decision, chosen, [each.candidate for each in weighed], list(dict.fromkeys(warnings)))
        if tiers is not None:
            decision.uplift = tiers.uplift
            decision.policy = f"{route.policy}: {tiers.live}" if route.policy else ""
        drafting: frozenset[str] = frozenset()
        if cascades:
            drafting = _drafting(models, {each.model.id for each in cheaper})
        if drafting:
            decision.policy = ", ".join(filter(None, (decision.policy, "cascade")))
        return Plan(
            decision=decision,
            models=models,
            route=route,
            input_tokens=features.input_tokens,
            tiers=tiers,
            drafting=drafting,
        )

    def _weigh(
        self, prompt: Prompt, route: Route, names: Sequence[str], features: Features, warnings: list[str]
    ) -> Iterator[_Weighed]:
        today, seen = self._today(), set[str]()
        for name in names:
            model, notes = self._catalogue.succeed(self._catalogue.find(name), today)
            if model.id in seen:
                continue
            seen.add(model.id)
            warnings.extend(notes)
            yield self._weigh_one(prompt, route, model, features)

    def _weigh_one(self, prompt: Prompt, route: Route, model: Model, features: Features) -> _Weighed:
        rejected = next(self._objections(model, features), "")
        resting = self._fleet.why_resting(model) if self._fleet is not None and not rejected else ""
        output_tokens = _output_limit(prompt, route, model)
        candidate = self._candidate(model, features, route, output_tokens, rejected or resting)
        return _Weighed(model=model, candidate=candidate, rests=bool(resting))

    def _least_resting(self, weighed: Sequence[_Weighed], warnings: list[str]) -> tuple[Model, ...]:
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

    def _choose_tiers(
        self, route: Route, strong: Sequence[_Weighed], cheaper: Sequence[_Weighed], judged: Judged
    ) -> Tiers | None:
        first_strong, first_cheaper = _first_fit(strong), _first_fit(cheaper)
        if first_strong is None or first_cheaper is None or self.calibration is None:
            return None
        if (uplift := judged.uplift) is None:
            return None
        return choose_tiers(
            route,
            self.calibration,
            uplift=uplift,
            cheaper_models=frozenset(each.model.id for each in cheaper),
            cheaper_cost_micro_usd=first_cheaper.candidate.estimated_cost_micro_usd,
            strong_cost_micro_usd=first_strong.candidate.estimated_cost_micro_usd,
        )

    def _candidate(
        self, model: Model, features: Features, route: Route, output_tokens: int, rejected_because: str
    ) -> pb.Candidate:
        expected = self._lengths.predict(route.name, model.id, otherwise=route.expected_output_tokens)
        return pb.Candidate(
            model=model.id,
            provider=model.provider,
            estimated_cost_micro_usd=estimate_cost(
                model.prices, input_tokens=features.input_tokens, output_tokens=min(expected, output_tokens)
            ),
            rejected_because=rejected_because,
        )

    def _plan_named(self, prompt: Prompt, features: Features) -> Plan:
        named = self._catalogue.find(prompt.target.model)
        model, warnings = self._catalogue.succeed(named, self._today())
        route = self._routes.named
        weighed, notes = self._weigh_one(prompt, route, model, features), list(warnings)
        self._least_resting([weighed], notes)
        chosen = None if weighed.candidate.rejected_because else model
        choice = _Choice(route=route, rule_name=BY_NAME, intent=UNKNOWN_INTENT, confidence=1.0)
        decision = _decision(choice, chosen, _output_limit(prompt, route, model))
        _complete(decision, chosen, [weighed.candidate], notes)
        models = (chosen,) if chosen else ()
        return Plan(decision=decision, models=models, route=route, input_tokens=features.input_tokens)

    def _objections(self, model: Model, features: Features) -> Iterator[str]:
        """Why a model cannot serve, the reason that a setting would remove first."""
        unavailable = self.why_unavailable(model)
        if unavailable:
            yield unavailable
        yield from objections(model, features)

    def _refuse(self, plan: Plan) -> InvalidArgument:
        candidates = plan.decision.candidates
        if not plan.decision.route:
            (named,) = candidates
            usable = not self.why_unavailable(self._catalogue.find(named.model))
            return InvalidArgument(
                f"{named.model} cannot serve this request: {named.rejected_because}",
                reason="MODEL_DOES_NOT_FIT" if usable else "NO_MODEL_CONFIGURED",
                metadata={"model": named.model},
            )
        unconfigured = any(self._providers[candidate.provider].missing for candidate in candidates)
        reasons = "; ".join(f"{candidate.model}: {candidate.rejected_because}" for candidate in candidates)
        if unconfigured:
            return InvalidArgument(
                "no model is configured that can serve this request: "
                f"set one of {', '.join(VENDOR_VARIABLES)} ({reasons})",
                reason="NO_MODEL_CONFIGURED",
                metadata={"variables": ",".join(VENDOR_VARIABLES)},
            )
        return InvalidArgument(
            f"no model of the route can serve this request: {reasons}",
            reason="NO_MODEL_FITS",
            metadata={"input_tokens": str(plan.input_tokens)},
        )


def _drafting(models: Sequence[Model], cheaper: Set[str]) -> frozenset[str]:
    """The cheaper models that can serve, where there is another one to escalate to."""
    able = {model.id for model in models if not model.can(Capability.PASSAGES_ONLY)}
    return frozenset(able & cheaper) if able - cheaper else frozenset()


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


def _output_limit(prompt: Prompt, route: Route, model: Model) -> int:
    """The smallest of what the request asks, the route allows and the model can.

    A named model has no route.
    """
    limits = [model.max_output_tokens]
    if prompt.spec.HasField("max_output_tokens"):
        limits.append(prompt.spec.max_output_tokens)
    if route.candidates or len(limits) == 1:
        limits.append(route.max_output_tokens)
    return min(limits)


def _decision(choice: _Choice, handler: pb.Handler | Model | None, max_output_tokens: int) -> pb.Decision:
    if isinstance(handler, Model):
        handler = pb.Handler(model=handler.id)
    return pb.Decision(
        route=choice.route.name,
        intent=choice.intent,
        confidence=choice.confidence,
        rule=choice.rule_name,
        handler=handler,
        cache=pb.CACHE_OUTCOME_BYPASS,
        max_output_tokens=max_output_tokens,
    )


def _complete(
    decision: pb.Decision, chosen: Model | None, candidates: Sequence[pb.Candidate], warnings: Sequence[str]
) -> None:
    if chosen is not None:
        decision.model = chosen.id
        for candidate in candidates:
            candidate.chosen = candidate.model == chosen.id
    decision.candidates.extend(candidates)
    decision.warnings.extend(warnings)


def _first_fit(weighed: Sequence[_Weighed]) -> _Weighed | None:
    return next((each for each in weighed if not each.candidate.rejected_because), None)
