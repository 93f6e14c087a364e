"""Why no model serves a prompt, as an error that says what would help."""

from collections.abc import Sequence

from services.kit.errors import InvalidArgument, PermissionDenied
from services.router.domain.catalogue import Providers
from services.router.domain.plan import Plan

MAX_NAMED = 10
"""Models that a message names."""


def refuse_forbidden(plan: Plan, models: Sequence[str]) -> PermissionDenied:
    """The refusal of a key that may use none of the candidates; `models` are those that its scopes name."""
    named = ", ".join(models[:MAX_NAMED]) + (" and others" if len(models) > MAX_NAMED else "")
    route = f" of the route {plan.decision.route!r}" if plan.decision.route else ""
    wanted = ", ".join(f"model:{name}" for name in plan.asked[:MAX_NAMED])
    return PermissionDenied(
        f"this key may use none of the models{route}: its scopes name {named}; name one of these, a route "
        "that has one, or use another key",
        reason="SCOPE_MISSING",
        metadata={"scope": wanted},
    )


def refuse_named(plan: Plan, *, is_usable: bool) -> InvalidArgument:
    """The refusal of the one model that was named; `is_usable` where another prompt could be served."""
    (named,) = plan.decision.candidates
    return InvalidArgument(
        f"{named.model} cannot serve this request: {named.rejected_because}",
        reason="MODEL_DOES_NOT_FIT" if is_usable else "NO_MODEL_CONFIGURED",
        metadata={"model": named.model},
    )


def refuse_route(plan: Plan, providers: Providers) -> InvalidArgument:
    """The refusal of all models of a route."""
    candidates = plan.decision.candidates
    reasons = "; ".join(f"{candidate.model}: {candidate.rejected_because}" for candidate in candidates)
    permitted = [each for each in candidates if plan.permitted is None or each.model in plan.permitted]
    missing = [name for candidate in permitted for name in providers[candidate.provider].missing]
    if missing:
        variables = list(dict.fromkeys(missing))
        return InvalidArgument(
            "no model is configured that can serve this request: "
            f"set one of {', '.join(variables)} ({reasons})",
            reason="NO_MODEL_CONFIGURED",
            metadata={"variables": ",".join(variables)},
        )
    return InvalidArgument(
        f"no model of the route can serve this request: {reasons}",
        reason="NO_MODEL_FITS",
        metadata={"input_tokens": str(plan.input_tokens)},
    )
