"""How many texts go into one call to an embedding model."""

from collections.abc import Iterable, Sequence

from services.router.domain.catalogue import Batching
from services.router.domain.features import CHARS_PER_TOKEN

BYTES_PER_TOKEN = 2
"""Texts of which so few bytes make a token are rare: Chinese has 2.5 and more, English over 4."""


def split(texts: Iterable[str], batching: Batching) -> list[list[str]]:
    """The texts in their order, cut into calls that the model takes: a call of one text is never too long."""
    batches: list[list[str]] = []
    tokens = 0
    for text in texts:
        most = -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)
        if not batches or len(batches[-1]) >= batching.texts or tokens + most > batching.tokens:
            batches.append([])
            tokens = 0
        batches[-1].append(text)
        tokens += most
    return batches


def estimate_tokens(texts: Iterable[str]) -> int:
    """What the texts are likely to have."""
    return -(-sum(map(len, texts)) // CHARS_PER_TOKEN)


def share_out(tokens: int, texts: Sequence[str]) -> list[int]:
    """The tokens of all texts in proportion to their lengths, in whole numbers that add up."""
    total, told, seen = sum(map(len, texts)), 0, 0
    shares: list[int] = []
    for text in texts:
        seen += len(text)
        until = tokens * seen // total if total else tokens
        shares.append(until - told)
        told = until
    return shares
