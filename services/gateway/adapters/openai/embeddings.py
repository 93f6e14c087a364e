"""OpenAI's embeddings, which are packed little-endian float32 in base64, as ours are without it."""

import base64
import sys
from array import array
from dataclasses import dataclass
from typing import Any

from quartet.router.v1 import router_pb2
from services.gateway.adapters.fields import Fields, read_body, refuse
from services.gateway.domain.dispatch import Vectors
from services.gateway.domain.headers import cache_name

MAX_TEXTS = 2048
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """What is to be embedded, and whether its vectors are wanted as base64."""

    request: router_pb2.EmbedRequest
    as_base64: bool


def read_embedding(body: bytes) -> EmbeddingRequest:
    """Reads the body; raises InvalidArgument with the member at fault."""
    fields = read_body(body)
    encoding = fields.text("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise refuse("encoding_format", "must be float or base64")
    request = router_pb2.EmbedRequest(
        model=fields.required_text("model"),
        texts=_read_input(fields),
        dimensions=fields.integer("dimensions", least=1, most=8192),
    )
    fields.text("user")
    if unknown := sorted(fields.rest()):
        raise refuse(unknown[0], "is not offered: leave it out")
    return EmbeddingRequest(request=request, as_base64=encoding == "base64")


def _read_input(fields: Fields) -> list[str]:
    value = fields.require("input")
    texts = [value] if isinstance(value, str) else fields.items("input")
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise refuse("input", f"must be a string or 1 to {MAX_TEXTS} of them")
    if any(isinstance(text, int | list) for text in texts):
        raise refuse("input", "must be text: token numbers belong to one vocabulary, and models differ")
    if not all(isinstance(text, str) and text for text in texts):
        raise refuse("input", "must be strings that are not empty")
    return texts


def write_embeddings(found: Vectors, *, as_base64: bool) -> dict[str, Any]:
    """The body of the answer."""
    response = found.response
    size = response.dimension * _FLOAT32_BYTES
    vectors = [response.vectors[start : start + size] for start in range(0, len(response.vectors), size or 1)]
    usage = response.usage
    facts: dict[str, Any] = {"cost_micro_usd": usage.cost_micro_usd, "model": response.model}
    if response.cache:
        facts |= {"cache": cache_name(response.cache), "cached_texts": response.cached_texts}
    if found.head.trace_id:
        facts["trace_id"] = found.head.trace_id
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector).decode() if as_base64 else _floats(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": response.model,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens, "quartet": facts},
    }


def _floats(vector: bytes) -> list[float]:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tolist()
