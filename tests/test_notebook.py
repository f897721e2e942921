"""The beginning of a chapter: every wrong parameter is refused, numbers come out where the prose looks for them."""

import json
import random

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from mpc_lite.errors import InputError
from mpc_lite.notebook import begin


def test_good_parameters_seed_every_generator():
    run = begin("smoke", 7, "cpu")
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    begin("smoke", 7, "cpu")
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())
    begin("smoke", 8, "cpu")
    assert drawn[2] != torch.rand(1).item()
    assert (run.profile, run.seed, run.device, run.out) == ("smoke", 7, torch.device("cpu"), None)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (("smok", 0), "did you mean 'smoke'"),
        (("lite", "0"), "SEED: found '0', expected int"),
        (("lite", True), "SEED: found True"),
        (("lite", -1), "SEED: found -1"),
        (("lite", 0, "gpu"), "DEVICE: found 'gpu'"),
        (("lite", 0, "cpu", None), "OUT: found None, expected str"),
    ],
)
def test_wrong_parameters_are_refused(values, says):
    with pytest.raises(InputError, match=says.replace("'", ".")):
        begin(*values)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="'cuda' is asked for"):
        begin("lite", 0, "cuda")


def test_scale_takes_the_profile_and_paper_falls_back_to_lite():
    assert [begin(p, 0, "cpu").scale(1, 2) for p in ("smoke", "lite", "paper")] == [1, 2, 2]
    assert begin("paper", 0, "cpu").scale(1, 2, paper=3) == 3


def test_told_numbers_are_recorded_for_the_prose_and_written(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    run = begin("lite", 3, "cpu", str(tmp_path / "out"))
    run.tell("f1", np.float32(0.5))
    run.tell("n", 12)
    (data, metadata), _ = shown
    assert list(data.values()) == ["0.5"] and metadata["scrapbook"]["name"] == "f1"
    assert list(data) == [metadata["scrapbook"]["mime_prefix"] + "text/plain"]
    written = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert written["numbers"] == {"f1": 0.5, "n": 12} and (written["profile"], written["seed"]) == ("lite", 3)
    for value, found in (([1], "list"), (np.ones(2), "ndarray"), (torch.ones(2), "Tensor"), (float("nan"), "nan")):
        with pytest.raises(InputError, match=f"found {found}, expected a"):
            run.tell("list", value)
    run.tell("twice", 1)
    assert run.told["twice"] == 1


def test_the_book_finds_the_record_where_it_looks():
    """MyST-NB's own reader takes the number out of an executed cell's output."""
    from myst_nb.ext.glue import extract_glue_data_cell
    from nbformat.v4 import new_code_cell, new_output

    shell = InteractiveShell.instance()
    with pytest.MonkeyPatch.context() as patch:
        caught = []
        patch.setattr(shell.display_pub, "publish", lambda data, metadata=None, **_: caught.append((data, metadata)))
        begin("lite", 0, "cpu").tell("f1", 0.25)
    ((data, metadata),) = caught
    cell = new_code_cell(outputs=[new_output("display_data", data, metadata=metadata)])
    ((key, found),) = extract_glue_data_cell(cell)
    assert key == "f1" and found["data"] == {"text/plain": "0.25"}
    assert cell.outputs == []  # nothing is left to show
