"""One bounded pass over a prompt's text, whose result every head reads.

Words and character n-grams are named by 64-bit polynomial hashes. The hash of any span comes out of one
prefix sum: (P[end] - P[start]) / B**start, where the division is a product with the inverse of the odd base
modulo 2**64. So the whole pass is a dozen array operations and no loop over words.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEAD_CHARS = 512
TAIL_CHARS = 256
"""What is read of a long text: to read twice as much costs twice as much, and routes no better."""
GRAM_BYTES = 480
"""Character n-grams are taken from the beginning only: intents are told by short texts."""
GRAM_SIZES = (3, 4, 5)

_BASE = 0x9E3779B97F4A7C15
_PAIR = np.uint64(0xC2B2AE3D27D4EB4F)
_GRAM = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_MASK = (1 << 64) - 1


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    values, power = np.empty(count, dtype=np.uint64), 1
    for place in range(count):
        values[place] = power
        power = power * base & _MASK
    return values


_MAX_BYTES = 4 * (HEAD_CHARS + TAIL_CHARS) + 8
_UP = _powers(_BASE, _MAX_BYTES)
_DOWN = _powers(pow(_BASE, -1, 1 << 64), _MAX_BYTES)

_SPACE = ord(" ")


def _kind(byte: int) -> int:
    if byte >= 128 or byte == ord("'") or chr(byte).isalpha():
        return ord("a")
    if byte in b"0123456789":
        return ord("0")
    return max(byte, _SPACE)


_KINDS = bytes(map(_kind, range(256)))
"""Every letter is of one kind, every digit, and every space; each mark is of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the heads know of a text.

    Attributes:
        hashes: Of its words, numbers and runs of one mark in order, then of each two neighbours of these,
            then of the character 3- to 5-grams of its beginning.
        length_chars: Of the whole text.
    """

    hashes: NDArray[np.uint64]
    length_chars: int


def read(text: str, *, with_grams: bool = True) -> Reading:
    """Read the head and the tail of a text; any text is taken, an empty one or a lone surrogate too."""
    length_chars = len(text)
    if length_chars > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    # A lower-case letter may take more bytes than its capital; the powers end where the window does.
    raw = b"  %b " % text.lower().encode("utf-8", "replace")[: _MAX_BYTES - 8]
    data = np.frombuffer(raw, dtype=np.uint8)
    sums = (data * _UP[: len(data)]).cumsum()
    words = _words(raw, sums)
    parts = (words, words[:-1] * _PAIR + words[1:], *(_grams(sums) if with_grams else ()))
    return Reading(hashes=np.concatenate(parts), length_chars=length_chars)


def buckets(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """Name the row of each hash in a table of 2**bits rows: its upper bits."""
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)


def _words(raw: bytes, sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash the runs of one kind that are not spaces; the text stands between spaces."""
    kinds = np.frombuffer(raw.translate(_KINDS), dtype=np.uint8)
    edges = (kinds[1:] != kinds[:-1]).nonzero()[0]
    firsts = (kinds[1:].take(edges) != _SPACE).nonzero()[0]
    starts = edges.take(firsts)
    hashes: NDArray[np.uint64] = (sums.take(edges.take(firsts + 1)) - sums.take(starts)) * _DOWN.take(starts)
    return hashes


def _grams(sums: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    """Hash the n-grams of the beginning as it stands, one space before it included."""
    sums = sums[: GRAM_BYTES + 2]
    parts = [
        (sums[size:] - sums[:-size]) * _DOWN[: len(sums) - size] for size in GRAM_SIZES if len(sums) > size
    ]
    # Unlike words, they are so many and so alike that the upper bits, which name rows, need the lower ones.
    return [(part ^ (part >> _HALF)) * _GRAM for part in parts]
