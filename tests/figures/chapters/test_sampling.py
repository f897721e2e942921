import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import sampling as figures
from mpc_lite.figures.show import show

KS = (4, 8, 16)
RNG = np.random.default_rng(0)


def curve(axes, label):
    (line,) = [x for x in axes.lines if x.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def test_principal_colours_follow_the_strongest_direction_whatever_the_order_of_channels():
    pixels = np.zeros((4, 5, 6))
    pixels[:, :, 2] = 3 * np.arange(5)
    pixels[:, :, 4] = np.arange(4)[:, None]
    colours = figures.principal_colours(pixels)
    assert colours.shape == (4, 5, 3) and colours.dtype == np.uint8
    red = colours[:, :, 0].astype(int)
    assert (red == red[0]).all() and (np.diff(red[0]) > 0).all() and red[0, 0] == 0 and red[0, -1] == 255
    assert np.array_equal(colours, figures.principal_colours(pixels[:, :, ::-1]))


def test_a_map_without_structure_has_one_colour():
    assert np.ptp(figures.principal_colours(np.ones((3, 3, 4)))) == 0


def test_loss_figure_draws_mean_spread_and_the_shift_of_k_of_m():
    losses = {"a": RNG.normal(3, 1, (3, 20)), "b": RNG.normal(1, 1, (3, 20))}
    figure = figures.loss_against_k(KS, losses, {"a": 5.0, "b": 2.0}, 8)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    for axes, name, full in zip(figure.axes, "ab", (5.0, 2.0), strict=True):
        _, shifted = curve(axes, "all pixels + ln(K/M)")
        assert np.allclose(shifted, full + np.log([0.5, 1, 1]))  # more than all M cannot be drawn
        assert set(curve(axes, "all pixels")[1]) == {full}
        bars = axes.containers[0]
        assert np.allclose(bars.lines[0].get_ydata(), losses[name].mean(1))
        segments = bars.lines[2][0].get_segments()
        assert np.allclose([np.ptp(s[:, 1]) for s in segments], 2 * losses[name].std(1, ddof=1))
        assert [t.get_text() for t in axes.get_xticklabels()] == ["4", "8", "16"]


def test_gradient_figure_draws_every_cosine_and_the_means():
    cosines = {"a": RNG.uniform(-1, 1, (3, 2, 5)), "b": RNG.uniform(-1, 1, (3, 2, 5))}
    (axes,) = figures.gradient_cosine(KS, cosines).axes
    for name in "ab":
        assert np.allclose(curve(axes, name)[1], cosines[name].mean((1, 2)))
    points = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 30]
    assert len(points) == 2 and np.allclose(points[1], cosines["b"].ravel())
    low, high = axes.get_ylim()
    assert low <= -1 and high >= 1


def test_carried_share_counts_the_heaviest_first():
    share, carried = figures.carried_share(np.array([[1.0, 6, 1, 2], [1, 1, 1, 1]]))
    assert np.allclose(share, [0.25, 0.5, 0.75, 1]) and np.allclose(carried, [0.425, 0.65, 0.825, 1])
    (axes,) = figures.weight_shares({"a": np.array([[1.0, 6, 1, 2]])}).axes
    assert np.allclose(curve(axes, "a"), ([25, 50, 75, 100], [60, 80, 90, 100]))
    x, y = curve(axes, "equal weights")
    assert np.allclose(x, y) and x.max() == pytest.approx(100)


def a_map():
    labels = np.zeros((8, 10), int)
    labels[2:6, 3:8] = 1
    colours = RNG.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    drawn = [(np.flatnonzero(labels == 0)[:k], np.flatnonzero(labels == 1)[:k]) for k in KS]
    return colours, labels, drawn


def test_drawn_pixels_lie_in_their_cells():
    colours, labels, drawn = a_map()
    image = RNG.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    axes = figures.drawn_pixels(image, colours, labels, drawn[2], sources=["generated-splice"]).axes[2]
    assert "16 + 16" in axes.get_title()
    for target, points in enumerate(axes.collections):
        x, y = np.floor(np.asarray(points.get_offsets())).astype(int).T
        assert (labels[y, x] == target).all() and np.array_equal(y * 10 + x, drawn[2][target])


def test_the_outline_is_black_and_inside_the_region():
    colours, labels, _ = a_map()
    white = np.full_like(colours, 255)
    large = figures.outlined(white, labels, 4)
    assert large.shape == (32, 40, 3)
    black = (large == 0).all(2)
    assert black[8, 12:32].all() and black[23, 12:32].all() and black.sum() == 2 * 20 + 2 * 14
    assert not black[np.repeat(np.repeat(labels, 4, 0), 4, 1) == 0].any()
    assert (figures.faded(colours) >= colours).all()


def test_sampler_has_a_frame_for_each_k_and_one_for_all_pixels():
    colours, labels, drawn = a_map()
    losses = RNG.uniform(0, 2, (3, 6))
    figure = figures.sampler(colours, labels, KS, drawn, losses, 2.5, sources=["generated-splice"])
    slider = figure.layout.sliders[0]
    assert [step.label for step in slider.steps] == ["4", "8", "16", "all"]
    assert {trace.type for trace in figure.data} == {"scatter"}
    for i, step in enumerate(slider.steps):
        visible, moves = step.args
        shown = [trace for trace, on in zip(figure.data, visible["visible"], strict=True) if on]
        named = {trace.name: trace for trace in shown}
        assert len(named) == len(shown) == 5 and len(moves["images"]) == 1
        assert len(named["other draws"].x) == losses.size and set(named["all pixels"].y) == {2.5}
        for name, target in (("authentic", 0), ("tampered", 1)):
            x, y = (np.floor(np.asarray(named[name][key])).astype(int) for key in "xy")
            assert len(x) == (KS[i] if i < 3 else 0) and (labels[y, x] == target).all()
        (value,) = named["this draw"].y
        assert value == pytest.approx(losses[i, 0] if i < 3 else 2.5, abs=1e-3)
        assert f"loss {value:.2f}" in moves["title"]["text"]
    low, high = figure.layout.xaxis2.range
    assert 10**low < KS[0] and 10**high > (labels == 0).sum()
    assert "Plotly.newPlot" in show(figure, "sampling-sampler", alt="A slider over drawn pixels.")._repr_html_()


def test_pictures_and_sizes_are_checked():
    colours, labels, drawn = a_map()
    with pytest.raises(InputError, match="may not be published"):
        figures.sampler(colours, labels, KS, drawn, np.ones((3, 6)), 2.5, sources=["casia2"])
    with pytest.raises(InputError, match="may not be published"):
        figures.drawn_pixels(np.zeros((8, 10, 3), np.uint8), colours, labels, drawn[0], sources=["casia2"])
    with pytest.raises(InputError, match="expected as many"):
        figures.sampler(colours, labels, KS, drawn[:2], np.ones((3, 6)), 2.5, sources=["generated"])
    with pytest.raises(InputError, match="at most 5000"):
        figures.sampler(colours, labels, KS, drawn, np.ones((3, 600)), 2.5, sources=["generated"])
