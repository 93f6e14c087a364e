"""Rows of bucket numbers with one weight each, and the products that training needs, in numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseRows:
    """A sparse matrix by rows; no row is empty, so that sums over rows need no special case.

    Attributes:
        columns: Column of each entry, row after row, [entries].
        values: Value of each entry, [entries].
        starts: Where each row begins, and the end, [rows + 1].
        width: Columns in all.
    """

    columns: Ints
    values: Floats
    starts: Ints
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def stack(cls, rows: Sequence[Ints], scale: Floats) -> Self:
        """Give every row length 1 after its columns were scaled."""
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
        columns = np.concatenate(rows)
        values = scale[columns]
        squares: Floats = np.add.reduceat(values * values, starts[:-1])
        values = values / np.repeat(np.sqrt(np.maximum(squares, np.float32(1e-12))), np.diff(starts))
        return cls(columns=columns, values=values, starts=starts, width=len(scale))

    def take(self, rows: Ints) -> Self:
        """Copy the rows in this order."""
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        entries = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], sizes)
        return type(self)(
            columns=self.columns[entries], values=self.values[entries], starts=starts, width=self.width
        )

    def times(self, vector: Floats) -> Floats:
        """Multiply by a vector of `width` numbers, or by a matrix of `width` rows."""
        if vector.ndim == 1:
            return np.add.reduceat(self.values * vector[self.columns], self.starts[:-1])
        return np.add.reduceat(self.values[:, None] * vector[self.columns], self.starts[:-1])

    def transposed_times(self, vector: Floats) -> Floats:
        """Multiply the transposed matrix by a number for each row."""
        weights = self.values * np.repeat(vector, np.diff(self.starts))
        return np.bincount(self.columns, weights=weights, minlength=self.width).astype(np.float32)


def inverse_frequencies(rows: Sequence[Ints], width: int) -> Floats:
    """Weigh each column by ln((1 + rows) / (1 + rows that have it)) + 1, the usual smoothed form."""
    counts = np.bincount(np.concatenate(rows), minlength=width)
    return (np.log((1 + len(rows)) / (1 + counts)) + 1).astype(np.float32)
