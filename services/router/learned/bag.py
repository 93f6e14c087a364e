"""A bag of embeddings at work: mean of the known terms' vectors, then a softmax over the labels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A text in the terms of one vocabulary: their rows, each once and ascending, and values of length 1."""

    rows: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """Vectors of the terms [rows, rank] in int8, and the layer above [rank, labels] with its bias [labels].

    The table stays in bytes, a quarter of the cache misses of floats; its scales are part of the projection.
    """

    table: NDArray[np.int8]
    projection: Floats
    bias: Floats

    def logits(self, terms: Terms) -> Floats:
        """Score the labels by a text's terms."""
        hidden: Floats = terms.values @ self.table.take(terms.rows, axis=0).astype(np.float32)
        scored: Floats = hidden @ self.projection + self.bias
        return scored

    def probabilities(self, terms: Terms) -> Floats:
        """Weigh the labels by a text's terms."""
        return softmax(self.logits(terms))

    def only(self, labels: slice) -> "Bag":
        """The bag that scores these labels alone."""
        return Bag(
            table=self.table,
            projection=np.ascontiguousarray(self.projection[:, labels]),
            bias=self.bias[labels],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The weight of each term by its rarity [2**bits, at most 2**16]; turns hashes into terms."""

    frequencies: Floats
    bits: int

    def terms(self, hashes: NDArray[np.uint64]) -> Terms:
        """Name the terms that the hashes fall on; no hash at all is term 0."""
        # Sixteen bits sort by radix: this is cheaper than `unique`, and than marking a table.
        found = (hashes >> np.uint64(64 - self.bits)).astype(np.uint16)
        found.sort()
        is_first = np.ones(len(found), dtype=bool)
        np.not_equal(found[1:], found[:-1], out=is_first[1:])
        rows = found[is_first].astype(np.int64) if len(found) else np.zeros(1, dtype=np.int64)
        values = self.frequencies.take(rows)
        return Terms(rows=rows, values=values * np.float32(1.0 / math.sqrt(values @ values)))


def softmax(logits: Floats) -> Floats:
    """Turn a vector into probabilities."""
    shares: Floats = np.exp(logits - logits.max())
    shares /= shares.sum()
    return shares
