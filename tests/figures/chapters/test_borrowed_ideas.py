"""The figures of chapter 20, by their data."""

import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.evaluation.arms import side_by_side
from mpc_lite.figures.chapters import borrowed_ideas as figures
from mpc_lite.figures.interactive import picture
from mpc_lite.figures.show import show

RNG = np.random.default_rng(0)
SOURCES = ["generated-splice"]
NAMES = ["mpc", "focal", "pppc", "scales"]
RUNS = [("focal", s, 0.5) for s in range(3)] + [("mpc", s, 0.7 + 0.01 * s) for s in range(3)]
RUNS += [("pppc", 0, 0.9), ("pppc", 1, 0.1)]


def drawn(axes, y):
    """The x of all that lies on the line of an arm."""
    return [line.get_xdata() for line in axes.lines if set(np.atleast_1d(line.get_ydata())) == {y}]


def test_arms_have_their_seeds_their_mean_and_their_difference():
    left, right = figures.comparison(side_by_side(RUNS, NAMES, "focal"), "F1", "focal").axes
    assert [label.get_text() for label in left.get_yticklabels()] == NAMES
    assert left.get_ylim()[0] > left.get_ylim()[1], "the first arm stands above"
    seeds, mean = drawn(left, 0)
    np.testing.assert_allclose(seeds, [0.7, 0.71, 0.72])
    np.testing.assert_allclose(mean, [0.71])
    interval, middle = drawn(right, 0)
    assert interval[0] > 0 and np.mean(interval) == pytest.approx(0.21) and middle[0] == pytest.approx(0.21)
    assert drawn(right, 1) == [] and len(drawn(right, 2)) == 2
    colours = {y: line.get_color() for line in right.lines for y in {*line.get_ydata()} if len(line.get_xdata()) == 2}
    assert colours[0] == figures.ORANGE and colours[2] == figures.GREY, "grey where the interval holds zero"
    assert [t.get_text() for t in left.texts] == ["not run"] and left.texts[0].get_position()[1] == 3


def test_an_empty_comparison_is_drawn_as_not_run():
    left, right = figures.comparison(side_by_side([], NAMES, "focal"), "F1", "focal").axes
    assert len(left.texts) == 4 and not left.lines and len(left.get_xticks()) == len(right.get_xticks()) == 0


def test_disagreements_have_a_mark_for_each_network_and_change():
    networks = {"a": {"mirror": 0.4, "averaged": 1.2}, "b": {"mirror": 0.3, "averaged": 1.1}}
    (axes,) = figures.disagreements(networks).axes
    marks = {line.get_label(): list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
    assert marks["a"] == [0.4, 1.2] and marks["b"] == [0.3, 1.1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mirror", "averaged"]
    with pytest.raises(InputError, match="same changes"):
        figures.disagreements({"a": {"mirror": 1.0}, "b": {"turn": 1.0}})


def test_the_line_lies_round_the_region_and_leaves_the_rest():
    image, mask = RNG.integers(0, 200, (10, 12, 3), dtype=np.uint8), np.zeros((10, 12), np.uint8)
    mask[3:6, 4:8] = 1
    white = (figures.outlined(image, mask) == 255).all(2)
    expected = np.zeros_like(white)
    expected[2:7, 3:9] = True
    expected[3:6, 4:8] = False
    np.testing.assert_array_equal(white, expected)
    np.testing.assert_array_equal(figures.outlined(image, mask)[~white], image[~white])


def test_a_map_runs_from_white_over_orange_to_black():
    colours = figures.heat(np.array([[0.0, 0.5, 1.0, 0.25]]))
    assert colours.tolist() == [[[255, 255, 255], [213, 94, 0], [0, 0, 0], [234, 174, 127]]]


def test_the_slider_has_a_picture_and_a_map_for_each_change():
    pictures = {name: RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) for name in ("as it is", "mirror", "averaged")}
    maps = {name: RNG.random((n, n)) for name, n in zip(pictures, (4, 4, 2), strict=True)}
    figure = figures.turning(pictures, maps, 0.48, sources=SOURCES)
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == list(pictures)
    seen = set()
    for step, values in zip(steps, maps.values(), strict=True):
        visible, moves = step.args
        (shown,) = [t for t, on in zip(figure.data, visible["visible"], strict=True) if on]
        assert (shown.type, shown.marker.cmin, shown.marker.cmax) == ("scatter", 0, 1)
        changed, drawn = moves["images"]
        assert (drawn["xref"], drawn["yref"]) == ("x2", "y2") and drawn["source"] == picture(figures.heat(values))
        assert changed["xref"] == "x"
        assert f"mean {values.mean():.2f}" in moves["title"]["text"] and "0.48" in moves["title"]["text"]
        seen.add(moves["images"][0]["source"])
    assert len(seen) == 3
    assert "Plotly.newPlot" in show(figure, "borrowed-turning", alt="A slider over changes.")._repr_html_()
    with pytest.raises(InputError, match="expected the same"):
        figures.turning(pictures, {"mirror": np.zeros((2, 2))}, 0.5, sources=SOURCES)
    with pytest.raises(InputError, match="may not be published"):
        figures.turning(pictures, maps, 0.5, sources=["casia2"])
