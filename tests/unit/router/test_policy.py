from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.policy import Bin, Calibration, Policy

shares = st.floats(0.0, 1.0, allow_nan=False)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    edges = sorted(draw(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=12, unique=True)))
    bins = [
        Bin(least_uplift=edge, mass=draw(st.floats(0.01, 1.0)), weak=draw(shares), strong=draw(shares))
        for edge in edges
    ]
    return Calibration(bins)


def four_bins() -> Calibration:
    """The weak tier is as good below 0.5, then worse and worse."""
    return Calibration(
        [
            Bin(least_uplift=0.0, mass=0.25, weak=0.8, strong=0.8),
            Bin(least_uplift=0.25, mass=0.25, weak=0.8, strong=0.8),
            Bin(least_uplift=0.5, mass=0.25, weak=0.6, strong=0.8),
            Bin(least_uplift=0.75, mass=0.25, weak=0.2, strong=0.8),
        ]
    )


@pytest.mark.parametrize(("keep", "threshold"), [(0.999, 0.5), (0.93, 0.75), (0.95, 0.5), (0.5, 2.0)])
def test_a_quality_floor_sends_the_most_prompts_to_the_weak_tier_that_it_allows(
    keep: float, threshold: float
) -> None:
    assert four_bins().threshold(Policy(keep=keep), cost_ratio=20) == threshold


@pytest.mark.parametrize(
    ("save", "threshold"), [(0.2, 0.25), (0.45, 0.5), (0.5, 0.75), (0.94, 2.0), (0.99, 2.0)]
)
def test_a_savings_target_sends_no_more_prompts_to_the_weak_tier_than_it_needs(
    save: float, threshold: float
) -> None:
    assert four_bins().threshold(Policy(save=save), cost_ratio=20) == threshold


def test_what_a_threshold_brings_is_told() -> None:
    quality, saving = four_bins().expect(0.75, cost_ratio=20)
    assert quality == pytest.approx(1 - 0.25 * 0.2 / 0.8)
    assert saving == pytest.approx(0.75 * 0.95)


def test_a_calibration_without_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Calibration([])


@given(calibration=calibrations(), keep=st.floats(0.01, 0.99))
def test_a_quality_floor_is_kept_wherever_any_threshold_keeps_it(
    calibration: Calibration, keep: float
) -> None:
    threshold = calibration.threshold(Policy(keep=keep), cost_ratio=20)
    quality, _ = calibration.expect(threshold, cost_ratio=20)
    assert quality >= keep - 1e-9


@given(calibration=calibrations(), save=st.floats(0.01, 0.94), ratio=st.floats(1.0, 200.0))
def test_a_savings_target_is_reached_or_everything_goes_to_the_weak_tier(
    calibration: Calibration, save: float, ratio: float
) -> None:
    threshold = calibration.threshold(Policy(save=save), cost_ratio=ratio)
    _, saving = calibration.expect(threshold, cost_ratio=ratio)
    assert saving >= save - 1e-6 or threshold > 1


@given(calibration=calibrations(), ratio=st.floats(1.0, 200.0))
def test_a_lower_floor_never_sends_more_to_the_strong_tier(calibration: Calibration, ratio: float) -> None:
    floors = (0.9, 0.7, 0.5, 0.3)
    thresholds = [calibration.threshold(Policy(keep=floor), cost_ratio=ratio) for floor in floors]
    assert all(lower <= higher for lower, higher in pairwise(thresholds))
