"""Every chapter runs from its notebook at another scale and seed than its pages, and refuses wrong parameters."""

import importlib.util
import json

import nbformat
import numpy as np
import papermill
import pytest
import torch
from papermill.exceptions import PapermillExecutionError

from mpc_lite.provenance import book_result
from mpc_lite.reproduce.runner import notebook_parameters
from tests.book.site_under_test import ROOT, chapters

pytestmark = pytest.mark.usefixtures("forked")
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
def test_the_embedding_maps_coordinates_can_be_made_again():
    """With fewer pixels than the committed result, in the same form."""
    spec = importlib.util.spec_from_file_location("geometry_script", ROOT / "book/results/geometry.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with torch.no_grad():
        made = script.umap_maps(30)
    committed = book_result("geometry")["maps"]
    for new, old in zip(made, committed, strict=True):
        assert new.keys() == old.keys() and new["kind"] == old["kind"] and new["labels"] == [0] * 30 + [1] * 30
        assert all(np.shape(new[when]) == (60, 2) for when in new["purity"])


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
