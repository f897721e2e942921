"""Chapter 14's figures, checked by the data they draw."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mpc_lite.figures.chapters import against_the_paper as against
from mpc_lite.figures.style import BLUE, GREEN, ORANGE
from mpc_lite.reproduce.paper import paper_numbers, weighted_average


def scores(table, metric="F1"):
    rows = {}
    for n in paper_numbers(table, metric=metric):
        if n.test_set != "Average":
            rows.setdefault(n.method, {})[n.test_set] = n.value
    return rows, {n.test_set: n.images for n in paper_numbers(table, "MPC", metric) if n.test_set != "Average"}


def test_an_average_beyond_rounding_is_named_and_marked():
    rows = [("Table 1", "one", 10.0, 10.04), ("Table 1", "two", 10.0, 10.098), ("Table 2", "three", 78.6, 76.4)]
    (axes,) = against.averages(rows).axes
    drawn = [(line.get_xdata()[0], line.get_marker(), to_hex(line.get_color()).upper()) for line in axes.lines]
    assert [d[1:] for d in drawn] == [("o", BLUE), ("D", ORANGE), ("D", ORANGE)]
    assert np.allclose([d[0] for d in drawn], [-0.04, -0.098, 2.2])
    assert [t.get_text() for t in axes.texts] == ["two -0.10", "three +2.20"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Table 1", "Table 2"]


def test_bounds_hold_for_sets_of_images_and_are_met_at_both_ends():
    rng = np.random.default_rng(0)
    f1 = rng.beta(0.5, 0.5, (200, 40))
    low, high = against.iou_bounds(100 * f1.mean(1))
    mean_iou = 100 * (f1 / (2 - f1)).mean(1)
    assert (low <= mean_iou).all() and (mean_iou <= high).all()
    assert against.iou_bounds(50.0) == (pytest.approx(100 / 3), 50.0)
    assert (mean_iou - low).min() > 0.1  # images as unequal as these leave the lower bound


def test_the_plane_draws_bounds_points_and_the_pair_outside():
    (axes,) = against.plane({"a": [(50, 40), (60, 45)], "b": [(20, 15)]}, {"odd": (15.4, 19.2)}).axes
    lower, upper, a, b, odd = axes.lines
    x = np.asarray(lower.get_xdata())
    assert np.allclose(lower.get_ydata(), 100 * (x / 100) / (2 - x / 100)) and np.allclose(upper.get_ydata(), x)
    assert list(zip(*a.get_data(), strict=True)) == [(50, 40), (60, 45)] and b.get_label() == "b"
    assert (odd.get_xdata()[0], odd.get_ydata()[0]) == (15.4, 19.2)
    assert "odd" in [t.get_text() for t in axes.texts]


def test_shares_have_a_row_each_with_its_own_tick():
    (axes,) = against.remaining({"start": [0.6, 0.64], "after": [-0.1]}, {"start": 2 / 3, "after": 0.5}).axes
    _, start, tick, after, other = axes.lines
    assert list(start.get_xdata()) == [0.6, 0.64] and tick.get_xdata()[0] == pytest.approx(2 / 3)
    assert list(after.get_xdata()) == [-0.1] and other.get_xdata()[0] == 0.5
    assert to_hex(start.get_color()).upper() == BLUE and to_hex(after.get_color()).upper() == ORANGE


def test_the_ablation_has_a_dot_a_seed_and_a_bar_at_the_mean():
    figure = against.ablation({"F1": {"full": [0.3, 0.5], "less": [0.1, 0.2]}, "AUC": {"full": [0.7, 0.8]}})
    first, second = figure.axes
    assert [line.get_xdata()[0] for line in first.lines] == pytest.approx([0.4, 0.3, 0.5, 0.15, 0.1, 0.2])
    assert second.get_xlabel() == "AUC" and len(second.lines) == 3


def test_digitised_curves_have_a_band_of_one_point():
    (axes,) = against.digitised(
        ["N/A", 90], {"MPC": [94, 96], "CAT-Net": [79, 91]}, {"MPC": 94.5, "CAT-Net": 79.3}
    ).axes
    corners = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (78, 92)
    assert [line.get_ydata()[0] for line in axes.lines] == [94, 94.5, 79, 79.3]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["N/A", "90"]


def test_weights_go_from_images_to_sets():
    images = {"a": 100, "b": 400}
    assert against.weights(images, 1) == {"a": 0.2, "b": 0.8} and against.weights(images, 0) == {"a": 0.5, "b": 0.5}
    assert against.weights(images, 0.5) == pytest.approx({"a": 1 / 3, "b": 2 / 3})


def test_ranks_are_the_printed_averages_first_and_plain_means_last():
    rows, images = scores("Table 2")
    figure = against.ranks(rows, images)
    assert len(figure.data) == len(against.POWERS) and figure.data[0].visible and not figure.data[4].visible
    printed = {n.method: n.value for n in paper_numbers("Table 2") if n.test_set == "Average"}
    names = [text.split(". ")[1].rsplit("  ")[0] for text in figure.data[0].text]
    assert names[-1] == "MPC" and names[-4] == "CAT-Net"
    assert np.allclose(figure.data[0].x, [printed[name] for name in names], atol=0.06)
    assert list(figure.data[0].x) == sorted(figure.data[0].x)
    assert figure.data[4].text[-10].startswith("10. CAT-Net")
    assert figure.data[4].x[-1] == pytest.approx(np.mean(list(rows["MPC"].values())), abs=0.01)
    colours = dict(zip(names, figure.data[0].marker.color, strict=True))
    assert (colours["MPC"], colours["CAT-Net"], colours["PSCC-Net"]) == (BLUE, ORANGE, GREEN)
    titles = [step.args[1]["title"]["text"] for step in figure.layout.sliders[0].steps]
    assert "DEF-test weighs 56 %" in titles[0] and "10 %" in titles[4]
    assert len(figure.to_json()) < 50_000


def test_the_lead_is_the_sum_of_its_bars_and_changes_its_sign():
    rows, images = scores("Table 4")
    figure = against.lead(rows["MPC"], rows["TruFor"], images, ("MPC", "TruFor"))
    by_images = weighted_average(rows["MPC"]) - weighted_average(rows["TruFor"])
    assert sum(figure.data[0].x) == pytest.approx(by_images, abs=0.01) and sum(figure.data[4].x) < 0
    assert list(figure.data[0].y) == list(images)
    dso = list(images).index("DSO")
    assert figure.data[4].x[dso] == pytest.approx((51.2 - 91.0) / 10) and figure.data[4].marker.color[dso] == ORANGE
    assert f"{by_images:+.2f}" in figure.layout.title.text
