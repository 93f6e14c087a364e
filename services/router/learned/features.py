"""One bounded pass over a prompt's text, whose result every head reads.

Words and character n-grams are named by 64-bit polynomial hashes. The hash of any span comes out of one
prefix sum: (P[end] - P[start]) / B**start, where the division is a product with the inverse of the odd base
modulo 2**64. So the whole pass is a few dozen array operations and no loop over words.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEAD_CHARS = 1_200
TAIL_CHARS = 400
"""What is read of a long text; the sources' questions fit in nine cases of ten, and the time is bounded."""
GRAM_BYTES = 480
"""Character n-grams are taken from the beginning only: intents are told by short texts."""
GRAM_SIZES = (3, 4, 5)

_LETTER, _DIGIT, _SPACE, _MARK = 0, 1, 2, 3
_BASE = 0x9E3779B97F4A7C15
_PAIR = np.uint64(0xC2B2AE3D27D4EB4F)
_MIX = np.uint64(0xD6E8FEB86659FD93)
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

_LETTERS = frozenset((*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'", *range(128, 256)))
_SPACES = frozenset((*b" \t\n\v\f\r\0",))
_KINDS = bytes(
    _LETTER if byte in _LETTERS else _DIGIT if byte in b"0123456789" else _SPACE if byte in _SPACES else _MARK
    for byte in range(256)
)

_CLASSES = (
    b"0123456789",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    b"abcdefghijklmnopqrstuvwxyz",
    b"\\$_^{}",
    b"+-*/=<>",
    b"()[]",
    b".!?;:",
    b",",
    b"'\"`",
    bytes(range(128, 256)),
)
_CLASS_OF = np.zeros((256, len(_CLASSES)), dtype=np.float32)
for _column, _members in enumerate(_CLASSES):
    _CLASS_OF[list(_members), _column] = 1.0

_OPTION = re.compile(r"\n\(?[A-J][.)] ")
_BYTES = np.frombuffer(b'\n?="%$', dtype=np.uint8)
_SIGNS = (
    "\\frac",
    "\\sqrt",
    "[asy]",
    "\\begin",
    "```",
    "[-1]",
    "::",
    "__",
    "():",
    ".replace(",
    ".split(",
    ".join(",
)
_CUES = (
    ("def", "return", "lambda", "assert", "self", "import"),
    ("for", "while"),
    ("if", "else", "elif"),
    ("not", "except", "never", "least", "incorrect", "false"),
    ("each", "per", "every"),
    ("than", "fewer", "less"),
    ("twice", "half", "double", "triple", "third", "quarter", "times"),
    ("total", "altogether", "sum"),
    ("many", "much"),
    ("left", "remain", "remaining", "remains"),
    ("average", "mean", "ratio"),
    ("then", "after", "before", "next", "finally"),
    ("suppose", "assume", "assuming", "let", "given"),
    ("prove", "explain", "why", "describe"),
    ("calculate", "determine", "find", "compute", "evaluate"),
    ("which", "following"),
    ("statement", "statements"),
    ("because", "therefore", "since"),
    ("best", "most", "likely"),
    ("you", "your", "i", "my"),
    ("he", "she", "his", "her"),
)
_CUE_BITS = 16
_TOTALS = 10
SHAPE_SIZE = _TOTALS + len(_CLASSES) + len(_BYTES) + len(_SIGNS) + len(_CUES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the heads know of a text.

    Attributes:
        words: Hashes of its words, numbers and marks in order, [n].
        pairs: Hashes of each two neighbours of these, [n - 1].
        grams: Hashes of the character 3- to 5-grams of its beginning.
        shape: Length, structure and signs, [SHAPE_SIZE]; logarithms of counts, and shares.
    """

    words: NDArray[np.uint64]
    pairs: NDArray[np.uint64]
    grams: NDArray[np.uint64]
    shape: NDArray[np.float32]


def read(text: str, *, with_grams: bool = True) -> Reading:
    """Read the head and the tail of a text; any text is taken, an empty one or a lone surrogate too."""
    length_chars = len(text)
    if length_chars > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    lower = text.lower()
    # A lower-case letter may take more bytes than its capital; the powers end where the window does.
    raw = lower.encode("utf-8", "replace")[: _MAX_BYTES - 8]
    data = np.frombuffer(raw, dtype=np.uint8)
    prefix = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum((data + np.uint64(1)) * _UP[: len(data)], out=prefix[1:])
    starts, ends, kinds = _spans(raw)
    words = _mixed((prefix[ends] - prefix[starts]) * _DOWN[starts])
    pairs = words[:-1] * _PAIR + words[1:]
    return Reading(
        words=words,
        pairs=_mixed(pairs),
        grams=_grams(data) if with_grams else words[:0],
        shape=_shape(text, length_chars, words, ends - starts, kinds),
    )


def buckets(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """Name the row of each hash in a table of 2**bits rows: its upper bits."""
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit into the upper ones, which name rows."""
    return (hashes ^ (hashes >> _HALF)) * _MIX


def _spans(raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Find the runs of letters and of digits, and the single marks: their starts, ends and kinds."""
    kinds = np.frombuffer(raw.translate(_KINDS), dtype=np.uint8)
    is_bound = np.ones(len(kinds) + 1, dtype=bool)
    np.not_equal(kinds[1:], kinds[:-1], out=is_bound[1:-1])
    is_bound[:-1] |= kinds == _MARK
    bounds = is_bound.nonzero()[0]
    kinds = kinds[bounds[:-1]]
    kept = (kinds != _SPACE).nonzero()[0]
    return bounds[kept], bounds[kept + 1], kinds[kept]


def _grams(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash the n-grams of the beginning, each run of spaces and marks read as it stands, edges padded."""
    padded = np.full(min(len(data), GRAM_BYTES) + 2, ord(" "), dtype=np.uint8)
    padded[1:-1] = data[:GRAM_BYTES]
    prefix = np.zeros(len(padded) + 1, dtype=np.uint64)
    np.cumsum((padded + np.uint64(1)) * _UP[: len(padded)], out=prefix[1:])
    parts = [
        (prefix[size:] - prefix[:-size]) * _DOWN[: len(prefix) - size] + np.uint64(size)
        for size in GRAM_SIZES
        if len(prefix) > size
    ]
    grams = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
    return _mixed(grams)


def _shape(
    text: str,
    length_chars: int,
    words: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    kinds: NDArray[np.uint8],
) -> NDArray[np.float32]:
    options = [match.start() for match in _OPTION.finditer(text)]
    stem_chars = options[0] if len(options) > 2 else len(text)
    letters = sizes[kinds == _LETTER]
    numbers = np.count_nonzero(kinds == _DIGIT)
    word_count = max(len(letters), 1)
    totals = (
        length_chars,
        stem_chars,
        len(options),
        (len(text) - stem_chars) / max(len(options), 1),
        len(letters),
        numbers,
        letters.sum() / word_count,
        10 * np.count_nonzero(letters > 8) / word_count,
        10 * numbers / (len(sizes) + 1),
        text.count(". ") + text.count("? "),
    )
    raw = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    bytes_of = np.bincount(raw, minlength=256)
    shares = bytes_of.astype(np.float32) @ _CLASS_OF * (100.0 / (len(raw) + 1))
    cues = np.bincount(_CUE_OF[words >> np.uint64(64 - _CUE_BITS)], minlength=len(_CUES) + 1)
    # Few texts have them: to look for one character first is cheaper.
    signs = [text.count(sign) if sign[0] in text else 0 for sign in _SIGNS]
    shape = np.empty(SHAPE_SIZE, dtype=np.float32)
    first = 0
    for part in (totals, shares, bytes_of[_BYTES], signs, cues[1:]):
        shape[first : first + len(part)] = part
        first += len(part)
    return np.log1p(shape)


def _cue_table() -> NDArray[np.uint8]:
    """The number of each cue's group, from 1, in the row that its word's hash names; 0 elsewhere."""
    table = np.zeros(1 << _CUE_BITS, dtype=np.uint8)
    for number, group in enumerate(_CUES, start=1):
        for cue in group:
            value = sum((byte + 1) * int(_UP[place]) for place, byte in enumerate(cue.encode())) & _MASK
            table[int(buckets(_mixed(np.array([value], dtype=np.uint64)), _CUE_BITS)[0])] = number
    return table


_CUE_OF = _cue_table()
