"""The figures of the chapter on Gaussians, checked by the data they draw."""

import math

import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import pixels_as_gaussians as figures
from mpc_lite.figures.show import show

IMAGE = np.zeros((16, 16, 3), np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[4:8, 4:12] = 1


def test_expected_likelihood_is_the_area_of_the_product():
    z = np.linspace(-30, 30, 60_001)

    def normal(mean, v):
        return np.exp(-((z - mean) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)

    for d, v0, v1 in ((0.8, 0.7, 1.9), (0, 1, 1), (3, 0.1, 5)):
        area = (normal(0, v0) * normal(d, v1)).sum() * (z[1] - z[0])
        assert figures.expected_likelihood(d, v0, v1) == pytest.approx(area, rel=1e-9)


def test_both_curves_of_each_preset_are_drawn():
    losses, gaps = {"lite": [0.5, 0.2], "released": [0.69, 0.69]}, {"lite": [0.1, 0.9], "released": [0.1, 0.1]}
    above, below = figures.flat_or_not(losses, gaps).axes
    assert [list(line.get_ydata()) for line in above.lines[:2]] == list(losses.values())
    assert [list(line.get_ydata()) for line in below.lines[:2]] == list(gaps.values())
    assert [t.get_text() for t in above.get_legend().get_texts()] == ["lite", "released", "ln 2"]
    assert set(above.lines[2].get_ydata()) == {math.log(2)}


def test_maps_lie_under_the_outline_at_the_size_of_the_photograph():
    maps = {name: np.full((4, 4), i + 0.5) for i, name in enumerate("abc")}
    maps["b"][1, 2] = 9
    figure = figures.pixel_maps(IMAGE, MASK, maps, sources=["generated-splice"])
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["forgery", "a", "b", "c"]
    assert np.array_equal(panels[2].images[0].get_array(), maps["b"])
    assert all(tuple(axes.images[0].get_extent()) == (0, 16, 16, 0) for axes in panels)
    for axes in panels:
        border = np.concatenate(axes.collections[0].get_paths()[0].to_polygons())
        assert border[:, 0].min() == pytest.approx(4, abs=1) and border[:, 0].max() == pytest.approx(12, abs=1)
        assert border[:, 1].min() == pytest.approx(4, abs=1) and border[:, 1].max() == pytest.approx(8, abs=1)


def test_mixes_say_how_much_each_rule_calls_tampered():
    images = dict.fromkeys(("source", "target", "mix"), IMAGE)
    labels = {"released": 0 * MASK, "splice": 1 - MASK, "intra": MASK}
    figure = figures.mixes(images, labels, sources=["generated-splice"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["source", "target", "mix", *(f"{n}\n{x.mean():.0%} tampered" for n, x in labels.items())]
    assert np.array_equal(figure.axes[4].images[0].get_array(), labels["splice"] == 1)


@pytest.mark.parametrize("name", ["pixel_maps", "mixes"])
def test_pictures_need_a_licence(name):
    more = (MASK, {}) if name == "pixel_maps" else ({},)
    with pytest.raises(InputError, match="may not be published"):
        getattr(figures, name)(IMAGE, *more, sources=["casia"])


def test_slider_moves_the_pixel_and_marks_its_likelihood():
    variances = [0.2, 0.75, 3.0]
    figure = figures.two_gaussians(variances, 1.0, 0.25, active=1)
    n = len(figure.data) // len(variances)
    assert [trace.visible for trace in figure.data] == [i // n == 1 for i in range(3 * n)]
    assert [step.label for step in figure.layout.sliders[0].steps] == ["0.2", "0.75", "3"]
    for i, variance in enumerate(variances):
        traces = {trace.name: trace for trace in figure.data[i * n : (i + 1) * n]}
        step = traces["pixel"].x[1] - traces["pixel"].x[0]
        pixel, prototype, product = (np.array(traces[k].y) for k in ("pixel", "prototype", "product"))
        assert pixel.sum() * step == pytest.approx(1, abs=0.06) and prototype.sum() * step == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(product, pixel * prototype, atol=2e-4)
        value = figures.expected_likelihood(1, variance, 0.25)
        assert product.sum() * step == pytest.approx(value, abs=1e-3)
        assert traces["now"].x[0] == variance and traces["now"].y[0] == pytest.approx(math.log(value), abs=1e-4)
        assert f"{value:.3f}" in figure.layout.sliders[0].steps[i].args[1]["title"]["text"]
    apart, equal = (np.array(traces[k].y) for k in ("means apart", "means equal"))
    assert 0 < apart.argmax() < len(apart) - 1 and (np.diff(equal) < 0).all()
    shown = show(figure, "gaussians-test", "two Gaussians and their product")
    assert len(shown._repr_html_()) < 200_000 and sum(len(t.x) for t in figure.data) < 10_000
