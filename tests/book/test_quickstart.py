"""The quickstart as a reader runs it: the notebook is its source's twin, and the whole command keeps its promises."""

import contextlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import nbformat
import pytest

import mpc_lite
from mpc_lite.cli import main
from mpc_lite.network.weights import read_facts
from mpc_lite.recipes.load import load_recipe
from mpc_lite.reproduce.runner import notebook_parameters
from tests.elsewhere import FOLDER, elsewhere, names_in
from tests.forked import forking

REPRODUCE = Path(mpc_lite.__file__).parent.parent / "book" / "reproduce"
SOURCES = sorted(REPRODUCE.glob("*.md"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_notebook_is_made_from_its_source_and_was_not_run(source):
    """Mend with: jupytext --update --to ipynb book/reproduce/NAME.md"""
    expected, found = jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(found)

    def cells(notebook):
        return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]

    assert cells(found) == cells(expected)
    assert found.metadata.kernelspec == expected.metadata.kernelspec
    for cell in found.cells:
        assert cell.get("execution_count") is None and not cell.get("outputs")


def test_every_notebook_has_a_source():
    assert {p.stem for p in REPRODUCE.glob("*.ipynb")} == {p.stem for p in SOURCES} != set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_parameters_are_typed(source):
    types = notebook_parameters(source.with_suffix(".ipynb"))
    expected = {"PROFILE": "str", "SEED": "int", "DEVICE": "str", "OUT": "str", "RESUME": "bool", "PARAMETERS": "dict"}
    assert expected.items() <= types.items()


def test_what_the_quickstart_says_of_the_shipped_weights_is_so():
    text = (REPRODUCE / "quickstart.md").read_text()
    here, shipped = load_recipe("quickstart"), load_recipe("lite2")
    for words, true in {
        "more steps, larger batches": all(
            getattr(shipped, stage).steps > getattr(here, stage).steps
            and getattr(shipped, stage).batch > getattr(here, stage).batch
            for stage in ("pretrain", "finetune")
        ),
        "more photographs (a clothing data set and photographs of many cameras)": (
            set(shipped.data.scenes) - set(here.data.scenes) == {"photos"} and len(shipped.data.real.sources) > 5
        ),
        "authentic ones for half of the images": shipped.data.authentic_share == 0.5 > here.data.authentic_share,
        "stage 2 that trained the whole network": shipped.finetune.encoder == "trained" != here.finetune.encoder,
    }.items():
        assert words in text and true, words
    assert "trained longer in the same way" not in text


# --- one smoke run, looked at from all sides ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, what the command printed): `mpc-lite reproduce quickstart --profile smoke`."""
    folder, printed = tmp_path_factory.mktemp(FOLDER), io.StringIO()
    with forking(), elsewhere(folder), contextlib.redirect_stdout(printed):
        code = main(["reproduce", "quickstart", "--profile", "smoke", "-p", "DEVICE=cpu", "-p", "SEED=3"])
    assert code == 0
    (out,) = (folder / "runs" / "quickstart" / "smoke").iterdir()
    return out, printed.getvalue()


@pytest.mark.slow
def test_the_run_folder_is_complete(run):
    out, _ = run
    names = {p.name for p in out.iterdir()}
    files = {"results.json", "report.html", "notebook.ipynb", "stage1.safetensors", "model.safetensors", "log.jsonl"}
    assert files <= names and "stop" not in names
    assert re.fullmatch(r"3-[0-9a-f]{8}", out.name)
    stages = {json.loads(line)["stage"] for line in (out / "log.jsonl").read_text().splitlines()}
    assert stages == {"pretrain", "finetune"}
    assert read_facts(out / "model.safetensors")["recipe"]["profile"] == "smoke"


@pytest.mark.slow
def test_results_follow_the_schema(run):
    out, _ = run
    text = (out / "results.json").read_text()
    results = json.loads(text)
    assert set(results) == {
        *("schema", "name", "profile", "recipe", "seed", "parameters", "protocol", "device", "versions", "commit"),
        *("seconds", "manifest", "sets", "average", "image_level", "errors"),
    }
    assert (results["schema"], results["name"], results["profile"], results["seed"]) == (1, "quickstart", "smoke", 3)
    assert (results["protocol"], results["device"]) == ("mpc", "cpu")
    assert {"python", "torch", "mpc-lite"} <= set(results["versions"])
    assert results["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", results["commit"])
    assert 0 < results["seconds"] < 600
    assert set(results["average"]) == {"f1", "iou", "weighting"}
    assert set(results["image_level"]) == {"auc", "false_alarm_rate", "n_authentic", "n_tampered"}
    level = results["image_level"]
    assert level["n_authentic"] + level["n_tampered"] == results["recipe"]["data"]["test_images"]
    assert sum(s["n"] for s in results["sets"].values()) == level["n_tampered"]
    weighted = sum(s["n"] * s["f1"] for s in results["sets"].values()) / level["n_tampered"]
    assert results["average"]["f1"] == pytest.approx(weighted)
    for scores in results["sets"].values():
        assert set(scores) == {"n", "f1", "iou", "auc", "f1_ci95", "baselines"}
        assert set(scores["baselines"]) == {"all_tampered", "ela", "noise_residual"}
        values = [scores["f1"], scores["iou"], *(v for b in scores["baselines"].values() for v in (b["f1"], b["iou"]))]
        assert all(0 <= v <= 1 for v in values)
    assert names_in(text) == []


@pytest.mark.slow
def test_the_terminal_shows_the_table(run):
    out, printed = run
    results = json.loads((out / "results.json").read_text())
    row = next(line for line in printed.splitlines() if line.strip().startswith("this run"))
    assert row.split()[2:6] == ["tiles", "64", *(f"{results['average'][key]:.3f}" for key in ("f1", "iou"))]
    for words in ("all tampered", "error levels", "noise residual", "Protocol mpc", "report.html", "lite"):
        assert words in printed


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_the_report_stands_alone_and_tells_everything(run):
    out, _ = run
    text = (out / "report.html").read_text()
    page, results = _Page(text), json.loads((out / "results.json").read_text())
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 2
    for picture in pictures:
        assert picture["src"].startswith("data:image/png;base64,") and len(picture["alt"].split()) > 8
    words = [f"{results['average']['f1']:.3f}", "Protocol mpc", "all tampered", "shipped 'lite2'", "noise residual"]
    words += [results["versions"]["torch"], "cpu", "--profile smoke -p SEED=3 -p DEVICE=cpu", "Seed", "sha256"]
    assert [w for w in words if w not in page.text] == []
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert len(text) < 3_000_000 and names_in(text) == []


@pytest.mark.slow
def test_the_executed_notebook_has_no_noise(run):
    notebook = nbformat.read(run[0] / "notebook.ipynb", as_version=4)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("text/html" in o.get("data", {}) for o in outputs) == 3
