"""The figures of chapter 12, by their data."""

import numpy as np
import pytest

from mpc_lite.data.epoch import repeated
from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import protocols_and_data as protocols
from mpc_lite.figures.show import show
from mpc_lite.inference.overlay import painted
from mpc_lite.recipes.load import load_recipe

IMAGES = {"A": 60, "B": 4, "C": 1}


def test_readings_draw_both_scores_and_the_range():
    rows = [("as meant", 0.6, 1.0, None), ("inverted", 0.1, 0.0, None), ("some", 0.5, 1.0, (0.4, 0.7))]
    axes = protocols.readings(rows).axes[0]
    dots = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert dots["a detector"] == [0.6, 0.1, 0.5] and dots["a perfect map"] == [1.0, 0.0, 1.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["as meant", "inverted", "some"]
    assert axes.yaxis_inverted() and any(np.array_equal(line.get_xdata(), [0.4, 0.7]) for line in axes.lines)
    assert list(axes.lines[0].get_xdata()) == [0.6, 0.6]


def test_roles_put_a_mark_where_a_set_has_a_part():
    parts = {
        "one": {"trained on": ["X"], "selects": ["Y"], "reported": ["Y", "Z"]},
        "two": {"trained on": ["Z"], "reported": ["Y"]},
    }
    axes = protocols.roles(parts).axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["X", "Z", "Y"] and [t.get_text() for t in axes.get_xticklabels()] == ["one", "two"]
    at = {
        line.get_label(): {(round(x), rows[int(y)]) for x, y in zip(*line.get_data(), strict=True)}
        for line in axes.lines
    }
    assert at == {
        "trained on": {(0, "X"), (1, "Z")},
        "selects": {(0, "Y")},
        "reported": {(0, "Y"), (0, "Z"), (1, "Y")},
    }
    assert len({line.get_marker() for line in axes.lines}) == 3


def test_jpeg_masks_show_masks_and_a_curve_for_each_threshold():
    mask = np.eye(8, dtype=np.uint8)
    figure = protocols.jpeg_masks({"truth": mask, "read": 1 - mask}, (70, 90), {"> 0": [900, 20], "> 120": [0, 0]}, "x")
    truth, read, curve = figure.axes
    assert np.array_equal(truth.images[0].get_array(), mask) and read.get_title() == "read"
    assert {line.get_label(): line.get_ydata().tolist() for line in curve.lines} == {"> 0": [900, 20], "> 120": [0, 0]}
    assert curve.get_ylim()[1] > 900 and "of x" in curve.get_ylabel()


def test_thin_draws_f1_above_and_area_below():
    above, below = protocols.thin((1, 8), {"512": [0.5, 1], "128": [0.1, 0.8]}, {"512": [1, 1], "128": [2, 1.1]}).axes
    assert {line.get_label(): line.get_ydata().tolist() for line in above.lines} == {"512": [0.5, 1], "128": [0.1, 0.8]}
    assert below.lines[1].get_ydata().tolist() == [2, 1.1]
    assert [t.get_text() for t in below.get_xticklabels()] == ["1", "8"]


def test_augmented_pictures_are_painted_and_licensed():
    image, mask = np.full((6, 8, 3), 100, np.uint8), np.zeros((6, 8), np.uint8)
    mask[2:4] = 1
    figure = protocols.augmented([(image, mask)] * 4, ["a", "b", "c", "d"], "generated-splice")
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in drawn] == ["a", "b", "c", "d"]
    shown = np.asarray(drawn[0].images[0].get_array())
    assert np.array_equal(shown, painted(image, mask.astype(np.float32)))
    assert np.ptp(shown[0]) < 10 < np.abs(shown[2].astype(int) - shown[0]).max()  # authentic grey, tampered bright
    with pytest.raises(InputError, match="casia"):
        protocols.augmented([(image, mask)], ["a"], "casia")


def test_shares_are_those_of_the_packages_epoch():
    rows = [Sample(name, None, 1, name) for name, n in IMAGES.items() for _ in range(n)]
    entries = repeated(rows, {"B": 5, "C": 20})
    found = protocols.shares(IMAGES, {"B": 5, "C": 20})
    for name in IMAGES:
        assert found[name] == pytest.approx(np.mean([rows[i].source == name for i in entries]))


def test_the_slider_moves_one_source_and_counts_its_looks():
    figure = protocols.repeat_slider(IMAGES, {"B": 5, "C": 20}, "C", (1, 20, 40), seen=1200, active=1)
    assert [trace.visible for trace in figure.data] == [False, False, True, True, False, False]
    assert list(figure.data[3].x) == [60.0, 20.0, 20.0] and sum(figure.data[1].x) > 99.9
    assert figure.data[3].text[2] == "each 240.0×" and "of 100 entries" in figure.layout.title.text
    assert list(figure.data[0].x) == list(figure.data[4].x) == [92.31, 6.15, 1.54]
    step = figure.layout.sliders[0].steps[0]
    assert step.label == "1" and step.args[0]["visible"] == [True, True, False, False, False, False]
    assert "of 81 entries" in step.args[1]["title"]["text"]
    assert len(show(figure, "a-slider", "four words are here")._repr_html_()) < 100_000
    with pytest.raises(InputError, match="'D'"):
        protocols.repeat_slider(IMAGES, {}, "D", (1,), seen=10)


def test_no_share_leaves_the_drawn_range():
    images = {"s": 199_999, "m": 199_429, "b": 199_443, "CASIAv2": 5_123, "IMD": 2_010}
    figure = protocols.repeat_slider(images, {"IMD": 20}, "CASIAv2", (1, 40), seen=400_000)
    top = figure.layout.xaxis.range[1]
    assert all(max(trace.x) < top for trace in figure.data) and max(figure.data[3].x) == pytest.approx(24.28)


def test_differences_are_exactly_the_overrides():
    a = load_recipe("quickstart").as_dict()
    b = load_recipe("quickstart", overrides={"finetune.alpha": 0.5, "seed": 3}).as_dict()
    assert protocols.differences(a, a) == []
    assert protocols.differences(a, b) == [("seed", 0, 3), ("finetune.alpha", a["finetune"]["alpha"], 0.5)]
    assert protocols.differences({"x": {"y": 1}}, {"x": None}) == [("x", {"y": 1}, None)]
