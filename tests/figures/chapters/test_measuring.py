"""Chapter 2's figures, checked by what they draw."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpc_lite.errors import InputError
from mpc_lite.evaluation.protocols import PROTOCOLS
from mpc_lite.figures.chapters import measuring
from mpc_lite.figures.show import show
from tests.evaluation.oracles import counts as slow_counts

CHAPTER = Path(__file__).parents[3] / "book/part1-problem/02-measuring.md"
RNG = np.random.default_rng(0)
MAP = RNG.random((24, 24)).astype(np.float32)
TRUTH = np.zeros((24, 24), np.uint8)
TRUTH[4:12, 6:20] = 1
BLUE, ORANGE, PURPLE = (0, 114, 178), (213, 94, 0), (156, 61, 120)


def test_eight_draws_a_bar_for_each_protocol_and_a_diamond_for_black():
    scores = {name: 0.1 * i for i, name in enumerate(PROTOCOLS, start=1)}
    nothing = dict.fromkeys(PROTOCOLS, 0.25)
    image = np.zeros((24, 24, 3), np.uint8)
    figure = measuring.eight(image, TRUTH, MAP, scores, nothing, source="generated-splice")
    *pictures, axes = figure.axes
    assert [a.get_title() for a in pictures] == ["image", "truth", "score"]
    assert [bar.get_width() for bar in axes.patches] == list(scores.values())
    assert list(axes.lines[0].get_xdata()) == [0.25] * 8
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert [text.rstrip("*") for text in labels] == list(PROTOCOLS)
    assert [text for text in labels if text.endswith("*")] == ["best_threshold*", "trufor_best*"]
    with pytest.raises(InputError, match="same protocols"):
        measuring.eight(image, TRUTH, MAP, scores, {"mpc": 0.0}, source="generated")
    with pytest.raises(InputError, match="may not be published"):
        measuring.eight(image, TRUTH, MAP, scores, nothing, source="casia2")


def test_by_hand_names_every_pixel_as_the_slow_count_does():
    scores, truth = np.array([[0.9, 0.6], [0.5, 0.2]]), np.array([[1, 0], [1, 0]])
    left, right = measuring.by_hand(scores, truth).axes
    assert [t.get_text() for t in right.texts] == ["TP", "FP", "FN", "TN"]
    assert [t.get_text() for t in left.texts] == ["0.9", "0.6", "0.5", "0.2"]
    assert len(left.patches) == 2  # one outline for each tampered pixel


def test_outcomes_are_coloured_by_truth_and_mark():
    made = measuring.outcomes(MAP, TRUTH, 0.5).reshape(-1, 3)
    tp, fp, fn, tn = slow_counts(MAP, TRUTH, 0.5)
    colours = [tuple(int(v) for v in pixel) for pixel in made]
    assert (colours.count(BLUE), colours.count(ORANGE)) == (tp, fp)
    assert colours.count(PURPLE) + colours.count((255, 255, 255)) == fn and colours.count(PURPLE) > fn / 4
    assert colours.count((238, 238, 238)) == tn


def test_slider_holds_the_scores_and_the_picture_of_every_threshold():
    thresholds = np.linspace(0, 1, 21)
    figure = measuring.threshold_slider(MAP, TRUTH, thresholds, source="generated-splice")
    (control,) = figure.layout.sliders
    assert [step.label for step in control.steps] == [f"{t:.2f}" for t in thresholds] and control.active == 10
    assert len(figure.data) == 21 and [t.visible for t in figure.data].index(True) == 10
    for step, trace, threshold in zip(control.steps, figure.data, thresholds, strict=True):
        tp, fp, fn, tn = slow_counts(MAP, TRUTH, threshold)
        expected = [2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), tp / max(tp + fp, 1), tp / (tp + fn)]
        np.testing.assert_allclose(trace.x, expected, atol=6e-4)
        images, notes = (step.args[1][key] for key in ("images", "annotations"))
        picture = Image.open(io.BytesIO(base64.b64decode(images[0]["source"].partition(",")[2])))
        pixels = [tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()]
        assert (pixels.count(BLUE), pixels.count(ORANGE)) == (tp, fp)
        assert f"TP {tp}   FP {fp}   FN {fn}   TN {tn}" in notes[1]["text"]
    assert len(show(figure, "measuring-slider", "a slider over 21 thresholds")._repr_html_()) < 500_000
    with pytest.raises(InputError, match="may not be published"):
        measuring.threshold_slider(MAP, TRUTH, thresholds, source="casia2")


def test_threshold_curves_mark_the_best_of_each_image_and_the_mean():
    grid, curves = np.array([0.0, 0.5, 1.0]), np.array([[0.2, 0.6, 0.0], [0.9, 0.4, 0.0]])
    (axes,) = measuring.threshold_curves(grid, curves).axes
    best = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert best == [[0.5, 0.6], [0.0, 0.9]]
    mean = next(line for line in axes.lines if line.get_label() == "mean of the images")
    np.testing.assert_allclose(mean.get_ydata(), [0.55, 0.5, 0.0])


def test_trivial_and_plane_draw_points_on_their_curves():
    share = np.array([0.1, 0.3])
    (axes,) = measuring.trivial(share, {"black": (1 - share) / (2 - share)}, {"black": (share, [0.47, 0.41])}).axes
    curve, points = axes.lines
    np.testing.assert_allclose(curve.get_ydata(), [0.9 / 1.9, 0.7 / 1.7])
    assert list(points.get_ydata()) == [0.47, 0.41] and axes.get_xlabel().startswith("tampered share")
    (axes,) = measuring.plane(([0.8], [2 / 3]), (0.8, 0.7), {"Columbia": (0.945, 0.936), "DSO": (0.512, 0.389)}).axes
    bend, own, mean, published = axes.lines
    assert np.interp(0.8, *bend.get_data()) == pytest.approx(2 / 3, abs=1e-3)
    assert own.get_xydata().tolist() == [[0.8, 2 / 3]] and mean.get_xydata().tolist() == [[0.8, 0.7]]
    assert published.get_xydata().tolist() == [[0.945, 0.936], [0.512, 0.389]]
    assert [t.get_text() for t in axes.texts] == ["Columbia"]


def test_methods_and_intervals_tell_methods_apart_without_colour():
    table = {m: {p: 0.1 * i for p in PROTOCOLS} for i, m in enumerate(["lite", "ela", "black"], start=1)}
    (axes,) = measuring.methods(table).axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.1 * i] * 8 for i in (1, 2, 3)]
    assert len({line.get_marker() for line in axes.lines}) == 3
    top, bottom = measuring.intervals(
        {"lite": (0.6, (0.5, 0.7))}, {"a": (0.1, (-0.1, 0.3)), "b": (0.2, (0.1, 0.3))}
    ).axes
    assert [tuple(line.get_xdata()) for line in top.lines] == [(0.5, 0.7), (0.6,)]
    clear = [line for line in bottom.lines if line.get_marker() == "o"]
    noise = [line for line in bottom.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in clear] == [0.2] and [line.get_xdata()[0] for line in noise] == [0.1]
    assert bottom.get_yticklabels()[0].get_text() == "a\n0.10 [-0.10, 0.30]"


def test_alarms_draw_every_photograph():
    figure = measuring.alarms([0.2, 0.6], [0.7, 0.8, 0.9], np.array([0.01, 0.1]), {"p": np.array([0.1, 0.5])})
    top, bottom = figure.axes
    assert [sorted(line.get_xdata()) for line in top.lines[:2]] == [[0.2, 0.6], [0.7, 0.8, 0.9]]
    assert list(bottom.lines[0].get_ydata()) == [0.1, 0.5] and bottom.get_xscale() == "log"


def test_the_chapters_table_of_protocols_is_the_packages():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", CHAPTER.read_text(encoding="utf-8"), re.M)
    rows = {name: [cell.strip() for cell in cells] for name, *cells in rows if name in PROTOCOLS}
    assert list(rows) == list(PROTOCOLS)
    for name, (kind, threshold, average) in rows.items():
        protocol = PROTOCOLS[name]
        words = {None: "best of each image", 0.5: "0.5", 127 / 255: "127/255"}
        assert threshold == words[protocol.threshold]
        assert average == {"image": "images", "pooled": "all pixels"}[protocol.averaging]
        assert ("border" in kind) == (protocol.border is not None)
        kinds = {"foreground": "foreground", "macro": "both classes", "permuted": "inverse"}
        assert kinds[protocol.f1] in kind or (protocol.border and "permuted" in kind)
