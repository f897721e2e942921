"""The figures of chapter 9, by their data."""

import numpy as np
import pytest
import torch

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import embedding as figures
from mpc_lite.figures.show import show


def facts(mean, wrong):
    return {"mean": mean, "sd": 0.1, "se": 0.02, "wrong_mask": wrong}


def table(purity):
    at = facts([0.9, purity, 0.4], [0.8, 0.5, 0.3]) | {"se": [0.01, 0.02, 0.03]}
    return {
        "n": 2,
        "purity_each": [purity, None, purity],
        "fisher_each": [1.0, None, 2.0],
        "purity": facts(purity, 0.5),
        "fisher_ratio": facts(1.5, 0.2),
        "purity_at": at,
        "chance_at": {"mean": [0.5, 0.45, 0.3]},
    }


@pytest.fixture
def result():
    views = {view: 0.6 + 0.1 * i for i, view in enumerate(figures.VIEWS)}
    weights = {
        w: {s: {v: table(p) for v, p in views.items()} for s in figures.SETS} for w in ("lite-initial", "lite-stage1")
    }
    return {"weights": weights, "distances": [4, 32, 64], "place_alone": {s: [0.95, 0.6, 0.2] for s in figures.SETS}}


def test_each_set_has_a_panel_and_images_without_a_value_no_dot(result):
    figure = figures.measure_by_weights(result)
    assert [a.get_title(loc="left") for a in figure.axes] == [
        "generated forgeries, 2 images",
        "research splices, 2 images",
    ]
    dots = [line.get_ydata() for line in figure.axes[0].lines if line.get_marker() == "."]
    assert [list(d) for d in dots] == [[0.6, 0.6]] * 2
    hollow = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert hollow == [0.5, 0.5]
    fisher = figures.measure_by_weights(result, "fisher_ratio")
    assert [list(x.get_ydata()) for x in fisher.axes[0].lines if x.get_marker() == "."] == [[1.0, 2.0]] * 2
    del result["weights"]["lite-initial"]["lalonde"], result["weights"]["lite-stage1"]["lalonde"]
    assert len(figures.measure_by_weights(result).axes) == 1


def test_colours_tell_classes_apart_and_dead_pixels_are_dotted():
    maps = torch.zeros(1, 4, 6, 6)
    maps[0, 0, :, :3], maps[0, 1, :, 3:], maps[0, 2] = 1, 1, 0.01 * torch.rand(6, 6)
    maps[0, :, 0, 0] = 0
    colours = figures.component_colours(maps, factor=4)
    assert colours.shape == (24, 24, 3) and colours.dtype == np.uint8
    assert set(np.unique(colours[:4, :4])) == {figures.DEAD, 255}
    left, right = colours[4:, :12], colours[4:, 12:]
    assert abs(float(left[..., 0].mean()) - float(right[..., 0].mean())) > 200
    assert np.array_equal(colours, figures.component_colours(5 * maps, factor=4))  # length says nothing
    with pytest.raises(InputError, match="0 living pixels"):
        figures.component_colours(torch.zeros(1, 4, 6, 6))


def test_dead_shares_are_drawn_in_percent_for_each_network():
    (axes,) = figures.dead_by_factor([0.9, 1, 1.1], {"lite-stage1": [0.1, 0.2, 0], "lite": [0, 0, 0]}).axes
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[10, 20, 0], [0, 0, 0]]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["after stage 1", "after stage 2"]


def test_islands_show_each_map_with_both_classes():
    labels = np.array([0, 0, 1])
    figure = figures.islands({"a": np.arange(6.0).reshape(3, 2), "b": np.ones((3, 2))}, labels)
    first, second = (line.get_xydata().tolist() for line in figure.axes[0].lines)
    assert first == [[0, 1], [2, 3]] and second == [[4, 5]]
    assert [a.get_title(loc="left") for a in figure.axes] == ["a", "b"]


def test_the_slider_has_a_frame_for_each_set_and_view(result):
    figure = figures.purity_by_distance(result)
    lines = 2 * 2 + 2
    assert len(figure.data) == 6 * lines and [t.visible for t in figure.data[:lines]] == [True] * lines
    assert list(figure.data[0].y) == [0.9, 0.6, 0.4] and list(figure.data[lines].y)[1] == 0.7
    assert list(figure.data[0].error_y.array) == [0.02, 0.04, 0.06]
    assert list(figure.data[1].y) == [0.8, 0.5, 0.3] and list(figure.data[lines - 1].y) == [0.5, 0.45, 0.3]
    assert [s.label for s in figure.layout.sliders[0].steps][3] == "research splices, within the image"
    assert "research splices" in figure.layout.sliders[0].steps[3].args[1]["title"]["text"]
    show(figure, "embedding-test", alt="Purity against distance of the neighbour.")
    result["weights"]["lite-stage1"].pop("lalonde")
    assert len(figures.purity_by_distance(result).data) == 3 * lines
