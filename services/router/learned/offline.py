"""Scores and intents of many prompts: JSON lines `{"id", "prompt"}` in, CSV out, in the same order."""

import csv
import io
from collections.abc import Callable
from typing import BinaryIO

import orjson

from services.kit.errors import InvalidArgument
from services.router.learned.learned import Learned

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused before it fills the memory."""


def write_scores(source: BinaryIO, target: BinaryIO, learned: Learned) -> int:
    """Write `id,score`, a row a prompt: the higher, the more the strong model is needed; returns the rows.

    Raises:
        InvalidArgument: a line cannot be used; the message gives its number. What came before it is written.
    """
    return _write(source, target, "score", lambda prompt: f"{learned.uplift(prompt):.8f}")


def write_intents(source: BinaryIO, target: BinaryIO, learned: Learned, labels: str) -> int:
    """Write `id,intent`, a row a prompt, with the names of one label set; returns the rows.

    Raises:
        InvalidArgument: there is no such label set, or a line cannot be used; the message gives its number.
    """
    learned.intent("", labels)
    return _write(source, target, "intent", lambda prompt: learned.intent(prompt, labels).name)


def _write(source: BinaryIO, target: BinaryIO, column: str, judge: Callable[[str], str]) -> int:
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    count = 0
    try:
        rows.writerow(("id", column))
        for number, line in enumerate(iter(lambda: source.readline(MAX_LINE_BYTES + 1), b""), start=1):
            if line.strip():
                identity, prompt = _parse(line, number)
                rows.writerow((identity, judge(prompt)))
                count += 1
    finally:
        text.detach()
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
