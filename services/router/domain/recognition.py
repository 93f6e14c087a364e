"""What a prompt is about: told by a rule, else by the classifier, else taken for unknown."""

from dataclasses import dataclass

from services.router.domain.judgement import Judged
from services.router.domain.routes import Route, RouteTable
from services.router.domain.rules import Rule

UNKNOWN_INTENT = "unknown"
BY_NAME = "named"
BY_DEFAULT = "default"
BY_CLASSIFIER = "classifier"
BY_LABEL = "llm_classifier"
BY_SESSION = "session"
"""Recognised by one of the others, and served by the model that the session is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which way a prompt goes, and why.

    Attributes:
        rule_name: The rule's, or one of the `BY_` words.
        rule: None where no rule decided.
    """

    route: Route
    rule_name: str
    intent: str
    confidence: float
    rule: Rule | None = None

    def is_less_sure_than(self, confidence: float) -> bool:
        """Whether nothing but the learned classifier speaks for it, and that one with less confidence."""
        return self.rule is None and self.confidence < confidence


def choose_route(routes: RouteTable, judged: Judged, *, models_only: bool) -> Choice:
    """The way of a prompt that names neither model nor route; `models_only` leaves other handlers out."""
    features = judged.features
    only_models = models_only or features.has_tools or features.has_passages
    rule = routes.rules.decide(features, models_only=only_models)
    if rule is None and judged.label in routes:
        route = routes.find(judged.label)
        return Choice(route=route, rule_name=BY_LABEL, intent=route.name, confidence=1.0)
    if rule is None:
        return _classify(routes, judged) or Choice(
            route=routes.default, rule_name=BY_DEFAULT, intent=UNKNOWN_INTENT, confidence=0.0
        )
    route = routes.find(rule.route)
    return Choice(route=route, rule_name=rule.name, intent=route.name, confidence=1.0, rule=rule)


def choose_named(route: Route, intent: str) -> Choice:
    """The way of a prompt that names its model or its route."""
    return Choice(route=route, rule_name=BY_NAME, intent=intent, confidence=1.0)


def _classify(routes: RouteTable, judged: Judged) -> Choice | None:
    """The learned intent, where it is sure enough and there is a route of that name."""
    least = routes.classifier_confidence
    if least is None or (judgement := judged.judgement) is None:
        return None
    if not judgement.is_known or judgement.confidence < least or judgement.intent not in routes:
        return None
    route = routes.find(judgement.intent)
    return Choice(
        route=route, rule_name=BY_CLASSIFIER, intent=judgement.intent, confidence=judgement.confidence
    )
