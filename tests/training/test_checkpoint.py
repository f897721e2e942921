"""What a checkpoint belongs to: the recipe, and every list of images that it names."""

import json
from pathlib import Path

import pytest

from mpc_lite.errors import InputError
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.identity import identity, same_run


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """Five manifests; only their bytes count here."""
    for name in ("a", "b", "validation", "adapt", "adapt_validation"):
        (tmp_path / f"{name}.csv").write_text(f"list {name}")
    monkeypatch.setenv("MPC_LITE_SETS", str(tmp_path))
    return tmp_path


def plan(**changes):
    data = {"data.manifest": ["$MPC_LITE_SETS/a.csv", "$MPC_LITE_SETS/b.csv"]}
    validation = {"data.validation": "$MPC_LITE_SETS/validation.csv"}
    adapt = {"steps": 1, "manifest": "$MPC_LITE_SETS/adapt.csv", "validation": ["$MPC_LITE_SETS/adapt_validation.csv"]}
    return load_recipe("quickstart", "smoke", {**data, **validation, "adapt": adapt, **changes})


@pytest.mark.parametrize("name", ["a", "b", "validation", "adapt", "adapt_validation"])
def test_a_changed_row_in_any_list_makes_another_run(lists, name):
    before = identity(plan())
    assert identity(plan()) == before
    with open(lists / f"{name}.csv", "a") as file:
        file.write("!")
    assert identity(plan()) != before
    (lists / f"{name}.csv").unlink()
    with pytest.raises(InputError, match=rf"{name}\.csv: No such file"):
        identity(plan())


def test_lists_that_moved_as_a_whole_are_the_same_lists(lists, tmp_path_factory, monkeypatch):
    before = identity(plan())
    moved = tmp_path_factory.mktemp("moved")
    for file in lists.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("MPC_LITE_SETS", str(moved))
    assert identity(plan()) == before


def test_the_second_half_may_find_the_same_lists_in_another_folder(lists, tmp_path):
    """As on a scratch disk whose path holds the number of the job."""
    written, moved = identity(plan()), tmp_path / "job2"
    moved.mkdir()
    for name in ("a", "b", "validation"):
        (moved / f"{name}.csv").write_bytes((lists / f"{name}.csv").read_bytes())
    there = {
        "data.manifest": [str(moved / "a.csv"), str(moved / "b.csv")],
        "data.validation": str(moved / "validation.csv"),
    }
    same_run(written, plan(**there), Path("pretrain.state"))
    (moved / "b.csv").unlink()
    with pytest.raises(InputError, match=r"b\.csv: No such file or directory; a run goes on only with the lists"):
        same_run(written, plan(**there), Path("pretrain.state"))
    (moved / "b.csv").write_text("another")
    with pytest.raises(InputError, match=r"pretrain\.state was written by .* \(the bytes of manifests\); resume"):
        same_run(written, plan(**there), Path("pretrain.state"))
    with pytest.raises(InputError, match=r"\(pretrain\.steps 3, not 4\); resume"):
        same_run(identity(plan(**{"pretrain.steps": 3})), plan(**{"pretrain.steps": 4}), Path("pretrain.state"))
    for text in ("", "[]", "{}", '{"recipe": 3}', "[" * 100_000):
        with pytest.raises(InputError, match=r"pretrain\.state was written by another recipe"):
            same_run(text, plan(), Path("pretrain.state"))


def test_what_a_run_is_called_and_how_it_is_scored_may_change(lists):
    before = identity(plan())
    free = plan(**{"evaluate.protocol": "macro", "data.workers": 3, "data.epoch": 5})
    assert identity(free.model_copy(update={"description": "x", "tables": ["Table 9"]})) == before
    assert identity(plan(**{"pretrain.learning_rate": 0.5})) != before != identity(plan(**{"data.draw": 5}))


def test_a_run_from_before_images_could_be_saved_as_jpeg_goes_on(lists):
    """Its checkpoint says nothing of `augment.jpeg`; one that saves says how."""
    augment = [json.loads(identity(plan(**c)))["recipe"]["augment"] for c in ({}, {"augment.jpeg": "{share: 0.2}"})]
    assert augment[0] == {"dihedral": True, "pipeline": "none"}
    assert augment[1] == {**augment[0], "jpeg": {"quality": [50, 95], "share": 0.2}}


def test_another_list_of_photographs_makes_another_run_and_one_that_did_not_know_it_goes_on(lists):
    (lists / "photographs.csv").write_text("image,source\na.png,a\n")
    real = plan(**{"data.real": {"lists": ["$MPC_LITE_SETS/photographs.csv"]}})
    before, older = identity(real), identity(real, with_lists=False)
    assert older != before and "lists" not in json.loads(older)
    (lists / "photographs.csv").write_text("image,source\nb.png,a\n")
    same_run(older, real, lists / "pretrain.state")
    with pytest.raises(InputError, match="another list of images"):
        same_run(before, real, lists / "pretrain.state")
    assert "lists" not in json.loads(identity(plan()))
