"""Scores and intents of many prompts: JSON lines `{"id", "prompt"}` in, CSV out, in the same order."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from services.kit.errors import InvalidArgument
from services.router.learned.learned import Learned

BATCH = 64
"""Prompts embedded together; those judged by their words are answered line by line."""
MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused before it fills the memory."""


Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""MiniLM's vectors [texts, 384], each of length 1."""


def write_scores(source: BinaryIO, target: BinaryIO, learned: Learned) -> int:
    """Write `id,score`, a row a prompt: the higher, the more the strong model is needed; returns the rows.

    Raises:
        InvalidArgument: a line cannot be used; the message gives its number. What came before it is written.
    """
    return _write(
        source, target, "score", lambda prompts: (f"{learned.uplift(prompt):.8f}" for prompt in prompts)
    )


def write_intents(
    source: BinaryIO, target: BinaryIO, learned: Learned, labels: str, embed: Embed | None = None
) -> int:
    """Write `id,intent`, a row a prompt, with the names of one label set; returns the rows.

    With `embed` the prompts' meaning counts beside their words: surer, at some ms a prompt.

    Raises:
        InvalidArgument: there is no such label set, or a line cannot be used; the message gives its number.
    """
    learned.intent("", labels)

    def judge(prompts: Sequence[str]) -> Iterator[str]:
        vectors: Iterable[NDArray[np.float32] | None] = embed(prompts) if embed else [None] * len(prompts)
        for prompt, vector in zip(prompts, vectors, strict=True):
            yield learned.intent(prompt, labels, vector).name

    return _write(source, target, "intent", judge, BATCH if embed else 1)


def _write(
    source: BinaryIO,
    target: BinaryIO,
    column: str,
    judge: Callable[[Sequence[str]], Iterable[str]],
    at_a_time: int = 1,
) -> int:
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    lines = enumerate(iter(lambda: source.readline(MAX_LINE_BYTES + 1), b""), start=1)
    count, refused = 0, None
    try:
        rows.writerow(("id", column))
        while refused is None and (batch := list(islice(lines, at_a_time))):
            prompts: list[tuple[str, str]] = []
            try:
                prompts.extend(_parse(line, number) for number, line in batch if line.strip())
            except InvalidArgument as error:
                refused = error
            judged = judge([prompt for _, prompt in prompts]) if prompts else ()
            rows.writerows(zip((identity for identity, _ in prompts), judged, strict=True))
            count += len(prompts)
    finally:
        text.detach()
    if refused is not None:
        raise refused
    return count


def _parse(line: bytes, number: int) -> tuple[str, str]:
    if len(line) > MAX_LINE_BYTES:
        raise _refused(number, f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _refused(number, f"is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise _refused(number, "is not a JSON object")
    identity, prompt = row.get("id"), row.get("prompt")
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise _refused(number, "has no `id` that is a text or a whole number")
    if not isinstance(prompt, str):
        raise _refused(number, "has no `prompt` that is a text")
    return str(identity), prompt


def _refused(number: int, why: str) -> InvalidArgument:
    return InvalidArgument(
        f'Line {number} {why}. Each line must be an object like {{"id": "1", "prompt": "…"}}.',
        reason="INVALID_PROMPT_LINE",
        metadata={"line": str(number)},
    )
