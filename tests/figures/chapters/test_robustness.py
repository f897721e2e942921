"""The figures of chapter 11, by their data; and the script that makes their data."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import Sample, write_manifest
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import degrade
from mpc_lite.figures.chapters import robustness as figures
from mpc_lite.figures.show import show
from tests.book.site_under_test import ROOT

RNG = np.random.default_rng(0)


def script():
    spec = importlib.util.spec_from_file_location("degraded", ROOT / "book/results/degraded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(name, arm=None, offset=0.0):
    cells = []
    for i, (degradation, value) in enumerate([("none", None), ("jpeg_quality", 80), ("simulated sharing", None)]):
        shares = {"found_own": 0.5 + 0.1 * i + offset, "alarms_own": 0.05 + 0.2 * i}
        scores = {"authentic": [0.1, 0.4, 0.6, 0.9], "tampered": [0.2, 0.7, 0.8, 0.9 - 0.1 * i]}
        cells.append({"degradation": degradation, "value": value, **shares, **scores})
    return {"name": name, "arm": arm or name, "seed": None, "threshold": 0.6, "cells": cells}


def test_the_two_shares_stand_in_the_row_of_their_degradation():
    a, b = figures.side_by_side([network("a"), network("b", offset=0.2)], 0.05).axes
    assert [label.get_text() for label in a.get_yticklabels()] == ["untouched", "JPEG 80", "simulated sharing"]
    for axes, offset in ((a, 0), (b, 0.2)):
        found, alarms, share = axes.lines
        np.testing.assert_allclose(found.get_xydata(), [[0.5 + offset, 0], [0.6 + offset, 1], [0.7 + offset, 2]])
        np.testing.assert_allclose(alarms.get_xydata(), [[0.05, 0], [0.25, 1], [0.45, 2]])
        assert share.get_xdata()[0] == 0.05
    assert a.yaxis_inverted()


def test_changes_are_drawn_with_their_intervals():
    values = {"a": [(-0.1, -0.2, 0.0), (0.3, 0.1, 0.4)], "b": [(0.0, -0.1, 0.1), (0.2, 0.0, 0.3)]}
    figure = figures.two_changes({"of F1": values, "of alarms": values}, ["one", "two"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["of F1", "of alarms"]
    for axes in figure.axes:
        for line, bars, rows in zip(axes.lines, axes.collections, values.values(), strict=False):
            np.testing.assert_allclose(line.get_ydata(), [row[0] for row in rows])
            np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], [row[1:] for row in rows])


def test_maps_stand_over_their_pictures_and_only_free_ones():
    image = {"x": RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)}
    rows = {"x": {"a": np.zeros((16, 16), np.float32), "b": np.ones((16, 16), np.float32)}}
    a, b = figures.maps_after(rows, image, ["generated-splice"]).axes
    assert (a.get_title(), b.get_title(), a.get_ylabel()) == ("a", "b", "x")
    assert np.asarray(a.images[0].get_array()).mean() < np.asarray(b.images[0].get_array()).mean()
    with pytest.raises(InputError, match="may not be published"):
        figures.maps_after(rows, image, ["photos-splice"])


def test_bands_reach_from_the_lowest_seed_to_the_highest_and_one_network_has_none():
    networks = [network("lite"), network("0-0", "two"), network("0-1", "two", 0.2)]
    assert {arm: len(seeds) for arm, seeds in figures.by_arm(networks).items()} == {"lite": 1, "two": 2}
    (axes,) = figures.bands(networks, {"found_own": "found"}).axes
    one, two = axes.lines
    np.testing.assert_allclose(one.get_ydata(), [0.5, 0.6, 0.7])
    np.testing.assert_allclose(two.get_ydata(), [0.6, 0.7, 0.8])
    (band,) = axes.collections
    ys = band.get_paths()[0].vertices[:, 1]
    assert np.isclose(ys.min(), 0.5) and np.isclose(ys.max(), 0.9)
    assert two.get_label() == "two, 2 seeds" and one.get_label() == "lite"


def test_the_slider_has_a_frame_for_each_cell_and_says_its_shares():
    networks = [network("a"), network("b")]
    figure = figures.threshold_slider(networks)
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["untouched", "JPEG 80", "simulated sharing"]
    for i, step in enumerate(steps):
        visible, moves = step.args
        shown = [trace for trace, on in zip(figure.data, visible["visible"], strict=True) if on]
        assert len(shown) == 6 and "a: found" in moves["title"]["text"]
        assert f"found {0.5 + 0.1 * i:.1%}, false alarms {0.05 + 0.2 * i:.1%}" in moves["title"]["text"]
        at = int(np.argmin(abs(figures.THRESHOLDS - 0.65)))
        assert shown[0].y[at] == np.mean(np.array(networks[0]["cells"][i]["tampered"]) > figures.THRESHOLDS[at])
        assert shown[1].y[at] == 0.25 and set(shown[2].x) == {0.6}
    assert "Plotly.newPlot" in show(figure, "robustness-slider", alt="A slider over degradations.")._repr_html_()
    with pytest.raises(InputError, match="room for two"):
        figures.threshold_slider(networks[:1])


def test_the_script_s_threshold_leaves_two_of_forty_above_and_stays_for_all_cells():
    degraded = script()
    scores = RNG.permutation(np.arange(40) / 100).tolist()
    assert degraded.threshold_of(scores) == 0.37 and sum(s > 0.37 for s in scores) == 2
    later = {"authentic": [s + 0.3 for s in scores], "tampered": [0.2, 0.38, 0.6, 0.9]}
    first, second = degraded.with_shares([{"authentic": scores, "tampered": [0.1, 0.38, 0.6, 0.9]}, later])
    assert (first["alarms_own"], first["found_own"], first["alarms_half"], first["found_half"]) == (0.05, 0.75, 0, 0.5)
    assert second["alarms_own"] == np.mean([s + 0.3 > 0.37 for s in scores])
    assert second["found_own"] == 0.75


def test_the_script_scores_degraded_images_of_both_classes_and_takes_finished_runs(tmp_path):
    degraded = script()
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:24] = 1
    rows = []
    for i in range(4):
        image = np.full((32, 32, 3), 60, np.uint8)
        image[mask == 1] = 200 if i % 2 else 60
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        Image.fromarray(mask * 255).save(tmp_path / f"{i}-mask.png")
        rows.append(Sample(tmp_path / f"{i}.png", tmp_path / f"{i}-mask.png" if i % 2 else None, i % 2, "generated"))
    write_manifest(tmp_path / "manifest.csv", rows)
    samples = degraded.chosen(tmp_path / "manifest.csv", 2)
    assert [sample.label for sample in samples] == [0, 0, 1, 1]
    with pytest.raises(InputError, match="expected 3 of each"):
        degraded.chosen(tmp_path / "manifest.csv", 3)

    def bright(image):
        return SimpleNamespace(score_map=(image[..., 0] / 255).astype(np.float32))

    cell = degraded.CELLS[-2]
    assert (cell.degradation, cell.value) == ("gamma", 0.7)
    row = degraded.scored(bright, samples, cell)
    after = degrade(np.full((1, 1, 3), 60, np.uint8), cell.steps)[0, 0, 0] / 255
    np.testing.assert_allclose(row["authentic"], [after] * 2, atol=1e-3)
    assert row["f1"] == row["f1_best"] == row["image_auc"] == row["pixel_auc"] == 1 and row["f1_of_each"] == [1, 1]

    for name in ("0-3", "1-0", "2-0", "0-4"):
        (tmp_path / name).mkdir()
        if name != "0-4":
            (tmp_path / name / "scores.json").write_text("{}")
    assert list(degraded.networks(tmp_path)) == ["lite", "lite2", "0-3", "1-0"]
    assert degraded.networks(tmp_path)["1-0"][1:] == ("focal only", 0)


def test_reliability_draws_each_sets_wrong_share_and_leaves_empty_bins_out():
    bins = [
        {"from": 0.0, "to": 0.5, "pixels": 0.0, "wrong": None},
        {"from": 0.5, "to": 1.0, "pixels": 1.0, "wrong": 0.2},
    ]
    both = [{**bins[0], "pixels": 0.5, "wrong": 0.4}, {**bins[1], "pixels": 0.5}]
    (axes,) = figures.reliability({"one": {"bins": bins}, "two": {"bins": both}}).axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 0.2]], [[0, 0.4], [1, 0.2]]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.5", "1"]
    assert [c.get_sizes().tolist() for c in axes.collections] == [[400], [200, 200]]
