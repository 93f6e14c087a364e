import numpy as np
import pytest
from numpy.typing import NDArray

from services.router.learned.bag import Bag, Terms
from services.router.learned.weights import quantise
from services.router.training.bag import BagOptions, softmax, train_bag
from services.router.training.ridge import fit_ridge
from services.router.training.sparse import SparseRows, inverse_frequencies


def rows_of(*rows: list[int], width: int = 8) -> SparseRows:
    return SparseRows.stack([np.array(row) for row in rows], np.ones(width, dtype=np.float32))


def dense(rows: SparseRows) -> NDArray[np.float64]:
    matrix = np.zeros((len(rows), rows.width))
    for row in range(len(rows)):
        entries = slice(rows.starts[row], rows.starts[row + 1])
        matrix[row, rows.columns[entries]] = rows.values[entries]
    return matrix


def test_sparse_rows_multiply_as_the_matrix_does() -> None:
    rows = rows_of([0, 3], [1], [2, 3, 7])
    vector = np.arange(8, dtype=np.float32)
    assert rows.times(vector) == pytest.approx(dense(rows) @ vector)
    weights = np.array([1, 2, 3], dtype=np.float32)
    assert rows.transposed_times(weights) == pytest.approx(dense(rows).T @ weights)
    assert np.linalg.norm(dense(rows), axis=1) == pytest.approx(np.ones(3))


def test_taken_rows_stand_in_the_order_asked_for() -> None:
    rows = rows_of([0, 3], [1], [2, 3, 7])
    assert dense(rows.take(np.array([2, 0, 2]))) == pytest.approx(dense(rows)[[2, 0, 2]])


def test_a_rare_column_weighs_more() -> None:
    weights = inverse_frequencies([np.array([0, 1]), np.array([0])], 3)
    assert weights[2] > weights[1] > weights[0]


def test_ridge_solves_the_normal_equations() -> None:
    generator = np.random.default_rng(1)
    rows = rows_of(*[sorted(set(generator.integers(0, 8, 4).tolist())) for _ in range(60)])
    shape = generator.normal(size=(60, 2)).astype(np.float32)
    target, weights = generator.normal(size=60).astype(np.float32), generator.random(60).astype(np.float32)
    line = fit_ridge(rows, shape, target, weights, penalty=2.0)
    matrix: NDArray[np.float64] = np.hstack((dense(rows), shape.astype(np.float64)))
    wanted = np.linalg.solve(
        matrix.T @ (matrix * weights[:, None]) + 2.0 * np.eye(10), matrix.T @ (target * weights)
    )
    assert np.concatenate((line.sparse, line.dense)) == pytest.approx(wanted, abs=1e-4)
    assert line.predict(rows, shape) == pytest.approx(matrix @ wanted, abs=1e-3)


def test_a_bag_learns_labels_and_the_same_seed_gives_the_same_bag() -> None:
    rows = rows_of(*[[label, 4 + label % 2] for label in (0, 1, 2, 3)] * 50)
    targets = np.tile(np.eye(4, dtype=np.float32), (50, 1))
    options = BagOptions(rank=4, epochs=10, dropout=0.1)
    bag = train_bag(rows, targets, options, seed=3)
    assert (bag.logits(rows).argmax(axis=1) == targets.argmax(axis=1)).all()
    again = train_bag(rows, targets, options, seed=3)
    assert np.array_equal(bag.table, again.table)
    assert not np.array_equal(bag.table, train_bag(rows, targets, options, seed=4).table)


def test_bags_side_by_side_score_as_each_alone() -> None:
    rows = rows_of([0, 3], [1], [2, 3, 7])
    one = train_bag(rows, np.eye(3, dtype=np.float32), BagOptions(rank=4), seed=0)
    other = train_bag(rows, np.eye(3, 2, dtype=np.float32), BagOptions(rank=2), seed=1)
    apart = np.hstack((one.logits(rows), other.logits(rows)))
    assert one.beside(other).logits(rows) == pytest.approx(apart, abs=1e-5)


def test_the_bag_at_work_says_what_the_trained_one_says() -> None:
    rows = rows_of(*[[label, 4 + label % 2] for label in (0, 1, 2, 3)] * 50)
    targets = np.tile(np.eye(4, dtype=np.float32), (50, 1))
    trained = train_bag(rows, targets, BagOptions(rank=4), seed=0)
    table, scale = quantise(trained.table)
    bag = Bag(table=table, projection=scale[:, None] * trained.projection, bias=trained.bias)
    terms = Terms(rows=np.array([2, 4]), values=rows.values[rows.starts[2] : rows.starts[3]])
    assert bag.probabilities(terms) == pytest.approx(softmax(trained.logits(rows))[2], abs=0.02)
