"""Runs a golden file's JSON through the very code of gateway and router, without the wire between."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from quartet.common.v1 import decision_pb2, generation_pb2
from services.gateway.adapters.anthropic.errors import ANTHROPIC_ERRORS
from services.gateway.adapters.anthropic.request import read_message
from services.gateway.adapters.anthropic.response import write_message
from services.gateway.adapters.anthropic.stream import EventWriter
from services.gateway.adapters.http import ErrorShape
from services.gateway.adapters.openai.errors import OPENAI_ERRORS
from services.gateway.adapters.openai.request import read_chat
from services.gateway.adapters.openai.response import write_completion
from services.gateway.adapters.openai.responses_request import read_response
from services.gateway.adapters.openai.responses_response import write_response
from services.gateway.adapters.openai.responses_stream import ResponseWriter
from services.gateway.adapters.openai.stream import ChunkWriter
from services.gateway.domain.dispatch import Answer
from services.gateway.domain.headers import Head
from services.router.adapters.anthropic.requests import encode_request as encode_anthropic
from services.router.adapters.anthropic.responses import StreamDecoder as AnthropicDecoder
from services.router.adapters.anthropic.responses import decode_completion as decode_anthropic
from services.router.adapters.config.models import read_models
from services.router.adapters.config.routes import read_routes
from services.router.adapters.openai.requests import encode_request as encode_openai
from services.router.adapters.openai.responses import StreamDecoder as OpenAIDecoder
from services.router.adapters.openai.responses import decode_completion as decode_openai
from services.router.domain import failures
from services.router.domain.adaptation import adapt
from services.router.domain.features import read_features
from services.router.domain.fitness import objections

Json = Any
HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "config"
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-5-5"}
"""Whom a request goes to; the two take more than others, so that less is adapted."""
OUTPUT_TOKENS = 4096
HEAD = Head(request_id="r1", created_s=1_790_000_000)

_READERS: dict[str, Callable[[bytes], Any]] = {
    "openai": read_chat,
    "anthropic": read_message,
    "responses": read_response,
}
_ENCODERS = {"openai": encode_openai, "anthropic": encode_anthropic}
_DECODERS = {"openai": decode_openai, "anthropic": decode_anthropic}
_STREAM_DECODERS: dict[str, type[OpenAIDecoder] | type[AnthropicDecoder]] = {
    "openai": OpenAIDecoder,
    "anthropic": AnthropicDecoder,
}
_SHAPES: dict[str, ErrorShape] = {"openai": OPENAI_ERRORS, "anthropic": ANTHROPIC_ERRORS}


class Requests:
    """Sends clients' requests as far as the body that a provider would get."""

    def __init__(self) -> None:
        self._catalogue = read_models(CONFIG / "models.yaml")[0]
        self._routes = read_routes(CONFIG / "routes.yaml", self._catalogue)

    def send(self, dialect: str, request: Json, provider: str) -> Json:
        """The provider's body, and what was adapted; or why the model cannot serve it."""
        name = MODELS[provider]
        asked = _READERS[dialect](json.dumps({**request, "model": name}).encode())
        prompt = asked.order.prompt
        prompt.target.model = name
        model = self._catalogue.find(name)
        if against := list(objections(model, read_features(prompt))):
            return {"refused": against}
        made = adapt(prompt, model, self._routes.named, output_tokens=_output_tokens(prompt.spec))
        body = json.loads(_ENCODERS[provider](made, stream=asked.stream))
        assert body.pop("model") == model.upstream
        return {"body": body, "adapted": list(made.adapted)}


def answer(provider: str, reply: Json, client: str) -> Json:
    """A provider's whole answer, as a client reads it."""
    completion = _DECODERS[provider](reply)
    completion.model = "m"
    made = Answer(decision=decision_pb2.Decision(), completion=completion, head=HEAD)
    match client:
        case "openai":
            written = write_completion(made, model="m")
        case "anthropic":
            written = write_message(made, model="m")
        case _:
            written = write_response(made, model="m", told={})
    return _without_ours(orjson.loads(orjson.dumps(written)))


def stream(provider: str, events: Iterable[Json], client: str) -> list[Json]:
    """A provider's events, as a client reads them; what only we say is left out."""
    writer = _writer(client)
    written = writer.write(decision_pb2.Decision(model="m"))
    decoder = _STREAM_DECODERS[provider]()
    for event in events:
        for delta in decoder.feed(event):
            # Over the wire and back.
            written += writer.write(generation_pb2.Delta.FromString(delta.SerializeToString()))
    assert decoder.is_finished
    end = decoder.completion()
    end.model = "m"
    frames = (written + writer.write(end)).decode().split("\n\n")
    assert frames.pop() == ""
    found = [frame.rpartition("data: ")[2] for frame in frames]
    return [_without_ours(json.loads(data)) for data in found if data != "[DONE]"]


def refuse(status: int, message: str, client: str) -> Json:
    """A provider's refusal, as a client reads it."""
    raised = failures.from_http_status(status, message, provider="vendor", model="m", retry_after_s=None)
    shape = _SHAPES[client]
    body = json.loads(orjson.dumps(shape.body(raised, HEAD.request_id)))
    del body["error"]["quartet"]
    return {"status": shape.status(raised), "body": body}


def _writer(client: str) -> ChunkWriter | EventWriter | ResponseWriter:
    match client:
        case "openai":
            return ChunkWriter(head=HEAD, model="m", include_usage=True)
        case "anthropic":
            return EventWriter(head=HEAD, model="m", input_tokens=1)
        case _:
            return ResponseWriter(head=HEAD, model="m", told={})


def _output_tokens(spec: generation_pb2.GenerationSpec) -> int:
    return spec.max_output_tokens if spec.HasField("max_output_tokens") else OUTPUT_TOKENS


def _without_ours(value: Json) -> Json:
    for holder in (value, value.get("response") or {}):
        if holder.get("usage"):
            holder["usage"].pop("quartet", None)
    return value
