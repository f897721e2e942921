"""The figures of chapter 19, by their data."""

import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import scribbles as figures
from mpc_lite.figures.show import show

RNG = np.random.default_rng(0)
MASK = np.zeros((10, 12), np.uint8)
MASK[2:6, 3:9] = 1
IMAGE = RNG.integers(0, 256, (10, 12, 3), dtype=np.uint8)
SOURCES = ["generated-splice"]


def strokes():
    labels = np.full(MASK.shape, 255, np.uint8)
    labels[8], labels[3, 3:9] = 0, 1
    return labels


def test_labels_have_their_colours_and_what_has_none_is_faded_and_grey():
    labels = strokes()
    plain = figures.labelled(IMAGE, labels, None, 1)
    assert plain.shape == IMAGE.shape and plain.dtype == np.uint8
    assert (plain[labels == 0] == figures.COLOURS[0]).all()
    tampered = plain[labels == 1]
    stripes = (tampered == 255).all(1)
    assert 0 < stripes.sum() < len(tampered) and (tampered[~stripes] == figures.COLOURS[1]).all()
    rest = plain[labels == 255].astype(int)
    assert (np.ptp(rest, axis=1) == 0).all() and rest.min() >= 140
    np.testing.assert_array_equal(rest[:, 0], np.round(0.45 * IMAGE[labels == 255].mean(1) + 0.55 * 255))


def test_the_border_of_the_truth_is_black_and_outside_the_region():
    large = figures.labelled(IMAGE, strokes(), MASK, 2)
    assert large.shape == (20, 24, 3)
    black = (large == 0).all(2)
    region = np.repeat(np.repeat(MASK, 2, 0), 2, 1) == 1
    assert not black[region].any() and black[3, 5:19].all() and black[12, 5:19].all()
    assert black.sum() == 14 * 10 - 12 * 8
    with pytest.raises(InputError, match="same height and width"):
        figures.labelled(IMAGE, strokes()[:5])


def test_panels_show_what_they_are_given():
    pictures = {name: RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) for name in "abc"}
    axes = figures.panels(pictures, 2, sources=SOURCES).axes
    assert [a.get_title() for a in axes[:3]] == ["a", "b", "c"] and not axes[3].axison
    for a, image in zip(axes, pictures.values(), strict=False):
        np.testing.assert_array_equal(np.asarray(a.images[0].get_array()), image)
    with pytest.raises(InputError, match="may not be published"):
        figures.panels(pictures, 2, sources=["casia2"])


def test_the_circle_marks_the_lowest_point_of_each_curve():
    degrees = np.arange(-180.0, 181, 10)
    losses = {"a": (degrees - 20) ** 2, "b": (degrees + 90) ** 2}
    (axes,) = figures.around_the_circle(degrees, losses, {"class 0": 0.0, "class 1": 90.0}).axes
    marked = [line.get_xydata()[0].tolist() for line in axes.lines if len(line.get_xdata()) == 1]
    assert marked == [[20, 0], [-90, 0]]
    assert [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2] == [0, 90]
    assert [text.get_text() for text in axes.texts] == [" class 0", " class 1"]
    assert axes.get_ylim()[1] > max(losses["a"])  # room for these names


def test_shares_count_what_is_certain_right_and_found():
    labels = strokes()
    labels[3, 3:6] = 0  # three of 18 certain pixels are wrong
    assert np.allclose(figures.shares(labels, MASK), (18 / 120, 15 / 18, 3 / 24))
    assert figures.shares(np.full_like(MASK, 255), MASK) == (0, 0, 0)
    assert figures.shares(MASK * 0, MASK * 0) == (1, 1, 0)


def test_playback_has_a_frame_for_each_step_and_says_its_shares():
    maps = [strokes(), np.where(MASK == 1, 1, 255).astype(np.uint8), MASK]
    figure = figures.playback(IMAGE, MASK, maps, (0, 4, 8), sources=SOURCES)
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["0", "4", "8"] and {trace.type for trace in figure.data} == {"scatter"}
    seen = set()
    for i, step in enumerate(steps):
        visible, moves = step.args
        shown = {t.name: t for t, on in zip(figure.data, visible["visible"], strict=True) if on}
        assert list(shown) == [*(name for name, _, _ in figures.SHARES), "this step"]
        expected = 100 * np.array(figures.shares(maps[i], MASK)).round(3)
        assert np.allclose(shown["this step"].y, expected) and set(shown["this step"].x) == {4 * i}
        assert np.allclose([shown[name].y[i] for name, _, _ in figures.SHARES], expected)
        assert f"{expected[0]:.0f} % certain" in moves["title"]["text"]
        seen.add(moves["images"][0]["source"])
    assert len(seen) == 3
    assert "Plotly.newPlot" in show(figure, "scribbles-playback", alt="A slider over training steps.")._repr_html_()
    with pytest.raises(InputError, match="expected as many"):
        figures.playback(IMAGE, MASK, maps, (0, 4), sources=SOURCES)
    with pytest.raises(InputError, match="may not be published"):
        figures.playback(IMAGE, MASK, maps, (0, 4, 8), sources=["casia2"])
