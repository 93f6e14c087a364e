"""What the vendors' wire formats become behind the clouds' doors: other errors, other frames."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from tests.doubles.provider import anthropic_wire, frames, openai_wire
from tests.doubles.provider.answers import Answer, Prompt
from tests.doubles.provider.delivery import Stream

_EXCEPTIONS = {400: "ValidationException", 403: "AccessDeniedException", 404: "ResourceNotFoundException"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
}


class AzureWire:
    """OpenAI's format with Azure's errors and the verdict of its content filter ahead of a stream."""

    MALFORMED = openai_wire.MALFORMED
    REQUEST_ID = "apim-request-id"

    def read_prompt(self, body: Mapping[str, Any]) -> Prompt:
        return openai_wire.read_prompt(body)

    def unary(self, answer: Answer, model: str, serial: str) -> bytes:
        body = orjson.loads(openai_wire.unary(answer, model, serial))
        return orjson.dumps(body | {"prompt_filter_results": [_verdict()]})

    def stream(self, answer: Answer, model: str, serial: str, body: Mapping[str, Any]) -> Stream:
        stream = openai_wire.stream(answer, model, serial, body)
        first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        event = orjson.dumps(first | {"prompt_filter_results": [_verdict()]})
        return replace(stream, opening=b"data: " + event + b"\n\n" + stream.opening)

    def models(self, names: Sequence[str]) -> bytes:
        return openai_wire.models(names)

    def model_not_found(self, model: str) -> bytes:
        message = f"The API deployment {model} for this resource does not exist."
        return self.error(404, message=message, code="DeploymentNotFound")

    def error(
        self, status: int, *, message: str | None = None, param: str | None = None, code: str | None = None
    ) -> bytes:
        fields = {"code": code or str(status), "message": message or "The request failed.", "param": param}
        return orjson.dumps({"error": fields})

    def error_event(self, message: str | None) -> bytes:
        return openai_wire.error_event(message)


class BedrockWire:
    """Anthropic's format with AWS's errors, in AWS's frames."""

    MALFORMED = frames.from_sse(anthropic_wire.MALFORMED)
    REQUEST_ID = "x-amzn-requestid"

    def read_prompt(self, body: Mapping[str, Any]) -> Prompt:
        return anthropic_wire.read_prompt(body)

    def unary(self, answer: Answer, model: str, serial: str) -> bytes:
        return anthropic_wire.unary(answer, model, serial)

    def stream(self, answer: Answer, model: str, serial: str, body: Mapping[str, Any]) -> Stream:
        stream = anthropic_wire.stream(answer, model, serial, body)
        return Stream(
            opening=frames.from_sse(stream.opening),
            pieces=[frames.from_sse(piece) for piece in stream.pieces],
            closing=frames.from_sse(stream.closing),
            media_type="application/vnd.amazon.eventstream",
            pad=_pad_frame,
        )

    def models(self, names: Sequence[str]) -> bytes:
        return anthropic_wire.models(names)

    def model_not_found(self, model: str) -> bytes:
        return self.error(404, message=f"Could not resolve the foundation model {model}.")

    def error(
        self, status: int, *, message: str | None = None, param: str | None = None, code: str | None = None
    ) -> bytes:
        return orjson.dumps({"message": message or _EXCEPTIONS.get(status, "InternalServerException")})

    def error_event(self, message: str | None) -> bytes:
        return frames.exception("serviceUnavailableException", message or "The service is unavailable.")


class VertexWire:
    """Anthropic's format with Google's errors."""

    MALFORMED = anthropic_wire.MALFORMED
    REQUEST_ID = "x-goog-request-id"

    def read_prompt(self, body: Mapping[str, Any]) -> Prompt:
        return anthropic_wire.read_prompt(body)

    def unary(self, answer: Answer, model: str, serial: str) -> bytes:
        return anthropic_wire.unary(answer, model, serial)

    def stream(self, answer: Answer, model: str, serial: str, body: Mapping[str, Any]) -> Stream:
        return anthropic_wire.stream(answer, model, serial, body)

    def models(self, names: Sequence[str]) -> bytes:
        return anthropic_wire.models(names)

    def model_not_found(self, model: str) -> bytes:
        return self.error(404, message=f"Publisher Model `{model}` was not found.")

    def error(
        self, status: int, *, message: str | None = None, param: str | None = None, code: str | None = None
    ) -> bytes:
        fields = {"code": status, "message": message or "It failed.", "status": _STATUSES.get(status)}
        return orjson.dumps({"error": fields})

    def error_event(self, message: str | None) -> bytes:
        return anthropic_wire.error_event(message)


def _verdict() -> dict[str, Any]:
    verdicts = {kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "violence")}
    return {"prompt_index": 0, "content_filter_results": verdicts}


def _pad_frame(size: int) -> bytes:
    return frames.chunk(orjson.dumps({"type": "ping", "padding": "x" * size}))
