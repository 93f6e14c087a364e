"""Splits a text into chunks that an embedding model can read whole."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

MAX_UNIT_CHARACTERS = 100
"""No word is longer: MiniLM reads a longer one as one unknown token, whatever it says."""

_HEADING = re.compile(r"^(?=#{1,6} )", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*")
_SENTENCE = re.compile(r"[.!?…][\"'”\u2019)\]]*\s+|[\u3002\uff01\uff1f]\s*")


class Word(NamedTuple):
    """The smallest piece that is never cut: its characters and how many tokens they make."""

    start: int
    end: int
    tokens: int


class Tokenizer(Protocol):
    """How an embedding model cuts text."""

    def words(self, text: str) -> list[Word]:
        """The words in order; what lies between two of them makes no token."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself, without the model's special ones."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSize:
    """How big chunks are, in tokens of the embedding model's tokenizer.

    Attributes:
        max_tokens: At most; 128 at least, since a single word makes up to 100.
        overlap_tokens: How much of a chunk's end the next one repeats, where no heading stands between them.
    """

    max_tokens: int
    overlap_tokens: int

    def __post_init__(self) -> None:
        if self.max_tokens < 128:
            raise ValueError("max_tokens: at least 128, since a single word makes up to 100 tokens")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 4:
            raise ValueError(f"overlap_tokens: between 0 and a quarter of max_tokens, {self.max_tokens // 4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a text: `text == whole[start_char:end_char]`, counted in code points."""

    start_char: int
    end_char: int
    text: str


class _Breaks(NamedTuple):
    """Where a chunk may end well, as indexes of units, and how full it must be for that."""

    units: list[int]
    least_fill: float


def split(text: str, tokenizer: Tokenizer, size: ChunkSize) -> Iterator[Chunk]:
    """Cuts a text at headings, else paragraphs, lines, sentences, words: the first at a fair filling.

    Chunks come in order; together they hold every character that is not white space. None exceeds
    `size.max_tokens`.
    """
    units = _units(text, tokenizer)
    if not units:
        return
    starts = [unit.start for unit in units]
    headings = _at(_HEADING, text, starts)
    before_heading = set(headings)
    rungs = [
        _Breaks(headings, 0.25),
        _Breaks(_at(_PARAGRAPH, text, starts), 0.5),
        _Breaks(_at(_LINE, text, starts), 0.65),
        _Breaks(_at(_SENTENCE, text, starts), 0.5),
    ]
    sums = [0]
    for unit in units:
        sums.append(sums[-1] + unit.tokens)
    first = 0
    while first < len(units):
        full = max(first + 1, bisect_right(sums, sums[first] + size.max_tokens) - 1)
        end = full if full == len(units) else _end(first, full, sums, rungs, size)
        chunk = _chunk(text, units[first].start, units[end - 1].end)
        if chunk.text:
            yield chunk
        if end == len(units):
            return
        first = end if end in before_heading else _resume(first, end, sums, rungs, size)


def _units(text: str, tokenizer: Tokenizer) -> list[Word]:
    """Words stretched to touch each other, so that together they are the whole text; none is overlong."""
    words = tokenizer.words(text)
    starts = [0, *(word.start for word in words[1:])] if words else [0]
    ends = [*starts[1:], len(text)]
    tokens = [word.tokens for word in words] or [0]
    units: list[Word] = []
    slices: list[int] = []
    for start, end, count in zip(starts, ends, tokens, strict=True):
        if end - start <= MAX_UNIT_CHARACTERS or len(text[start:end].strip()) <= MAX_UNIT_CHARACTERS:
            units.append(Word(start, end, count))
            continue
        for cut in range(start, end, MAX_UNIT_CHARACTERS):
            slices.append(len(units))
            units.append(Word(cut, min(cut + MAX_UNIT_CHARACTERS, end), 0))
    counts = tokenizer.count([text[units[index].start : units[index].end] for index in slices])
    for index, count in zip(slices, counts, strict=True):
        # An overlong word's slice may count more by itself than within the word: take the worst.
        units[index] = units[index]._replace(tokens=max(count, MAX_UNIT_CHARACTERS // 4))
    return units


def _at(pattern: re.Pattern[str], text: str, starts: list[int]) -> list[int]:
    """The units that begin where the pattern's matches end."""
    found = {bisect_left(starts, match.end()) for match in pattern.finditer(text)}
    return sorted(found - {0, len(starts)})


def _end(first: int, full: int, sums: list[int], rungs: list[_Breaks], size: ChunkSize) -> int:
    """The last good break at which the chunk is full enough, else where it is full."""
    for rung in rungs:
        at = bisect_right(rung.units, full) - 1
        if at >= 0 and rung.units[at] > first:
            end = rung.units[at]
            if sums[end] - sums[first] >= rung.least_fill * size.max_tokens:
                return end
    return full


def _resume(first: int, end: int, sums: list[int], rungs: list[_Breaks], size: ChunkSize) -> int:
    """Where the next chunk begins: up to `overlap_tokens` before the end, at a sentence if there is one."""
    earliest = max(first + 1, bisect_left(sums, sums[end] - size.overlap_tokens))
    for rung in rungs[1:]:
        at = bisect_left(rung.units, earliest)
        if at < len(rung.units) and rung.units[at] < end:
            return rung.units[at]
    return min(earliest, end)


def _chunk(text: str, start: int, end: int) -> Chunk:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    return Chunk(start_char=start, end_char=max(start, end), text=text[start:end])
