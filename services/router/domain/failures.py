"""How a model call can fail, and what may be tried next; providers raise these, whatever their dialect."""

from services.kit.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    QuartetError,
    ResourceExhausted,
    Unavailable,
)

RATE_LIMITED = "PROVIDER_RATE_LIMITED"
UNAVAILABLE = "PROVIDER_UNAVAILABLE"
INTERRUPTED = "PROVIDER_INTERRUPTED"
KEY_REFUSED = "PROVIDER_KEY_REFUSED"
MODEL_MISSING = "PROVIDER_MODEL_NOT_FOUND"
REFUSED = "PROVIDER_REFUSED"
TIMEOUT = "PROVIDER_TIMEOUT"
ALL_FAILED = "ALL_CANDIDATES_FAILED"
TOO_LARGE = "REQUEST_TOO_LARGE"

CALLERS_OWN = frozenset(("BUDGET_EXHAUSTED", "QUOTA_EXHAUSTED", "DEADLINE_EXCEEDED"))
"""Why a request failed that says nothing of the model, nor of others who ask the same."""

_RETRYABLE = {RATE_LIMITED, UNAVAILABLE, INTERRUPTED}
_PASSING_ON = _RETRYABLE | {KEY_REFUSED, MODEL_MISSING}
_FAULTS = _PASSING_ON - {RATE_LIMITED}

MAX_NAME_CHARS = 128
MAX_MESSAGE_CHARS = 500
"""Of a provider's own words: they may quote the request."""


def may_retry(failure: QuartetError) -> bool:
    """Whether the same model may do better a moment later."""
    return failure.reason in _RETRYABLE


def may_pass_on(failure: QuartetError) -> bool:
    """Whether another model may do better."""
    return failure.reason in _PASSING_ON


def is_fault(failure: QuartetError) -> bool:
    """Whether the provider is at fault, and not well."""
    return failure.reason in _FAULTS


def from_http_status(
    status: int,
    message: str,
    *,
    provider: str,
    model: str,
    retry_after_s: float | None = None,
    param: str = "",
    code: str = "",
) -> QuartetError:
    """The error for a provider's refusal; `message`, `param` and `code` are the provider's own.

    The last two are told of a request at fault: what the caller may change.
    """
    said = f"{provider} said: {message[:MAX_MESSAGE_CHARS]}" if message else f"{provider} said nothing more"
    metadata = {"provider": provider, "model": model, "status": str(status)}
    match status:
        case 401 | 402 | 403:
            text = f"the key of {provider} is refused ({status}): check the provider's key"
            text += f" and its credit; {said}" if status == 402 else f"; {said}"
            return FailedPrecondition(text, reason=KEY_REFUSED, metadata=metadata)
        case 404:
            return NotFound(
                f"{provider} has no model {model}: {said}", reason=MODEL_MISSING, metadata=metadata
            )
        case 408 | 409 | 425 | 429:
            text = f"{provider} takes no more requests for {model} at present: {said}"
            return ResourceExhausted(
                text, reason=RATE_LIMITED, metadata=metadata, retry_after_s=retry_after_s or 1.0
            )
        case 413:
            text = f"{provider} finds the request too large (413): send less; {said}"
            return InvalidArgument(text, reason=TOO_LARGE, metadata=metadata)
        case _ if status < 400:
            text = f"{provider} has moved ({status}), and is not followed: check its base URL; {said}"
            return Unavailable(text, reason=UNAVAILABLE, metadata=metadata)
        case _ if status >= 500:
            text = f"{provider} failed ({status}): try again; {said}"
            return Unavailable(text, reason=UNAVAILABLE, metadata=metadata, retry_after_s=retry_after_s)
        case _:
            text = f"{provider} refused the request ({status}): {said}"
            if code:
                metadata["code"] = code[:MAX_NAME_CHARS]
            fields = [(param[:MAX_NAME_CHARS], said)] if param else []
            return InvalidArgument(text, reason=REFUSED, metadata=metadata, field_violations=fields)


def limited(provider: str, model: str, wait_s: float) -> ResourceExhausted:
    """The error for a call that was not made, because its provider would allow no more."""
    message = f"{provider} allows no more requests for {model} at present, by its limits in models.yaml"
    metadata = {"provider": provider, "model": model}
    return ResourceExhausted(message, reason=RATE_LIMITED, metadata=metadata, retry_after_s=wait_s)


def unreachable(provider: str, model: str, detail: str) -> Unavailable:
    """The error for a provider that could not be reached or said nothing."""
    message = f"{provider} cannot be reached: {detail}"
    return Unavailable(message, reason=UNAVAILABLE, metadata={"provider": provider, "model": model})


def interrupted(provider: str, model: str, detail: str) -> Unavailable:
    """The error for an answer that broke off or cannot be read."""
    message = f"the answer of {provider} broke off: {detail}"
    return Unavailable(message, reason=INTERRUPTED, metadata={"provider": provider, "model": model})


def out_of_time(provider: str, model: str) -> DeadlineExceeded:
    """The error for a provider that took longer than the call had."""
    message = f"{provider} did not answer in the time left for this call: allow more, or ask for less"
    return DeadlineExceeded(message, reason=TIMEOUT, metadata={"provider": provider, "model": model})
