"""Weighted ridge regression on sparse rows beside a dense block, by conjugate gradients."""

from dataclasses import dataclass

import numpy as np

from services.router.training.sparse import Floats, SparseRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Weights of the sparse columns [width] and of the dense ones [columns]; no intercept."""

    sparse: Floats
    dense: Floats

    def predict(self, rows: SparseRows, dense: Floats) -> Floats:
        """Give a number for each row."""
        predicted: Floats = rows.times(self.sparse) + dense @ self.dense
        return predicted


def fit_ridge(
    rows: SparseRows, dense: Floats, target: Floats, weights: Floats, *, penalty: float, steps: int = 40
) -> Line:
    """Minimise the weighted squared error plus `penalty` times the squared length of the weights.

    Stopping after `steps` is a further, mild regularisation; the residual is then far below the noise.
    """
    width = rows.width

    def normal(vector: Floats) -> Floats:
        fitted = (rows.times(vector[:width]) + dense @ vector[width:]) * weights
        bent: Floats = np.concatenate((rows.transposed_times(fitted), dense.T @ fitted))
        return bent + np.float32(penalty) * vector

    weighted = target * weights
    residual = np.concatenate((rows.transposed_times(weighted), dense.T @ weighted))
    solution = np.zeros_like(residual)
    direction, power = residual.copy(), float(residual @ residual)
    floor = power * 1e-8
    for _ in range(steps):
        if power <= floor:
            break
        bent = normal(direction)
        length = power / float(direction @ bent)
        solution += length * direction
        residual -= length * bent
        power, last = float(residual @ residual), power
        direction = residual + (power / last) * direction
    return Line(sparse=solution[:width], dense=solution[width:])
