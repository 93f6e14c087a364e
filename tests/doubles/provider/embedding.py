"""Deterministic embeddings: texts that share words are near each other."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.doubles.provider.refusals import Refusal

_DIMENSIONS = {"text-embedding-3-large": 3072}
_DEFAULT_DIMENSIONS = 1536
_MAX_INPUTS = 2048
_WORD = re.compile(r"\w+")


def read_inputs(body: Mapping[str, Any]) -> list[str] | Refusal:
    """The texts to embed; token arrays are read as their numbers."""
    value = body.get("input")
    if isinstance(value, str):
        items: Sequence[Any] = [value]
    elif isinstance(value, list) and value and isinstance(value[0], int):
        items = [value]
    else:
        items = value if isinstance(value, list) else []
    if not items or not all(items):
        return Refusal(message="Invalid 'input': input cannot be an empty string.", param="input")
    if len(items) > _MAX_INPUTS:
        return Refusal(
            message=f"Invalid 'input': array too long. Expected at most {_MAX_INPUTS} items.", param="input"
        )
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in items]


def embed(text: str, model: str, dimensions: int | None) -> NDArray[np.float32]:
    """The sum of the words' random directions, of length one; float32, `dimensions` or the model's own."""
    count = dimensions or _DIMENSIONS.get(model, _DEFAULT_DIMENSIONS)
    words = _WORD.findall(text.lower()) or [text]
    total = np.zeros(count, dtype=np.float32)
    for word in words:
        total += _direction(word, count)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


def encode(vector: NDArray[np.float32], encoding: str | None) -> list[float] | str:
    """As `encoding_format` asks: a list of numbers, or base64 of little-endian float32."""
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.astype(float).tolist()
    return numbers


@lru_cache(maxsize=4096)
def _direction(word: str, count: int) -> NDArray[np.float32]:
    digest = hashlib.shake_256(word.encode()).digest(2 * count)
    return np.frombuffer(digest, dtype="<i2").astype(np.float32)
