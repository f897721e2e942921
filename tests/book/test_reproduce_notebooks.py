"""The notebooks of the paper's tables: each has its recipe, says what it needs, runs, and claims nothing it did not do.

That a notebook is the twin of its source, and its parameters typed: tests/book/test_quickstart.py.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest

import mpc_lite
from mpc_lite.cli import main
from mpc_lite.data.manifest import read_manifest
from mpc_lite.images import read_image
from mpc_lite.network.weights import read_facts
from mpc_lite.recipes.load import load_recipe, recipe_choices, recipe_names
from mpc_lite.reproduce.paper import paper_numbers
from mpc_lite.reproduce.run import Request, prepare
from mpc_lite.reproduce.runner import reproduce
from tests.elsewhere import FOLDER, elsewhere, names_in
from tests.forked import forking

ROOT = Path(mpc_lite.__file__).parents[1]
NAMES = [name for name in recipe_names() if load_recipe(name).tables]
TRAINED = [name for name in NAMES if load_recipe(name).evaluate.weights is None]


def text_of(name):
    return (ROOT / "book" / "reproduce" / f"{name}.md").read_text(encoding="utf-8")


# --- what they say --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_table_of_the_paper_has_a_recipe_and_every_such_recipe_a_notebook():
    notebooks = {path.stem for path in (ROOT / "book" / "reproduce").glob("*.ipynb")}
    neighbours = {name.partition("-")[0] for name in recipe_names() if "arm" in recipe_choices(name)}
    assert neighbours == {"mscc", "pppc", "pclmix", "borrowed", "neighbours"}
    assert notebooks == {*NAMES, *neighbours, "quickstart"}
    assert set(TRAINED) == {
        "protocol1",
        "protocol2",
        "protocol3",
        "table8",
    }
    tables = [table for name in NAMES for table in load_recipe(name).tables]
    assert sorted(tables) == sorted({n.table for n in paper_numbers()} - {"text"})
    for name in NAMES:
        heading = re.search(r"^# .*$", text_of(name), re.M)[0]
        for number in re.findall(r"\d+", " ".join(load_recipe(name).tables)):
            assert re.search(rf"\b{number}\b", heading), (name, heading)


@pytest.mark.parametrize("name", NAMES)
def test_every_set_of_a_recipe_is_made_by_a_script_that_its_notebook_names(name):
    text, recipes = text_of(name), [load_recipe(name, "paper", {"variant": v}) for v in ("official", "corrected")]
    named = set(re.findall(r"data_scripts/(\w+)\.py", text))
    assert named and not [script for script in named if not (ROOT / "data_scripts" / f"{script}.py").is_file()]
    for file in re.findall(r"\$MPC_LITE_SETS/(\w+)\.csv", json.dumps([recipe.as_dict() for recipe in recipes])):
        split = re.fullmatch(r"(\w+)_(train|test)", file)
        script = "osn" if file.startswith("osn_") else split.group(1) if split else file
        assert script in named, file
        if split:
            assert f"from_list.py {'NIST' if script == 'nist16' else 'COVERAGE'}_LIST" in text
            assert f"--out $MPC_LITE_SETS/{file}.csv" in text
    for file in re.findall(r"\$MPC_LITE_WEIGHTS/\w+\.safetensors", json.dumps(recipes[0].as_dict())):
        assert f"--out {file}" in text and "mpc-lite convert" in text
    assert "no number" in text and "stand-in" in text if name == "osn" else "number of the paper" in text


@pytest.mark.parametrize("name", TRAINED)
def test_many_gpus_train_into_the_folder_of_the_runner(name):
    text = text_of(name)
    folder = prepare(name, "paper", 0).out.as_posix()
    for stage in ("pretrain", "finetune", *(["adapt"] if load_recipe(name, "paper").adapt else [])):
        assert f"accelerate launch -m mpc_lite.cli {stage} --recipe {name} --profile paper --out {folder}\n" in text
    assert f"mpc-lite reproduce {name} --profile paper --resume" in text
    assert f"mpc-lite info {name} --profile paper --cost" in text and "not measured" in text
    code = re.search(r"python -c '(.*)'\n", text)[1]
    assert code == (
        "from mpc_lite.reproduce.runner import prepare; "
        f'print(prepare("{name}", "paper", 1, parameters={{"variant": "corrected"}}).out)'
    )
    assert re.fullmatch(
        rf"runs/{name}/paper/1-\w+", prepare(name, "paper", 1, parameters={"variant": "corrected"}).out.as_posix()
    )


def test_the_ablations_sweep_names_every_row():
    text, rows = text_of("table8"), recipe_choices("table8")["ablation"]
    assert f"--sweep ablation={','.join(rows)} " in text
    assert ", ".join(f"`{row}`" for row in rows[1:]) in text


# --- smoke runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{name: run folder}: each notebook is run once, when a test first asks for it.

    Of protocol1, stage 1 is trained by its own command before, as on many GPUs, and the runner goes on from there.
    """

    class Runs(dict):
        def __missing__(self, name):
            folder = tmp_path_factory.mktemp(f"{FOLDER}-{name}")
            with forking(), elsewhere(folder):
                if name == "protocol1":
                    out = prepare(name, "smoke").out
                    command = ["pretrain", "--recipe", name, "--profile", "smoke", "--out", str(out), "--device", "cpu"]
                    assert main(command) == 0
                    self.stage1 = (out / "stage1.safetensors").read_bytes()
                    self[name] = folder / reproduce(Request(name, "smoke"), resume=True)
                else:
                    given = {"DEVICE": "cpu"} | ({"ablation": "without_cross_scale"} if name == "table8" else {})
                    self[name] = folder / reproduce(Request(name, "smoke", given))
            return self[name]

    return Runs()


def results_of(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def printed(out):
    """What the notebook of a run printed."""
    cells = nbformat.read(out / "notebook.ipynb", as_version=4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    return "".join(o.text for o in outputs if o.output_type == "stream")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_is_complete_and_says_not_run(name, runs):
    out, recipe = runs[name], load_recipe(name, "smoke")
    results, said, report = results_of(out), printed(out), (out / "report.html").read_text(encoding="utf-8")
    keys = {*("schema", "name", "profile", "recipe", "seed", "parameters", "protocol", "device", "versions", "commit")}
    keys |= {"seconds", "manifest", "sets", "average", "image_level", "errors"}
    assert set(results) == keys | ({"robustness"} if recipe.evaluate.grids else set())
    assert (results["name"], results["profile"], results["errors"]) == (name, "smoke", 0)
    assert results["recipe"]["tables"] == recipe.tables and results["protocol"] == "mpc_legacy"
    assert results["sets"] and all(source.startswith("generated-") for source in results["sets"])
    assert all(0 <= s[key] <= 1 for s in results["sets"].values() for key in ("f1", "iou"))

    table = "Table 8, w/o L2" if name == "table8" else recipe.tables[0]
    assert f"{table}\ntest set" in said and "Profile smoke: not run at full scale" in said
    assert "Profile smoke: the steps of that experiment at a small scale, on forgeries made on the spot." in report
    beside = report[report.index("Beside the paper") : report.index("How this was made")]
    printed_values = {
        f"{n.value:.1f}" for n in paper_numbers(recipe.tables[0], "w/o L2" if name == "table8" else "MPC", "F1")
    }
    for text in (said[said.index(f"{table}\n") :], beside):
        assert "not run" in text and all(value in text for value in printed_values)
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(<th scope=.row.*?)</tr>", beside)]
    assert len(rows) >= len(printed_values) and {text for row in rows for text in row[2::2]} == {"not run"}
    assert report.count("<img ") == (2 if name != "osn" else 1)

    assert [names_in(text) for text in (json.dumps(results), report, said)] == [[], [], []]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_stage_of_a_training_recipe_ran(name, runs):
    out = runs[name]
    stages = [json.loads(line)["stage"] for line in (out / "log.jsonl").read_text().splitlines()]
    expected = ["pretrain", "finetune", *(["adapt"] if name == "protocol2" else [])]
    assert list(dict.fromkeys(stages)) == expected
    last = "adapted" if name == "protocol2" else "model"
    assert read_facts(out / f"{last}.safetensors")["stage"] == expected[-1]
    trained = read_facts(out / "stage1.safetensors")["recipe"]["pretrain"]["terms"]
    assert ("cross_scale" in trained) == (name != "table8")


@pytest.mark.slow
def test_a_stage_trained_elsewhere_is_not_trained_again(runs):
    out = runs["protocol1"]
    assert out.name == "0" and (out / "stage1.safetensors").read_bytes() == runs.stage1
    steps = [e for e in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if e["stage"] == "pretrain"]
    assert [e["step"] for e in steps if "loss" in e] == [1, 2]


@pytest.mark.slow
def test_the_stand_in_is_called_so_and_no_network_is_named(runs):
    out = runs["osn"]
    sources = set(results_of(out)["sets"])
    assert {s for s in sources if s.endswith(", recompressed")} == {
        f"{s}, recompressed" for s in sources if "," not in s
    }
    shown = printed(out).partition("Table 6")[0] + json.dumps(results_of(out)["sets"])
    assert not re.search("facebook|we-?chat|weibo|whatsapp", shown, re.I)
    half = len(read_manifest(out / "stand-in.csv")) // 2
    sizes = [read_image(sample.image).shape[0] for sample in read_manifest(out / "stand-in.csv")]
    assert sizes == [64] * half + [48] * half


# --- research sets, as at full scale ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_research_sets_give_numbers_and_curves_but_no_pictures(runs, tmp_path, monkeypatch):
    """Robustness of sets called like the paper's, one row of them broken: counted, compared by name, not shown."""
    samples = read_manifest(runs["robustness"] / "test" / "manifest.csv")
    lines = ["image,mask,label,source"]
    for source in ("Columbia", '"Columbia, Facebook"'):
        lines += [f"{s.image},{s.mask or ''},{s.label},{source}" for s in samples]
    (tmp_path / "sets.csv").write_text("\n".join([*lines, "gone.png,,0,Columbia"]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPC_LITE_SETS", str(tmp_path))
    out = reproduce(
        Request("robustness", "smoke", {"DEVICE": "cpu", "evaluate.manifests": "[$MPC_LITE_SETS/sets.csv]"})
    )
    results, report = results_of(out), (out / "report.html").read_text(encoding="utf-8")
    assert results["errors"] == 1 and "1 rows could not be read" in report
    assert set(results["sets"]) == {"Columbia", "Columbia, Facebook"}
    assert {source for cell in results["robustness"]["chains"] for source in cell["sets"]} == {"Columbia, Facebook"}
    assert re.findall(r'<figure id="figure-([\w-]+)"', report) == ["robustness"] and report.count("<img ") == 1
    pictures = [o for c in nbformat.read(out / "notebook.ipynb", 4).cells for o in c.get("outputs", []) if "data" in o]
    assert len(pictures) == 1
    assert str(tmp_path) not in json.dumps(results) + report + printed(out)
    assert "not run at full scale" in report and "on forgeries made on the spot" not in report
