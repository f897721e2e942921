"""The figures of chapter 10, by their data."""

import numpy as np
import pytest

from mpc_lite.figures.chapters import ablations as figures
from mpc_lite.figures.show import show

ARMS = {"two": [0.01, 0.02, 0.03], "one": [-0.04], "none": []}


def test_differences_are_drawn_in_points_with_their_interval():
    (axes,) = figures.differences({"AUC": ARMS}).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["two", "one", "none"]
    lines = [line.get_xydata() for line in axes.lines[1:]]
    interval = next(line for line in lines if len(line) == 2)
    half = 4.302653 * 1.0 / 3**0.5
    np.testing.assert_allclose(interval, [[2 - half, 0], [2 + half, 0]], rtol=1e-5)
    dots = [line[0] for line in lines if len(line) == 1]
    np.testing.assert_allclose(dots, [(2, 0), (1, 0), (2, 0), (3, 0), (-4, 1), (-4, 1)])  # a mean, then its seeds
    assert [t.get_text().strip() for t in axes.texts] == ["not run"]
    assert np.isfinite(axes.get_xlim()).all()


def test_pairs_join_what_one_seed_gave():
    (axes,) = figures.pairs({"a": [0.1, 0.2], "b": [0.3, 0.1]}, "F1").axes
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines], [[0.1, 0.3], [0.2, 0.1]])
    with pytest.raises(ValueError, match="shorter"):
        figures.pairs({"a": [0.1, 0.2], "b": [0.3]}, "F1")


def test_detectable_difference_falls_with_the_seeds():
    (axes,) = figures.detectable({"AUC": 0.01, "F1": 0.02}, range(2, 21), 5).axes
    first, second = (line.get_ydata() for line in axes.lines[:2])
    assert (np.diff(first) < 0).all() and np.allclose(second, 2 * np.asarray(first))
    assert first[1] == pytest.approx((4.302653 + 1.060660) / 3**0.5, rel=1e-5)  # three seeds


def test_browsing_says_each_row_in_words_and_keeps_one_scale():
    figure = figures.browse({"first": ARMS, "second": {"two": [], "one": [0.1, 0.1], "none": []}})
    words = [trace.text for trace in figure.data if trace.mode == "text"]
    assert words[0] == ("+2.0 [-0.5, +4.5], 3 seeds", "-4.0, one seed", "not run")
    assert words[1] == ("not run", "+10.0 [+10.0, +10.0], 2 seeds", "not run")
    assert figure.layout.xaxis.range == pytest.approx((-11.5, 11.5)) and len(figure.layout.sliders[0].steps) == 2
    assert "first" in figure.layout.sliders[0].steps[0].label
    assert "plotly-browse" in show(figure, "browse", "some words of alt text")._repr_html_()


def test_browsing_without_any_run_says_so():
    figure = figures.browse({"first": {"a": []}, "second": {"a": []}})
    assert [trace.text for trace in figure.data if trace.mode == "text"] == [("not run",), ("not run",)]
