"""The table of chapter 16 from what `versus.py` writes."""

from mpc_lite.cost.before_after import TRIPS, WANTED, read_changes


def measured(other: float, this: float, name: str = "seconds an image") -> dict:
    faster = {"median": other / this, "low": 0.9 * other / this, "high": 1.1 * other / this}
    return {"measures": {name: {"other": other, "this": this, "times_faster": faster}}}


def by_piece(pieces: dict) -> dict:
    changes = read_changes(pieces)
    assert len(changes) == len(WANTED)
    return {(wanted.piece, wanted.measure): change for wanted, change in zip(WANTED, changes, strict=True)}


def test_each_piece_of_work_has_a_row_measured_or_not():
    changes = by_piece({"evaluate": measured(2, 1), "localizer": measured(3, 2)})
    assert changes["evaluate", None].verdict == "reached" and changes["localizer", None].verdict == "missed"
    assert changes["evaluate", None].row()[1:] == ["2 s", "1 s", "2.00 (1.80–2.20)", "≥ 1.67", "reached"]
    assert changes["stage-1", None].row()[1:] == ["–", "–", "–", "≥ 2.00", "not measured"]


def test_a_row_may_name_its_measure_and_bytes_are_told_as_such():
    name = "bytes beyond the map at 12"
    changes = by_piece({"onnx": measured(55e6, 11e6, name)})
    assert changes["onnx", name].row()[1:] == ["55 MB", "11 MB", "5.00 (4.50–5.50)", "≥ 1.00", "reached"]
    assert changes["onnx", "seconds a megapixel at 12"].verdict == "not measured"


def test_a_forgery_is_counted_in_round_trips_and_may_take_so_many_at_most():
    changes = by_piece({"forgery": measured(4, 3.5, TRIPS)})
    assert changes["forgery", TRIPS].row()[1:] == ["4 trips", "3.5 trips", "1.14 (1.03–1.26)", "≤ 8 trips", "reached"]
    assert by_piece({"forgery": measured(16, 8.5, TRIPS)})["forgery", TRIPS].verdict == "missed"
    assert by_piece({})["forgery", TRIPS].row()[1:] == ["–", "–", "–", "≤ 8 trips", "not measured"]


def test_seconds_of_a_megapixel_are_not_those_of_a_photograph():
    changes = by_piece({"localizer": measured(3, 2, "seconds a megapixel")})
    assert changes["localizer", None].row()[1:3] == ["3 s/MP", "2 s/MP"]
