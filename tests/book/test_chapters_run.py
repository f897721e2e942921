"""Every chapter runs from its notebook at another scale and seed than its pages, and refuses wrong parameters."""

import json

import jupytext
import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from mpc_lite.provenance import book_result
from mpc_lite.reproduce.runner import notebook_parameters
from tests.book.site_under_test import ROOT, chapters

PARAMETERS = {"PROFILE": "str", "SEED": "int", "DEVICE": "str", "OUT": "str"}


def run(chapter, out, **values):
    source = ROOT / f"{chapter}.ipynb"
    options = {"kernel_name": "python3", "progress_bar": False, "cwd": str(source.parent)}
    return papermill.execute_notebook(str(source), str(out), values, **options)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", chapters())
def test_chapter_in_smoke(chapter, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = run(chapter, tmp_path / "out.ipynb", PROFILE="smoke", SEED=1, DEVICE="cpu", OUT=str(tmp_path / "numbers"))
    cells = [c for c in done.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in cells) and len(cells) >= 12
    told = json.loads((tmp_path / "numbers" / "numbers.json").read_text())
    assert (told["profile"], told["seed"], told["device"]) == ("smoke", 1, "cpu") and told["numbers"]


@pytest.mark.slow
def test_the_embedding_maps_coordinates_can_be_made_again(tmp_path, monkeypatch):
    """In smoke: fewer pixels and images than the committed result, of the same form."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source = tmp_path / "embedding.ipynb"
    jupytext.write(jupytext.read(ROOT / "book" / "results" / "embedding.md"), source)
    values = {"PROFILE": "smoke", "DEVICE": "cpu", "OUT": str(tmp_path)}
    papermill.execute_notebook(str(source), str(tmp_path / "out.ipynb"), values, progress_bar=False)
    made = json.loads((tmp_path / "embedding.json").read_text())
    committed = book_result("embedding")
    assert made.keys() == committed.keys() and made["profile"] == "smoke"
    for new, old in zip(made["images"], committed["images"], strict=True):
        assert new.keys() == old.keys() and new["kind"] == old["kind"] and len(new["labels"]) == 60


@pytest.mark.parametrize("chapter", chapters())
def test_parameters_are_the_four_typed_ones(chapter):
    assert notebook_parameters(ROOT / f"{chapter}.ipynb") == PARAMETERS
    cells = nbformat.read(ROOT / f"{chapter}.ipynb", as_version=4).cells
    assert sum("parameters" in c.metadata.get("tags", []) for c in cells) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("values", "says"), [({"PROFILE": "smok"}, "smoke"), ({"SEED": "abc"}, "expected int")])
def test_wrong_parameters_end_a_chapter_at_its_beginning(values, says, tmp_path):
    with pytest.raises(PapermillExecutionError, match=says):
        run(chapters()[0], tmp_path / "out.ipynb", **values)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert sum(bool(c.get("execution_count")) for c in cells if c.cell_type == "code") <= 5
