"""What a run is tested on: manifests merged without losing a row, forgeries where none are named, and stand-ins."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import check, manifest_rows, read_manifest, read_mask
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import degrade
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.images import read_image
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights
from mpc_lite.reproduce import scored_sets as testsets
from mpc_lite.reproduce.run import prepare
from mpc_lite.reproduce.scored_sets import grid_manifest, is_generated, network_of, scored_network, stand_in


@pytest.fixture
def run(tmp_path):
    return prepare("quickstart", "smoke", 2, "cpu", tmp_path / "run")


def with_manifests(run, manifests, **more):
    """The run with other test images."""
    way = run.recipe.evaluate.model_copy(update={"manifests": [str(m) for m in manifests], **more})
    return replace(run, recipe=run.recipe.model_copy(update={"evaluate": way}))


def write_set(folder, name, rows, header="image,mask,label,source"):
    """A manifest in its own folder; every image it names is made, every mask has one tampered quarter."""
    (folder / "files").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in rows:
        image, mask, *_ = [*row.split(","), ""]
        if image.endswith(".png") and "missing" not in image:
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / image)
        if mask.endswith(".png"):
            truth = np.zeros((16, 16), np.uint8)
            truth[:8, :8] = 255
            Image.fromarray(truth).save(folder / mask)
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


def all_grey(image):
    return np.full(image.shape[:2], 0.25, np.float32)


# --------------------------------------------------------------------------------------------------- one manifest


def test_without_manifests_forgeries_are_made_twice_alike(run):
    assert is_generated(run)
    first = testsets.scored_manifest(run)
    content = {p: p.read_bytes() for p in first.parent.rglob("*") if p.is_file()}
    assert testsets.scored_manifest(run) == first == run.out / "test" / "manifest.csv"
    assert content == {p: p.read_bytes() for p in first.parent.rglob("*") if p.is_file()}
    assert len(read_manifest(first)) == run.recipe.data.test_images


def test_manifests_are_merged_with_their_columns(run, tmp_path):
    one = write_set(tmp_path / "a", "one.csv", ["files/1.png,files/1m.png,1,NIST", "files/2.png,,0,NIST"])
    header = "image,mask,label,source,split,camera"
    two = write_set(tmp_path / "b", "two.csv", ["files/1.png,files/1m.png,1,DSO,test,Canon"], header)
    run = with_manifests(run, [one, two])
    merged = testsets.scored_manifest(run)
    assert merged == run.out / "test.csv" and check(merged) == [] and not is_generated(run)
    samples = read_manifest(merged)
    assert [s.image.resolve() for s in samples] == [
        *(tmp_path / "a" / "files" / name for name in ("1.png", "2.png")),
        tmp_path / "b" / "files" / "1.png",
    ]
    assert [(s.source, s.label, s.split, s.extra["camera"]) for s in samples] == [
        *(("NIST", 1, None, ""), ("NIST", 0, None, "")),
        ("DSO", 1, "test", "Canon"),
    ]
    assert samples[2].extra["listed"] == "row 2 of two.csv"
    assert str(tmp_path) not in merged.read_text()
    before = merged.read_bytes()
    assert testsets.scored_manifest(run).read_bytes() == before


def test_rows_with_mistakes_stay_in_and_are_counted(run, tmp_path):
    rows = ["files/1.png,files/1m.png,1,NIST", "files/missing.png,,0,NIST", "files/2.png,,maybe,NIST", "only,two"]
    rows += [",,0,NIST", "files/3.png,,1,NIST", "files/bad.png,files/bad_m.png,1,NIST"]
    one = write_set(tmp_path / "a", "one.csv", rows)
    (tmp_path / "a" / "files" / "bad.png").write_bytes(b"no picture")
    merged = testsets.scored_manifest(with_manifests(run, [one]))
    table = evaluate(all_grey, merged)
    assert table["sets"]["NIST"]["n"] == 1 and len(table["errors"]) == 6
    assert len(list(manifest_rows(merged))) == 7
    listed = [row["listed"] for row in csv.DictReader(merged.read_text().splitlines())]
    assert listed[2] == "row 4 of one.csv: label 'maybe', expected 1 (tampered) or 0 (authentic)"
    assert listed[3].startswith("row 5 of one.csv: 2 fields, expected 4")
    assert listed[6] == "row 8 of one.csv"
    assert not [line for line in table["errors"] if str(tmp_path) in line]


def test_a_split_picks_rows_where_a_manifest_names_any(run, tmp_path):
    header = "image,mask,label,source,split"
    rows = ["files/1.png,files/1m.png,1,NIST,train", "files/2.png,files/2m.png,1,NIST,test", "files/3.png,,0,NIST,"]
    split = write_set(tmp_path / "a", "split.csv", rows, header)
    whole = write_set(tmp_path / "b", "whole.csv", ["files/1.png,files/1m.png,1,CASIAv1"])
    samples = read_manifest(testsets.scored_manifest(with_manifests(run, [split, whole], split="test")))
    assert [(s.source, s.image.name) for s in samples] == [("NIST", "2.png"), ("CASIAv1", "1.png")]
    with pytest.raises(InputError, match="no row has the split 'tset'; splits found: test, train"):
        testsets.scored_manifest(with_manifests(run, [split, whole], split="tset"))


def test_missing_manifests_and_variables_are_mistakes_of_the_call(run, tmp_path, monkeypatch):
    one = write_set(tmp_path / "a", "one.csv", ["files/1.png,,0,NIST"])
    with pytest.raises(InputError, match="names a file twice"):
        testsets.scored_manifest(with_manifests(run, [one, one.parent / ".." / "a" / "one.csv"]))
    with pytest.raises(InputError, match="no such file"):
        testsets.scored_manifest(with_manifests(run, [tmp_path / "none.csv"]))
    monkeypatch.delenv("MPC_LITE_SETS", raising=False)
    with pytest.raises(InputError, match=r"MPC_LITE_SETS \(the folder of manifests"):
        testsets.scored_manifest(with_manifests(run, ["$MPC_LITE_SETS/one.csv"]))
    monkeypatch.setenv("MPC_LITE_SETS", str(one.parent))
    assert len(read_manifest(testsets.scored_manifest(with_manifests(run, ["$MPC_LITE_SETS/one.csv"])))) == 1


# ------------------------------------------------------------------------------------------------------ the network


@pytest.mark.slow
def test_the_network_is_fed_as_the_recipe_says(run, tmp_path):
    """A checkpoint's own recipe may say otherwise, and that of the authors says nothing."""
    save_weights(tmp_path / "a.safetensors", MPC.build("nano"), {"evaluate": {"mode": "tiles", "size": 96}})
    network = scored_network(run, tmp_path / "a.safetensors")
    way = run.recipe.evaluate
    assert (network.mode, network.size, network.overlap) == (way.mode, way.size, way.overlap) == ("tiles", 64, 32)
    assert {p.device.type for p in network.model.parameters()} == {"cpu"}


def test_a_recipe_that_trains_nothing_needs_weights(run, monkeypatch):
    with pytest.raises(InputError, match="weights is empty; name what to score"):
        scored_network(run, None)
    monkeypatch.delenv("MPC_LITE_WEIGHTS", raising=False)
    with pytest.raises(InputError, match="MPC_LITE_WEIGHTS"):
        scored_network(run, "$MPC_LITE_WEIGHTS/protocol3.safetensors")


# ------------------------------------------------------------------------------------------- networks and stand-ins


def test_a_stand_in_shows_each_photograph_untouched_and_recompressed(run):
    manifest = testsets.scored_manifest(run)
    before, both = read_manifest(manifest), stand_in(run, manifest)
    assert check(both) == []
    samples = read_manifest(both)
    untouched, changed = samples[: len(before)], samples[len(before) :]
    assert [s.image.resolve() for s in untouched] == [s.image.resolve() for s in before]
    assert [s.source for s in changed] == [f"{s.source}, recompressed" for s in before]
    assert not any(network in both.read_text() for network in testsets.NETWORKS)
    for old, new in zip(before, changed, strict=True):
        photo = read_image(new.image)
        assert np.array_equal(photo, degrade(read_image(old.image), testsets.STAND_IN))
        assert photo.shape == (48, 48, 3)
        area, shrunk = read_mask(old).mean(), read_mask(new).mean()
        assert shrunk == pytest.approx(area, abs=0.02)


def test_chains_follow_a_network_and_single_steps_the_untouched_set(run, tmp_path):
    rows = ['files/1.png,,0,"Columbia, Facebook"', "files/2.png,,0,Columbia", 'files/3.png,,0,"DSO, Whatsapp"']
    both = write_set(tmp_path / "a", "both.csv", rows)
    run.out.mkdir()
    merged = testsets.scored_manifest(with_manifests(run, [both]))
    chains, paper = (read_manifest(grid_manifest(run, merged, grid)) for grid in ("chains", "paper"))
    assert [s.source for s in chains] == ["Columbia, Facebook", "DSO, Whatsapp"]
    assert [s.source for s in paper] == ["Columbia"] and paper[0].image.is_file()
    alone = write_set(tmp_path / "b", "alone.csv", rows[1:2])
    assert grid_manifest(run, alone, "chains") == alone == grid_manifest(run, alone, "paper")


def test_a_source_names_its_network_at_its_end():
    assert network_of("Columbia, Facebook") == "Facebook"
    assert [network_of(source) for source in ("Columbia", "Facebook", "generated-splice, recompressed")] == [None] * 3
