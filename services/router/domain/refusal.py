"""Why no model serves a prompt, as an error that says what would help."""

from services.kit.errors import InvalidArgument
from services.router.domain.catalogue import Providers
from services.router.domain.plan import Plan

VENDOR_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


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
    if any(providers[candidate.provider].missing for candidate in candidates):
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
