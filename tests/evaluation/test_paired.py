"""Paired differences against scipy's own test, numbers by hand, and thousands of drawn experiments."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from mpc_lite.errors import InputError
from mpc_lite.evaluation.paired import detectable_difference, paired_difference


def test_interval_by_hand():
    found = paired_difference([0.40, 0.44, 0.45], [0.39, 0.42, 0.42])  # differences 0.01, 0.02, 0.03
    assert found.mean == pytest.approx(0.02) and found.deviation == pytest.approx(0.01) and found.n == 3
    half = 4.302653 * 0.01 / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-6)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_is_that_of_scipy(confidence):
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    theirs = ttest_rel(a, b).confidence_interval(confidence)
    ours = paired_difference(a, b, confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_what_a_seed_does_to_both_cancels():
    seed = np.array([0.0, 5.0, -3.0, 11.0])
    alone = paired_difference([0.1, 0.2, 0.3, 0.2], [0.0, 0.1, 0.1, 0.2])
    shifted = paired_difference(np.add([0.1, 0.2, 0.3, 0.2], seed), np.add([0.0, 0.1, 0.1, 0.2], seed))
    assert (alone.low, alone.high) == pytest.approx((shifted.low, shifted.high))


def test_one_pair_says_nothing_of_the_spread():
    found = paired_difference([0.5], [0.3])
    assert found.mean == pytest.approx(0.2) and found.n == 1 and np.isnan(found.deviation)
    assert (found.low, found.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("a", "b", "confidence", "says"),
    [
        ([], [], 0.95, "0 and 0 values"),
        ([1.0, 2.0], [1.0], 0.95, "2 and 1 values"),
        ([1.0, np.nan], [1.0, 1.0], 0.95, "not finite"),
        ([1.0, 2.0], [1.0, 1.0], 95, "confidence = 95"),
    ],
)
def test_wrong_pairs_are_refused(a, b, confidence, says):
    with pytest.raises(InputError, match=says):
        paired_difference(a, b, confidence)


@pytest.mark.parametrize(("n", "reached"), [(2, 0.73), (3, 0.77), (5, 0.79), (20, 0.8)])
def test_drawn_experiments_see_what_is_detectable(n, reached):
    apart = detectable_difference(0.02, n)
    draws = np.random.default_rng(0).normal(apart, 0.02, (20000, n))
    intervals = ttest_1samp(draws, 0, axis=1).confidence_interval(0.95)
    assert (intervals.low > 0).mean() == pytest.approx(reached, abs=0.01)


def test_detectable_difference_by_hand():
    assert detectable_difference(0.01, 3) == pytest.approx((4.302653 + 1.060660) * 0.01 / 3**0.5, rel=1e-6)
    assert detectable_difference(0.0, 3) == 0.0


@pytest.mark.parametrize(
    ("deviation", "n", "power", "says"),
    [
        (0.02, 1, 0.8, "two pairs"),
        (-0.1, 5, 0.8, "no less than 0"),
        (np.nan, 5, 0.8, "no less than 0"),
        (0.02, 5, 1, "power = 1"),
    ],
)
def test_what_cannot_be_detected_is_refused(deviation, n, power, says):
    with pytest.raises(InputError, match=says):
        detectable_difference(deviation, n, power)
