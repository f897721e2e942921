"""Which rows train and which validate: several manifests, draws and repeats, the third stage's lists, processes."""

import csv
import warnings

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.stream import Forgeries, Positions, datasets
from mpc_lite.errors import InputError
from mpc_lite.recipes.load import load_recipe


def manifest_of(folder, name, source, labels, split=""):
    """A manifest of one source: small images, the tampered ones marked in their upper half."""
    half = Image.fromarray(np.repeat([[255], [0]], 4, 0).repeat(8, 1).astype(np.uint8))
    rows = [["image", "mask", "label", "source", "split"]]
    for i, label in enumerate(labels):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{name}{i}.png")
        mask = f"{name}{i}_m.png" if label else ""
        if mask:
            half.save(folder / mask)
        rows.append([f"{name}{i}.png", mask, label, source, split])
    with open(folder / f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two training sets and two test sets, found through a variable of the environment."""
    manifest_of(tmp_path, "casia2", "CASIAv2", [1] * 6 + [0] * 6)
    manifest_of(tmp_path, "imd", "IMD", [1] * 9)
    manifest_of(tmp_path, "casia1", "CASIAv1", [1] * 5 + [0] * 2, "test")
    manifest_of(tmp_path, "dso1", "DSO", [1] * 3)
    monkeypatch.setenv("MPC_LITE_SETS", str(tmp_path))
    return tmp_path


def plan(**data):
    both = {"manifest": ["$MPC_LITE_SETS/casia2.csv", "$MPC_LITE_SETS/imd.csv"], "tampered_only": True}
    validation = {"validation": ["$MPC_LITE_SETS/casia1.csv", "$MPC_LITE_SETS/dso1.csv"]}
    values = {**both, **validation, **data}
    return load_recipe("quickstart", "smoke", {f"data.{key}": value for key, value in values.items()})


def names(samples):
    return sorted(s.image.stem for s in samples)


def test_several_manifests_are_one_list_and_validation_has_its_own(sets):
    train, validation, count = datasets(plan())
    assert names(train.samples) == sorted([f"casia2{i}" for i in range(6)] + [f"imd{i}" for i in range(9)])
    # All rows of the validation manifests, whatever their split says; `tampered_only` holds for them, too.
    assert names(validation.samples) == sorted([f"casia1{i}" for i in range(5)] + [f"dso1{i}" for i in range(3)])
    assert count == 8 and datasets(plan(validation_images=5))[2] == 5
    train, validation, count = datasets(plan(tampered_only=False))
    assert len(train.samples) == 21 and count == 8 and len(validation.samples) == 10


def test_without_validation_manifests_rows_are_held_out_and_test_rows_are_nobody_s(sets):
    train, validation, _ = datasets(plan(validation=None, validation_fraction=0.4))
    assert sorted(names(train.samples) + names(validation.samples)) == names(datasets(plan())[0].samples)
    with_test_rows = ["$MPC_LITE_SETS/casia2.csv", "$MPC_LITE_SETS/casia1.csv"]
    for validation in (None, "$MPC_LITE_SETS/dso1.csv"):
        train, held, _ = datasets(plan(manifest=with_test_rows, validation=validation, validation_fraction=0.4))
        assert {s.source for s in train.samples} == {"CASIAv2"} and "CASIAv1" not in {s.source for s in held.samples}


@pytest.mark.parametrize("validation", [None, "$MPC_LITE_SETS/dso1.csv"])
def test_a_split_that_nothing_is_done_with_is_refused_wherever_validation_comes_from(sets, tmp_path, validation):
    manifest_of(tmp_path, "second", "mine", [1, 1], "Train")
    with pytest.raises(InputError, match="splits Train are unknown; a manifest's splits are train, validation, test"):
        datasets(plan(manifest=["$MPC_LITE_SETS/casia2.csv", str(tmp_path / "second.csv")], validation=validation))


@pytest.mark.trust
def test_a_manifest_that_is_named_twice_is_refused_and_shared_images_are_told(sets, tmp_path):
    (tmp_path / "link.csv").symlink_to(sets / "casia2.csv")
    for twice in ("$MPC_LITE_SETS/casia2.csv", str(tmp_path / "link.csv")):
        with pytest.raises(InputError, match=r"a manifest is named twice: .*casia2\.csv.*; keep one, data\.repeats"):
            datasets(plan(manifest=["$MPC_LITE_SETS/casia2.csv", twice]))
    manifest_of(tmp_path, "second", "mine", [1, 1, 1], "validation")
    with pytest.warns(UserWarning, match=r"3 rows of .* are marked 'validation' and not used: those of data\.vali"):
        datasets(plan(manifest=["$MPC_LITE_SETS/casia2.csv", str(tmp_path / "second.csv")]))
    with warnings.catch_warnings():  # the list that is named holds them
        warnings.simplefilter("error")
        own = ["$MPC_LITE_SETS/dso1.csv", str(tmp_path / "second.csv")]
        datasets(plan(manifest=["$MPC_LITE_SETS/casia2.csv", str(tmp_path / "second.csv")], validation=own))
    with pytest.warns(UserWarning, match="6 of 6 validation images are training images too: validation scores flatter"):
        datasets(plan(manifest="$MPC_LITE_SETS/casia2.csv", validation="$MPC_LITE_SETS/casia2.csv"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        datasets(plan())


def test_an_epoch_visits_each_entry_once_and_repeated_rows_as_often_as_asked(sets):
    train, _, _ = datasets(plan(repeats={"CASIAv2": 4, "IMD": 2}))
    assert train.epoch == 6 * 4 + 9 * 2
    for epoch in range(2):
        times = np.bincount([train.row(epoch * train.epoch + place) for place in range(train.epoch)])
        assert [times[i] for i, s in enumerate(train.samples) if s.source == "CASIAv2"] == [4] * 6
        assert [times[i] for i, s in enumerate(train.samples) if s.source == "IMD"] == [2] * 9
    assert train[0]["image"].shape == (3, 64, 64)
    with pytest.raises(InputError, match=r"names CASIA2, .*sources found: CASIAv2, IMD"):
        datasets(plan(repeats={"CASIA2": 40}))


def test_an_epoch_of_another_length_than_the_recipe_says_is_told(sets):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for held in ({}, {"validation": None, "validation_fraction": 0.4}):
            datasets(plan(repeats={"CASIAv2": 4}, epoch=6 * 4 + 9, **held))
        datasets(plan(draw=5, epoch=5))
    with pytest.warns(UserWarning, match="an epoch of 15 entries, the recipe expects 14"):
        datasets(plan(epoch=14))


def test_rows_are_drawn_after_the_held_out_ones_are_gone_and_before_they_are_repeated(sets):
    train, _, _ = datasets(plan(draw=7, repeats={"IMD": 3}))
    imd = sum(s.source == "IMD" for s in train.samples)
    assert len(train.samples) == 7 and train.epoch == 7 + 2 * imd and imd
    assert names(train.samples) == names(datasets(plan(draw=7))[0].samples)
    with pytest.raises(InputError, match="asks for 16 training rows, the manifests have 15"):
        datasets(plan(draw=16))
    whole, held, _ = datasets(plan(validation=None, validation_fraction=0.4))
    kept, same, _ = datasets(plan(validation=None, validation_fraction=0.4, draw=len(whole.samples)))
    assert names(kept.samples) == names(whole.samples) and names(same.samples) == names(held.samples)


def test_the_third_stage_reads_its_own_manifests(sets):
    data = {"tampered_only": True, "draw": 2, "repeats": {"CASIAv2": 3}, "validation_fraction": 0.4}
    data["manifest"] = "$MPC_LITE_SETS/casia2.csv"
    adapt = {"steps": 2, "manifest": ["$MPC_LITE_SETS/imd.csv"], "validation": "$MPC_LITE_SETS/dso1.csv"}
    recipe = load_recipe("quickstart", "smoke", {**{f"data.{k}": v for k, v in data.items()}, "adapt": adapt})
    train, validation, _ = datasets(recipe, "adapt")
    assert names(train.samples) == [f"imd{i}" for i in range(9)] and train.epoch == 9
    assert names(validation.samples) == ["dso10", "dso11", "dso12"]
    for stage in ("pretrain", "finetune"):
        train, validation, _ = datasets(recipe, stage)
        assert {s.source for s in (*train.samples, *validation.samples)} == {"CASIAv2"} and train.epoch == 6
    generated = load_recipe("quickstart", "smoke", {"adapt": {"steps": 2, "manifest": []}})
    assert all(isinstance(made, Forgeries) for made in datasets(generated, "adapt")[:2])


def test_generated_forgeries_may_be_validated_on_photographs(sets):
    train, validation, count = datasets(plan(manifest=None))
    assert isinstance(train, Forgeries) and count == 8 and len(validation.samples) == 8


def test_a_list_that_leaves_nothing_is_told(sets):
    manifest_of(sets, "authentic", "Corel", [0, 0, 0])
    only = "$MPC_LITE_SETS/authentic.csv"
    with pytest.raises(InputError, match="0 training and 0 validation rows"):
        datasets(plan(manifest=only, validation=None))
    with pytest.raises(InputError, match=r"authentic\.csv: 0 training rows"):
        datasets(plan(manifest=only))
    with pytest.raises(InputError, match="no tampered row"):
        datasets(plan(validation=[only]))
    with pytest.raises(InputError, match="MPC_LITE_NOWHERE is not set"):
        datasets(plan(manifest="$MPC_LITE_NOWHERE/a.csv"))


@pytest.mark.parametrize("processes", [2, 3])
def test_the_processes_of_a_step_read_together_what_one_process_would_accumulate(sets, processes):
    train, _, _ = datasets(plan(repeats={"CASIAv2": 2}))
    batch, accumulate, steps = 2, 2, 3
    alone = list(Positions(0, steps * accumulate * processes, batch))
    shares = [list(Positions(0, steps * accumulate, batch, rank, processes)) for rank in range(processes)]
    for step in range(steps):
        own, width = slice(step * accumulate, (step + 1) * accumulate), accumulate * processes
        together = [p for share in shares for micro in share[own] for p in micro]
        single = [p for micro in alone[step * width : (step + 1) * width] for p in micro]
        assert len(set(together)) == len(together) == batch * width
        assert sorted(together) == sorted(single)
        assert sorted(train.row(p) for p in together) == sorted(train.row(p) for p in single)
