"""The stream of items: order, sharing out, validation rows, native images and masks, what a bad row becomes."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mpc_lite.data.loader import loader
from mpc_lite.data.manifest import Sample, read_manifest
from mpc_lite.data.stream import Forgeries, ManifestImages, Positions, datasets, held_out
from mpc_lite.errors import InputError
from mpc_lite.images import decode, encode_jpeg
from mpc_lite.recipes.load import load_recipe


@pytest.fixture
def recipe():
    return load_recipe("quickstart", "smoke")


def write_manifest(folder, rows):
    """rows: (name, split); every second image is tampered in its left half."""
    folder.mkdir(exist_ok=True)
    lines = ["image,mask,label,source,split"]
    for i, (name, split) in enumerate(rows):
        pixels = np.random.default_rng(i).integers(0, 255, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        if i % 2:
            mask = np.zeros((50, 70), np.uint8)
            mask[:, :35] = 255
            Image.fromarray(mask).save(folder / f"{name}_m.png")
        lines.append(f"{name}.png,{f'{name}_m.png' if i % 2 else ''},{i % 2},toy,{split}")
    (folder / "m.csv").write_text("\n".join(lines))
    return folder / "m.csv"


UNCAUGHT = """
from mpc_lite.data.loader import loader
from mpc_lite.data.stream import Forgeries, Positions
from mpc_lite.recipes.load import load_recipe

batches = iter(loader(Forgeries(load_recipe("quickstart", "smoke"), "train"), Positions(0, 100, 2), 1))
next(batches)
raise RuntimeError("a bug")
"""


@pytest.mark.slow
def test_an_error_that_nobody_catches_ends_the_process_and_its_workers():
    run = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "RuntimeError: a bug" in run.stderr


STARTING = """
import os, signal, sys
from torch.utils.data import DataLoader
from mpc_lite.data.loader import loader
from mpc_lite.data.stream import Forgeries, Positions
from mpc_lite.recipes.load import load_recipe

started, data = DataLoader.__iter__, Forgeries(load_recipe("quickstart", "smoke"), "train")

def start(self):
    os.killpg(0, signal.SIGTERM)  # as a job that ends, before the workers are made
    made = started(self)
    os.killpg(0, signal.SIGTERM)  # and while they begin
    return made

came = []
signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
DataLoader.__iter__ = start
stream = iter(loader(data, Positions(0, 9, 2), 2))
print(came, all(isinstance(next(stream), dict) for _ in range(4)))
"""


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for groups")
def test_a_signal_while_the_workers_start_is_heard_afterwards_and_ends_none():
    run = subprocess.run(
        [sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=120, start_new_session=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "[15] True\n", "")


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server")
def test_a_fork_server_that_a_loader_starts_hears_signals():
    """All processes that this one starts later come from it."""
    code = "import multiprocessing, time\nfrom mpc_lite.data.loader import _put_off\nif __name__ == '__main__':\n"
    code += " multiprocessing.set_start_method('forkserver')\n"
    code += " with _put_off(): multiprocessing.forkserver.ensure_running()\n"
    code += " p = multiprocessing.Process(target=time.sleep, args=(60,)); p.start(); p.terminate(); p.join(20)\n"
    code += " print(p.exitcode)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stdout == "-15\n"


@pytest.mark.slow
def test_items_do_not_depend_on_workers_or_batches(recipe):
    data = Forgeries(recipe, "train")
    alone = torch.cat([b["image"] for b in loader(data, Positions(0, 4, 2), 0)])
    together = torch.cat([b["image"] for b in loader(data, Positions(0, 2, 4), 2)])
    assert alone.dtype == torch.uint8 and alone.shape == (8, 3, 64, 64)
    assert torch.equal(alone, together)


def test_positions_are_shared_out_among_processes_and_resume_in_place():
    whole = [p for batch in Positions(0, 6, 4) for p in batch]
    assert whole == list(range(24))
    first, second = (list(Positions(0, 3, 4, rank, 2)) for rank in (0, 1))
    assert sorted(p for b in first + second for p in b) == whole
    assert list(Positions(2, 6, 4)) == list(Positions(0, 6, 4))[2:]


def test_the_loader_leaves_the_global_random_numbers_alone(recipe):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(Forgeries(recipe, "train"), Positions(0, 1, 2), 0))
    assert torch.equal(before, torch.get_rng_state())


def test_manifest_rows_are_squashed_and_permuted_anew_in_each_epoch(tmp_path, recipe):
    samples = read_manifest(write_manifest(tmp_path, [(f"a{i}", "train") for i in range(6)]))
    data = ManifestImages(recipe, "train", samples)
    item = data[0]
    assert item["image"].shape == (3, 64, 64) and item["mask"].shape == (64, 64)
    tampered = next(mask for mask in (data[p]["mask"].float() for p in range(6)) if mask.any())
    assert tampered[:, :31].mean() == 1 and tampered[:, 33:].mean() == 0
    epochs = [[data[p]["image"].sum().item() for p in range(e * 6, e * 6 + 6)] for e in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1]


def training_items(tmp_path, monkeypatch, mask, positions=1, **changes):
    """The training items of one row of 50 x 70 pixels with this mask, which need not be one that a file can hold."""
    changes = {f"{section}.{key}": value for section, keys in changes.items() for key, value in keys.items()}
    recipe = load_recipe("quickstart", "smoke", {"augment.dihedral": False, **changes})
    monkeypatch.setattr("mpc_lite.data.stream.read_mask", lambda *_: mask)
    samples = read_manifest(write_manifest(tmp_path, [("a0", "train"), ("a1", "train")]))[1:]
    data = ManifestImages(recipe, "train", samples)
    return [data[position] for position in range(positions)]


@pytest.mark.parametrize("pipeline", ["none", "official"])
def test_ignored_pixels_stay_ignored_and_the_others_what_they_are(tmp_path, monkeypatch, pipeline):
    halves = np.zeros((50, 70), np.uint8)
    halves[:, :35] = 1
    partly = halves.copy()
    partly[:25, 35:] = 255
    plain, ignoring = (
        training_items(tmp_path, monkeypatch, mask, 8, augment={"pipeline": pipeline}) for mask in (halves, partly)
    )
    assert all({*item["mask"].unique().tolist()} == {0, 1, 255} for item in ignoring)
    for a, b in zip(plain, ignoring, strict=True):
        counted = b["mask"] != 255
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["mask"][counted], b["mask"][counted])
    if pipeline == "none":  # the quarter's edges lie between two pixels, before and after
        ignored = ignoring[0]["mask"] == 255
        assert ignored[:32, 32:].all() and not ignored[33:].any() and not ignored[:, :31].any()


@pytest.mark.parametrize("size", [32, 64, 200])
def test_masks_of_two_values_are_resized_as_in_the_released_code(tmp_path, monkeypatch, size):
    mask = np.random.default_rng(0).integers(0, 2, (50, 70), dtype=np.uint8)
    grey = cv2.resize(mask * 255, (size, size), interpolation=cv2.INTER_LINEAR)
    (item,) = training_items(tmp_path, monkeypatch, mask, data={"size": size})
    assert np.array_equal(item["mask"].numpy(), grey > 127)


def test_validation_is_held_out_from_the_training_rows_and_never_from_the_test_rows(tmp_path, recipe):
    rows = [(f"a{i}", "train") for i in range(40)] + [(f"t{i}", "test") for i in range(10)]
    path = write_manifest(tmp_path, rows)
    train, validation = held_out(read_manifest(path), 0.2)
    assert train and validation and not {s.image for s in train} & {s.image for s in validation}
    assert all(s.split == "train" for s in train + validation) and len(train + validation) == 40
    apart, whole = (
        [Sample(tmp_path / f"{a}{i}.png", None, 0, "toy", "train") for i in range(40)] for a in ("e\u0301", "\u00e9")
    )
    assert [a in held_out(apart, 0.2)[1] for a in apart] == [
        a in held_out(whole, 0.2)[1] for a in whole
    ]  # of any system
    named = [Sample(tmp_path / "x.png", None, 0, "toy", "validation")]
    assert held_out(read_manifest(path) + named, 0.2)[1] == named
    only_test = write_manifest(tmp_path, [("b0", "test"), ("b1", "test")])
    recipe = load_recipe("quickstart", "smoke", {"data.manifest": str(only_test)})
    with pytest.raises(InputError, match="0 training and 0 validation"):
        datasets(recipe)


def test_unknown_splits_are_named(tmp_path):
    samples = [Sample(tmp_path / "a.png", None, 0, "toy", s) for s in ("train", "val", "dev")]
    with pytest.raises(InputError, match="dev, val"):
        held_out(samples, 0.2)


def test_validation_of_a_sorted_list_holds_both_labels(tmp_path):
    """Authentic rows first, tampered rows after: the first few rows would be authentic only."""
    samples = write_manifest(tmp_path, [(f"a{i:03}", "train") for i in range(60)])
    rows = samples.read_text().splitlines()
    samples.write_text("\n".join([rows[0], *sorted(rows[1:], key=lambda r: r.split(",")[2])]))
    changes = {"data.manifest": str(samples), "data.validation_fraction": "0.5", "data.validation_images": "6"}
    _, validation, count = datasets(load_recipe("quickstart", "smoke", changes))
    labels = [s.label for s in validation.samples[:count]]
    assert count == 6 and 0 < sum(labels) < 6


def test_sets_from_manifests_read_no_scenes(tmp_path, monkeypatch):
    """They take a second and a hundred megabytes, and nobody would look at them."""
    monkeypatch.setattr("mpc_lite.data.stream.Forgeries", lambda *_, **__: pytest.fail("scenes were read"))
    samples = write_manifest(tmp_path, [("a", "train"), ("b", "train"), ("c", "validation"), ("d", "validation")])
    train, validation, count = datasets(load_recipe("quickstart", "smoke", {"data.manifest": str(samples)}))
    assert (train.epoch, len(validation.samples), count) == (2, 2, 2)


def test_a_rotated_photograph_is_turned_before_its_mask_is_laid_over_it(tmp_path, recipe):
    """The same rule as in evaluation: masks belong to the upright picture."""
    for orientation, turns in ((3, 2), (6, 1)):
        upright = np.zeros((48, 64, 3), np.uint8)
        upright[:, :32] = 250
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.rot90(upright, turns).copy())
        stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
        Image.fromarray((upright[..., 0] > 100).astype(np.uint8) * 255).save(tmp_path / "a.png")
        sample = Sample(tmp_path / "a.jpg", tmp_path / "a.png", 1, "toy", "train", 2, "m.csv")
        for split in ("train", "validation"):
            item = ManifestImages(recipe, split, [sample])[0]
            shape = item["mask"].shape
            bright = cv2.resize(item["image"][0].numpy(), shape[::-1]) > 128
            assert shape == {"train": (64, 64), "validation": (48, 64)}[split]
            assert (bright == item["mask"].bool().numpy()).mean() > 0.95


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_row_arrives_as_its_message(tmp_path, recipe, workers):
    samples = read_manifest(write_manifest(tmp_path, [("a", "train"), ("b", "train")]))
    samples[1].image.write_bytes(samples[1].image.read_bytes()[:300])
    batches = list(loader(ManifestImages(recipe, "validation", samples), [[0], [0, 1]], workers))
    assert isinstance(batches[0], dict)
    assert batches[1].startswith("row 3 of m.csv") and "b.png" in batches[1] and "Traceback" not in batches[1]


def test_validation_masks_keep_the_size_of_their_file_and_come_as_a_list(tmp_path, recipe):
    samples = read_manifest(write_manifest(tmp_path, [(f"a{i}", "") for i in range(3)]))
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(samples[2].image)
    (batch,) = loader(ManifestImages(recipe, "validation", samples), [[0, 1, 2]], 0)
    assert batch["image"].shape == (3, 3, 64, 64) and batch["image"].dtype == torch.uint8
    assert [tuple(m.shape) for m in batch["mask"]] == [(50, 70), (50, 70), (20, 30)]
    assert batch["mask"][1].dtype == torch.uint8 and torch.equal(batch["mask"][1][0].nonzero()[:, 0], torch.arange(35))
    (batch,) = loader(Forgeries(recipe, "validation"), [[0, 1]], 0)
    assert isinstance(batch["mask"], list) and [tuple(m.shape) for m in batch["mask"]] == [(64, 64)] * 2
    (batch,) = loader(Forgeries(recipe, "train"), [[0, 1]], 0)
    assert batch["mask"].shape == (2, 64, 64)


@pytest.fixture
def augmented(monkeypatch):
    """Calls of the released code's augmentation: (image shape, mask shape, a number of its generator, size)."""
    calls = []

    def official_augment(image, mask, rng, size):
        calls.append((image.shape, mask.shape, int(rng.integers(2**31)), size))
        return image[:, ::-1], mask[:, ::-1]

    monkeypatch.setattr("mpc_lite.data.stream.official_augment", official_augment)
    return calls


def test_the_released_pipeline_sees_native_images_of_the_training_set_only(tmp_path, augmented):
    changes = {"augment.pipeline": "official", "augment.dihedral": False}
    recipe = load_recipe("quickstart", "smoke", changes)
    samples = read_manifest(write_manifest(tmp_path, [("a", ""), ("b", "")]))
    train, plain = (ManifestImages(r, "train", samples) for r in (recipe, load_recipe("quickstart", "smoke")))
    items = [train[p] for p in (0, 1, 0, 2)]
    assert [call[:2] for call in augmented] == [((50, 70, 3), (50, 70))] * 4 and {c[3] for c in augmented} == {64}
    draws = [call[2] for call in augmented]
    assert draws[0] == draws[2] and len(set(draws)) == 3
    tampered = next(p for p in (0, 1) if samples[plain.row(p)].label)
    assert items[tampered]["mask"][0].tolist() == [0] * 32 + [1] * 32  # mirrored, then squashed
    assert all(item["turn"] == 0 for item in items)
    assert Forgeries(recipe, "train")[0]["image"].shape == (3, 64, 64) and len(augmented) == 5
    _ = ManifestImages(recipe, "validation", samples)[1], Forgeries(recipe, "validation")[0], plain[0]
    assert len(augmented) == 5


SAVED = {"augment.jpeg": "{quality: [60, 63], share: 0.6}"}


@pytest.fixture(params=["generated", "manifest"])
def training_set(request, tmp_path):
    """A function: changes of the recipe, type of the device -> the training set."""
    path = write_manifest(tmp_path, [(f"a{i}", "train") for i in range(5)])

    def make(changes, device="cpu"):
        recipe = load_recipe("quickstart", "smoke", changes)
        if request.param == "generated":
            return Forgeries(recipe, "train", device=device)
        return ManifestImages(recipe, "train", read_manifest(path), device=device)

    return make


@pytest.mark.slow
def test_the_same_images_are_saved_alike_in_the_workers_and_on_the_device(training_set):
    """For a CPU the pixels come saved; for CUDA they come as they are, with the quality that Pillow took."""
    plain, here, there = training_set({}), training_set(SAVED), training_set(SAVED, "cuda")
    qualities = []
    for position in range(24):
        a, b, c = plain[position], here[position], there[position]
        assert a.keys() == b.keys() == {"image", "mask", "turn"} and c.keys() == {*a, "quality"}
        assert torch.equal(a["image"], c["image"]) and all(
            torch.equal(a[k], x[k]) for k in ("mask", "turn") for x in (b, c)
        )
        qualities.append(int(c["quality"]))
        pixels = a["image"].permute(1, 2, 0).numpy()
        saved = decode(encode_jpeg(pixels, qualities[-1], 2)) if qualities[-1] else pixels
        assert np.array_equal(b["image"].permute(1, 2, 0).numpy(), saved)
    assert set(qualities) == {0, 60, 61, 62, 63} and 9 <= np.count_nonzero(qualities) <= 20


@pytest.mark.slow
def test_qualities_depend_on_seed_and_position_alone(training_set):
    data = training_set(SAVED, "cuda")
    batches = [b["quality"] for b in loader(data, Positions(0, 4, 3), 0)]
    assert all(q.shape == (3,) and q.dtype == torch.int64 for q in batches)
    assert torch.equal(torch.cat(batches), torch.cat([b["quality"] for b in loader(data, Positions(0, 2, 6), 2)]))
    other = [training_set({**SAVED, "seed": "1"}, "cuda")[p]["quality"] for p in range(12)]
    assert other != torch.cat(batches).tolist()


def test_of_all_images_or_none(training_set):
    always = training_set({"augment.jpeg": "{quality: [70, 70], share: 1.0}"}, "cuda")
    assert {int(always[p]["quality"]) for p in range(8)} == {70}
    assert "quality" not in training_set({}, "cuda")[0]


def test_validation_images_are_never_saved(tmp_path):
    manifest = write_manifest(tmp_path, [(f"a{i}", "validation" if i < 2 else "train") for i in range(4)])
    for device in ("cpu", "cuda"):
        for where in ({}, {"data.manifest": str(manifest)}):
            plain, saved = (
                datasets(load_recipe("quickstart", "smoke", {**where, **jpeg}), device=device)
                for jpeg in ({}, {"augment.jpeg": "{share: 1.0}"})
            )
            for a, b in ((plain[1][p], saved[1][p]) for p in range(2)):
                assert b.keys() == {"image", "mask", "turn"} and torch.equal(a["image"], b["image"])
            trained = saved[0][0]
            assert ("quality" in trained) == (device == "cuda")
            assert torch.equal(trained["image"], plain[0][0]["image"]) == (device == "cuda")
