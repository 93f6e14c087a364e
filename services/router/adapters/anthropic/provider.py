"""Anthropic by its Messages format."""

from collections.abc import Mapping
from typing import Any

from quartet.common.v1.generation_pb2 import Completion, GenerationSpec
from services.router.adapters.anthropic.requests import BETA, beta_of, encode_request, uses_sampling
from services.router.adapters.anthropic.responses import StreamDecoder, decode_completion
from services.router.adapters.provider import WireProvider
from services.router.domain.adaptation import ModelRequest

DEFAULT_BASE_URL = "https://api.anthropic.com"

VERSION = "2026-10-21"
SAMPLING_VERSION = "2023-06-01"
"""The API version that still has sampling parameters; the newest has them no more."""

_STATUS_OF_ERROR = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicProvider(WireProvider):
    """Messages of one server."""

    path = "/v1/messages"

    def _encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        return encode_request(request, stream=stream)

    def _headers(self, spec: GenerationSpec) -> Mapping[str, str]:
        headers = {"anthropic-version": SAMPLING_VERSION if uses_sampling(spec) else VERSION}
        return headers | {BETA: beta} if (beta := beta_of(spec)) else headers

    def _decode(self, answer: Any) -> Completion:
        return decode_completion(answer)

    def _decoder(self) -> StreamDecoder:
        return StreamDecoder()

    def _error_of(self, event: Mapping[str, Any]) -> tuple[int, str] | None:
        if event.get("type") != "error":
            return None
        error = event.get("error")
        fields = error if isinstance(error, dict) else {}
        return _STATUS_OF_ERROR.get(str(fields.get("type")), 500), str(fields.get("message") or "")
