import numpy as np
import pytest

from services.router.training.calibration import calibrate
from services.router.training.measures import recovered_gap_area, saving_at_quality

WEAK = np.array([1, 1, 0, 0], dtype=np.float32)
STRONG = np.array([1, 1, 1, 0], dtype=np.float32)


def test_the_best_order_recovers_the_gap_with_the_first_prompt() -> None:
    area = recovered_gap_area(np.array([0.1, 0.2, 0.9, 0.3]), WEAK, STRONG)
    assert area == pytest.approx(0.875)


def test_the_worst_order_recovers_the_gap_with_the_last_prompt() -> None:
    area = recovered_gap_area(np.array([0.8, 0.7, 0.1, 0.3]), WEAK, STRONG)
    assert area == pytest.approx(0.125)


def test_random_order_recovers_half_on_average() -> None:
    generator = np.random.default_rng(0)
    areas = [recovered_gap_area(generator.random(4), WEAK, STRONG) for _ in range(2_000)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)


def test_the_saving_counts_weak_calls_at_a_twentieth() -> None:
    saving = saving_at_quality(np.array([0.1, 0.2, 0.9, 0.3]), WEAK, STRONG)
    assert saving == pytest.approx(1 - (0.25 + 0.75 / 20))


def test_a_weak_model_that_is_good_enough_alone_saves_nineteen_twentieths() -> None:
    assert saving_at_quality(np.array([0.5, 0.1]), np.ones(2), np.ones(2)) == pytest.approx(0.95)


def test_calibration_follows_the_rates_and_rises_strictly() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(20_000).astype(np.float32)
    events = (generator.random(20_000) < scores * 0.5).astype(np.float32)
    knots, probabilities = calibrate(scores, events, np.ones(20_000, dtype=np.float32))
    assert (np.diff(knots) > 0).all()
    assert (np.diff(probabilities) > 0).all()
    assert np.interp(0.6, knots, probabilities) == pytest.approx(0.3, abs=0.04)


def test_calibration_of_scores_that_mislead_is_flat_yet_keeps_the_order() -> None:
    scores = np.linspace(0, 1, 2_400, dtype=np.float32)
    knots, probabilities = calibrate(scores, 1 - scores, np.ones(2_400, dtype=np.float32))
    assert (np.diff(probabilities) > 0).all()
    inner = probabilities[1:-1]
    assert inner.max() - inner.min() < 0.05
    assert np.interp(0.5, knots, probabilities) == pytest.approx(0.5, abs=0.05)
