"""The paper's numbers agree with themselves where they can be checked, and ours are judged beside them by the rule."""

import itertools
from collections import Counter

import pytest

from mpc_lite.errors import InputError
from mpc_lite.reproduce.paper import band, compare, exit_code, paper_numbers, weighted_average


def of(table, method, test_set, metric="F1", condition="", level=None):
    rows = paper_numbers(table, method, metric)
    (found,) = [n for n in rows if (n.test_set, n.condition, n.level) == (test_set, condition, level)]
    return found


def average(table, method, metric="F1", **where):
    return of(table, method, "Average", metric, **where).value


# ------------------------------------------------------------------------------------------------ the paper's numbers


def test_every_number_of_every_table_is_there():
    assert Counter(n.table for n in paper_numbers()) == {
        "Table 2": 17 * 11,
        "Table 3": 17 * 11,
        "Table 4": 3 * 11 * 2 + 3,
        "Table 5": 20 + 57 + 20 - 1 - 1 + 3,  # averages, sets without the dashes …
        "Table 6": 4 * 3 * 5 * 2,
        "Table 7": 2 * 3 * 4 * 2,
        "Table 8": 5 * 3 * 2 + 4 * 2,
        "Figure 2": 4 * 6 * 4,
        "text": 1,
    }


@pytest.mark.parametrize(
    "where, value",
    [
        (("Table 2", "H-LSTM", "NIST"), 35.7),
        (("Table 3", "FCN", "Wild", "IoU"), 14.0),
        (("Table 4", "MPC", "FF++", "IoU"), 54.6),
        (("Table 5", "TransForensics", "Coverage"), 64.8),
        (("Table 6", "MPC", "NIST", "IoU", "Weibo"), 36.3),
        (("Table 7", "TruFor", "DSO", "IoU", "Whatsapp NJRB"), 25.0),
        (("Figure 2", "MPC", "Columbia", "F1", "jpeg_quality", 70), 97.5),
        (("Figure 2", "CAT-Net", "Columbia", "F1", "blur_kernel", 3), 14.0),
        (("Figure 2", "MPC", "Columbia", "IoU", "resize_ratio", 0.5), 90.0),
        (("text", "HRFormer-small", "", "parameters"), 8.2),
        (("Table 8", "w/o L1", "Average", "change of IoU"), -41.7),
    ],
)
def test_numbers_copied_by_hand(where, value):
    assert of(*where).value == value


def test_a_number_says_where_it_comes_from():
    assert {n.table for n in paper_numbers() if n.digitised} == {"Figure 2"}
    assert {n.table: n.training_protocol for n in paper_numbers()} == {
        **{"Table 2": 1, "Table 3": 1, "Table 4": 3, "Table 5": 2, "Table 6": 3, "Table 7": 3, "Table 8": 1},
        **{"Figure 2": 3, "text": 1},
    }
    assert {n.unit for n in paper_numbers(metric="F1")} == {n.unit for n in paper_numbers(metric="IoU")} == {"%"}
    assert {n.unit for n in paper_numbers(metric="change of F1")} == {"points"}
    number = of("Table 5", "TBFormer", "Average")
    assert number.images == 564 + 920 and "60 000" in number.training
    assert of("Figure 2", "MPC", "Columbia", "F1", "noise", 0.002).case == "Columbia, noise 0.002"
    assert of("Table 6", "MPC", "DSO", "F1", "Facebook").case == "DSO, Facebook"


def members(number):
    rows = paper_numbers(number.table, number.method, number.metric)
    return {n.test_set: n.value for n in rows if n.condition == number.condition and n.test_set != "Average"}


AVERAGES = [n for n in paper_numbers() if n.test_set == "Average" and n.unit == "%"]
DOES_NOT_REPRODUCE = ("Table 5", "MPC")


def test_averages_are_those_of_equation_6():
    assert Counter(n.table for n in AVERAGES)["Table 5"] == 20 and len(AVERAGES) == 34 + 6 + 20 + 24 + 10
    for number in AVERAGES:
        again = weighted_average(members(number))
        if (number.table, number.method) != DOES_NOT_REPRODUCE:
            assert again == pytest.approx(number.value, abs=0.1), number
        if number.recomputed is not None:
            assert again == pytest.approx(number.recomputed, abs=0.01), number


def test_the_average_of_mpc_in_table_5_does_not_follow_from_its_row():
    number = of("Table 5", "MPC", "Average")
    assert (number.value, number.recomputed) == (78.6, 76.4)
    fine_tuned = {"NIST": 160, "Coverage": 25, "CASIAv1": 920, "IMD": 2010}
    assert weighted_average(members(number), fine_tuned) == pytest.approx(74.5, abs=0.05)


def test_f1_and_iou_bound_each_other():
    """IoU = F1 / (2 - F1) of one image is convex, so a mean IoU lies between that of the mean F1 and the mean F1."""
    pairs = {}
    for n in paper_numbers():
        if n.metric in ("F1", "IoU"):
            table = {"Table 3": "Table 2"}.get(n.table, n.table)
            pairs.setdefault((table, n.method, n.case), {})[n.metric] = n
    both = {key: pair for key, pair in pairs.items() if len(pair) == 2}
    assert len(both) == 17 * 11 + 33 + 60 + 24 + 24 + 15
    impossible = []
    for key, pair in both.items():
        slack = 0.01 if pair["F1"].digitised else 0.001  # digitised to 0.01, printed to 0.0005 each
        f1, iou = pair["F1"].value / 100, pair["IoU"].value / 100
        if not f1 / (2 - f1) - slack <= iou <= f1 + slack:
            impossible.append(key)
    assert impossible == [("Table 2", "ViT-B", "IMD")]


def test_what_the_text_says_of_the_tables():
    assert average("Table 2", "MPC") - average("Table 2", "PIM") == pytest.approx(3.7)
    assert average("Table 3", "MPC", "IoU") - average("Table 3", "PIM", "IoU") == pytest.approx(2.9)
    assert average("Table 4", "MPC") - average("Table 4", "TruFor") == pytest.approx(1.4)
    assert average("Table 4", "MPC", "IoU") - average("Table 4", "TruFor", "IoU") == pytest.approx(0.9)
    for method, gain in (("TBFormer", 3.8), ("PCL", 24.5)):
        assert average("Table 5", "MPC") - average("Table 5", method) == pytest.approx(gain)
    for table, wins in (("Table 2", 6), ("Table 3", 7)):
        rows = [n for n in paper_numbers(table) if n.test_set != "Average"]
        best = {n.test_set: n.method for n in sorted(rows, key=lambda n: n.value)}
        assert Counter(best.values())["MPC"] == wins


def test_changes_of_table_8_are_differences_of_its_averages():
    for metric in ("F1", "IoU"):
        for change in paper_numbers("Table 8", metric=f"change of {metric}"):
            difference = average("Table 8", change.method, metric) - average("Table 8", "MPC", metric)
            assert difference == pytest.approx(change.value, abs=0.1 + 1e-9)


@pytest.mark.parametrize("wrong", [{"table": "Table 9"}, {"method": "MCP"}, {"table": "Table 2", "metric": "IoU"}])
def test_unknown_names_are_errors(wrong):
    with pytest.raises(InputError, match="there are"):
        paper_numbers(**wrong)


def test_averages_need_sets_of_known_size():
    assert weighted_average({"a": 10.0, "b": 40.0}, {"a": 2, "b": 1}) == 20.0
    for values in ({}, {"elsewhere": 1.0}):
        with pytest.raises(InputError, match="known size"):
            weighted_average(values)


# --------------------------------------------------------------------------------------------- ours beside the paper's


def made_up(seed, columbia, coverage, /, **changes):
    """A run as results.json holds it, F1 in 0–1; IoU half of it. Table 8 prints F1 67.6 and 41.0, average 57.4."""
    sets = {
        "Columbia": {"n": 160, "f1": columbia, "iou": columbia / 2},
        "Coverage": {"n": 100, "f1": coverage, "iou": coverage / 2},
    }
    recipe = {"name": "table8", "seed": seed, "pretrain": {"formulation": "official"}}
    run = {"name": "table8", "profile": "paper", "protocol": "mpc", "seed": seed, "recipe": recipe, "sets": sets}
    return {**run, **changes}


def f1(rows):
    return {row.paper.test_set: row for row in rows if row.paper.metric == "F1"}


def test_the_band_is_unknown_below_three_seeds_and_never_below_one_point():
    assert band(0.2, 2) is None and band(None, 1) is None
    assert band(0.2, 3) == 1.0 and band(0.5, 3) == 1.0 and band(0.75, 3) == 1.5


def test_three_seeds_are_judged():
    rows = compare([made_up(0, 0.66, 0.40), made_up(1, 0.67, 0.40), made_up(2, 0.68, 0.40)], "Table 8")
    assert len(rows) == 6 and exit_code(rows) == 1  # IoU is far off in these
    columbia, coverage, mean = (f1(rows)[s] for s in ("Columbia", "Coverage", "Average"))
    assert (columbia.mean, columbia.sd, columbia.band) == pytest.approx((67.0, 1.0, 2.0))
    assert (columbia.seeds, columbia.images, columbia.verdict) == (3, 160, "inside")
    assert (coverage.mean, coverage.sd, coverage.band) == pytest.approx((40.0, 0.0, 1.0), abs=1e-9)
    assert coverage.verdict == "inside"  # one point off: the border belongs to the band
    assert mean.mean == pytest.approx((160 * 67 + 100 * 40) / 260) and mean.images == 260
    assert exit_code(f1(rows).values()) == 0 and exit_code([]) == 0


def test_a_score_outside_the_band_is_said_on_either_side():
    for value, verdict in ((0.399, "outside"), (0.4205, "outside"), (0.4195, "inside")):
        rows = compare([made_up(seed, 0.676, value) for seed in range(3)], "Table 8")
        assert f1(rows)["Coverage"].verdict == verdict


def test_fewer_seeds_are_shown_but_not_judged():
    one = f1(compare([made_up(0, 0.1, 0.1)], "Table 8"))["Columbia"]
    assert (one.verdict, one.seeds, one.sd, one.band) == ("fewer than three seeds", 1, None, None)
    rows = compare([made_up(0, 0.1, 0.1), made_up(1, 0.2, 0.1)], "Table 8")
    assert f1(rows)["Columbia"].mean == pytest.approx(15.0) and f1(rows)["Columbia"].sd == pytest.approx(
        7.0711, abs=1e-4
    )
    assert {row.verdict for row in rows} == {"fewer than three seeds"} and exit_code(rows) == 0


def test_what_did_not_run_at_full_scale_did_not_run():
    smoke = [made_up(seed, 0.676, 0.41, profile=p) for seed, p in enumerate(("smoke", "lite", "check"))]
    rows = compare(smoke, "Table 8")
    assert {(row.verdict, row.mean, row.images, row.seeds) for row in rows} == {("not run", None, None, 0)}
    assert exit_code(rows) == 0


def test_an_average_needs_all_its_sets():
    rows = f1(compare([made_up(seed, 0.676, 0.41) for seed in range(3)], "Table 2"))
    assert rows["Columbia"].verdict == rows["Coverage"].verdict == "inside"
    assert rows["NIST"].verdict == rows["Average"].verdict == "not run"


def test_an_average_weighs_the_images_that_we_scored():
    runs = [made_up(seed, 0.6, 0.4) for seed in range(3)]
    for run in runs:
        run["sets"]["Columbia"]["n"] = 100
    assert f1(compare(runs, "Table 8"))["Average"].mean == pytest.approx(50.0)


def test_sets_of_other_names_are_told_by_sources():
    runs = [made_up(seed, 0.959, 0.5) for seed in range(3)]
    for run in runs:
        run["sets"] = {"columbia_facebook": run["sets"]["Columbia"]}
    with pytest.raises(InputError, match="but columbia_facebook; say with `sources`"):
        compare(runs, "Table 6")
    rows = compare(runs, "Table 6", sources={"Columbia, Facebook": "columbia_facebook"})
    assert {row.paper.case for row in rows if row.seeds} == {"Columbia, Facebook"}
    with pytest.raises(InputError, match="did you mean 'Columbia, Facebook'"):
        compare(runs, "Table 6", sources={"Columbia, Facebok": "columbia_facebook"})


def test_the_untouched_set_stands_in_every_panel_of_the_figure():
    panels = [f"Columbia, {condition} N/A" for condition in ("jpeg_quality", "blur_kernel", "noise", "resize_ratio")]
    rows = compare([made_up(0, 0.945, 0.5)], "Figure 2", sources=dict.fromkeys(panels, "Columbia"))
    assert [row.paper.case for row in rows if row.seeds] == list(itertools.chain(*([p, p] for p in panels)))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"protocol": "best_threshold"}, "best_threshold"),
        ({"seed": 0}, "each seed counts once"),
        ({"recipe": {"name": "table8", "seed": 1, "pretrain": {"formulation": "paper"}}}, "differ in pretrain"),
        ({"sets": {"Columbia": {"n": 159, "f1": 0.5, "iou": 0.4}}}, "159"),
    ],
)
def test_runs_that_are_not_seeds_of_one_experiment_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        compare([made_up(0, 0.6, 0.4), made_up(1, 0.6, 0.4, **changes)], "Table 8")
