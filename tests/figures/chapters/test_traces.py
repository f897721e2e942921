"""The measures of chapter 1 against slow or closed forms, and the data of its figures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import traces
from mpc_lite.forgeries.camera import demosaic, mosaic


def half(side: int = 64) -> np.ndarray:
    return (np.indices((side, side))[1] >= side // 2).astype(np.uint8)


def picture(side: int = 64) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)


def test_the_filter_keeps_the_strength_of_white_noise():
    assert_allclose((traces.HIGH_PASS.astype(float) ** 2).sum(), 1, rtol=1e-6)
    assert_allclose(traces.HIGH_PASS.sum(axis=0), 0, atol=1e-7)
    assert_allclose(traces.HIGH_PASS.sum(axis=1), 0, atol=1e-7)


def test_residual_at_a_pixel_is_the_weighted_sum_of_nine():
    grey = np.random.default_rng(0).normal(100, 20, (9, 9)).astype(np.float32)
    weights = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]
    slow = sum(weights[r][c] * grey[3 + r, 4 + c] for r in range(3) for c in range(3)) / 6
    assert_allclose(traces.residual(grey)[4, 5], slow, rtol=1e-4)


def test_contrast_counts_octaves_from_either_side():
    noise = np.random.default_rng(0).normal(0, 1, (256, 256))
    mask = half(256)
    for factor, octaves in ((1, 0), (2, 1), (0.25, 2)):
        assert_allclose(traces.contrast(noise * np.where(mask, factor, 1), mask), octaves, atol=0.05)


def test_contrast_of_a_silent_side_is_finite():
    assert np.isfinite(traces.contrast(np.zeros((32, 32), np.float32), half(32)))


def test_rhythm_hears_the_mosaic_and_its_phase():
    light = np.random.default_rng(1).random((64, 64, 3)).astype(np.float32)
    shot = demosaic(mosaic(light), "bilinear")[4:-4, 4:-4] * 255
    assert traces.rhythm(shot) > 3
    assert_allclose(traces.rhythm(shot[:, 1:]), -traces.rhythm(shot), atol=0.3)
    assert abs(traces.rhythm(light * 255)) < 0.1


def test_rhythm_looks_only_where_it_is_told():
    light = np.random.default_rng(1).random((64, 64, 3)).astype(np.float32) * 255
    light[:, :32] = demosaic(mosaic(light / 255), "bilinear")[:, :32] * 255
    left = np.indices((64, 64))[1] < 30
    assert traces.rhythm(light, left) > 3 > 0.3 > abs(traces.rhythm(light, np.roll(left, 33, axis=1)))


def test_auc_counts_pairs():
    high, low = [1, 2, 2, 5], [0, 2, 3]
    slow = np.mean([(h > x) + 0.5 * (h == x) for h in high for x in low])
    assert traces.auc(high, low) == pytest.approx(slow)
    assert traces.auc(low, high) == pytest.approx(1 - slow)


def test_coloured_mosaic_shows_one_colour_a_pixel():
    raw = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    shown = traces.coloured(raw)
    assert ((shown > 0).sum(axis=2) == 1).all()
    assert [shown[0, 0, 0], shown[0, 1, 1], shown[1, 0, 1], shown[1, 1, 2]] == [1, 2, 5, 6]


def test_beside_draws_the_shares_of_levels():
    figure = traces.beside(picture(), half(), "generated")
    inside, outside = figure.axes[3].patches
    assert [p.get_label() for p in (inside, outside)] == ["inside", "outside"]
    assert_allclose([inside.get_data().values.sum(), outside.get_data().values.sum()], 1, atol=1e-6)
    assert_allclose(figure.axes[1].images[0].get_array(), traces.level(picture()))


def test_rows_and_outline_show_image_level_and_truth():
    figure = traces.rows_of({"splice": (picture(), half()), "removal": (picture(), 1 - half())}, "generated-splice")
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["splice", "removal"]
    assert (figure.axes[5].images[0].get_array() == 1 - half()).all()
    outline = traces.outlined(picture(), half(), "generated", "a title").axes[0]
    assert outline.get_title() == "a title" and len(outline.collections) == 1


@pytest.mark.parametrize("draw", [traces.beside, traces.outlined])
def test_pictures_without_a_licence_are_refused(draw):
    with pytest.raises(InputError, match="casia"):
        draw(picture(), half(), "casia")
    with pytest.raises(InputError, match="casia"):
        traces.rows_of({"splice": (picture(), half())}, "casia")
    with pytest.raises(InputError, match="training"):
        traces.patches({"light": picture()}, "training")


def test_patches_leave_no_empty_frame():
    figure = traces.patches({str(k): picture(8) for k in range(4)}, "generated")
    assert [axes.get_title() for axes in figure.axes[:4]] == list("0123")
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2


def test_noise_line_is_the_model_not_a_fit():
    line, points = traces.noise_line(np.array([0.1, 0.5]), np.array([3e-4, 9e-4]), 2e-3, 1e-4).axes[0].lines
    assert_allclose(line.get_ydata()[[0, -1]], [100, 1100])
    assert_allclose(points.get_ydata(), [300, 900])


def test_rhythm_steps_draws_medians_and_quartiles():
    figure = traces.rhythm_steps({"a": [0, 1, 2, 3, 4], "b": [2, 2, 2, 2, 2]})
    line = figure.axes[0].containers[0]
    assert_allclose(line[0].get_ydata(), [2, 2])
    assert_allclose([s[:, 1] for s in line[2][0].get_segments()], [[1, 3], [2, 2]])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "b"]


def test_contrasts_draws_all_points_and_the_median():
    axes = traces.contrasts({"null": [0.1, 0.2, 0.9], "splice": [1, 2, 3, 4]}).axes[0]
    assert_allclose(axes.lines[0].get_xdata(), [0.1, 0.2, 0.9])
    assert_allclose([axes.lines[1].get_xdata()[0], axes.lines[3].get_xdata()[0]], [0.2, 2.5])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["null", "splice"]


def test_by_quality_draws_medians_over_pictures():
    axes = traces.by_quality(["none", "50"], {"contrast": np.array([[1, 2, 3], [0, 1, 5]])}).axes[0]
    assert_allclose(axes.lines[0].get_ydata(), [2, 1])
    with pytest.raises(InputError, match="2 qualities"):
        traces.by_quality(["none", "50"], {"contrast": np.ones((3, 4))})


def test_scores_draws_values_and_intervals():
    values = {"splice": {"lite": (0.6, 0.5, 0.7), "all": (0.2,)}, "null": {"lite": (0.4, 0.3, 0.5), "all": (0.2,)}}
    figure = traces.scores(values)
    axes = figure.axes[0]
    assert_allclose([c[0].get_xdata()[0] for c in axes.containers], [0.6, 0.2, 0.4, 0.2])
    assert_allclose(axes.containers[0][2][0].get_segments()[0][:, 0], [0.5, 0.7])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["splice", "null"]
