"""The table of chapter 16 from what `versus.py` writes."""

from mpc_lite.cost.before_after import VERSUS, WORKS, read_changes


def measured(other: float, this: float) -> dict:
    faster = {"median": other / this, "low": 0.9 * other / this, "high": 1.1 * other / this}
    return {"measures": {"seconds an image": {"other": other, "this": this, "times_faster": faster}}}


def test_each_piece_of_work_has_a_row_measured_or_not():
    results = {VERSUS[0]: {"work": {"evaluate": measured(2, 1), "localizer": measured(3, 2)}}, VERSUS[1]: {}}
    changes = dict(zip(WORKS, read_changes(results), strict=True))
    assert changes["evaluate"].verdict == "reached" and changes["localizer"].verdict == "missed"
    assert changes["evaluate"].row()[1:] == ["2 s", "1 s", "2.00 (1.80 to 2.20)", "≥ 1.67", "reached"]
    assert changes["stage-1"].row()[1:] == ["–", "–", "–", "≥ 2.00", "not measured"]


def test_the_first_result_that_has_a_piece_counts():
    results = {name: {"work": {"stage-1": measured(2, this)}} for name, this in zip(VERSUS, (1, 2), strict=True)}
    assert read_changes(results)[0].faster == 2
