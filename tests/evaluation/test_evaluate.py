"""Evaluation end to end on small generated sets: the result, saved maps, baselines, rows that cannot be read."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score
from torch import nn

from mpc_lite.cli import main
from mpc_lite.data.manifest import Sample, read_manifest, read_mask, write_manifest
from mpc_lite.errors import InputError
from mpc_lite.evaluation.baselines import (
    BASELINES,
    THRESHOLDS_FILE,
    choose_thresholds,
    ela,
    noise_residual,
    shipped_thresholds,
)
from mpc_lite.evaluation.evaluate import evaluate, evaluations, format_table, manifest_facts, rescore, table_rows
from mpc_lite.evaluation.metrics import count, f1, ignore_border
from mpc_lite.evaluation.protocols import PROTOCOLS
from mpc_lite.evaluation.rows import RowScores
from mpc_lite.images import read_image
from mpc_lite.inference.forward import stretch_map
from mpc_lite.inference.localizer import Localizer
from mpc_lite.inference.predict import photographs
from mpc_lite.inference.saved_maps import SavedMaps
from mpc_lite.run_folder import LOCK, locked


class Brightness(nn.Module):
    """A network in miniature: quarter resolution, one learnt number, and a batch-norm that must not be updated."""

    def __init__(self, gain: float = 8.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.norm = nn.BatchNorm2d(1)
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return self.norm(self.gain * (nn.functional.avg_pool2d(images, 4).mean(dim=1, keepdim=True) - 0.5))


def brightness(image: np.ndarray) -> np.ndarray:
    return image.mean(axis=2, dtype=np.float32) / 255


@pytest.fixture
def manifest(tmp_path):
    """Two sets of tampered photos, 3 and 2, and 3 authentic ones: the pasted piece is bright and noisy."""
    rng, samples = np.random.default_rng(0), []
    for k in range(8):
        height, width = [(64, 96), (80, 72), (96, 64), (60, 61)][k % 4]
        image = rng.normal(90, 3, (height, width, 3)) + rng.uniform(-25, 25, (1, 1, 3))
        mask = np.zeros((height, width), np.uint8)
        if k < 5:
            mask[16:48, 8 : 40 + k] = 255
            image[mask > 0] += rng.normal(40 + 10 * k, 25, (int((mask > 0).sum()), 3))
            Image.fromarray(mask).save(tmp_path / f"{k}-mask.png")
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / f"photo {k}.png")
        samples.append(
            Sample(
                image=tmp_path / f"photo {k}.png",
                mask=tmp_path / f"{k}-mask.png" if k < 5 else None,
                label=int(k < 5),
                source="first" if k in (0, 1, 2, 5) else "second",
                split="test" if k % 2 else "validation",
            )
        )
    write_manifest(tmp_path / "set.csv", samples)
    return tmp_path / "set.csv"


def write_image(path, value):
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(path)


# --------------------------------------------------------------------------------------------------------- the result


def test_figures_against_scikit_learn(manifest):
    result = evaluate(brightness, manifest)
    assert result["protocol"] == "mpc" and result["errors"] == [] and result["split"] is None
    scores = {"first": [], "second": []}
    levels, labels = [], []
    for sample in read_manifest(manifest):
        image = read_image(sample.image)
        score_map = brightness(image)
        pooled = [score_map[y : y + 8, x : x + 8].mean() for y in range(0, 96, 8) for x in range(0, 96, 8)
                  if score_map[y : y + 8, x : x + 8].size]  # fmt: skip
        levels.append(max(pooled))
        labels.append(sample.label)
        if sample.label:
            truth, marked = read_mask(sample).ravel(), (score_map > 0.5).ravel()
            auc = roc_auc_score(truth, score_map.ravel())
            scores[sample.source].append((f1_score(truth, marked), jaccard_score(truth, marked), auc))
    for source, n in (("first", 3), ("second", 2)):
        found = result["sets"][source]
        assert found["n"] == n
        expected = np.mean(scores[source], axis=0)
        assert [found[key] for key in ("f1", "iou", "auc")] == pytest.approx(expected, abs=1e-6)
        low, high = found["f1_ci95"]
        assert low <= found["f1"] <= high
    # Eq. 6 of the paper weighs by images: not the mean of the two sets' means.
    everything = np.mean([score for source in scores.values() for score in source], axis=0)
    assert [result["average"][key] for key in ("f1", "iou", "auc")] == pytest.approx(everything, abs=1e-6)
    assert result["average"]["f1"] != pytest.approx(np.mean([s["f1"] for s in result["sets"].values()]), abs=1e-6)
    assert result["average"]["weighting"] == "images" and result["average"]["n"] == 5
    level = result["image_level"]
    assert level["auc"] == pytest.approx(roc_auc_score(labels, levels))
    assert (level["n_tampered"], level["n_authentic"]) == (5, 3)
    assert level["false_alarm_rate"] == np.mean([v > 0.5 for v, y in zip(levels, labels, strict=True) if y == 0])
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_authentic_images_count_at_image_level_only(manifest):
    samples = read_manifest(manifest)
    with_them, without = evaluate(brightness, samples), evaluate(brightness, [s for s in samples if s.label])
    assert with_them["sets"] == without["sets"] and with_them["average"] == without["average"]
    assert without["image_level"]["false_alarm_rate"] is None and without["image_level"]["auc"] is None
    alarmist = evaluate(lambda image: np.ones(image.shape[:2]), samples)["image_level"]
    assert alarmist["false_alarm_rate"] == 1 and alarmist["auc"] == 0.5
    calm = evaluate(lambda image: np.full(image.shape[:2], 0.5), [s for s in samples if not s.label])
    assert calm["image_level"]["false_alarm_rate"] == 0  # 0.5 is no alarm, as it marks no pixel
    assert calm["sets"] == {} and calm["average"]["f1"] is None
    assert "–" in format_table(calm)


def test_split_and_list_inputs(manifest):
    by_path = evaluate(brightness, manifest, split="test")
    by_list = evaluate(brightness, read_manifest(manifest), split="test")
    assert by_path["sets"] == by_list["sets"] and by_path["average"]["n"] == 2
    assert by_path["manifest"]["name"] == "set.csv" and by_list["manifest"]["name"] is None
    with pytest.raises(InputError, match="empty list"):
        evaluate(brightness, [])
    for rows, name in ((manifest, "set.csv"), (read_manifest(manifest), "the list of samples")):
        with pytest.raises(InputError, match=f"^{name}: no row has the split 'tset'; splits found: test, validation$"):
            evaluate(brightness, rows, split="tset")
    with pytest.raises(InputError, match="unknown protocol"):
        evaluate(brightness, manifest, protocol="f1")
    with pytest.raises(InputError, match="cannot read the manifest"):
        evaluate(brightness, manifest.with_name("absent.csv"))


@pytest.mark.slow
def test_a_localizer_like_object_is_a_model(manifest):
    class Hit:
        def __init__(self, score_map):
            self.score_map = score_map

    assert evaluate(lambda image: Hit(brightness(image)), manifest) == evaluate(brightness, manifest)


# ------------------------------------------------------------------------------------------------------------ the map


def test_stretch_map_follows_the_paper():
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    model = Brightness().train()
    score_map = stretch_map(model, image, size=64)
    (seen,) = model.seen
    assert seen.shape == (1, 3, 64, 64) and seen.dtype == torch.float32
    squashed = cv2.resize(image.astype(np.float32) / 255, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.allclose(seen[0].permute(1, 2, 0).numpy(), squashed, atol=1e-6)
    small = torch.sigmoid(model.eval()(seen))[0, 0].detach().numpy()
    assert small.shape == (16, 16)
    assert np.allclose(score_map, cv2.resize(small, (90, 50), interpolation=cv2.INTER_LINEAR), atol=1e-6)
    assert score_map.shape == (50, 90) and score_map.dtype == np.float32
    assert score_map.min() >= 0 and score_map.max() <= 1


def test_stretch_map_leaves_the_network_as_it_was():
    model = Brightness().train()
    stretch_map(model, np.zeros((40, 40, 3), np.uint8), size=32)
    assert model.training and model.norm.num_batches_tracked == 0
    stretch_map(model.eval(), np.zeros((40, 40, 3), np.uint8), size=32)
    assert not model.training


@pytest.mark.slow
def test_a_network_is_scored_by_stretch_map(manifest):
    model = Brightness()
    assert evaluate(model, manifest) == evaluate(lambda image: stretch_map(model, image), manifest)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda image: np.zeros((3, 3)), "give maps of the image's size"),
        (lambda image: np.full(image.shape[:2], np.nan), "NaN"),
        (lambda image: np.full(image.shape[:2], 255.0), "divide by 255"),
    ],
)
def test_a_wrong_map_stops_the_evaluation_and_names_the_row(manifest, wrong, says):
    with pytest.raises(InputError, match=f"row 2 of set.csv: .*{says}"):
        evaluate(wrong, manifest)


# --------------------------------------------------------------------------------------------------------- saved maps


@pytest.mark.slow
def test_saved_maps_give_the_same_figures_without_the_network(manifest, tmp_path):
    maps = tmp_path / "maps"
    first = evaluate(brightness, manifest, "trufor", maps_dir=maps)
    for protocol in PROTOCOLS:  # whichever the maps were made under
        assert rescore(manifest, maps, protocol, "test") == evaluate(brightness, manifest, protocol, "test")
    assert rescore(manifest, maps, "trufor") == first
    files = sorted(p.name for p in maps.iterdir() if p.name != LOCK)
    assert len(files) == 9 and files[-1] == "index.json" and files[0].startswith("000002-photo_0-")
    with Image.open(maps / files[0]) as picture:
        assert picture.mode.startswith("I") and picture.size == (96, 64)


@pytest.mark.slow
def test_maps_of_a_network_are_made_once(manifest, tmp_path):
    maps, model = tmp_path / "maps", Brightness()
    first = evaluate(model, manifest, maps_dir=maps, split="test")
    assert len(model.seen) == 4
    whole = evaluate(model, manifest, maps_dir=maps)
    assert len(model.seen) == 8  # the other split only
    assert rescore(manifest, maps, split="test") == first and rescore(manifest, maps) == whole
    other = Brightness(gain=2.0)
    evaluate(other, manifest, maps_dir=maps)
    assert len(other.seen) == 8  # another network: none of the maps is taken over
    assert rescore(manifest, maps) == evaluate(other, manifest) != whole


@pytest.mark.slow
def test_maps_of_a_nameless_callable_are_made_anew(manifest, tmp_path):
    evaluate(brightness, manifest, maps_dir=tmp_path / "maps")
    darker = evaluate(lambda image: brightness(image) / 2, manifest, maps_dir=tmp_path / "maps")
    assert rescore(manifest, tmp_path / "maps") == darker


@pytest.mark.slow
def test_stale_maps_are_refused(manifest, tmp_path):
    maps = tmp_path / "maps"
    with pytest.raises(InputError, match=r"no readable index\.json"):
        rescore(manifest, maps)
    maps.mkdir()
    other = json.dumps({"manifest": manifest_facts(manifest)})  # of another program, which says as much
    deep = '{"manifest": {"sha256": "a"}, "made_by": ' + "[" * 900 + "]" * 900 + "}"
    for content in ("[" * 90_000, deep, "[]", "NaN", '{"manifest": []}', other):
        (maps / "index.json").write_text(content)
        with pytest.raises(InputError, match=r"no readable index\.json"):
            rescore(manifest, maps)
        with pytest.raises(InputError, match=r"index\.json: not written by evaluate, or damaged, .*move it away"):
            evaluate(brightness, manifest, maps_dir=maps)
        assert [path.name for path in maps.iterdir()] == ["index.json"]
        assert (maps / "index.json").read_text() == content
    (maps / "index.json").unlink()
    result = evaluate(brightness, manifest, maps_dir=maps)
    changed = np.full_like(read_image(tmp_path / "photo 6.png"), 200)  # an image of the same name and size
    Image.fromarray(changed).save(tmp_path / "photo 6.png")
    next(maps.glob("000003-*")).write_bytes(b"cut off")
    left = rescore(manifest, maps)
    assert len(left["errors"]) == 2 and "row 3 of set.csv: no score map" in left["errors"][0]
    assert left["image_level"]["n_authentic"] == 2 and left["average"]["n"] == 4
    assert left["sets"]["second"] == result["sets"]["second"]
    manifest.write_text(manifest.read_text().replace("second", "third"))
    with pytest.raises(InputError, match=r"made for a manifest with sha256"):
        rescore(manifest, maps)


def test_the_table_is_not_written_over_the_index_of_the_maps(manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "--weights", "lite2", "--manifest", "set.csv", "--device", "cpu", "--maps", "mp", "--json"]
    for table in ("mp/index.json", "mp"):
        assert main([*words, table]) == 2
        assert f"error: {table}: mp/index.json is written here too" in capsys.readouterr().err
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.json")
        for command in (words, ["score", "mp", "--manifest", "set.csv", "--json"]):
            assert main([*command, "pipe.json"]) == 2
            assert "pipe.json is a pipe or a device" in capsys.readouterr().err
    assert not (tmp_path / "mp").exists()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_a_map_of_another_mode_is_no_whole_map(manifest, tmp_path, mode):
    sample, levels = read_manifest(manifest)[0], np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    saved = SavedMaps.create(tmp_path / "maps", {"name": "m.csv", "sha256": ""}, Brightness())
    saved.write(sample, levels)
    np.testing.assert_array_equal(saved.read(sample, (64, 96)), levels)
    (file,) = (tmp_path / "maps").glob("*.png")
    Image.new(mode, (96, 64), 1).save(file)
    assert saved.read(sample, (64, 96)) is None


def test_samples_may_come_from_an_iterator(manifest):
    samples = read_manifest(manifest)
    table = evaluate(Brightness(), iter(samples))
    assert table["sets"] == evaluate(Brightness(), samples)["sets"] and table["manifest"] == manifest_facts(samples)


def test_kept_maps_below_a_folder_of_photographs_are_no_photographs(manifest, tmp_path):
    sample, levels = read_manifest(manifest)[0], np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    shutil.copy(sample.image, tmp_path / "photo.png")
    SavedMaps.create(tmp_path / "maps", {"name": "m.csv", "sha256": ""}, Brightness()).write(sample, levels)
    files, left_out = photographs([tmp_path])
    assert [file.name for file in files if file.parent.name == "maps"] == [] and tmp_path / "photo.png" in files
    assert left_out == list((tmp_path / "maps").glob("*.png")) and len(left_out) == 1


def test_a_broken_off_evaluation_keeps_its_maps(manifest, tmp_path):
    class Dies(Brightness):
        def forward(self, images):
            if len(self.seen) == 3:
                raise RuntimeError("the device is lost")
            return super().forward(images)

    with pytest.raises(RuntimeError):
        evaluate(Dies(), manifest, maps_dir=tmp_path / "maps")
    again = Dies()
    again.forward = lambda images: Brightness.forward(again, images)
    evaluate(again, manifest, maps_dir=tmp_path / "maps")
    assert len(again.seen) == 5


@pytest.mark.slow
def test_an_interrupted_evaluation_leaves_complete_maps_of_another_network_usable(manifest, tmp_path):
    class Stopped(Brightness):
        def forward(self, images):
            if len(self.seen) == 3:
                raise KeyboardInterrupt
            return super().forward(images)

    maps, first = tmp_path / "maps", Brightness()
    complete = evaluate(first, manifest, maps_dir=maps)
    other = Stopped(gain=2.0)
    with pytest.raises(KeyboardInterrupt):
        evaluate(other, manifest, maps_dir=maps)
    assert rescore(manifest, maps) == complete
    evaluate(first, manifest, maps_dir=maps)
    assert len(first.seen) == 8  # none of its maps was made again
    (maps / "000002-holiday.png").write_bytes(b"somebody's own")
    with pytest.warns(UserWarning, match="maps: 8 maps of another network or another manifest are deleted"):
        darker = evaluate(Brightness(gain=2.0), manifest, maps_dir=maps)
    assert rescore(manifest, maps) == darker != complete
    assert len(list(maps.glob("*.png"))) == 9  # maps of the others are gone, and nothing else is


# ------------------------------------------------------------------------------------------- one folder, several runs


class Between:
    """A score map that calls `at` once the last of eight rows is there, before another protocol reads the maps."""

    def __init__(self, at, gain=1.0):
        self.at, self.gain, self.calls, self.fingerprint = at, gain, 0, f"between {gain}"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls == 8:
            self.at()
        return brightness(image) * self.gain


@pytest.mark.slow
def test_while_maps_are_written_nobody_else_writes_there(manifest, tmp_path):
    maps, told = tmp_path / "maps", []

    def other():
        with pytest.raises(InputError, match=rf"maps is in use by process {os.getpid()} .*Ctrl-C where it runs"):
            evaluate(lambda image: brightness(image) / 2, manifest, maps_dir=maps)
        told.append(rescore(manifest, maps)["errors"])  # who only reads is let in: one map is not there yet

    tables = evaluations(Between(other), manifest, ["trufor", "permuted"], maps_dir=maps)
    assert len(told) == 1 and len(told[0]) == 1 and "no score map of this image" in told[0][0]
    assert tables == [evaluate(brightness, manifest, name) for name in ("trufor", "permuted")]
    assert evaluations(None, manifest, ["trufor", "permuted"], maps_dir=maps) == tables
    again = Between(lambda: None)
    assert evaluate(again, manifest, "trufor", maps_dir=maps) == tables[0] and again.calls == 0


@pytest.mark.slow
@pytest.mark.parametrize("names", [["mpc", "permuted"], ["permuted", "mpc"]])
def test_protocols_of_one_command_are_those_of_one_network(manifest, tmp_path, monkeypatch, names):
    """Where a file system has no locks, another run may still end between the first protocol and the second."""
    monkeypatch.setattr("mpc_lite.inference.saved_maps.locked", lambda folder, how: nullcontext())
    maps, scored = tmp_path / "maps", RowScores.__call__
    darker = evaluate(Between(lambda: None, 0.5), manifest, maps_dir=tmp_path / "other")

    def replaced(score, row):
        if score.model is None and score.saved.folder == maps and not (tmp_path / "done").exists():
            shutil.rmtree(maps)
            shutil.copytree(tmp_path / "other", maps)
            (tmp_path / "done").touch()
        return scored(score, row)

    monkeypatch.setattr(RowScores, "__call__", replaced)
    with pytest.raises(InputError, match="maps: another evaluation has put its maps here meanwhile"):
        evaluations(Between(lambda: None), manifest, names, maps_dir=maps)
    assert rescore(manifest, maps) == darker


@pytest.mark.slow
def test_rows_that_a_later_protocol_loses_are_told(manifest, tmp_path, monkeypatch, capsys):
    """An image goes after the network has seen it."""
    loses = Between((tmp_path / "photo 0.png").unlink)
    monkeypatch.setattr(Localizer, "from_pretrained", lambda *_, **__: loses)
    words = ["evaluate", "--weights", "lite2", "--manifest", str(manifest), "--json", str(tmp_path / "t.json")]
    assert main([*words, "--protocol", "mpc", "--protocol", "permuted", "--protocol", "trufor"]) == 1
    out = capsys.readouterr().out
    assert "\n1 rows left out:\n  row 2 of set.csv: " in out and "(under permuted, trufor)\n" in out
    tables = json.loads((tmp_path / "t.json").read_text())["protocols"]
    assert [len(tables[name]["errors"]) for name in ("mpc", "permuted", "trufor")] == [0, 1, 1]
    whole = tables["mpc"]
    assert "1 rows left out:\n  a (under trufor)" in format_table(
        whole, {**whole, "protocol": "trufor", "errors": ["a"]}
    )
    assert "1 rows left out:\n  a\n" in format_table(*[{**whole, "errors": ["a"]}] * 2) + "\n"


@pytest.mark.slow
def test_a_folder_of_maps_that_cannot_be_written_is_scored_as_before(manifest, tmp_path, monkeypatch):
    maps = tmp_path / "maps"
    first = evaluate(Between(lambda: None), manifest, maps_dir=maps)
    (maps / LOCK).unlink()
    before = sorted(file.name for file in maps.iterdir())
    assert rescore(manifest, maps) == first
    assert sorted(file.name for file in maps.iterdir()) == before  # readers leave nothing
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != maps and access(path, mode))
    assert evaluate(Between(lambda: None), manifest, maps_dir=maps) == first
    assert sorted(file.name for file in maps.iterdir()) == before


def test_a_folder_of_maps_is_free_after_a_run_that_failed(manifest, tmp_path):
    maps = tmp_path / "maps"
    with pytest.raises(InputError, match="divide by 255"):
        evaluate(lambda image: np.full(image.shape[:2], 255.0), manifest, maps_dir=maps)
    with locked(maps):
        pass


# ----------------------------------------------------------------------------------------------------------- bad rows


@pytest.mark.slow
def test_bad_rows_lose_no_other_row(manifest, tmp_path):
    good = evaluate(brightness, manifest)
    write_image(tmp_path / "photo 8.png", 10)
    Image.new("L", (30, 40), 255).save(tmp_path / "small-mask.png")
    Image.new("L", (40, 40), 0).save(tmp_path / "black-mask.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "photo 0.png").read_bytes()[:900])
    with open(manifest, "a") as file:
        file.write("absent.png,,0,first,test\n")
        file.write("cut.png,,0,first,test\n")
        file.write("photo 8.png,small-mask.png,1,first,test\n")
        file.write("photo 8.png,black-mask.png,1,first,test\n")
        file.write("photo 8.png,,1,first,test\n")
        file.write("photo 8.png,,maybe,first,test\n")
    result = evaluate(brightness, manifest)
    assert result["sets"] == good["sets"] and result["image_level"] == good["image_level"]
    says = [
        "does not exist",
        "cannot be read",
        "mask 30×40, image 40×40",
        "no tampered pixel",
        "without a mask",
        "maybe",
    ]
    assert len(result["errors"]) == len(says)
    for row, (line, text) in enumerate(zip(result["errors"], says, strict=True), start=10):
        assert line.startswith(f"row {row} of set.csv: ") and text in line
        assert str(tmp_path) not in line  # results travel: no path of this machine
    assert "6 rows left out" in format_table(result) and result["errors"][2] in format_table(result)


def test_a_list_of_samples_may_hold_bad_ones_too(tmp_path):
    write_image(tmp_path / "a.png", 10)
    samples = [Sample(tmp_path / "a.png", None, 0, "x"), Sample(tmp_path / "a.png", None, 1, "x")]
    result = evaluate(brightness, samples)
    assert result["image_level"]["n_authentic"] == 1 and "without a mask" in result["errors"][0]
    with pytest.raises(InputError, match=r"scored: .*without a mask; only authentic images go without; expected at"):
        evaluate(brightness, samples[1:])


# ---------------------------------------------------------------------------------------------------------- baselines


@pytest.mark.slow
def test_baselines_stand_beside_every_set(manifest):
    thresholds = {"all_tampered": 0.5, "ela": 0.2, "noise_residual": 0.6}
    result = evaluate(brightness, manifest, thresholds=thresholds)
    for source, found in result["sets"].items():
        rows = [s for s in read_manifest(manifest) if s.source == source and s.label]
        for name, score_map in BASELINES.items():
            expected = [float(f1(count(score_map(read_image(s.image)), read_mask(s), thresholds[name]))) for s in rows]
            assert found["baselines"][name]["f1"] == pytest.approx(np.mean(expected))
            assert found["baselines"][name]["threshold"] == thresholds[name]
    area = [read_mask(s).mean() for s in read_manifest(manifest) if s.label]
    overall = result["average"]["baselines"]["all_tampered"]
    assert overall["f1"] == pytest.approx(np.mean([2 * a / (1 + a) for a in area]))
    assert overall["iou"] == pytest.approx(np.mean(area))
    best = evaluate(brightness, manifest, "best_threshold", thresholds=thresholds)["average"]["baselines"]
    assert all(best[name]["f1"] >= result["average"]["baselines"][name]["f1"] for name in BASELINES)


FIXED = ["mpc", "mpc_legacy", "macro", "permuted", "trufor", "pooled"]


def test_shipped_thresholds():
    shipped = json.loads(THRESHOLDS_FILE.read_text())
    assert list(shipped["thresholds"]) == list(shipped["f1"]) == FIXED
    for protocol in FIXED:
        assert shipped_thresholds(protocol).keys() == BASELINES.keys() == shipped["f1"][protocol].keys()
        assert all(0 < threshold <= 1 for threshold in shipped_thresholds(protocol).values())
    assert shipped["f1"]["mpc"]["noise_residual"] > shipped["f1"]["mpc"]["all_tampered"]
    made = shipped["provenance"]
    assert made["split"] == "validation" and made["n"] >= made["tampered"] >= 100
    assert {"seed", "size", "scenes", "manifest_sha256", "command"} <= made.keys()
    with pytest.raises(InputError, match=r"'best_threshold'.*mpc, mpc_legacy"):
        shipped_thresholds("best_threshold")


def slow_f1(protocol, pairs, threshold):
    """F1 of (map, mask, source) triples as the protocols' descriptions have it, without histograms."""
    scores, pools = [], {}
    for score_map, mask, source in pairs:
        mask = ignore_border(mask, 15, 11) if protocol == "trufor" else mask
        marked, used = score_map > threshold, mask != 255
        tp, fp, fn, tn = (int((used & (mask == m) & (marked == k)).sum()) for m, k in ((1, 1), (0, 1), (1, 0), (0, 0)))
        pools[source] = pools.get(source, np.zeros(5)) + np.array([1, tp, fp, fn, tn])
        own, inverse, authentic = (
            2 * a / max(1, 2 * a + b + c) for a, b, c in ((tp, fp, fn), (fn, tn, tp), (tn, fp, fn))
        )
        kinds = {"macro": (own + authentic) / 2, "permuted": max(own, inverse), "trufor": max(own, inverse)}
        scores.append(kinds.get(protocol, own))
    if protocol == "pooled":
        return sum(n * 2 * tp / max(1, 2 * tp + fp + fn) for n, tp, fp, fn, _ in pools.values()) / len(pairs)
    return np.mean(scores)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", FIXED)
def test_chosen_thresholds_are_the_best_ones_of_each_protocol(manifest, protocol):
    """No fixed threshold does better under the protocol, and `evaluate` gives the same figures."""
    chosen = choose_thresholds(manifest)
    assert chosen["tampered"] == 5
    rows = [s for s in read_manifest(manifest) if s.label]
    for name, score_map in BASELINES.items():
        pairs = [(score_map(read_image(s.image)), read_mask(s), s.source) for s in rows]
        here = slow_f1(protocol, pairs, chosen["thresholds"][protocol][name])
        assert here == pytest.approx(chosen["f1"][protocol][name], abs=1e-3)
        assert here >= max(slow_f1(protocol, pairs, threshold) for threshold in np.linspace(-0.01, 1, 203)) - 1e-3
    beside = evaluate(brightness, manifest, protocol, thresholds=chosen["thresholds"][protocol])["average"]["baselines"]
    assert {n: beside[n]["f1"] for n in BASELINES} == pytest.approx(chosen["f1"][protocol], abs=1e-4)


def test_choosing_thresholds_on_a_split_or_a_list(manifest):
    rows = [s for s in read_manifest(manifest) if s.label]
    chosen = choose_thresholds(manifest)
    assert chosen["thresholds"]["macro"]["all_tampered"] == 1  # marks nothing: better than marking everything
    assert chosen["thresholds"]["mpc"]["all_tampered"] == pytest.approx(0.5, abs=1e-4)
    assert choose_thresholds(manifest, split="test")["tampered"] == 2
    assert choose_thresholds(rows) == chosen
    with pytest.raises(InputError, match="no tampered image"):
        choose_thresholds([s for s in read_manifest(manifest) if not s.label])


@pytest.mark.slow
def test_each_protocol_takes_its_own_thresholds(manifest, tmp_path, monkeypatch):
    shipped = {name: dict.fromkeys(BASELINES, (k + 1) / 10) for k, name in enumerate(FIXED)}
    (tmp_path / "own.json").write_text(json.dumps({"thresholds": shipped}))
    monkeypatch.setattr("mpc_lite.evaluation.baselines.THRESHOLDS_FILE", tmp_path / "own.json")
    for protocol in FIXED:
        found = evaluate(brightness, manifest, protocol)["sets"]["first"]["baselines"]
        assert {name: beside["threshold"] for name, beside in found.items()} == shipped[protocol]
    found = evaluate(brightness, manifest, "best_threshold")["sets"]["first"]["baselines"]
    assert {beside["threshold"] for beside in found.values()} == {None}


def test_baselines_see_what_they_are_made_for():
    rng = np.random.default_rng(0)
    mask = np.zeros((128, 128), bool)
    mask[32:96, 32:96] = True
    image = np.clip(rng.normal(120, 3, (128, 128, 3)), 0, 255).astype(np.uint8)
    noisier = image.copy()
    noisier[mask] = np.clip(rng.normal(120, 12, (int(mask.sum()), 3)), 0, 255).astype(np.uint8)
    for detector in (ela, noise_residual):
        score_map = detector(noisier)
        assert score_map.dtype == np.float32 and score_map.shape == (128, 128)
        assert score_map.min() >= 0 and score_map.max() < 1
        assert roc_auc_score(mask.ravel(), score_map.ravel()) > 0.95
        assert detector(image).mean() < 0.5 * score_map[mask].mean()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (17, 5)])
def test_baselines_take_any_size_and_flat_images(shape):
    for detector in BASELINES.values():
        score_map = detector(np.full((*shape, 3), 255, np.uint8))
        assert score_map.shape == shape and np.isfinite(score_map).all()
        assert score_map.max() <= 1


# ------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("shape", [(1100, 70), (513, 40), (512, 33), (600, 1)])
@pytest.mark.parametrize("name", ["ela", "noise_residual"])
def test_baselines_of_bands_are_those_of_the_whole_photo_to_the_digit(name, shape, monkeypatch):
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), (9, 9), 3)
    for image in (smooth, rng.integers(0, 256, (*shape, 3), dtype=np.uint8)):
        parts = BASELINES[name](image)
        with monkeypatch.context() as patched:
            patched.setattr("mpc_lite.evaluation.baselines.BAND", 4096)
            np.testing.assert_array_equal(parts, BASELINES[name](image))


@pytest.mark.trust
def test_a_large_photo_is_scored_in_little_more_than_its_own_memory(tmp_path):
    side = 4096
    image, mask = np.full((side, side, 3), 90, np.uint8), np.zeros((side, side), np.uint8)
    mask[500:900, 500:900] = 255
    for name, pixels in (("a.png", image), ("m.png", mask), ("maps/a.png", mask)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "m.csv").write_text("image,mask,label,source\na.png,m.png,1,toy\n")
    code = "\n".join(
        [
            "from tests.trust.reader import memory",
            "from mpc_lite.evaluation.evaluate import score_maps",
            "import sklearn.metrics",
            "before = memory()",
            "score_maps('m.csv', 'maps', 'trufor')",
            "print(memory() - before)",
        ]
    )
    words = [sys.executable, "-c", code]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    grown = float(subprocess.run(words, cwd=tmp_path, env=here, capture_output=True, text=True, check=True).stdout)
    assert grown < 20 * side**2 / 2**20  # bytes a pixel; the photo has 3, its mask 1, a map in floats 4


@pytest.mark.slow
def test_tables_name_the_protocol_beside_every_number(manifest):
    result = evaluate(brightness, manifest, "permuted")
    rows = table_rows(result)
    assert [row[0] for row in rows] == ["set", "first", "second", "average (by images)"]
    assert {len(row) for row in rows} == {9}
    assert all(row[1] == "permuted" for row in rows[1:])
    first = result["sets"]["first"]
    assert rows[1][2:4] == ["3", "{:.3f} [{:.3f}, {:.3f}]".format(first["f1"], *first["f1_ci95"])]
    assert rows[1][6] == "{f1:.3f} / {iou:.3f}".format(**first["baselines"]["all_tampered"])
    text = format_table(result)
    assert all(cell in text for row in rows for cell in row)
    assert PROTOCOLS["permuted"].description in text and "5 tampered, 3 authentic" in text


@pytest.mark.data
def test_real_forgeries(data_dir):
    """A handful of real splices, through the whole path; os.path keeps the test independent of the folder's name."""
    rows = [s for s in read_manifest(os.path.join(data_dir, "forged.csv")) if s.source == "lalonde" and s.label][:6]
    result = evaluate(ela, rows)
    assert result["errors"] == [] and result["sets"]["lalonde"]["n"] == 6
    assert 0 < result["average"]["baselines"]["all_tampered"]["f1"] < 1
