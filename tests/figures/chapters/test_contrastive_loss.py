"""The loss chapter's figures, checked by the data they draw."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters.contrastive_loss import (
    circle,
    effective_number,
    forces,
    shortcut,
    softmax_weights,
    temperature_slider,
    two_forms,
    weight_maps,
)
from mpc_lite.figures.show import show

COSINES = np.random.default_rng(0).random(300)
ANCHORS, NEGATIVES = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6]]), np.array([[0, 1], [0.6, 0.8]])


def test_effective_number_lies_between_one_and_all():
    assert effective_number(np.full(7, 1 / 7)) == pytest.approx(7)
    assert effective_number(np.eye(5)[2]) == pytest.approx(1)
    assert effective_number(softmax_weights(COSINES, 1e4)) == pytest.approx(300, rel=1e-3)
    assert effective_number(softmax_weights(COSINES, 1e-6)) == pytest.approx(1)


def test_softmax_weights_are_ratios_of_exponentials():
    weights = softmax_weights(np.array([0.2, 0.5]), 0.1)
    assert weights.sum() == pytest.approx(1) and weights[1] / weights[0] == pytest.approx(np.exp(3))


def test_weight_maps_put_each_weight_on_its_pixel():
    labels = np.zeros((8, 8), int)
    labels[2:4, 3:6] = 1
    cosines = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    image = np.zeros((32, 32, 3), np.uint8)
    figure = weight_maps(image, labels, (6, 1), cosines, [2, 0.5, 0.1], sources=["generated-splice"])
    drawn = np.ma.filled(figure.axes[3].images[0].get_array(), np.nan)
    assert np.isnan(drawn[labels == 0]).all() and np.nanargmax(drawn) == 2 * 8 + 3
    assert drawn[2, 3] == pytest.approx(6 * softmax_weights(cosines, 0.1)[0])
    assert [a.get_title() for a in figure.axes[:4]] == [
        "the forgery",
        "temperature 2",
        "temperature 0.5",
        "temperature 0.1",
    ]
    assert all(list(a.lines[0].get_xdata()) == [1] and list(a.lines[0].get_ydata()) == [6] for a in figure.axes[:4])
    with pytest.raises(InputError, match="may not be published"):
        weight_maps(image, labels, (6, 1), cosines, [2, 0.5, 0.1], sources=["casia"])


def test_a_dead_pixel_gets_no_share_and_is_drawn_pale():
    labels = np.zeros((8, 8), int)
    labels[2:4, 3:6] = 1
    cosines = np.array([0.9, np.nan, 0.1, 0.1, np.nan, 0.1])
    figure = weight_maps(
        np.zeros((32, 32, 3), np.uint8), labels, (6, 1), cosines, [2, 0.5, 0.1], sources=["generated-splice"]
    )
    weights, pale = (np.ma.filled(i.get_array(), np.nan) for i in figure.axes[3].images)
    assert np.argwhere(~np.isnan(pale)).tolist() == [[2, 4], [3, 4]] and np.isnan(weights[~np.isnan(pale)]).all()
    assert weights[2, 3] == pytest.approx(4 * softmax_weights(cosines[~np.isnan(cosines)], 0.1)[0])


def test_circle_draws_points_and_steps():
    steps = 0.1 * np.ones((3, 2)), -0.2 * np.ones((2, 2))
    (axes,) = circle(ANCHORS, NEGATIVES, steps).axes
    np.testing.assert_allclose(np.transpose(axes.lines[1].get_data()), ANCHORS)
    np.testing.assert_allclose(np.transpose(axes.lines[2].get_data()), NEGATIVES)
    np.testing.assert_allclose(axes.collections[1].U, [-0.2, -0.2])
    assert axes.get_legend_handles_labels()[1] == ["authentic anchors", "tampered negatives"]
    panel = Figure().subplots()
    forces(panel, ANCHORS, NEGATIVES, steps)
    assert len(panel.collections) == 2


def test_temperature_slider_shows_one_network_before_and_after():
    temperatures = [0.02, 0.1, 2]
    figure = temperature_slider({"before": COSINES / 10, "after": COSINES}, temperatures, active=1)
    assert len(figure.data) == 9 and [t.visible for t in figure.data] == [False] * 3 + [True] * 3 + [False] * 3
    steps = figure.layout.sliders[0].steps
    assert [s.label for s in steps] == ["0.02", "0.1", "2"] and figure.layout.sliders[0].active == 1
    after = figure.data[4]
    weights = np.sort(softmax_weights(COSINES, 0.1))[::-1]
    assert after.name == "after" and list(after.x)[-1] == 300
    np.testing.assert_allclose(after.y, weights[np.array(after.x) - 1], rtol=5e-3)
    assert all(np.diff(after.y) <= 0)
    text = steps[1].args[1]["annotations"][0]["text"]
    assert f"after: {effective_number(weights):.0f} of 300" in text
    assert "Interactive" in repr(show(figure, "loss-test", "weights of negatives for one anchor"))
    assert len(show(figure, "loss-test", "weights of negatives for one anchor")._repr_html_()) < 500_000


def test_two_forms_part_where_the_margin_is_won():
    above, below = two_forms(0.1, 100).axes
    official, paper = (np.array(line.get_ydata()) for line in above.lines[:2])
    margin = above.lines[0].get_xdata()
    np.testing.assert_allclose(paper, np.log(100) - margin / 0.1)
    np.testing.assert_allclose(official, np.log1p(100 * np.exp(-margin / 0.1)))
    assert official.min() > 0 > paper.min()
    slope, constant = (np.array(line.get_ydata()) for line in below.lines)
    np.testing.assert_allclose(slope[1:-1], -np.gradient(official, margin)[1:-1], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(constant, 10)


def test_shortcut_draws_every_value():
    rows = {f"row {i}": {"within_image": i + 1, "cross_scale": i + 0.5, "cross_modality": 2 * i} for i in range(4)}
    (axes,) = shortcut(rows).axes
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers if hasattr(bars, "patches")]
    assert widths == [list(terms.values()) for terms in rows.values()]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["within\nimage", "cross\nscale", "cross\nmodality"]
    styles = {(tuple(b.patches[0].get_facecolor()), b.patches[0].get_hatch()) for b in axes.containers}
    assert len(styles) == 4
