"""OpenAI, and every server that speaks its Chat Completions format."""

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import openai
import orjson

from quartet.common.v1.generation_pb2 import Completion
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.adapters.openai.requests import encode_request
from services.router.adapters.openai.responses import MalformedAnswerError, StreamDecoder, decode_completion
from services.router.adapters.transport import SdkErrors, SdkTransport
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest
from services.router.domain.catalogue import Model
from services.router.ports import Accepted, ProviderEvent, Vectors

DEFAULT_BASE_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""Sent where a server wants no key: the SDK insists on one."""

CHAT_PATH = "/chat/completions"
EMBEDDINGS_PATH = "/embeddings"
DONE = b"[DONE]"

_ERRORS = SdkErrors(
    status=openai.APIStatusError, timeout=openai.APITimeoutError, connection=openai.APIConnectionError
)
_STATUS_OF_ERROR = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "invalid_request_error": 400}


class OpenAIProvider:
    """Chat completions and embeddings of one server.

    Args:
        name: The provider's name in `models.yaml`.
        base_url: Empty for OpenAI's own.
        api_key: Empty where the server wants none.
    """

    def __init__(self, *, name: str, base_url: str = "", api_key: str = "") -> None:
        client = openai.AsyncOpenAI(
            api_key=api_key or NO_KEY, base_url=base_url or DEFAULT_BASE_URL, max_retries=0
        )
        self._transport = SdkTransport(client, openai.AsyncStream, _ERRORS, provider=name)

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def generate(self, request: ModelRequest, call: Call) -> Completion:
        """The whole answer."""
        model = request.model.id
        body = encode_request(request, stream=False)
        answer = await self._transport.post(CHAT_PATH, body, model=model, call=call)
        try:
            return decode_completion(answer)
        except MalformedAnswerError as error:
            raise failures.interrupted(self._transport.provider, model, str(error)) from None

    async def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        """The answer as it is written."""
        model, decoder = request.model.id, StreamDecoder()
        body = encode_request(request, stream=True)
        try:
            async with aclosing(
                self._transport.stream(CHAT_PATH, body, is_last=_is_done, model=model, call=call)
            ) as events:
                async for data in events:
                    if data is None:
                        yield Accepted()
                        continue
                    if _is_done(data):
                        continue
                    chunk = self._transport.read_json(data, model)
                    if isinstance(chunk, dict) and chunk.get("error"):
                        raise self._failure(chunk["error"], model)
                    for delta in decoder.feed(chunk):
                        yield delta
        except MalformedAnswerError as error:
            raise failures.interrupted(self._transport.provider, model, str(error)) from None
        if not decoder.is_finished:
            raise failures.interrupted(self._transport.provider, model, "it has no end")
        yield decoder.completion()

    async def embed(self, model: Model, texts: Sequence[str], dimension: int, call: Call) -> Vectors:
        """Vectors by the embeddings endpoint, as base64 of the very bytes that are passed on."""
        body: dict[str, Any] = {"model": model.upstream, "input": list(texts), "encoding_format": "base64"}
        if dimension:
            body["dimensions"] = dimension
        answer = await self._transport.post(EMBEDDINGS_PATH, orjson.dumps(body), model=model.id, call=call)
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            packed = b"".join(base64.b64decode(row["embedding"]) for row in rows)
            tokens = answer["usage"]["prompt_tokens"]
        except (KeyError, TypeError, ValueError) as error:
            detail = f"no embeddings: {error!r}"
            raise failures.interrupted(self._transport.provider, model.id, detail) from None
        width = len(packed) // 4 // len(texts)
        if len(rows) != len(texts) or len(packed) != 4 * width * len(texts):
            raise failures.interrupted(self._transport.provider, model.id, "vectors are missing")
        return Vectors(packed=packed, dimension=width, input_tokens=tokens)

    def _failure(self, error: Any, model: str) -> QuartetError:
        """An error that comes as an event of the stream."""
        fields = error if isinstance(error, dict) else {"message": str(error)}
        names = (fields.get("code"), fields.get("type"))
        status = next((_STATUS_OF_ERROR[name] for name in names if name in _STATUS_OF_ERROR), 500)
        message = str(fields.get("message") or "")
        return failures.from_http_status(status, message, provider=self._transport.provider, model=model)


def _is_done(data: bytes) -> bool:
    return data == DONE
