"""Robustness: cells against evaluations by hand, the table, cells that are not run again, the command."""

import json
import os

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mpc_lite.cli import main
from mpc_lite.data.manifest import read_manifest, read_mask, write_manifest
from mpc_lite.errors import InputError
from mpc_lite.evaluation.baselines import BASELINES, ela
from mpc_lite.evaluation.degrade import GRIDS, Cell, degrade
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.evaluation.metrics import count, f1
from mpc_lite.evaluation.robustness import degraded_map, format_robustness, robustness, robustness_rows
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import write_set
from mpc_lite.images import read_image
from mpc_lite.inference.forward import stretch_map
from mpc_lite.inference.localizer import Localizer

FEW = ("jpeg_quality", 60), ("noise_variance_unit", 0.01), ("resize_ratio", 0.6)


@pytest.fixture(scope="module")
def forgeries(tmp_path_factory):
    """Five tiny forgeries, one of them authentic."""
    out = tmp_path_factory.mktemp("forgeries")
    manifest = write_set(out, "test", 5, 4, 48, Scenes("test", ["dead_leaves"]))
    assert sum(s.label for s in read_manifest(manifest)) == 4
    return manifest


@pytest.fixture
def few(monkeypatch):
    """A grid of four cells."""
    cells = [Cell("none", None, ()), *(Cell(*step, (step,)) for step in FEW)]
    monkeypatch.setitem(GRIDS, "few", tuple(cells))
    return "few"


@pytest.fixture(scope="module")
def whole_table(forgeries):
    """The text of a table of two cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GRIDS, "few", (Cell("none", None, ()), Cell(*FEW[0], (FEW[0],))))
        return json.dumps(robustness(Contrast(), forgeries, grid="few"))


class Contrast:
    """A detector without a network that every degradation disturbs; counts its calls."""

    fingerprint = "contrast"

    def __init__(self):
        self.calls = 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        grey = image.mean(axis=2, dtype=np.float32)
        return np.clip(np.abs(grey - cv2.blur(grey, (5, 5))) / 12, 0, 1)


class Stride4(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(9.0))

    def forward(self, images):
        return self.gain * (nn.functional.avg_pool2d(images, 4).mean(dim=1, keepdim=True) - 0.5)


# --- maps and cells ---------------------------------------------------------------------------------------------------


def test_a_stretched_map_goes_straight_to_the_size_of_the_mask():
    """As with degraded files beside native masks: network, then one bilinear resize, not two."""
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    model, steps = Stride4(), [("resize_ratio", 0.6)]
    small = degrade(image, steps)
    squashed = cv2.resize(small.astype(np.float32) / 255, (64, 64), interpolation=cv2.INTER_LINEAR)
    with torch.no_grad():
        scores = torch.sigmoid(model(torch.from_numpy(squashed).permute(2, 0, 1)[None]))[0, 0].numpy()
    expected = cv2.resize(scores, (70, 90), interpolation=cv2.INTER_LINEAR)
    found = degraded_map(Localizer(model, "stretch", 64), image, steps)
    assert found.shape == (90, 70) and np.allclose(found, expected, atol=1e-5)
    twice = cv2.resize(stretch_map(model, small, 64), (70, 90), interpolation=cv2.INTER_LINEAR)
    assert not np.allclose(found, twice, atol=1e-3)
    assert np.array_equal(degraded_map(model, image, steps), stretch_map(model, small, 512, (90, 70)))


def test_other_maps_are_brought_back_to_the_size_of_the_mask():
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    for model in (Contrast(), Localizer(Stride4(), "tiles", 32)):
        made = model(degrade(image, [("resize_ratio", 0.6)]))
        made = getattr(made, "score_map", made)
        assert made.shape == (54, 42)
        found = degraded_map(model, image, [("resize_ratio", 0.6)])
        assert np.array_equal(found, cv2.resize(made, (70, 90), interpolation=cv2.INTER_LINEAR))
    with pytest.raises(InputError, match=r"score map \(90, 70\), image \(54, 42\)"):
        degraded_map(lambda photo: np.zeros((90, 70)), image, [("resize_ratio", 0.6)])


@pytest.mark.slow
def test_cells_against_scores_by_hand(forgeries, few):
    model = Contrast()
    result = robustness(model, forgeries, grid=few, seed=3)
    samples = [s for s in read_manifest(forgeries) if s.label]
    for cell, steps in zip(result["cells"], [(), *((step,) for step in FEW)], strict=True):
        scores = []
        for sample in samples:
            image = read_image(sample.image)
            score_map = cv2.resize(model(degrade(image, steps, 3)), (48, 48), interpolation=cv2.INTER_LINEAR)
            scores.append(float(f1(count(score_map, read_mask(sample)))))
        assert cell["n"] == 4 and cell["f1"] == pytest.approx(np.mean(scores))
        assert cell["f1_change"] == cell["f1"] - result["cells"][0]["f1"]
        assert [tuple(step) for step in cell["steps"]] == list(steps)
    assert len({cell["f1"] for cell in result["cells"]}) == 4
    plain = evaluate(model, forgeries)
    untouched = result["cells"][0]
    assert {key: untouched[key] for key in ("n", "f1", "iou", "f1_ci95")} == {
        key: plain["average"][key] for key in ("n", "f1", "iou", "f1_ci95")
    }
    assert untouched["image_level"] == plain["image_level"] and result["baselines"] == plain["average"]["baselines"]
    assert {source: s["f1"] for source, s in untouched["sets"].items()} == {
        source: s["f1"] for source, s in plain["sets"].items()
    }
    assert result["manifest"] == plain["manifest"] and result["errors"] == []
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_baselines_see_each_untouched_image_once(forgeries, few, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(BASELINES, "ela", lambda image: seen.append(image.shape) or ela(image))
    result = robustness(Contrast(), forgeries, grid=few, json_file=tmp_path / "cells.json")
    assert len(result["cells"]) == 4 and len(seen) == 4  # four tampered images
    (tmp_path / "cells.json").write_text(json.dumps({**result, "cells": result["cells"][:2]}))  # interrupted there
    resumed = robustness(Contrast(), forgeries, grid=few, json_file=tmp_path / "cells.json")
    assert json.dumps(resumed) == json.dumps(result)
    assert len(seen) == 4


@pytest.mark.slow
def test_figures_depend_on_the_seed_and_not_on_the_order_of_the_rows(forgeries, few):
    first = robustness(Contrast(), forgeries, grid=few)
    turned = forgeries.with_name("turned.csv")
    write_manifest(turned, reversed(read_manifest(forgeries)))
    second = robustness(Contrast(), turned, grid=few)
    for one, other in zip(first["cells"], second["cells"], strict=True):
        assert one["f1"] == pytest.approx(other["f1"], abs=1e-12) and one["sets"].keys() == other["sets"].keys()
    reseeded = robustness(Contrast(), forgeries, grid=few, seed=1)
    changed = [a["f1"] != b["f1"] for a, b in zip(first["cells"], reseeded["cells"], strict=True)]
    assert changed == [False, False, True, False]  # the noise alone


def test_a_set_without_tampered_images_has_figures_of_whole_images_only(forgeries, few, tmp_path):
    write_manifest(tmp_path / "authentic.csv", [s for s in read_manifest(forgeries) if not s.label])
    result = robustness(Contrast(), tmp_path / "authentic.csv", grid=few)
    assert [cell["f1"] for cell in result["cells"]] == [None] * 4
    assert result["cells"][1]["image_level"]["n_authentic"] == 1
    assert robustness_rows(result)[2][-3:] == ["–", "–", "–"]


# --- cells in the file ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_finished_cells_are_not_run_again(forgeries, few, tmp_path):
    class Stopped(Contrast):
        def __call__(self, image):
            if self.calls == 12:
                raise KeyboardInterrupt
            return super().__call__(image)

    file, said = tmp_path / "table.json", []
    with pytest.raises(KeyboardInterrupt):
        robustness(stopped := Stopped(), forgeries, grid=few, json_file=file, say=said.append)
    kept = json.loads(file.read_text())
    assert stopped.calls == 12 and len(kept["cells"]) == 2 and len(said) == 2
    assert said[1].startswith("2 of 4: jpeg_quality 60, F1 0.")
    stopped.calls = -100
    whole = robustness(stopped, forgeries, grid=few, json_file=file, say=said.append)
    assert stopped.calls == -90 and len(said) == 4  # two cells of five images
    plain = robustness(Stopped.__mro__[1](), forgeries, grid=few)
    assert {**plain, "model": whole["model"]} == whole == json.loads(file.read_text())
    assert robustness(stopped, forgeries, grid=few, json_file=file) == whole and stopped.calls == -90


def test_a_finished_table_tells_its_notes_again(forgeries, few, tmp_path):
    rows = read_manifest(forgeries)
    write_manifest(twice := forgeries.parent / "twice.csv", [*rows, rows[0]])
    for _ in range(2):
        said = []
        table = robustness(Contrast(), twice, grid=few, json_file=tmp_path / "table.json", say=said.append)
        assert said[0].startswith("note: 1 rows repeat an image") and said[0] == f"note: {table['notes'][0]}"
    older = json.loads((tmp_path / "table.json").read_text())
    del older["notes"]
    (tmp_path / "table.json").write_text(json.dumps(older))
    assert robustness(Contrast(), twice, grid=few, json_file=tmp_path / "table.json")["notes"] == []


def test_cells_of_another_run_are_refused_and_stay(forgeries, few, tmp_path, monkeypatch):
    file = tmp_path / "table.json"
    robustness(Contrast(), forgeries, grid=few, json_file=file)
    before = file.read_bytes()

    class Other(Contrast):
        fingerprint = "other"

    def refused(what, model=None, manifest=forgeries, **options):
        with pytest.raises(InputError, match=f"holds a run that differs in {what}; choose another file"):
            robustness(model or Contrast(), manifest, **{"grid": few, **options}, json_file=file)
        assert file.read_bytes() == before

    refused("seed", seed=1)
    refused("protocol", protocol="permuted")
    refused("split", split="test")
    refused("model", Other())
    refused("model", lambda image: Contrast()(image))
    refused("grid, the cells of its grid", grid="chains")
    longer = forgeries.with_name("longer.csv")
    longer.write_text(forgeries.read_text() + "\n".join(forgeries.read_text().splitlines()[-1:]) + "\n")
    refused("manifest, images", manifest=longer)
    image = read_manifest(forgeries)[2].image
    content = image.read_bytes()
    image.write_bytes(read_manifest(forgeries)[1].image.read_bytes())  # another picture under the same name
    try:
        refused("images")
    finally:
        image.write_bytes(content)
    monkeypatch.setitem(GRIDS, few, GRIDS[few][:1] + GRIDS[few][2:])
    refused("the cells of its grid")
    deep = before.decode().replace('"cells"', '"more": ' + "[" * 900 + "]" * 900 + ', "cells"')
    for text in ("no json", "[1]", '{"average": {}}', deep, before.decode().replace('"cells"', '"rows"')):
        file.write_text(text)
        with pytest.raises(InputError, match="holds something else than a table of robustness"):
            robustness(Contrast(), forgeries, grid=few, json_file=file)
        assert file.read_text() == text


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda table: table["cells"][0].pop("f1"), "cells.0.f1: field required"),
        (lambda table: table["cells"][0].update(f1=None), "cells.0: value error, no f1 or iou, and n is 4"),
        (lambda table: table["cells"][1].update(f1="x"), "cells.1.f1: input should be a valid number"),
        (lambda table: table["cells"][1].update(iou=float("nan")), "cells.1.iou: input should be a finite number"),
        (lambda table: table["cells"][1].update(f1_ci95=[0.1]), "cells.1.f1_ci95: "),
        (lambda table: table["cells"][0]["sets"].update(a=3), "cells.0.sets.a: "),
        (lambda table: table.update(baselines={"x": 1}), "baselines.x"),
        (lambda table: table["baselines"]["ela"].update(f1=float("inf")), "baselines.ela.f1: "),
        (lambda table: table.update(errors=5), "errors: input should be a valid list"),
    ],
)
def test_a_damaged_table_of_this_run_is_told(forgeries, few, whole_table, tmp_path, damage, says):
    file, table = tmp_path / "table.json", json.loads(whole_table)
    damage(table)
    file.write_text(json.dumps(table))
    before = file.read_bytes()
    with pytest.raises(InputError) as refusal:
        robustness(Contrast(), forgeries, grid=few, json_file=file)
    assert f"table.json: is damaged ({says}" in str(refusal.value) and "delete it" in str(refusal.value)
    assert file.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_rows_that_are_bad_are_listed_and_none_of_their_files_is_read(forgeries, few, tmp_path):
    folder = forgeries.parent
    if not (folder / "images" / "pipe.png").exists():
        os.mkfifo(folder / "images" / "pipe.png")
        (folder / "images" / "zero.png").symlink_to("/dev/zero")
    rows = forgeries.read_text().splitlines()
    split = rows[1].split(",", 1)[1]
    bad = folder / "bad.csv"
    bad.write_text("\n".join([*rows, *(f"images/{name},{split}" for name in ("pipe.png", "zero.png", "a\0b.png"))]))
    result = robustness(Contrast(), bad, grid=few, json_file=tmp_path / "table.json")
    assert [line.split(":")[0] for line in result["errors"]] == [f"row {row} of bad.csv" for row in (7, 8, 9)]
    assert result["cells"][0]["n"] == 4
    assert result["images"] == robustness(Contrast(), forgeries, grid=few)["images"]
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"pipe\.json: cannot be read .*a pipe or a device"):
        robustness(Contrast(), forgeries, grid=few, json_file=tmp_path / "pipe.json")


def test_mistakes_leave_no_file(forgeries, tmp_path):
    file = tmp_path / "table.json"
    for options, says in (
        ({"protocol": "f1"}, "unknown protocol"),
        ({"grid": "papers"}, "unknown grid"),
        ({"split": "tset"}, "splits found: test"),
        ({"manifest": tmp_path / "absent.csv"}, "no such file"),
    ):
        with pytest.raises(InputError, match=says):
            robustness(Contrast(), **{"manifest": forgeries, **options}, json_file=file)
        assert not file.exists()


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_prints_one_table_and_goes_on(forgeries, tmp_path, capsys):
    file = tmp_path / "out.json"
    words = ["robustness", "--weights", "lite", "--manifest", str(forgeries), "--protocol", "mpc", "--device", "cpu"]
    words += ["--grid", "chains", "--seed", "2", "--json", str(file)]
    assert main(words) == 0
    output = capsys.readouterr()
    result = json.loads(file.read_text())
    assert len(result["cells"]) == 9 and result["seed"] == 2 and str(tmp_path) not in file.read_text()
    assert output.out == format_robustness(result) + "\n"
    assert output.err.count("\n") == 9 and "9 of 9: chain, noise_variance_unit NJRB, F1 " in output.err
    lines = output.out.splitlines()
    assert " ".join(lines[0].split()) == "degradation value protocol seed images F1 [95 %] F1 change IoU"
    for cell, line in zip(result["cells"], lines[2:], strict=False):
        assert line.startswith(cell["degradation"]) and f" {cell['value'] or '–'} " in line
        assert "{:.3f} [{:.3f}, {:.3f}]".format(cell["f1"], *cell["f1_ci95"]) in line and f"{cell['iou']:.3f}" in line
        assert f"  mpc       2     {cell['n']} " in line and f"{cell['f1_change']:+.3f}" in line
    assert "all tampered 0." in lines[11] and lines[12].startswith("protocol mpc: ")
    assert main(words) == 0
    again = capsys.readouterr()
    assert again.out == output.out and again.err == ""
    assert main([*words, "--protocol", "permuted"]) == 2
    assert "differs in protocol" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_tells_bad_rows_and_mistakes(forgeries, few, tmp_path, capsys):
    rows = forgeries.read_text().splitlines()
    bad = forgeries.with_name("lost.csv")
    bad.write_text("\n".join([*rows[:3], rows[1].replace("images/", "images/lost-")]) + "\n")
    words = ["robustness", "--weights", "lite", "--manifest", str(bad), "--json", str(tmp_path / "out.json")]
    assert main([*words, "--grid", few]) == 1
    assert "1 rows left out:\n  row 4 of lost.csv: " in capsys.readouterr().out
    assert main([*words, "--grid", "figure2"]) == 2
    assert "unknown grid 'figure2'" in capsys.readouterr().err
    assert main(words[:-2]) == 2
    assert "--json" in capsys.readouterr().err
