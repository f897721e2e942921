"""Arms beside one another: with many seeds, few, one and none, against SciPy's t."""

import math

import pytest
from scipy import stats

from mpc_lite.evaluation.arms import arm_rows, difference, side_by_side

RUNS = [("focal", 0, 0.50), ("focal", 1, 0.52), ("focal", 2, 0.48)]
RUNS += [("mpc", 0, 0.60), ("mpc", 1, 0.63), ("mpc", 2, 0.57), ("mscc", 0, 0.70), ("pppc", 5, 0.9), ("other", 0, 1.0)]
NAMES = ["mpc", "focal", "mscc", "pppc", "pclmix"]


def test_an_interval_is_that_of_scipys_paired_test():
    ours, theirs = {0: 0.6, 1: 0.63, 2: 0.57, 9: 0.1}, {0: 0.50, 1: 0.61, 2: 0.48, 7: 0.9}
    lead = difference(ours, theirs)
    pairs = [(ours[s], theirs[s]) for s in (0, 1, 2)]
    expected = stats.ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
    assert lead.pairs == 3 and lead.interval == pytest.approx((expected.low, expected.high), rel=1e-3)
    assert lead.mean == pytest.approx((0.1 + 0.02 + 0.09) / 3) and lead.verdict == "inside the noise"
    many = {s: 1.0 + 0.1 * (-1) ** s for s in range(40)}
    low, high = difference(many, dict.fromkeys(many, 0.0)).interval
    exact = stats.t.ppf(0.975, 39) * stats.tstd(list(many.values())) / math.sqrt(40)
    assert (high - low) / 2 == pytest.approx(exact)


def test_verdicts():
    assert difference({0: 2.0, 1: 2.1, 2: 1.9}, {0: 1.0, 1: 1.0, 2: 1.0}).verdict == "above"
    assert difference({0: 0.0, 1: 0.1, 2: -0.1}, {0: 1.0, 1: 1.0, 2: 1.0}).verdict == "below"
    assert difference({0: 1.0}, {0: 0.0}).verdict == "one pair"
    assert difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}).verdict == "inside the noise"  # zero is in [0, 0]
    assert difference({0: 1.0}, {1: 1.0}) is None


def test_arms_that_are_run_in_part_or_not_at_all_keep_their_place():
    arms = side_by_side([*RUNS, ("pclmix", 0, None)], NAMES, "focal")
    assert [arm.name for arm in arms] == NAMES
    mpc, focal, mscc, pppc, pclmix = arms
    assert mpc.mean == pytest.approx(0.6) and mpc.sd == pytest.approx(0.03) and mpc.lead.pairs == 3
    assert focal.lead is None and mscc.sd is None and mscc.lead.verdict == "one pair"
    assert pppc.mean == 0.9 and pppc.lead is None and pclmix.mean is None and pclmix.scores == {}
    rows = {row[0]: row[1:] for row in arm_rows(arms, "focal")}
    assert rows["mpc"][:2] == ["3", "0.600 ± 0.030"] and rows["mpc"][3] == "above"
    assert rows["focal"] == ["3", "0.500 ± 0.020", "–", "–"]
    assert rows["mscc"] == ["1", "0.700", "+0.200", "one pair"]
    assert rows["pppc"][2:] == ["–", "no seed in common"] and rows["pclmix"] == ["0", "not run", "–", "–"]
    nothing = side_by_side([], NAMES, "focal")
    assert all(row[2] == "not run" for row in arm_rows(nothing, "focal")[1:])
