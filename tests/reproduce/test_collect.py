"""Gathering runs: nothing hidden, equal bytes from equal runs, no path of a machine, and a verdict beside the paper."""

import json
import os

import pytest

from mpc_lite.cli import main
from mpc_lite.errors import InputError
from mpc_lite.provenance import without_paths
from mpc_lite.reproduce.collect import collect
from mpc_lite.reproduce.run import Request, prepare
from tests.fake_clone import write_notebook


@pytest.fixture
def clone(tmp_path, monkeypatch):
    for name in ("quickstart", "table8"):
        write_notebook(tmp_path / "book" / "reproduce" / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finish(name, profile, seed, columbia, coverage=0.4, /, device="auto", change=None, **parameters):
    """A finished run, made up: F1 in 0–1, IoU such that Table 8's bands hold where F1 does."""
    run = prepare(name, profile, seed, device, parameters=parameters)
    run.out.mkdir(parents=True)
    sets = {
        "Columbia": {"n": 160, "f1": columbia, "iou": columbia - 0.059},
        "Coverage": {"n": 100, "f1": coverage, "iou": coverage - 0.108},
    }
    average = {score: (160 * sets["Columbia"][score] + 100 * sets["Coverage"][score]) / 260 for score in ("f1", "iou")}
    results = {
        "schema": 1,
        "name": run.name,
        "profile": profile,
        "recipe": {**run.recipe.as_dict(), **(change or {})},
        "seed": seed,
        "parameters": run.parameters,
        "protocol": "mpc",
        "device": device,
        "commit": "1234567",
        "seconds": 1.5,
        "sets": sets,
        "average": average,
    }
    (run.out / "results.json").write_text(json.dumps(results))
    return run.out


def collected(clone, name):
    return json.loads((clone / "book" / "results" / f"{name}.json").read_text())


def test_runs_are_grouped_by_what_they_have_in_common_but_the_seed(clone):
    for seed, f1 in ((1, 0.4), (0, 0.2), (2, 0.6)):
        finish("table8", "smoke", seed, f1)
    finish("table8", "smoke", 0, 0.3, ablation="small")
    path, _, code = collect(Request("table8", "smoke"))
    found = collected(clone, "table8-smoke")
    assert path == clone / "book" / "results" / "table8-smoke.json" and code == 0
    assert (found["schema"], found["name"], found["profile"], found["unfinished"]) == (1, "table8", "smoke", [])
    full, small = found["groups"]
    assert (full["parameters"], full["seeds"]) == ({}, [0, 1, 2])
    assert (small["parameters"], small["seeds"]) == ({"ablation": "small"}, [0])
    assert full["sets"]["Columbia"]["n"] == 160
    assert full["sets"]["Columbia"]["f1"] == {"mean": pytest.approx(0.4), "sd": pytest.approx(0.2)}
    assert full["average"]["f1"]["mean"] == pytest.approx((160 * 0.4 + 100 * 0.4) / 260)
    assert small["average"]["f1"]["sd"] is None
    assert [(run["parameters"], run["seed"]) for run in found["runs"]] == [
        *(({}, seed) for seed in range(3)),
        ({"ablation": "small"}, 0),
    ]
    assert found["runs"][0] == json.loads((clone / "runs/table8/smoke/0/results.json").read_text())
    before = path.read_bytes()
    collect(Request("table8", "smoke"))
    assert path.read_bytes() == before


def test_arms_of_the_neighbours_are_compared_seed_by_seed(clone):
    """The first arm falls and the second rises with the seed: means alone would hide by how much they part."""
    write_notebook(clone / "book" / "reproduce" / "neighbours.ipynb")
    for seed in range(3):
        for arm, f1 in ((None, 0.3 - 0.1 * seed), ("pclmix", 0.2 + 0.1 * seed)):
            out = finish("neighbours", "smoke", seed, f1, f1, **({"arm": arm} if arm else {}))
            results = json.loads((out / "results.json").read_text())
            results["own_metrics"] = {"miou": f1 / 2, "hd95": None}
            results["null_splices"] = {"n": 8, "f1": 0.1, "iou": 0.05, "auc": 0.5}
            (out / "results.json").write_text(json.dumps(results))
    collect(Request("neighbours", "smoke"))
    mpc, pclmix = collected(clone, "neighbours-smoke")["groups"]
    assert pclmix["parameters"] == {"arm": "pclmix"} and mpc["lead"]["f1"] == {"mean": 0, "sd": 0}
    assert pclmix["lead"]["pairs"] == 3
    assert pclmix["lead"]["f1"] == {"mean": pytest.approx(0.1), "sd": pytest.approx(0.2)}
    assert mpc["own_metrics"] == {
        "miou": {"mean": pytest.approx(0.1), "sd": pytest.approx(0.05)},
        "hd95": dict.fromkeys(("mean", "sd")),
    }
    assert set(mpc["null_splices"]) == {"f1", "iou", "auc"}


def failed_notebook(ename, evalue):
    parameters = {"SEED": 4, "PARAMETERS": {"data.manifest": "/home/somebody/casia.csv"}}
    error = {"output_type": "error", "ename": ename, "evalue": evalue, "traceback": []}
    cells = [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [error] if ename else []}]
    return json.dumps({"metadata": {"papermill": {"parameters": parameters}}, "cells": cells})


def test_runs_that_did_not_finish_are_listed_with_the_reason(clone):
    finish("quickstart", "smoke", 0, 0.5)
    root = clone / "runs" / "quickstart" / "smoke"
    for folder, ename, evalue in [
        ("4-aa", "FileNotFoundError", "[Errno 2] No such file: '/home/some body/x.png'\nmore"),
        ("4-bb", "Interrupted", "stopped"),
        ("4-cc", "", ""),
        ("4-dd", "InputError", "row 3 of /data/sets/casia.csv: no mask and/or label"),
    ]:
        (root / folder).mkdir()
        (root / folder / "notebook.ipynb").write_text(failed_notebook(ename, evalue))
    (root / "5").mkdir()
    (root / "6").mkdir()
    (root / "6" / "results.json").write_text("{")
    _, text, code = collect(Request("quickstart", "smoke"))
    listed = {run["folder"]: run for run in collected(clone, "quickstart-smoke")["unfinished"]}
    assert {folder: run["reason"] for folder, run in listed.items() if folder != "6"} == {
        "4-aa": "failed: FileNotFoundError: [Errno 2] No such file: 'x.png'",
        "4-bb": "interrupted",
        "4-cc": "unfinished",
        "4-dd": "failed: InputError: row 3 of casia.csv: no mask and/or label",
        "5": "not run",
    }
    assert listed["6"]["reason"].startswith("results.json is damaged")
    assert (listed["4-aa"]["seed"], listed["4-aa"]["parameters"]) == (4, {"data.manifest": "casia.csv"})
    assert listed["5"]["parameters"] is None and code == 1  # for the damaged one
    assert "not collected, 6 unfinished" in text and "4-bb: interrupted" in text


def changed(out, **values):
    return json.dumps({**json.loads((out / "results.json").read_text()), **values})


@pytest.mark.trust
def test_a_damaged_file_of_one_run_costs_the_others_nothing(clone):
    out = finish("quickstart", "smoke", 0, 0.5)
    root, average = out.parent, {"f1": 0.5, "iou": 0.4}
    results = {
        "a": ("[]", "input should be a valid dictionary"),
        "b": ("{}", "name: field required"),
        "c": ("null", "input should be a valid dictionary"),
        "d": ("", "Expecting value"),
        "e": ("[" * 100_000, "nested more than 100 deep"),
        "f": (changed(out, average={**average, "f1": "high"}), "average.f1: input should be a valid number"),
        "g": (changed(out, average={**average, "f1": float("nan")}), "NaN is no number"),
        "h": (changed(out).replace("0.5", "1e999", 1), "1e999 is no number"),
        "i": (changed(out, seconds=float("inf")), "Infinity is no number"),
        "j": (changed(out, parameters=[]), "parameters: "),
        "k": (changed(out, seed=None), "seed: "),
        "l": (changed(out, recipe={"tables": 3, "choice": {}}), "recipe.tables: "),
        "m": (changed(out, sets={"x": []}), "sets.x: "),
        "n": (changed(out, robustness={"paper": [5]}), "robustness.paper.0: "),
        "o": (changed(out, own_metrics={"miou": "x"}), "own_metrics.miou: "),
        "oa": (changed(out, own_metrics={"miou": 0.5}), "own_metrics and null_splices belong together"),
        "ob": (changed(out, null_splices={"n": 5}), "own_metrics and null_splices belong together"),
        "oc": (changed(out, device="\ud83d"), "surrogates not allowed"),
        "od": (changed(out, more="\udce9"), "surrogates not allowed"),
        "oe": (changed(out, average={**average, "f1": 1e308}), "average.f1: "),
        "of": (changed(out, sets={"x": {"n": -1, **average}}), "sets.x.n: "),
        "og": (changed(out, more=5).replace("5}", "[" * 985 + "]" * 985 + "}"), "nested more than 100 deep"),
        "oh": (changed(out, more=5).replace("5}", "[" * 150 + "]" * 150 + "}"), "nested more than 100 deep"),
    }
    notebooks = {
        "p": ("[]", "input should be a valid dictionary"),
        "q": ('{"metadata": []}', "metadata: "),
        "r": ('{"cells": [{"outputs": [{"ename": "x"}]}]}', "cells.0.outputs.0.output_type: field required"),
        "s": ('{"cells": [{"outputs": [{"output_type": "error", "evalue": 5}]}]}', "cells.0.outputs.0.evalue: "),
        "t": ('{"metadata": {"papermill": {"parameters": {"SEED": "x"}}}}', "metadata.papermill.parameters.SEED: "),
        "u": ('{"cells": ', "Expecting value"),
        "ua": ('{"metadata": {"papermill": {"parameters": {"PARAMETERS": {"x": NaN}}}}}', "parameters.PARAMETERS: "),
        "ub": (
            '{"metadata": {"papermill": {"parameters": {"PARAMETERS": {"x": "\\ud83d"}}}}}',
            "surrogates not allowed",
        ),
        "uc": (
            '{"metadata": {"papermill": {"parameters": {"PARAMETERS": {"x": ' + "[" * 600 + "]" * 600 + "}}}}}",
            "nested",
        ),
    }
    for files, name in ((results, "results.json"), (notebooks, "notebook.ipynb")):
        for folder, (text, _) in files.items():
            (root / folder).mkdir()
            (root / folder / name).write_text(text)
    for folder, name in (("v", "results.json"), ("w", "notebook.ipynb")):
        (root / folder).mkdir()
        os.mkfifo(root / folder / name)
    (root / "x" / "results.json").mkdir(parents=True)
    for folder, values in (("y", {"name": "table8"}), ("z", {"profile": "paper"})):
        (root / folder).mkdir()
        (root / folder / "results.json").write_text(changed(out, **values))
    (out / "notebook.ipynb").write_text("[]")  # of the finished run, which has no need of it
    path, text, code = collect(Request("quickstart", "smoke"))
    found = collected(clone, "quickstart-smoke")
    assert code == 1 and [run["seed"] for run in found["runs"]] == [0] and "not collected, 37 unfinished" in text
    reasons = {run["folder"]: run["reason"] for run in found["unfinished"]}
    for folder, (_, words) in (results | notebooks).items():
        name = "results.json" if folder in results else "notebook.ipynb"
        assert reasons[folder].startswith(f"{name} is damaged (") and words in reasons[folder], reasons[folder]
        assert reasons[folder].endswith("; delete it, and run the run's command with --resume")
    assert reasons["y"].startswith("results.json is of another run (table8, profile smoke); move") and "z" in reasons
    for folder, words in (("v", "a pipe or a device"), ("w", "a pipe or a device"), ("x", "Is a directory")):
        assert words in reasons[folder]
    assert str(clone) not in path.read_text()
    (out / "results.json").write_text("[]")
    with pytest.raises(InputError, match=r"holds no finished run of these; 0: results\.json is damaged"):
        collect(Request("quickstart", "smoke"))


def test_a_sweep_collects_its_own_cells_alone(clone):
    for seed in (0, 1):
        finish("quickstart", "smoke", seed, 0.5)
    collect(Request("quickstart", "smoke", over={"seed": ["1", "2"]}))
    found = collected(clone, "quickstart-smoke")
    assert [run["seed"] for run in found["runs"]] == [1]
    assert found["command"] == "mpc-lite reproduce quickstart --profile smoke --sweep seed=1,2 --collect"
    assert found["unfinished"] == [{"folder": "2", "seed": 2, "parameters": {}, "reason": "not run"}]
    collect(Request("quickstart", "smoke", {"seed": "0"}))
    found = collected(clone, "quickstart-smoke")
    assert [run["seed"] for run in found["runs"]] == [0]
    assert found["command"] == "mpc-lite reproduce quickstart --profile smoke -p seed=0 --collect"


def test_runs_that_are_no_group_are_refused(clone):
    finish("quickstart", "smoke", 0, 0.5)
    second = finish("quickstart", "smoke", 0, 0.5, device="cpu")
    with pytest.raises(InputError, match=f"0 and {second.name} are both of seed 0 .* on auto and cpu; say which"):
        collect(Request("quickstart", "smoke"))
    collect(Request("quickstart", "smoke", {"DEVICE": "cpu"}))
    finish("quickstart", "smoke", 1, 0.5, device="cpu", change={"finetune": {}})
    with pytest.raises(InputError, match=r"different versions of the recipe, unlike in finetune; .*--force"):
        collect(Request("quickstart", "smoke", {"DEVICE": "cpu"}, {"seed": ["0", "1"]}))


@pytest.mark.trust
def test_runs_that_were_scored_on_other_images_are_not_averaged(clone):
    """A list that was rebuilt between two seeds, or rows that one run could not read."""
    lists = {"evaluate": {"manifests": ["columbia.csv"]}}
    first = finish("quickstart", "smoke", 0, 0.5, change=lists)
    second = finish("quickstart", "smoke", 1, 0.9, change=lists)
    collect(Request("quickstart", "smoke"))
    sets = {"Columbia": {"n": 159, "f1": 0.9, "iou": 0.7}, "Coverage": {"n": 101, "f1": 0.4, "iou": 0.3}}
    (second / "results.json").write_text(changed(second, sets=sets))
    words = r"0 was scored on 160 of Columbia, 100 of Coverage forgeries \(0 rows left out\), 1 on 159 of Columbia, 101"
    with pytest.raises(InputError, match=words):
        collect(Request("quickstart", "smoke"))
    recipe = {**json.loads((first / "results.json").read_text())["recipe"], "evaluate": {"manifests": []}}
    for out in (first, second):  # of generated images each seed draws others, as many in all
        (out / "results.json").write_text(changed(out, recipe=recipe))
    collect(Request("quickstart", "smoke"))
    assert collected(clone, "quickstart-smoke")["groups"][0]["sets"]["Columbia"]["n"] == 159
    (second / "results.json").write_text(changed(second, errors=3))
    with pytest.raises(InputError, match=r"1 on 260 forgeries \(3 rows left out\)"):
        collect(Request("quickstart", "smoke"))


def told_apart(out, inputs):
    """The run as it is written, with its paths shortened."""
    file = out / "results.json"
    results = without_paths(json.loads(file.read_text()))
    file.write_text(json.dumps(results | inputs))
    return out


def test_runs_on_other_files_of_one_name_are_no_repeats(clone):
    for seed, folder, inputs in ((0, "a", "1a"), (1, "a", "1a"), (0, "b", "2b")):
        told_apart(
            finish("quickstart", "smoke", seed, 0.5, **{"data.manifest": f"/{folder}/m.csv"}), {"inputs": inputs}
        )
    finish("quickstart", "smoke", 0, 0.5)
    collect(Request("quickstart", "smoke"))
    groups = collected(clone, "quickstart-smoke")["groups"]
    assert [(g.get("inputs"), g["seeds"]) for g in groups] == [(None, [0]), ("1a", [0, 1]), ("2b", [0])]
    again = told_apart(finish("quickstart", "smoke", 0, 0.5, **{"data.manifest": "/c/m.csv"}), {"inputs": "1a"})
    with pytest.raises(InputError, match=r"both of seed 0 .* on auto and auto; delete one, or move it away"):
        collect(Request("quickstart", "smoke"))
    assert again.exists()


def test_older_runs_that_do_not_tell_their_files_are_grouped_by_parameters(clone):
    for seed, folder in ((0, "a"), (1, "b")):
        told_apart(finish("quickstart", "smoke", seed, 0.5, **{"data.manifest": f"/{folder}/m.csv"}), {})
    collect(Request("quickstart", "smoke"))
    (group,) = collected(clone, "quickstart-smoke")["groups"]
    assert group["seeds"] == [0, 1] and "inputs" not in group


def test_without_a_finished_run_an_earlier_collection_stays(clone):
    out = finish("quickstart", "smoke", 0, 0.5)
    path, _, _ = collect(Request("quickstart", "smoke"))
    before = path.read_bytes()
    (out / "results.json").unlink()
    (out / "notebook.ipynb").write_text(failed_notebook("ValueError", "a bug"))
    with pytest.raises(InputError, match="holds no finished run of these; 0: failed: ValueError: a bug"):
        collect(Request("quickstart", "smoke"))
    assert path.read_bytes() == before


# --- beside the paper: Table 8 prints F1 67.6 and 41.0 for MPC, 42.0 and 29.1 for HRFormer-small ----------------------


@pytest.mark.slow
def test_what_another_script_wrote_under_the_name_stays(clone):
    finish("table8", "smoke", 0, 0.3)
    theirs = clone / "book" / "results" / "table8-smoke.json"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text('{"command": "python table8-smoke.py"}')
    with pytest.raises(InputError, match=r"table8-smoke.json is there and was not written by --collect; move it"):
        collect(Request("table8", "smoke"))
    assert "table8-smoke.py" in theirs.read_text()


def test_the_exit_code_tells_of_a_score_off_its_band(clone, capsys):
    for seed in range(3):
        finish("table8", "paper", seed, 0.676 + 0.001 * seed, 0.41)
    assert main(["reproduce", "table8", "--profile", "paper", "--collect"]) == 0
    shown = capsys.readouterr().out
    assert "Table 8, MPC, seeds 0, 1, 2" in shown and "outside" not in shown
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("Columbia") and "F1" in line]
    assert row == ["Columbia", "F1", "67.6", "67.7", "0.1", "±1.0", "inside"]
    assert "collected in" in shown and "table8-paper.json" in shown
    for seed in range(3):
        finish("table8", "paper", seed, 0.5, 0.29, ablation="small")
    assert main(["reproduce", "table8", "--profile", "paper", "--collect"]) == 1
    shown = capsys.readouterr().out
    assert "Table 8, HRFormer-small, ablation=small, seeds 0, 1, 2" in shown and "outside" in shown
    assert main(["reproduce", "table8", "--profile", "paper", "--collect", "--sweep", "seed=0,1,2"]) == 0


def test_what_is_another_experiment_did_not_run(clone):
    for seed in range(3):
        finish("table8", "smoke", seed, 0.1)
        finish("table8", "paper", seed, 0.1, **{"pretrain.steps": 7})
    _, text, code = collect(Request("table8", "smoke"))
    assert "not run at full scale: these are runs of profile smoke" in text and code == 0
    _, text, code = collect(Request("table8", "paper"))
    assert "not run as the paper did: pretrain.steps changed" in text and code == 0
    finish("table8", "paper", 0, 0.1)
    _, text, code = collect(Request("table8", "paper"))
    assert "fewer than three seeds" in text and code == 0


def test_a_choice_or_a_score_that_the_paper_does_not_have_is_not_beside_it(clone):
    out = finish("table8", "paper", 0, 0.1)
    whole = json.loads((out / "results.json").read_text())
    recipe = {**whole["recipe"], "choice": {**whole["recipe"]["choice"], "ablation": "of mine"}}
    (out / "results.json").write_text(json.dumps({**whole, "recipe": recipe}))
    assert "not run as the paper did: no method 'of mine'" in collect(Request("table8", "paper"))[1]
    none = {name: {"n": scores["n"], "f1": None, "iou": None} for name, scores in whole["sets"].items()}
    (out / "results.json").write_text(json.dumps({**whole, "sets": none}))
    assert "not run" in collect(Request("table8", "paper"))[1]


def test_an_error_with_half_a_character_is_told(clone):
    finish("quickstart", "smoke", 0, 0.5)
    out = prepare("quickstart", "smoke", 4).out
    out.mkdir(parents=True)
    (out / "notebook.ipynb").write_text(failed_notebook("ValueError", "of \udce9\x1b[31m"))
    collect(Request("quickstart", "smoke"))
    (told,) = collected(clone, "quickstart-smoke")["unfinished"]
    assert told["reason"] == r"failed: ValueError: of \udce9\x1b[31m"


def test_noise_counts_as_outside_only_where_both_readings_are(clone):
    """Figure 2 prints F1 and IoU 93 at noise 0.002."""
    write_notebook(clone / "book" / "reproduce" / "robustness.ipynb")

    def scored(sigma, variance):
        values = {"noise_sigma_unit": sigma, "noise_variance_unit": variance}
        return [
            {"degradation": reading, "value": 0.002, "sets": {"Columbia": {"n": 160, "f1": value, "iou": value}}}
            for reading, value in values.items()
        ]

    for both, code in ((scored(0.93, 0.5), 0), (scored(0.5, 0.93), 0), (scored(0.5, 0.5), 1)):
        for seed in range(3):
            out = prepare("robustness", "paper", seed).out
            if not out.exists():
                finish("robustness", "paper", seed, 0.9)
            results = json.loads((out / "results.json").read_text())
            (out / "results.json").write_text(json.dumps({**results, "robustness": {"paper": both}}))
        _, text, found = collect(Request("robustness", "paper"))
        assert found == code, text
    assert "Figure 2, MPC, noise read as σ, seeds 0, 1, 2" in text and "noise read as variance" in text
