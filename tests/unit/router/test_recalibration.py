import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.policy import Bin, Calibration, Policy
from services.router.domain.recalibration import Outcome, recalibrate

BEFORE = Calibration(
    [
        Bin(least_uplift=0.1, mass=0.5, weak=0.8, strong=0.8),
        Bin(least_uplift=0.5, mass=0.5, weak=0.2, strong=0.8),
    ]
)
outcomes = st.builds(
    Outcome,
    uplift=st.floats(0, 1),
    tier=st.sampled_from(["cheaper", "strong"]),
    score=st.floats(0, 1),
)


def test_without_evidence_nothing_changes() -> None:
    assert recalibrate(BEFORE, [], []).bins == BEFORE.bins


def test_many_bad_answers_of_the_cheaper_tier_raise_what_is_sent_to_the_strong_one() -> None:
    bad = [Outcome(uplift=0.3, tier="cheaper", score=0.0)] * 1000
    after = recalibrate(BEFORE, [], bad)
    assert after.bins[0].weak == pytest.approx(0.8 * 50 / 1050)
    assert after.bins[1] == BEFORE.bins[1]
    keep = Policy(keep=0.9)
    assert BEFORE.threshold(keep, cost_ratio=20) == 0.5
    assert after.threshold(keep, cost_ratio=20) == 0.0


def test_decisions_tell_how_prompts_spread() -> None:
    after = recalibrate(BEFORE, [0.0, 0.2, 0.3] * 1000, [])
    assert after.bins[0].mass == pytest.approx((3000 + 250) / 3500)
    assert sum(part.mass for part in after.bins) == pytest.approx(1.0)


@given(uplifts=st.lists(st.floats(0, 1), max_size=30), told=st.lists(outcomes, max_size=30))
def test_whatever_is_told_earnings_stay_shares_and_masses_a_whole(
    uplifts: list[float], told: list[Outcome]
) -> None:
    after = recalibrate(BEFORE, uplifts, told)
    assert sum(part.mass for part in after.bins) == pytest.approx(1.0)
    assert all(0 <= part.weak <= 1 and 0 <= part.strong <= 1 for part in after.bins)
