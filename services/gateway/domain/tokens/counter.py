"""How many tokens a prompt has, before any model is called."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from services.gateway.domain.tokens.contents import Contents
from services.gateway.domain.tokens.counting import Counting, Vocabulary

_PIECE_CHARS = 8192
"""About half a millisecond of counting. It holds the interpreter's lock: a thread would not free the loop."""
_SMALLEST_PIECE_CHARS = 256
_CHARS_PER_TOKEN = 6
"""Of wordy text: a piece of so many for each token allowed shows nearly always that a limit is passed."""
_SAFE_CUT = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])")
"""Between a letter and a space: no token of either vocabulary reaches across."""

Counter = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The tokens of a prompt.

    Attributes:
        tokens: As counted; when `complete` is False, as projected from the part that was.
        exact: True when the model's own vocabulary counted all of it.
    """

    tokens: int
    exact: bool
    vocabulary: str
    complete: bool = True


class TokenCounter:
    """Counts prompts without holding the event loop for more than about a millisecond.

    Args:
        counters: A counter of plain text for each vocabulary.
    """

    def __init__(self, counters: Callable[[Vocabulary], Counter]) -> None:
        self._counters = counters

    async def count(self, contents: Contents, *, enough: int | None = None) -> Count:
        """Counts a prompt; stops once beyond `enough` and projects the rest."""
        return await self._count(
            contents.texts, contents.fixed_tokens, contents.counting, enough, plain=contents.is_plain
        )

    async def count_texts(
        self, texts: Iterable[str], counting: Counting, *, enough: int | None = None
    ) -> Count:
        """Counts bare texts, as embeddings take them."""
        return await self._count(list(texts), 0, counting, enough, plain=True)

    async def _count(
        self, texts: list[str], fixed: int, counting: Counting, enough: int | None, *, plain: bool
    ) -> Count:
        counter = self._counters(counting.vocabulary)
        counted = seen = 0
        complete = True
        for piece in _pieces(texts, _piece_chars(enough, fixed)):
            counted += counter(piece)
            seen += len(piece)
            if len(piece) >= _PIECE_CHARS:
                await asyncio.sleep(0)  # other work gets its turn
            if enough is not None and counting.scale(counted) + fixed > enough:
                complete = seen == (total := sum(map(len, texts)))
                counted = counted if complete else counted * total // seen
                break
        return Count(
            tokens=counting.scale(counted) + fixed,
            exact=counting.exact and complete and plain,
            vocabulary=counting.vocabulary.value,
            complete=complete,
        )


def _piece_chars(enough: int | None, fixed: int) -> int:
    """Small where little is enough, so that a refusal costs little, too."""
    if enough is None:
        return _PIECE_CHARS
    return min(_PIECE_CHARS, max(_SMALLEST_PIECE_CHARS, (enough - fixed) * _CHARS_PER_TOKEN))


def _pieces(texts: Iterable[str], piece_chars: int) -> Iterator[str]:
    """Pieces whose counts add up to the text's own."""
    for text in texts:
        yield from _cut(text, piece_chars)


def _cut(text: str, piece_chars: int = _PIECE_CHARS) -> Iterator[str]:
    start, longest = 0, 4 * piece_chars
    while len(text) - start > piece_chars:
        safe = _SAFE_CUT.search(text, start + piece_chars, start + longest)
        # Where nothing is safe to cut, as in one endless word, a cut may cost a token or two.
        end = safe.start() if safe else min(start + longest, len(text))
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
