import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import class_centers as figures
from mpc_lite.figures.show import show

RNG = np.random.default_rng(0)
WAVES = [(0, 0), (0, 1), (2, 3)]


def scenes():
    """(feature, labels, bank, centres) as the chapter passes them: three waves, four scenes, a 6×8 grid."""
    labels = np.zeros((6, 8), int)
    labels[2:4, 3:6] = 1
    return RNG.normal(size=(6, 8)), labels, RNG.normal(size=(3, 6, 8)), RNG.normal(size=(3, 4, 2))


def test_panels_show_each_map_on_one_scale():
    maps = {name: RNG.uniform(size=(3, 5)) for name in "abcd"}
    image = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    drawn = [x for x in figures.panels(image, maps, sources=["generated-splice"]).axes if x.images]
    assert [x.get_title() for x in drawn] == ["image", *"abcd"]
    assert np.array_equal(drawn[0].images[0].get_array(), image)
    for axes, values in zip(drawn[1:], maps.values(), strict=True):
        assert np.array_equal(axes.images[0].get_array(), values)
        assert axes.images[0].get_clim() == (0, 1) and axes.images[0].get_extent() == [0, 20, 12, 0]


@pytest.mark.parametrize("bad", [np.full((2, 2), 1.1), np.full((2, 2), -0.1), np.full((2, 2), np.nan), np.zeros(3)])
def test_panels_refuse_what_is_not_a_map_between_0_and_1(bad):
    with pytest.raises(InputError, match=r"map 'x'.*expected \(h, w\)"):
        figures.panels(np.zeros((4, 4, 3), np.uint8), {"x": bad}, sources=["generated"])


def test_growth_draws_the_curves_and_a_line_proportional_to_the_side():
    figure = figures.growth([8, 16, 32], {"a": [1.0, 2, 5], "b": [3.0, 3, 3]}, "centre")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["a"].get_ydata()) == [1, 2, 5] and list(lines["b"].get_ydata()) == [3, 3, 3]
    assert list(lines["proportional to the side"].get_ydata()) == [0, 1, 2, 4]
    assert figure.axes[0].get_xlim()[0] == figure.axes[0].get_ylim()[0] == 0
    assert list(figure.axes[0].get_xticks()) == [8, 16, 32]


def test_signed_colours_are_white_at_zero_and_tell_the_sign():
    low, zero, high = figures.signed_colours(np.array([[-2.0, 0, 2]]))[0].astype(int)
    assert zero.min() > 240 and low[0] > low[2] and high[2] > high[1]
    assert figures.signed_colours(np.zeros((2, 2))).min() > 240


def test_two_waves_has_a_frame_for_each_wave_and_the_centres_at_their_places():
    feature, labels, bank, centers = scenes()
    figure = figures.two_waves(feature, labels, WAVES, bank, centers, 2, sources=["generated-splice"])
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["(0,0)", "(0,1)", "(2,3)"]
    assert {trace.type for trace in figure.data} == {"scatter"}  # what the book's small bundle of plotly can draw
    pictures = set()
    for i, step in enumerate(steps):
        visible, moves = step.args
        shown = [trace for trace, on in zip(figure.data, visible["visible"], strict=True) if on]
        named = {trace.name: trace for trace in shown if trace.name}
        for k, name in enumerate(("authentic", "tampered")):
            assert np.allclose(named[name].x, centers[0, :, k], atol=1e-3)
            assert np.allclose(named[name].y, centers[i, :, k], atol=1e-3)
        assert np.allclose(named["the scene above"].y, centers[i, 2], atol=1e-3)
        assert [v is None for v in named["one scene"].y] == [False, False, True] * 4
        assert f"tampered {round(centers[i, 2, 1], 3):.2f}" in moves["title"]["text"]
        pictures.add(moves["images"][0]["source"])
        low, high = figure.layout.yaxis2.range
        assert all(low < y < high for name in ("authentic", "tampered") for y in named[name].y)
    assert len(pictures) == 3
    assert "Plotly.newPlot" in show(figure, "centers-waves", alt="A slider over waves and centres.")._repr_html_()


def test_pictures_and_sizes_are_checked():
    feature, labels, bank, centers = scenes()
    with pytest.raises(InputError, match="may not be published"):
        figures.two_waves(feature, labels, WAVES, bank, centers, 0, sources=["casia2"])
    with pytest.raises(InputError, match="may not be published"):
        figures.panels(np.zeros((4, 4, 3), np.uint8), {"x": np.zeros((2, 2))}, sources=["casia2"])
    with pytest.raises(InputError, match="expected as many"):
        figures.two_waves(feature, labels, WAVES[:2], bank, centers, 0, sources=["generated"])
