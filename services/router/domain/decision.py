"""Decides who serves a prompt, and says of every candidate what it would cost or why it cannot."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

from quartet.common.v1 import decision_pb2 as pb
from quartet.router.v1.router_pb2 import Prompt
from services.kit.errors import InvalidArgument
from services.router.domain.candidates import Scales, Weighed, output_limit
from services.router.domain.catalogue import Capability, Catalogue, Model, Providers
from services.router.domain.features import Features, read_features
from services.router.domain.fleet import Fleet
from services.router.domain.judgement import Judge, Judged
from services.router.domain.lengths import OutputLengths
from services.router.domain.lineup import Lineup, line_up
from services.router.domain.plan import Plan
from services.router.domain.policy import Calibration
from services.router.domain.recognition import (
    BY_DEFAULT,
    BY_SESSION,
    UNKNOWN_INTENT,
    Choice,
    choose_named,
    choose_route,
)
from services.router.domain.refusal import refuse_forbidden, refuse_named, refuse_route
from services.router.domain.roster import Roster
from services.router.domain.routes import RouteTable
from services.router.domain.rules import AgentHandler, PipelineHandler
from services.router.domain.staying import NO_SESSION, Memory, Stay, find_stay


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
        self._roster = Roster(catalogue, providers, today)
        self._scales = Scales(catalogue, self._roster, fleet, lengths or OutputLengths())
        self._judge = judge
        self.calibration = calibration

    def judge(self, prompt: Prompt) -> Judged:
        """What is known of a prompt, for more than one question about it."""
        return Judged(read_features(prompt), self._judge)

    def choose(self, prompt: Prompt, judged: Judged) -> Choice:
        """Which way a prompt goes, whoever serves it then; raises NotFound as `decide`."""
        match prompt.target.WhichOneof("kind"):
            case "model":
                return choose_named(self._routes.named, UNKNOWN_INTENT)
            case "route":
                return choose_named(self._routes.find(prompt.target.route), prompt.target.route)
        return choose_route(self._routes, judged, models_only=prompt.models_only)

    def decide(
        self,
        prompt: Prompt,
        last: Memory | None = None,
        judged: Judged | None = None,
        *,
        models: Sequence[str] | None = None,
    ) -> Plan:
        """The plan for a prompt, and for its session's next turn where `last` tells of the one before.

        `models` are the only ones that the key may use, by id or alias; None for any.

        Raises:
            NotFound: The named model or route does not exist.
            PermissionDenied: The key may use none of the models there are to choose from.
            InvalidArgument: No model can serve it: `NO_MODEL_CONFIGURED` when a setting would help,
                `NO_MODEL_FITS` when the prompt asks for what none can do.
        """
        scales = self._scales.held_to(models)
        plan = self._plan(prompt, judged or self.judge(prompt), last, scales)
        if plan.decision.HasField("handler"):
            return plan
        if models is not None and not any(map(scales.permits, plan.asked)):
            raise refuse_forbidden(plan, models)
        if plan.decision.route:
            raise refuse_route(plan, self._providers)
        named = self._catalogue.find(plan.decision.candidates[0].model)
        raise refuse_named(plan, is_usable=not self.why_unavailable(named))

    def explain(
        self,
        prompt: Prompt,
        last: Memory | None = None,
        judged: Judged | None = None,
        *,
        models: Sequence[str] | None = None,
    ) -> pb.Decision:
        """The decision; where no model can serve, without a handler and with every objection."""
        judged = judged or self.judge(prompt)
        decision = self._plan(prompt, judged, last, self._scales.held_to(models)).decision
        if judged.uplift is not None:
            decision.uplift = judged.uplift
        return decision

    def why_unavailable(self, model: Model) -> str:
        """Why a model could not be called now, whatever the prompt; empty when it could."""
        return self._roster.why_unavailable(model)

    def find_ready(self, name: str) -> Model | None:
        """The model of a name, or its successor; None where it could not be called now."""
        return self._scales.find_ready(name)

    def permits(self, model: Model, models: Sequence[str] | None) -> bool:
        """Whether a key that may use the models of these names, None for any, may use this one."""
        return self._scales.held_to(models).permits(model.id)

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

    def _plan(self, prompt: Prompt, judged: Judged, last: Memory | None, scales: Scales) -> Plan:
        if prompt.target.HasField("model"):
            return self._plan_named(prompt.target.model, judged.features, scales)
        choice = self.choose(prompt, judged)
        if choice.rule is not None and choice.rule.handler is not None:
            return _plan_handler(choice, choice.rule.handler, judged.features)
        return self._plan_route(prompt, choice, judged, last, scales)

    def _plan_route(
        self, prompt: Prompt, choice: Choice, judged: Judged, last: Memory | None, scales: Scales
    ) -> Plan:
        route, features = choice.route, judged.features
        warnings: list[str] = []
        strong = scales.weigh(route, route.candidates, features, warnings)
        cheaper = scales.weigh(route, route.cheaper, features, warnings)
        if (
            scales.permitted is not None
            and not prompt.target.HasField("route")
            and scales.permitted.isdisjoint([each.model.id for each in (*strong, *cheaper)])
        ):
            # Nobody named the route: it stands for the need alone, and the key's models for the route's.
            own = scales.weigh(route, scales.list_permitted(), features, warnings)
            strong.extend(sorted(own, key=lambda each: each.cost_micro_usd))
        lineup = line_up(route, strong, cheaper, judged, self.calibration)
        stay = NO_SESSION if last is None else self._find_stay(prompt, choice, lineup, features, last, scales)
        weighed = lineup.in_order(stay.own)
        models = _able(weighed)
        if not models and route.last_resort and any(each.rests for each in weighed):
            weighed.extend(scales.weigh(route, (route.last_resort,), features, warnings))
            models = _able(weighed)
        models = models or scales.least_resting(weighed, warnings)
        if stay.is_another:
            choice = replace(choice, rule_name=BY_SESSION)
        decision = _decide(choice, features, models, weighed, warnings)
        if stay.told:
            decision.session = stay.told
        drafting, tiers = lineup.drafting(models), lineup.tiers
        if tiers is not None:
            decision.uplift = tiers.uplift
            if route.policy is not None:
                decision.policy = f"{route.policy}: {tiers.live}"
        if drafting:
            decision.policy = ", ".join(filter(None, (decision.policy, "cascade")))
        return Plan(
            decision=decision,
            models=models,
            route=route,
            input_tokens=features.input_tokens,
            # What the session settled says nothing of the tiers.
            tiers=None if stay.is_another else tiers,
            drafting=drafting,
            permitted=scales.permitted,
            site=last.provider if last is not None and stay.own is not None else "",
        )

    def _find_stay(
        self,
        prompt: Prompt,
        choice: Choice,
        lineup: Lineup,
        features: Features,
        last: Memory,
        scales: Scales,
    ) -> Stay:
        """What becomes of a session's model; a route that the caller named is kept to its own models."""
        route = choice.route
        own = lineup.find(last.model)
        if own is None and not prompt.target.HasField("route") and last.model in self._catalogue:
            (own,) = scales.weigh(route, (last.model,), features, [])
        has_policy = route.policy is not None and lineup.tiers is not None
        return find_stay(
            last,
            own,
            lineup,
            input_tokens=features.input_tokens,
            is_sure=has_policy or choice.rule_name != BY_DEFAULT,
        )

    def _plan_named(self, name: str, features: Features, scales: Scales) -> Plan:
        route, warnings = self._routes.named, list[str]()
        weighed = scales.weigh(route, (name,), features, warnings)
        scales.least_resting(weighed, warnings)
        models = _able(weighed)
        decision = _decide(choose_named(route, UNKNOWN_INTENT), features, models, weighed, warnings)
        return Plan(
            decision=decision,
            models=models,
            route=route,
            input_tokens=features.input_tokens,
            permitted=scales.permitted,
        )


def _able(weighed: Sequence[Weighed]) -> tuple[Model, ...]:
    return tuple([each.model for each in weighed if not each.rejected_because])


def _plan_handler(choice: Choice, handler: PipelineHandler | AgentHandler, features: Features) -> Plan:
    decision = _begin(choice)
    if isinstance(handler, PipelineHandler):
        decision.handler.pipeline.name = handler.name
        decision.handler.pipeline.collection = handler.collection
    else:
        decision.handler.agent.collection = handler.collection
    decision.max_output_tokens = choice.route.max_output_tokens
    return Plan(decision=decision, models=(), route=choice.route, input_tokens=features.input_tokens)


def _decide(
    choice: Choice,
    features: Features,
    models: Sequence[Model],
    weighed: Sequence[Weighed],
    warnings: Sequence[str],
) -> pb.Decision:
    """The decision for the first of the models, or with the objections to all where there is none."""
    decision = _begin(choice)
    chosen = ""
    if models:
        decision.model = decision.handler.model = chosen = models[0].id
        decision.max_output_tokens = output_limit(choice.route, models[0], features)
    for each in weighed:
        candidate = decision.candidates.add()
        candidate.model = each.model.id
        candidate.provider = each.model.provider
        candidate.estimated_cost_micro_usd = each.cost_micro_usd
        if each.rejected_because:
            candidate.rejected_because = each.rejected_because
        if each.model.id == chosen:
            candidate.chosen = True
    decision.warnings.extend(dict.fromkeys(warnings))
    return decision


def _begin(choice: Choice) -> pb.Decision:
    return pb.Decision(
        route=choice.route.name,
        intent=choice.intent,
        confidence=choice.confidence,
        rule=choice.rule_name,
        cache=pb.CACHE_OUTCOME_BYPASS,
    )
