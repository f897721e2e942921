"""The figures of chapter 3, by the data in them."""

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from torch.utils.flop_counter import FlopCounterMode

from mpc_lite.figures.chapters import backbone as figures
from mpc_lite.figures.show import Plotted
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC


def test_reach_draws_the_median_and_the_range_of_each_group():
    rng = np.random.default_rng(0)
    scores = {name: rng.random((11, 4, 2)) for name in ("large", "small")}
    figure = figures.reach(scores)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["marked above 0.5", "best threshold for each mask"]
    for which, axes in enumerate(figure.axes):
        for (line, _, (bars,)), values in zip(axes.containers, scores.values(), strict=True):
            np.testing.assert_allclose(line.get_ydata(), np.median(values[:, :, which], axis=0))
            ends = np.array([segment[:, 1] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends.T, np.quantile(values[:, :, which], [0.1, 0.9], axis=0))
    assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == ["4", "8", "16", "32"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["large", "small"]


def test_a_verdict_counts_and_colours_found_missed_and_false_pixels():
    mask = np.array([[1, 1, 0, 0]], np.uint8)
    image, counts = figures.verdict(mask, np.array([[0.9, 0.5, 0.6, 0.1]]))
    assert counts == {"found": 1, "missed": 1, "false": 1}
    colours = [tuple(pixel) for pixel in image[0]]
    assert len(set(colours)) == 4 and colours[3] == (figures.GROUND,) * 3


def test_mask_frames_say_each_strides_f1():
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    half = np.where(np.arange(64) < 32, mask, 0).astype(float)
    coverages = {"square": [mask, half], "again": [half, mask]}
    figure = figures.mask_frames({"square": mask, "again": mask}, coverages, (4, 8), 1)
    assert [trace.visible for trace in figure.data] == [False, True]
    (steps,) = [s.steps for s in figure.layout.sliders]
    assert [step.label for step in steps] == ["4", "8"]
    said = [[a["text"] for a in step.args[1]["annotations"] if a["text"].startswith("F1")] for step in steps]
    assert said == [["F1 1.00", "F1 0.67"], ["F1 0.67", "F1 1.00"]]
    assert all(len(step.args[1]["images"]) == 4 for step in steps)
    assert figure.data[0].text == ("found 1024, missed 0, false 0", "found 512, missed 512, false 0")
    assert len(Plotted(figure, "backbone-masks", "a slider over two strides")._repr_html_()) < 500_000


@pytest.mark.parametrize(("size", "boxes"), [("base", 2 + 4 * 3 + 2 * 4), ("nano", 2 + 3 + 4)])
def test_the_lanes_hold_a_box_for_every_branch_of_every_round(size, boxes):
    axes = figures.branches(SIZES[size], side=512).axes[0]
    assert sum(isinstance(patch, FancyBboxPatch) for patch in axes.patches) == boxes + 1  # and the stem
    texts = [text.get_text() for text in axes.texts]
    for branch, cells in enumerate((128, 64, 32, 16)):
        assert f"{SIZES[size].embedding}×{cells}×{cells}" in texts
        assert f"{SIZES[size].channels[branch]} channels" in texts


def test_fields_leave_tokens_without_influence_white():
    values = np.zeros((14, 14))
    values[:7, :7] = 1e-3
    values[2, 3] = 1
    figure = figures.fields([("one", values), ("two", values * 5)], (2, 3), columns=2)
    for axes, title in zip(figure.axes[:2], ("one", "two"), strict=True):
        assert axes.get_title() == f"{title}\n49 tokens"
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)
        assert np.isnan(shown).sum() == 14 * 14 - 49
        assert shown[2, 3] == 0 and np.isclose(shown[0, 0], -3)


def test_influence_draws_the_mean_share():
    radii = np.arange(0, 40, 4)
    shares = {f"X{k}": np.sort(np.random.default_rng(k).random((3, 10)), axis=1) for k in range(1, 5)}
    axes = figures.influence(shares, radii).axes[0]
    for line, (name, values) in zip(axes.lines, shares.items(), strict=False):
        assert line.get_label() == name
        np.testing.assert_allclose(line.get_ydata(), values.mean(0))
    assert axes.get_xlim() == (0, 36)


@pytest.mark.parametrize("side", [5, 7, 8, 14, 16, 32, 64, 128])
def test_beside_padding_is_the_share_of_tokens_that_padding_reaches(side):
    """Against a loop over windows of the padded map."""
    pad = -side % 7
    padded = np.pad(np.zeros((side, side)), (pad // 2, pad - pad // 2), constant_values=1)
    for y in range(0, len(padded), 7):
        for x in range(0, len(padded), 7):
            padded[y : y + 7, x : x + 7] = padded[y : y + 7, x : x + 7].max()
    reached = padded[pad // 2 : pad // 2 + side, pad // 2 : pad // 2 + side]
    assert figures.beside_padding(side) == pytest.approx(reached.mean())


def test_padding_names_each_stride_with_its_share():
    changes = {s: np.random.default_rng(s).random((512 // s, 512 // s)) for s in figures.STRIDES}
    figure = figures.padding(changes)
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["stride 4: 14% of 128²", "stride 8: 23% of 64²", "stride 16: 57% of 32²", "stride 32: 81% of 16²"]
    for axes, change in zip(figure.axes[:4], changes.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), change)


@pytest.mark.slow
def test_parts_of_the_network_add_up_to_all_of_it():
    with torch.device("meta"):
        model, image = MPC.build("nano").eval(), torch.empty(1, 3, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    parts = figures.parts(counts)
    assert list(parts) == [*figures.PARTS, "head"]
    assert min(parts.values()) > 0 and sum(parts.values()) == counts["Global"]

    axes = figures.cost({"nano": parts, "twice": {name: 2 * n for name, n in parts.items()}}).axes[0]
    np.testing.assert_allclose(axes.lines[1].get_xdata(), 2e-9 * np.array(list(parts.values())))
    assert [t.get_text() for t in axes.get_yticklabels()] == list(parts)
