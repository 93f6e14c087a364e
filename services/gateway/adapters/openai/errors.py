from collections.abc import Mapping
from typing import Any

import orjson

from services.gateway.adapters.http import ErrorShape
from services.kit import errors
from services.kit.errors import QuartetError

_INVALID = "invalid_request_error"
_STOPPED = 499
_KINDS: Mapping[type[QuartetError], tuple[int, str]] = {
    errors.InvalidArgument: (400, _INVALID),
    errors.FailedPrecondition: (400, _INVALID),
    errors.OutOfRange: (400, _INVALID),
    errors.Unauthenticated: (401, _INVALID),
    errors.PermissionDenied: (403, _INVALID),
    errors.NotFound: (404, _INVALID),
    errors.AlreadyExists: (409, _INVALID),
    errors.Aborted: (409, _INVALID),
    errors.ResourceExhausted: (429, "rate_limit_error"),
    # As google.rpc.Code maps it; the vendors' SDKs would ask anew at 500, and begin another run.
    errors.Cancelled: (_STOPPED, _INVALID),
    errors.Unimplemented: (501, "server_error"),
    errors.Unavailable: (503, "server_error"),
    errors.DeadlineExceeded: (504, "server_error"),
}
_CODES: Mapping[str, str] = {
    "MISSING_API_KEY": "invalid_api_key",
    "TOKEN_LIMIT_EXCEEDED": "context_length_exceeded",
    "CONTEXT_WINDOW_EXCEEDED": "context_length_exceeded",
}
"""OpenAI's own words for what clients tell apart; every other code is the reason in lower case."""
_VENDOR_CODE = "code"
"""Of the metadata: a provider's own word for what is wrong with the request."""
_TOO_LARGE = 413


def _status(error: QuartetError) -> int:
    if error.reason == "REQUEST_TOO_LARGE":
        return _TOO_LARGE
    return _KINDS.get(type(error), (500, ""))[0]


def _body(error: QuartetError, request_id: str) -> Mapping[str, Any]:
    field = error.field_violations[0].field.removeprefix("prompt.") if error.field_violations else None
    return {
        "error": {
            "message": error.message,
            "type": _KINDS.get(type(error), (500, "server_error"))[1],
            "param": field or None,
            "code": error.metadata.get(_VENDOR_CODE) or _CODES.get(error.reason, error.reason.lower()),
            "quartet": {"reason": error.reason, "metadata": error.metadata, "request_id": request_id},
        }
    }


def response_error(error: QuartetError, request_id: str) -> Mapping[str, Any]:
    """The `error` of a response that failed; its code is one of the vendor's own words."""
    status = _status(error)
    code = (
        "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status < _STOPPED else "server_error"
    )
    return {**_body(error, request_id)["error"], "code": code}


def _frame(body: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\ndata: [DONE]\n\n"


OPENAI_ERRORS = ErrorShape(status=_status, body=_body, frame=_frame)
