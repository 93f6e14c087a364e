"""One call's texts on their way through the worker, in chunks."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.router.adapters.minilm.frames import pack_texts, unpack_answer
from services.router.adapters.minilm.shape import DIMENSION

# A chunk is what a small request waits for at most: some 256 tokens, 70 ms on one core, and larger chunks are
# no faster (measured). Characters stand for tokens, 4 to 1 in English, since only the worker has the
# tokenizer; what one text has beyond a chunk is mostly cut off by the model's window.
CHUNK_TEXTS = 32
CHUNK_CHARACTERS = 1024

# No text fills the window later than this, unless its word pieces have 258 characters on average; the rest of
# a very long text would only keep the tokenizer busy.
MAX_TEXT_CHARACTERS = 65_536

ROW_BYTES = 4 * DIMENSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Texts as sent to the worker, and the rows of the request that they are."""

    rows: tuple[int, ...]
    content: bytes


class Request:
    """Collects the answers to its chunks; `done` ends when the last has come or one failed."""

    __slots__ = ("chunks", "done", "rows", "token_counts")

    def __init__(self, chunks: Iterator[Chunk], count: int) -> None:
        self.chunks = deque(chunks)
        self.rows: list[bytes] = [b""] * count
        self.token_counts = [0] * count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def accept(self, chunk: Chunk, answer: bytes) -> None:
        """Put the answer's rows in their places."""
        token_counts, vectors = unpack_answer(answer)
        for position, row in enumerate(chunk.rows):
            self.rows[row] = bytes(vectors[position * ROW_BYTES : (position + 1) * ROW_BYTES])
            self.token_counts[row] = token_counts[position]
        if not self.chunks and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the request, unless its caller is already gone."""
        if not self.done.done():
            self.done.set_exception(error)


def split(texts: Sequence[str]) -> Iterator[Chunk]:
    """Cut a request into chunks of texts of like lengths, which the model embeds with little padding.

    Raises:
        TypeError: a text is not valid Unicode.
    """
    rows: list[int] = []
    characters = 0
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        cost = min(len(texts[row]), CHUNK_CHARACTERS)
        if rows and (len(rows) == CHUNK_TEXTS or characters + cost > CHUNK_CHARACTERS):
            yield _chunk(texts, rows)
            rows, characters = [], 0
        rows.append(row)
        characters += cost
    yield _chunk(texts, rows)


def _chunk(texts: Sequence[str], rows: list[int]) -> Chunk:
    return Chunk(rows=tuple(rows), content=pack_texts([texts[row][:MAX_TEXT_CHARACTERS] for row in rows]))
