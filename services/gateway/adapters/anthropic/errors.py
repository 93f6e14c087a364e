from collections.abc import Mapping
from typing import Any

import orjson

from services.gateway.adapters.http import ErrorShape
from services.kit import errors
from services.kit.errors import QuartetError

_INVALID = "invalid_request_error"
_KINDS: Mapping[type[QuartetError], tuple[int, str]] = {
    errors.InvalidArgument: (400, _INVALID),
    errors.FailedPrecondition: (400, _INVALID),
    errors.OutOfRange: (400, _INVALID),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.AlreadyExists: (409, _INVALID),
    errors.Aborted: (409, _INVALID),
    errors.ResourceExhausted: (429, "rate_limit_error"),
    # As google.rpc.Code maps it; the vendors' SDKs would ask anew at 500, and begin another run.
    errors.Cancelled: (499, _INVALID),
    errors.Unimplemented: (501, "api_error"),
    errors.Unavailable: (529, "overloaded_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
}
_TOO_LONG = frozenset({"CONTEXT_WINDOW_EXCEEDED", "TOKEN_LIMIT_EXCEEDED"})
_TOO_LARGE = (413, "request_too_large")


def _kind(error: QuartetError) -> tuple[int, str]:
    if error.reason == "REQUEST_TOO_LARGE":
        return _TOO_LARGE
    return _KINDS.get(type(error), (500, "api_error"))


def _status(error: QuartetError) -> int:
    return _kind(error)[0]


def _body(error: QuartetError, request_id: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {"reason": error.reason, "metadata": error.metadata}
    if error.field_violations:
        found["param"] = error.field_violations[0].field.removeprefix("prompt.")
    return {
        "type": "error",
        "error": {"type": _kind(error)[1], "message": _message(error), "quartet": found},
        "request_id": request_id or None,
    }


def _message(error: QuartetError) -> str:
    """Anthropic's own words where its clients read them to tell what to do."""
    if error.reason not in _TOO_LONG:
        return error.message
    return "prompt is too long: {count} tokens > {limit} maximum; ".format(**error.metadata) + error.message


def _frame(body: Mapping[str, Any]) -> bytes:
    return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"


ANTHROPIC_ERRORS = ErrorShape(status=_status, body=_body, frame=_frame)
