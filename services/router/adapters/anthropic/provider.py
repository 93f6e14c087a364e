"""Anthropic by its Messages format."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anthropic

from quartet.common.v1.generation_pb2 import Completion, GenerationSpec
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.adapters.anthropic.requests import encode_request, uses_sampling
from services.router.adapters.anthropic.responses import (
    MalformedAnswerError,
    StreamDecoder,
    decode_completion,
)
from services.router.adapters.transport import SdkErrors, SdkTransport
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest
from services.router.ports import Accepted, ProviderEvent

DEFAULT_BASE_URL = "https://api.anthropic.com"
NO_KEY = "none"
"""Sent where a server wants no key: without one the SDK looks for credentials on its own."""

MESSAGES_PATH = "/v1/messages"
STOP = b'"message_stop"'
STOP_WITHIN_BYTES = 64
"""The type stands first in every event."""
SAMPLING_VERSION = "2023-06-01"
"""The API version that still has sampling parameters; the one that the SDK sends has them no more."""

_ERRORS = SdkErrors(
    status=anthropic.APIStatusError,
    timeout=anthropic.APITimeoutError,
    connection=anthropic.APIConnectionError,
)
_STATUS_OF_ERROR = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicProvider:
    """Messages of one server.

    Args:
        name: The provider's name in `models.yaml`.
        base_url: Empty for Anthropic's own.
        api_key: Empty where the server wants none.
    """

    def __init__(self, *, name: str, base_url: str = "", api_key: str = "") -> None:
        client = anthropic.AsyncAnthropic(
            api_key=api_key or NO_KEY, base_url=base_url or DEFAULT_BASE_URL, max_retries=0
        )
        self._transport = SdkTransport(client, anthropic.AsyncStream, _ERRORS, provider=name)

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def generate(self, request: ModelRequest, call: Call) -> Completion:
        """The whole answer."""
        model = request.model.id
        answer = await self._transport.post(
            MESSAGES_PATH,
            encode_request(request, stream=False),
            model=model,
            call=call,
            headers=_headers(request.spec),
        )
        try:
            return decode_completion(answer)
        except MalformedAnswerError as error:
            raise failures.interrupted(self._transport.provider, model, str(error)) from None

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """The answer as it is written."""
        model, decoder = request.model.id, StreamDecoder()
        body, headers = encode_request(request, stream=True), _headers(request.spec)
        try:
            async with aclosing(
                self._transport.stream(
                    MESSAGES_PATH, body, is_last=_is_stop, model=model, call=call, headers=headers
                )
            ) as events:
                async for data in events:
                    if data is None:
                        yield Accepted()
                        continue
                    event = self._transport.read_json(data, model)
                    if isinstance(event, dict) and event.get("type") == "error":
                        raise self._failure(event.get("error"), model)
                    for delta in decoder.feed(event):
                        yield delta
        except MalformedAnswerError as error:
            raise failures.interrupted(self._transport.provider, model, str(error)) from None
        if not decoder.is_finished:
            raise failures.interrupted(self._transport.provider, model, "it has no end")
        yield decoder.completion()

    def _failure(self, error: Any, model: str) -> QuartetError:
        """An error that comes as an event of the stream."""
        fields = error if isinstance(error, dict) else {}
        status = _STATUS_OF_ERROR.get(str(fields.get("type")), 500)
        message = str(fields.get("message") or "")
        return failures.from_http_status(status, message, provider=self._transport.provider, model=model)


def _headers(spec: GenerationSpec) -> dict[str, str]:
    return {"anthropic-version": SAMPLING_VERSION} if uses_sampling(spec) else {}


def _is_stop(data: bytes) -> bool:
    return STOP in data[:STOP_WITHIN_BYTES]
