"""OpenAI, and every server that speaks its Chat Completions format."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from quartet.common.v1.generation_pb2 import Completion
from services.kit.call import Call
from services.router.adapters.openai.requests import encode_request
from services.router.adapters.openai.responses import StreamDecoder, decode_completion
from services.router.adapters.provider import WireProvider
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest
from services.router.ports import Batch, Vectors

DEFAULT_BASE_URL = "https://api.openai.com/v1"
EMBEDDINGS_PATH = "/embeddings"

_STATUS_OF_ERROR = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "invalid_request_error": 400}


class OpenAIProvider(WireProvider):
    """Chat completions and embeddings of one server."""

    path = "/chat/completions"

    async def embed(self, batch: Batch, call: Call) -> Vectors:
        """Vectors by the embeddings endpoint, as base64 of the very bytes that are passed on."""
        model, texts = batch.model, list(batch.texts)
        body: dict[str, Any] = {"model": model.upstream, "input": texts, "encoding_format": "base64"}
        if batch.dimension:
            body["dimensions"] = batch.dimension
        answer = await self._transport.post(
            EMBEDDINGS_PATH, orjson.dumps(body), model=model.id, call=call, headers={}
        )
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            packed = b"".join(base64.b64decode(row["embedding"]) for row in rows)
            tokens = answer["usage"]["prompt_tokens"]
        except (KeyError, TypeError, ValueError) as error:
            detail = f"no embeddings: {error!r}"
            raise failures.interrupted(self.name, model.id, detail) from None
        width = len(packed) // 4 // len(texts)
        if len(rows) != len(texts) or len(packed) != 4 * width * len(texts):
            raise failures.interrupted(self.name, model.id, "vectors are missing")
        return Vectors(packed=packed, dimension=width, input_tokens=tokens)

    def _encode(self, request: ModelRequest, *, stream: bool) -> bytes:
        return encode_request(request, stream=stream)

    def _decode(self, answer: Any) -> Completion:
        return decode_completion(answer)

    def _decoder(self) -> StreamDecoder:
        return StreamDecoder()

    def _error_of(self, event: Mapping[str, Any]) -> tuple[int, str] | None:
        error = event.get("error")
        if not error:
            return None
        fields = error if isinstance(error, dict) else {"message": str(error)}
        names = (fields.get("code"), fields.get("type"))
        status = next((_STATUS_OF_ERROR[name] for name in names if name in _STATUS_OF_ERROR), 500)
        return status, str(fields.get("message") or "")
