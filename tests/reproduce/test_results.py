"""Results and report from made-up figures: every number lands where it belongs, and no path of a machine leaves it."""

import copy
import hashlib
import io
import json

import pytest
import torch
from PIL import Image
from rich.console import Console

from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights
from mpc_lite.reproduce.report import free_gallery, robustness_figure, training_figure, write_report
from mpc_lite.reproduce.results import save_results, save_shipped, score_shipped, terminal_table
from mpc_lite.reproduce.run import prepare
from mpc_lite.reproduce.sweep_runs import check_inputs
from mpc_lite.reproduce.tables import cells, comparison

BASELINES = ("all_tampered", "ela", "noise_residual")


def figures(first, second, baseline):
    def one(n, f1):
        beside = {name: {"f1": baseline, "iou": baseline / 2, "threshold": 0.4} for name in BASELINES}
        return {"n": n, "f1": f1, "iou": f1 / 2, "auc": None, "f1_ci95": [0.0, 1.0], "baselines": beside}

    sets = {"generated-splice": one(3, first), "generated-copy_move": one(1, second)}
    average = (3 * first + second) / 4
    return {
        "protocol": "mpc",
        "manifest": {"name": "manifest.csv", "sha256": "ab" * 32},
        "sets": sets,
        "average": {"n": 4, "f1": average, "iou": average / 2, "auc": None, "baselines": {}, "weighting": "images"},
        "image_level": {"auc": 0.75, "false_alarm_rate": None, "threshold": 0.5, "n_authentic": 0, "n_tampered": 4},
        "errors": [],
    }


SHIPPED = {**figures(0.7, 0.3, 0.2), "input": {"mode": "tiles", "size": 256, "overlap": 128}}


@pytest.fixture
def run(tmp_path):
    return prepare("quickstart", "smoke", 2, "cpu", tmp_path, {"data.manifest": "/home/someone/secret/casia.csv"})


def test_no_absolute_path_stays_in_the_results(run):
    results = save_results(run, figures(0.5, 0.1, 0.2))
    text = (run.out / "results.json").read_text()
    assert results == json.loads(text)
    assert (
        results["parameters"] == {"data.manifest": "casia.csv"} and results["recipe"]["data"]["manifest"] == "casia.csv"
    )
    assert "secret" not in text and str(run.out) not in text


def test_no_absolute_path_stays_in_a_list(tmp_path):
    """Nor where a recipe's value is a list of manifests; variables stay as they were written."""
    given = {
        "data.manifest": ["/home/secret/casia.csv", "$MPC_LITE_SETS/nist16.csv"],
        "evaluate.manifests": ["~/secret.csv"],
    }
    results = save_results(prepare("quickstart", "smoke", 2, "cpu", tmp_path, given), figures(0.5, 0.1, 0.2))
    assert results["recipe"]["data"]["manifest"] == ["casia.csv", "$MPC_LITE_SETS/nist16.csv"]
    assert results["recipe"]["evaluate"]["manifests"] == ["secret.csv"]
    assert "/home/secret" not in (tmp_path / "results.json").read_text()


def test_files_of_one_name_are_told_apart_without_their_paths(tmp_path):
    def inputs(given):
        return save_results(prepare("quickstart", "smoke", 2, "cpu", tmp_path, given), figures(0.5, 0.1, 0.2)).get(
            "inputs"
        )

    files = [tmp_path / folder / "m.csv" for folder in ("a", "b", "moved")]
    for file, text in zip(files, ("one", "other", "one"), strict=True):
        file.parent.mkdir()
        file.write_text(text)
    one, other, moved = (inputs({"data.manifest": str(file)}) for file in files)
    assert one == moved != other and len(one) == 16
    assert one != inputs({"data.manifest": [str(files[0])], "data.validation": str(files[1])}) != other
    assert inputs({"data.manifest": "/gone/a/m.csv"}) != inputs({"data.manifest": "/gone/b/m.csv"})
    assert inputs({"data.size": 64}) is None and inputs({}) is None


def test_what_a_hub_s_name_stands_for_is_told_apart_by_its_bytes(tmp_path, monkeypatch):
    """Its owner may push other weights under the same name between two seeds."""

    def inputs(content):
        (tmp_path / "fetched").write_text(content)
        run = prepare("quickstart", "smoke", 2, "cpu", tmp_path, {"pretrain.weights": "hf://owner/name"})
        results = save_results(run, figures(0.5, 0.1, 0.2))
        check_inputs(results, run)  # a hub that is asked later, or cannot be, makes no finished run another one
        return results.get("inputs"), results.get("hub")

    monkeypatch.setattr("mpc_lite.reproduce.run.hub_file", lambda name: tmp_path / "fetched")
    digests = {text: {"hf://owner/name": hashlib.sha256(text.encode()).hexdigest()} for text in ("one", "other")}
    assert inputs("one") == (None, digests["one"]) and inputs("other") == (None, digests["other"])

    def unreachable(name):
        raise InputError("the hub cannot be reached")

    monkeypatch.setattr("mpc_lite.reproduce.run.hub_file", unreachable)
    assert inputs("one") == (None, None)


def test_files_named_from_the_working_folder_or_by_a_variable_are_told_apart(tmp_path, monkeypatch):
    def inputs(folder, name, key="data.manifest"):
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setenv("SETS", str(tmp_path / folder))
        run = prepare("quickstart", "smoke", 2, "cpu", tmp_path, {key: name})
        return save_results(run, figures(0.5, 0.1, 0.2)).get("inputs")

    for folder, text in (("a", "one"), ("b", "other"), ("moved", "one")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.csv").write_text(text)
        (tmp_path / folder / "photos").mkdir()
    for name in ("m.csv", "$SETS/m.csv", ["$SETS/m.csv", "m.csv"]):
        one, other, moved = (inputs(folder, name) for folder in ("a", "b", "moved"))
        assert one == moved != other and len(one) == 16
    assert inputs("a", "$SETS/photos", "data.photos") != inputs("b", "$SETS/photos", "data.photos")
    assert inputs("a", "photos", "data.photos") is inputs("a", "gone.csv") is None


def test_rows_left_out_are_counted_and_said(run):
    table = figures(0.5, 0.1, 0.2) | {"errors": ["row 3 of test.csv: gone", "row 9 of test.csv: gone"]}
    results = save_results(run, table)
    assert results["errors"] == 2 and "robustness" not in results
    said = "2 rows could not be read and were left out."
    assert said in write_report(run, results).read_text()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_table(run.out))
    assert said in " ".join(console.export_text().split())
    assert said not in write_report(run, save_results(run, figures(0.5, 0.1, 0.2))).read_text()


def test_rows_weigh_each_image_alike(run):
    results = save_results(run, figures(0.5, 0.1, 0.2))
    rows = comparison(results, save_shipped(run, SHIPPED))
    assert [row["method"] for row in rows] == [
        *("this run", "shipped 'lite2'"),
        *("all tampered", "error levels", "noise residual"),
    ]
    assert [cells(row) for row in rows[:3]] == [
        ["tiles 64", "0.400", "0.200", "–", "0.500", "0.100"],
        ["tiles 256", "0.600", "0.300", "–", "0.700", "0.300"],
        ["native", "0.200", "0.100", "–", "0.200", "0.200"],
    ]


def test_each_row_says_how_its_photographs_are_fed(run):
    """The shipped network keeps its own way, which need not be this run's."""
    results, shipped = save_results(run, figures(0.5, 0.1, 0.2)), save_shipped(run, SHIPPED)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(run.out))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["this", "run", "tiles", "64"] in [line[:4] for line in lines]
    assert ["shipped", "'lite2'", "tiles", "256"] in [line[:4] for line in lines]
    page = write_report(run, results, shipped, []).read_text()
    assert '<th scope="row">shipped \'lite2\'</th><td class="words">tiles 256</td>' in page.replace("&#x27;", "'")
    assert '<th scope="row">all tampered</th><td class="words">native</td>' in page
    assert "tiles of 64 pixels" not in page  # for the whole table: untrue


def test_the_table_fits_into_80_columns(run):
    table = figures(0.5, 0.1, 0.2)
    table["sets"]["generated-removal"] = table["sets"]["generated-splice"]
    save_results(run, table)
    save_shipped(run, {**table, "input": SHIPPED["input"]})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(run.out))
    assert "…" not in console.export_text()


def test_ten_sets_fit_into_80_columns(run):
    """With more than three test sets each is a row; shipped weights are not compared there."""
    table = figures(0.5, 0.1, 0.2)
    one = table["sets"]["generated-splice"]
    table["sets"] |= {f"Columbia, Facebook {i}": one for i in range(9)}
    results = save_results(run, table)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(run.out))
    text = console.export_text()
    assert "…" not in text and "Columbia, Facebook 8" in text and "average" in text
    page = write_report(run, results).read_text()
    assert page.count('<th scope="row">Columbia, Facebook') == 9 and '<th scope="row">average</th>' in page


CELLS = [
    {"degradation": name, "value": value, "n": 4, "f1": f1, "iou": f1 / 2, "f1_ci95": [f1 - 0.1, f1 + 0.1]}
    | {"f1_change": f1 - 0.6, "sets": {"generated-splice": {"n": 4, "f1": f1, "iou": 0.1}}}
    for name, value, f1 in [("none", None, 0.6), ("jpeg_quality", 60, 0.5), ("blur_kernel", 9, 0.2)]
]


def test_robustness_reaches_results_report_and_figure(run):
    results = save_results(run, figures(0.5, 0.1, 0.2), {"paper": {"cells": CELLS, "grid": "paper"}})
    assert results["robustness"] == {"paper": CELLS} == json.loads((run.out / "results.json").read_text())["robustness"]
    shown = robustness_figure(results)
    assert "F1 falls most after Gaussian blur, kernel in pixels: 9 (grid paper), from 0.600 to 0.200" in shown.alt
    assert "4 in grid paper" in shown.caption
    page = write_report(run, results, figures=[shown]).read_text()
    assert "Robustness: grid paper" in page and "0.200 [0.100, 0.300]" in page and "-0.400" in page


def test_the_papers_numbers_stand_in_the_report(run):
    results = save_results(run, figures(0.5, 0.1, 0.2))
    assert "Beside the paper" not in write_report(run, results).read_text()  # the quickstart reproduces none
    results["recipe"]["tables"] = ["Table 5"]
    page = write_report(run, results).read_text()
    assert "Beside the paper" in page and "<td>78.6 (recomputed 76.4)</td><td>not run</td>" in page
    assert "Profile smoke: not run at full scale" in page


def test_pictures_are_shown_only_where_they_may_be_published(run, tmp_path, monkeypatch):
    """Also inside a folder `runs`, where the gallery itself would draw anything."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "runs").mkdir()
    inside = prepare("quickstart", "smoke", 0, "cpu", tmp_path / "runs" / "x")
    header = "image,mask,label,source\n"
    (tmp_path / "free.csv").write_text(header + "a.png,,0,generated-authentic\n")
    (tmp_path / "mixed.csv").write_text(header + "a.png,,0,generated-authentic\na.png,,0,Columbia\n")
    for where in (run, inside):
        assert [shown.name for shown in free_gallery(where, tmp_path / "free.csv")] == ["forgeries"]
        assert free_gallery(where, tmp_path / "mixed.csv") == []


@pytest.mark.slow
def test_shipped_weights_are_scored_in_their_own_way(run, tmp_path, monkeypatch):
    recipe = {"evaluate": {"mode": "tiles", "size": 96, "overlap": 32}}
    save_weights(tmp_path / "lite2.safetensors", MPC.build("nano"), recipe)
    monkeypatch.setattr("mpc_lite.network.weights.PRETRAINED", tmp_path)
    Image.new("RGB", (96, 96)).save(tmp_path / "a.png")
    table = score_shipped(run, [Sample(tmp_path / "a.png", None, 0, "x")])
    assert table["input"] == recipe["evaluate"] and table["image_level"]["n_authentic"] == 1


def test_missing_weights_and_the_best_baseline_are_said_in_table_and_report(run):
    table = figures(0.5, 0.1, 0.2)
    for scores in table["sets"].values():
        scores["baselines"]["ela"]["f1"] = 0.3
    results = save_results(run, table)
    shipped = save_shipped(run, None)
    assert shipped == json.loads((run.out / "shipped.json").read_text())
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(run.out))
    said = console.export_text()
    assert "shipped 'lite2': not shipped in this version" in said and "0.400" in said
    page = write_report(run, results, shipped, []).read_text()
    assert "not shipped in this version" in page and "the best baseline, error levels, reaches 0.300" in page


def test_report_escapes_what_it_is_given(run):
    results = copy.deepcopy(save_results(run, figures(0.5, 0.1, 0.2)))
    results["device"] = "<script>alert(1)</script>"
    assert "<script" not in write_report(run, results, save_shipped(run, None), []).read_text()


def test_results_name_the_device_that_trains_and_scores(tmp_path, monkeypatch):
    """Where it is another one than CUDA or the CPU, as on Apple's; `meta` stands for it here."""
    save_weights(tmp_path / "model.safetensors", MPC.build("nano"), {})
    for user in ("network.devices", "reproduce.results"):
        monkeypatch.setattr(f"mpc_lite.{user}.choose_device", lambda device: torch.device(device or "meta"))
    localizer = Localizer.from_pretrained(str(tmp_path / "model.safetensors"))
    assert {p.device.type for p in localizer.model.parameters()} == {"meta"}
    run = prepare("quickstart", "smoke", 0, "auto", tmp_path)
    assert save_results(run, figures(0.5, 0.1, 0.2))["device"] == "meta"


def test_the_training_figure_says_what_each_validation_measures(run):
    lines = [{"stage": s, "step": 1, "steps": 1, "validation": {"f1": 0.25}} for s in ("pretrain", "finetune")]
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    alt = training_figure(run).alt
    assert "pretrain: validation F1 (clusters, stride 4) 0.25" in alt
    assert "finetune: validation F1 (crops, > 0.5) 0.25" in alt
