"""The figures of chapter 7, by their data."""

import numpy as np
import pytest
import torch

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import fine_tuning as tuning
from mpc_lite.figures.show import show
from mpc_lite.figures.style import BLUE
from mpc_lite.training.finetune import focal_loss


def labels(axes):
    return [line.get_label() for line in axes.lines]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_the_curve_is_the_packages_loss_and_its_gradient(gamma):
    p = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)
    logits = torch.logit(p).requires_grad_()
    each = torch.stack([focal_loss(z, torch.tensor(1), 0.3, gamma) for z in logits])
    each.sum().backward()
    loss, gradient = tuning.focal_curve(p.numpy(), gamma, 0.3)
    np.testing.assert_allclose(loss, each.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(gradient, -logits.grad.numpy(), rtol=1e-9)


def test_gamma_zero_has_a_straight_gradient_and_the_others_cross_it():
    above, below = tuning.focal_curves((0, 2)).axes
    assert labels(above) == ["γ = 0", "γ = 2"] and "logit" in below.get_ylabel()
    p, straight = below.lines[0].get_data()
    np.testing.assert_allclose(straight, 0.5 * (1 - p))
    focal = below.lines[1].get_ydata()
    assert (focal[p < 0.25] > straight[p < 0.25]).all() and (focal[p > 0.35] < straight[p > 0.35]).all()
    assert len({line.get_linestyle() for line in below.lines}) == 2


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    target = (rng.random((3, 1, 20, 20)) < 0.2).astype(int)
    return np.clip(0.5 * target + 0.5 * rng.random(target.shape), 0.01, 0.99), target


def test_shares_are_those_of_the_focal_loss():
    scores, target = drawn()
    shares = tuning.loss_shares(scores, target, 2.0, 0.75)
    assert shares.shape == (2, 10) and shares.sum() == pytest.approx(1)
    logits, truth = torch.logit(torch.from_numpy(scores)), torch.from_numpy(target)
    only = torch.where(truth == 1, 1, 255)
    part = (
        focal_loss(logits, only, 0.75, 2.0) * (only == 1).sum() / focal_loss(logits, truth, 0.75, 2.0) / truth.numel()
    )
    assert shares[1].sum() == pytest.approx(part.item())


def test_ignored_pixels_have_no_share():
    scores, target = drawn()
    target[0] = 255
    np.testing.assert_allclose(
        tuning.loss_shares(scores, target, 2.0, 0.5), tuning.loss_shares(scores[1:], target[1:], 2.0, 0.5)
    )
    with pytest.raises(InputError, match="as many"):
        tuning.loss_shares(scores[1:], target, 2.0, 0.5)


def test_the_slider_moves_gamma_and_says_who_carries_the_loss():
    scores, target = drawn()
    figure = tuning.share_slider(scores, target, (0, 2, 5))
    assert len(figure.data) == 6 and [t.visible for t in figure.data] == [False, False, True, True, False, False]
    steps = figure.layout.sliders[0].steps
    assert [s.label for s in steps] == ["0", "2", "5"] and figure.layout.sliders[0].active == 1
    for k, gamma in enumerate((0, 2, 5)):
        shares = 100 * tuning.loss_shares(scores, target, gamma, 0.75)
        np.testing.assert_allclose([figure.data[2 * k].y, figure.data[2 * k + 1].y], shares, atol=0.006)
        assert f"{shares[1].sum():.0f} %" in steps[k].args[1]["title"]["text"]
        assert max(shares.max(), 0) <= figure.layout.yaxis.range[1]
    assert len(show(figure, "tuning-share", alt="bars of the share of the loss")._repr_html_()) < 50_000


def test_activity_has_one_scale_a_row_and_asks_for_the_licence():
    image, truth = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    before, after = [np.full((4, 4), 1.0), np.full((4, 4), 5.0)], [np.full((4, 4), 3.0), np.full((4, 4), 2.0)]
    figure = tuning.activity([image] * 2, [truth] * 2, before, after, ["generated", "packaged"])
    assert len(figure.axes) == 8
    limits = [axes.images[0].get_clim() for axes in figure.axes]
    assert limits[2] == limits[3] == (0, 3) and limits[6] == limits[7] == (0, 5)
    with pytest.raises(InputError, match="casia"):
        tuning.activity([image], [truth], before[:1], after[:1], ["casia"])


def test_drift_is_the_mean_over_seeds_with_their_range():
    values = np.zeros((3, 4, 2))
    values[:, -1, 0], values[:, -1, 1] = [0.1, 0.2, 0.6], [1, 2, 3]
    means, variances = tuning.statistics_drift([0, 1, 2, 5], {"stem": values, "stage 2": 2 * values}).axes
    assert labels(means) == ["stem", "stage 2"]
    assert means.lines[0].get_ydata()[-1] == pytest.approx(0.3)
    assert variances.lines[1].get_ydata()[-1] == pytest.approx(4) and list(variances.lines[0].get_xdata()) == [
        0,
        1,
        2,
        5,
    ]
    band = means.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(0.6) and "variances" in variances.get_title("left")


def test_map_change_draws_four_maps_and_the_frozen_level():
    official = np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 4)
    (axes,) = tuning.map_change([0, 5, 9], official, 0.0).axes
    assert [text.split(",")[0] for text in labels(axes)] == ["X1", "X2", "X3", "X4", "X1 to X4"]
    np.testing.assert_allclose(axes.lines[2].get_ydata(), official[:, :, 2].mean(0))
    assert list(axes.lines[4].get_ydata()) == [0, 0] and list(axes.lines[4].get_xdata()) == [0, 9]


def test_paired_joins_the_dots_of_a_seed():
    (axes,) = tuning.paired({"frozen": [1, 2, 3], "official": [4, 5, 6]}, "loss").axes
    assert labels(axes) == ["seed 0", "seed 1", "seed 2"] and list(axes.lines[1].get_ydata()) == [2, 5]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["frozen", "official"]


def test_schedules_are_shares_of_their_peaks():
    (axes,) = tuning.schedules([1e-6, 5e-7], [1e-4, 0.0], (1e-6, 1e-4)).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1, 0.5])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [1, 0])
    assert labels(axes) == ["official (peak 1e-6)", "cosine (peak 1e-4)"]


def test_intervals_keep_rows_and_models_apart():
    rows = [("splice", {"lite": (0.6, 0.5, 0.7), "frozen": (0.4, 0.3, 0.5)}), ("all", {"lite": (0.6, 0.55, 0.65)})]
    (axes,) = tuning.intervals(rows).axes
    dots = [c.lines[0] for c in axes.containers]
    assert [float(d.get_xdata()[0]) for d in dots] == [0.6, 0.4, 0.6]
    assert dots[2].get_color() != BLUE and len({float(d.get_ydata()[0]) for d in dots}) == 3
    assert [t.get_text() for t in axes.get_yticklabels()] == ["splice", "all"] and axes.get_xlim() == (0, 1)
    ends = axes.containers[1].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [0.3, 0.5])
