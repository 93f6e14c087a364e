"""Trains a bag of embeddings: text → mean of its terms' vectors → softmax over labels.

This is the classifier of Joulin et al., "Bag of Tricks for Efficient Text Classification" (2016), with
Adagrad steps by row (Duchi et al. 2011) and dropout of terms.
"""

from dataclasses import dataclass

import numpy as np

from services.router.training.sparse import Floats, SparseRows


@dataclass(frozen=True, slots=True, kw_only=True)
class BagOptions:
    """How a bag is trained.

    Attributes:
        rank: Numbers in one term's vector.
        epochs: Passes over the rows; the step falls linearly to zero.
        step: Adagrad's first step.
        dropout: Share of a text's terms that one step does not see.
        smoothing: Share of each target spread over all labels.
        batch: Rows in one step.
    """

    rank: int
    epochs: int = 8
    step: float = 0.15
    dropout: float = 0.2
    smoothing: float = 0.02
    batch: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedBag:
    """Vectors of the terms [width, rank], and the layer over their sum [rank, labels] with its bias."""

    table: Floats
    projection: Floats
    bias: Floats

    def logits(self, rows: SparseRows) -> Floats:
        """Score every label for every row."""
        logits: Floats = rows.times(self.table) @ self.projection + self.bias
        return logits

    def beside(self, other: "TrainedBag") -> "TrainedBag":
        """One bag that scores this one's labels and then the other's, over the same terms."""
        (rank, count), (more, others) = self.projection.shape, other.projection.shape
        projection = np.zeros((rank + more, count + others), dtype=np.float32)
        projection[:rank, :count], projection[rank:, count:] = self.projection, other.projection
        return TrainedBag(
            table=np.hstack((self.table, other.table)),
            projection=projection,
            bias=np.concatenate((self.bias, other.bias)),
        )


def train_bag(rows: SparseRows, targets: Floats, options: BagOptions, seed: int) -> TrainedBag:
    """Fit to target probabilities [rows, labels] by minibatches in an order that the seed decides."""
    label_count = targets.shape[1]
    generator = np.random.default_rng(seed)
    table = generator.normal(0, 0.3, (rows.width, options.rank)).astype(np.float32)
    projection = generator.normal(0, options.rank**-0.5, (options.rank, label_count)).astype(np.float32)
    bias = np.zeros(label_count, dtype=np.float32)
    table_squares = np.full(rows.width, 1e-6, dtype=np.float32)
    projection_squares = np.full_like(projection, 1e-6)
    bias_squares = np.full_like(bias, 1e-6)
    steps = options.epochs * -(-len(rows) // options.batch)
    done = 0
    for _ in range(options.epochs):
        order = generator.permutation(len(rows))
        for first in range(0, len(order), options.batch):
            chosen = order[first : first + options.batch]
            step = options.step * (1 - done / steps)
            done += 1
            batch = rows.take(chosen)
            values = (
                batch.values
                * (generator.random(len(batch.values)) >= options.dropout)
                / (1 - options.dropout)
            )
            values = values.astype(np.float32)
            row_of = np.repeat(np.arange(len(chosen)), np.diff(batch.starts))
            hidden = np.add.reduceat(values[:, None] * table[batch.columns], batch.starts[:-1])
            slope = softmax(hidden @ projection + bias)
            slope -= (1 - options.smoothing) * targets[chosen] + options.smoothing / label_count
            slope /= len(chosen)
            back = slope @ projection.T
            down = hidden.T @ slope
            projection_squares += down * down
            projection -= step * down / np.sqrt(projection_squares)
            down = slope.sum(axis=0)
            bias_squares += down * down
            bias -= step * down / np.sqrt(bias_squares)
            sort = np.argsort(batch.columns, kind="stable")
            columns = batch.columns[sort]
            starts = np.flatnonzero(np.concatenate(([True], columns[1:] != columns[:-1])))
            columns = columns[starts]
            down = np.add.reduceat(values[sort, None] * back[row_of[sort]], starts)
            table_squares[columns] += (down * down).mean(axis=1)
            table[columns] -= step * down / np.sqrt(table_squares[columns])[:, None]
    return TrainedBag(table=table, projection=projection, bias=bias)


def softmax(logits: Floats) -> Floats:
    """Turn the rows into probabilities."""
    shares: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
