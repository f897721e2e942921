"""Tables of made-up results: each number of a run stands beside the paper's number for the same thing, or none does."""

import pytest

from mpc_lite.evaluation.degrade import GRIDS
from mpc_lite.reproduce.paper import paper_numbers
from mpc_lite.reproduce.tables import beside_paper, columns, format_beside, grid_rows, kind, paper_rows, set_rows, wide

BASELINES = ("all_tampered", "ela", "noise_residual")
TABLE_2 = ["NIST", "Columbia", "IFC", "CASIAv1", "IMD", "Coverage", "DSO", "DEF-test", "Wild", "Korus"]


def results(tables, sets, profile="paper", protocol="mpc", choice=None, robustness=None):
    """{source: (n, f1, iou)} as what results.json holds of it."""

    def scores(n, f1, iou):
        return {"n": n, "f1": f1, "iou": iou, "auc": None, "baselines": {b: {"f1": 0.2, "iou": 0.1} for b in BASELINES}}

    evaluated = {"mode": "stretch", "size": 512, "overlap": 0}
    found = {
        "name": "made-up",
        "profile": profile,
        "protocol": protocol,
        "seed": 4,
        "recipe": {"tables": tables, "choice": choice or {"variant": "official"}, "evaluate": evaluated},
        "sets": {source: scores(*values) for source, values in sets.items()},
    }
    return found | ({"robustness": robustness} if robustness else {})


def ours(beside, metric="F1"):
    """{case: mean in percent} where there is one."""
    return {r.paper.case: round(r.mean, 6) for r in beside.rows if r.paper.metric == metric and r.mean is not None}


# ---------------------------------------------------------------------------------------------------- many test sets


def test_many_sets_become_rows_and_weigh_each_image_alike():
    found = results([], {"a": (1, 0.5, 0.4), "b": (3, 0.1, 0.0), "c": (1, 0.2, 0.2), "DEF-test": (5, 1.0, 1.0)})
    assert wide(found) and not wide(results([], {"a": (1, 0.5, 0.4)}))
    rows = set_rows(found)
    assert rows[0][:5] == ["test set", "images", "F1", "IoU", "pixel AUC"]
    assert rows[0][5:] == ["F1 all tampered", "F1 error levels", "F1 noise residual"]
    assert rows[4][:4] == ["DEF-test", "5", "1.000", "1.000"]
    assert rows[-1] == ["average", "10", "0.600", "0.560", "–", "0.200", "0.200", "0.200"]


def test_only_forgeries_made_here_go_by_their_kind():
    assert kind("generated-copy_move") == "copy move" and kind("photos-clothing-splice") == "clothing-splice"
    assert [kind(source) for source in ("DEF-test", "tampCOCO-sp", "FF++")] == ["DEF-test", "tampCOCO-sp", "FF++"]
    assert columns(results([], {"DEF-test": (1, 0.5, 0.4)}))[-1] == "F1 DEF-test"


# -------------------------------------------------------------------------------------------------- beside the paper


@pytest.mark.parametrize("profile", ["smoke", "lite", "check"])
def test_below_full_scale_nothing_was_run(profile):
    """Even where a small run scored the very sets of the table."""
    found = results(["Table 2", "Table 3"], {source: (9, 0.5, 0.4) for source in TABLE_2}, profile)
    both = beside_paper(found)
    assert [b.title for b in both] == ["Table 2", "Table 3"]
    assert not any(ours(b) or ours(b, "IoU") for b in both)
    assert all(f"Profile {profile}: not run at full scale" in b.note for b in both)
    rows = paper_rows(both[0])
    assert rows[0] == ["test set", "images", "F1 paper", "F1 here"] and rows[2] == [
        "Columbia",
        "160",
        "67.6",
        "not run",
    ]
    assert rows[-1] == ["Average", "10725", "30.6", "not run"] and len(rows) == 12
    assert format_beside(found).count("not run\n") == 22


def test_a_full_run_stands_beside_what_it_scored():
    sizes = {n.test_set: n.images for n in paper_numbers("Table 2", "MPC")}
    sets = {source: (sizes[source], 0.5, 0.25) for source in TABLE_2} | {"Columbia": (159, 0.7, 0.25)}
    f1, iou = beside_paper(results(["Table 2", "Table 3"], sets))
    assert ours(f1)["Columbia"] == 70 and ours(f1)["Korus"] == 50 and ours(iou, "IoU")["Average"] == 25
    assert ours(f1)["Average"] == pytest.approx((159 * 70 + (10725 - 160) * 50) / 10724)
    rows = {row[0]: row for row in paper_rows(f1)}
    assert rows["Columbia"] == ["Columbia", "159 of 160", "67.6", "70.0"]
    assert rows["NIST"] == ["NIST", "564", "29.1", "50.0"]
    assert f1.note == "One run (variant official, seed 4): a band needs three seeds."


def test_sets_that_were_not_scored_stay_not_run():
    (found,) = beside_paper(results(["Table 4"], {"Columbia": (160, 0.9, 0.8)}))
    assert ours(found) == {"Columbia": 90}
    average = paper_rows(found)[-1]
    assert average == ["Average", "4004", "61.2 (recomputed 61.3)", "not run", "52.0", "not run"]


@pytest.mark.parametrize(
    "changed, why",
    [({"protocol": "permuted"}, "was scored by protocol 'permuted'"), ({"sets": {"other": (1, 0.1, 0.1)}}, "none of")],
)
def test_what_cannot_be_compared_says_why_and_loses_nothing(changed, why):
    found = {"tables": ["Table 4"], "sets": {"Columbia": (160, 0.9, 0.8)}} | changed
    (table,) = beside_paper(results(**found))
    assert ours(table) == {} and table.note.startswith("Not comparable: ") and why in table.note


def test_each_ablation_stands_beside_its_own_row():
    from mpc_lite.recipes.load import recipe_choices

    sets = {"Columbia": (160, 0.5, 0.4), "Coverage": (100, 0.5, 0.4)}
    printed = {}
    for ablation in recipe_choices("table8")["ablation"]:
        (found,) = beside_paper(results(["Table 8"], sets, choice={"ablation": ablation}))
        printed[ablation] = [r.paper.value for r in found.rows if r.paper.metric == "F1"]
        assert ours(found)["Average"] == 50
    assert printed == {
        "full": [67.6, 41.0, 57.4],
        "without_within_image": [14.9, 9.8, 12.9],
        "without_cross_scale": [56.4, 38.3, 49.4],
        "without_cross_modality": [54.1, 35.7, 47.0],
        "small": [42.0, 29.1, 37.0],
    }


def grid_cells(grid, sources):
    """A cell's F1 says which it is: its number / 100, and the number of its source / 1000."""
    cells = []
    for i, cell in enumerate(GRIDS[grid]):
        sets = {s: {"n": 160, "f1": i / 100 + k / 1000, "iou": 0.5, "f1_ci95": None} for k, s in enumerate(sources)}
        figures = {"n": 160, "f1": i / 100, "iou": 0.5, "f1_ci95": None, "f1_change": 0.0}
        cells.append({"degradation": cell.degradation, "value": cell.value, "sets": sets, **figures})
    return cells


def test_figure_2_reads_the_noise_in_both_ways():
    found = results(["Figure 2"], {"Columbia": (160, 0, 0.5)}, robustness={"paper": grid_cells("paper", ["Columbia"])})
    sigma, variance = beside_paper(found)
    number = {(cell.degradation, cell.value): i for i, cell in enumerate(GRIDS["paper"])}
    scored = ours(sigma)
    assert len(scored) == 24 and len({n.case for n in paper_numbers("Figure 2", "MPC", "F1")} - set(scored)) == 0
    for panel in ("jpeg_quality", "blur_kernel", "noise", "resize_ratio"):
        assert scored[f"Columbia, {panel} N/A"] == 0
    assert scored["Columbia, jpeg_quality 60"] == number["jpeg_quality", 60]
    assert scored["Columbia, resize_ratio 0.5"] == number["resize_ratio", 0.5]
    assert scored["Columbia, noise 0.01"] == number["noise_sigma_unit", 0.01]
    levels = (0.002, 0.004, 0.006, 0.008, 0.01)
    assert ours(variance) == {f"Columbia, noise {v}": number["noise_variance_unit", v] for v in levels}
    assert (sigma.title, variance.title) == ("Figure 2, noise read as σ", "Figure 2, noise read as variance")
    assert paper_rows(sigma)[1][2].startswith("≈ ")


def test_table_7_takes_the_chain_that_belongs_to_the_network():
    sources = ["Columbia, Facebook", "Columbia, Weibo", "DSO, Facebook"]
    found = results(
        ["Table 7"], {s: (160, 0, 0.5) for s in sources}, robustness={"chains": grid_cells("chains", sources)}
    )
    for beside, reading in zip(beside_paper(found), ("sigma", "variance"), strict=True):
        number = {c.value: i for i, c in enumerate(GRIDS["chains"]) if c.degradation == f"chain, noise_{reading}_unit"}
        assert ours(beside) == {
            "Columbia, Facebook JRBN": number["JRBN"],
            "Columbia, Weibo BNJR": pytest.approx(number["BNJR"] + 0.1),
            "DSO, Facebook JRBN": pytest.approx(number["JRBN"] + 0.2),
        }


def test_grids_become_tables():
    found = results(["Table 7"], {"a": (160, 0, 0.5)}, robustness={"chains": grid_cells("chains", ["a"])})
    rows = grid_rows(found)["chains"]
    assert (
        len(rows) == 10
        and rows[1][0] == "none"
        and rows[2][:5] == ["chain, noise_sigma_unit", "JRBN", "mpc", "4", "160"]
    )
    assert grid_rows(results(["Table 2"], {"a": (1, 0.1, 0.1)})) == {}
