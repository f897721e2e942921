"""The figures of chapter 8, by their data."""

import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import training as figures
from mpc_lite.figures.show import show


def test_editions_stand_on_one_row_a_set():
    figure = figures.editions({"F1": {"a": (0.2, 0.5), "b": (0.6, 0.4)}, "AUC": {"a": (0.7, 0.8), "b": (0.5, 0.5)}})
    first, second = figure.axes[0].lines[-2:]
    np.testing.assert_allclose(first.get_xdata(), [0.2, 0.6])
    np.testing.assert_allclose(second.get_xdata(), [0.5, 0.4])
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == ["a", "b"]


def test_cuts_mark_the_highest_point():
    thresholds = np.linspace(0, 1, 11)
    (axes,) = figures.cuts(thresholds, {"x": 1 - (thresholds - 0.3) ** 2, "y": 1 - (thresholds - 0.5) ** 2}).axes
    marks = [line.get_xdata() for line in axes.lines if np.size(line.get_xdata()) == 1]
    np.testing.assert_allclose(np.ravel(marks), [0.3, 0.5])


def test_validation_has_the_curve_and_the_reference():
    (axes,) = figures.validation([1, 2], [0.1, 0.3], 0.3).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.1, 0.3])
    assert axes.lines[1].get_ydata()[0] == 0.3


def test_ranks_fall_from_one_to_the_least_that_so_many_photographs_allow():
    from mpc_lite.inference.calibration import Calibration

    scores = (0.2, 0.3, 0.5, 0.6, 0.9)
    (axes,) = figures.ranks(scores).axes
    x, y = axes.lines[0].get_data()
    assert y[0] == 1 and y[-1] == pytest.approx(1 / 6)
    calibration = Calibration(scores, "", "tiles", 192, 96)
    for score in (0.1, 0.25, 0.3, 0.55, 0.9, 0.95):  # "pre": y[i] holds on (x[i-1], x[i]]
        drawn = y[int(np.searchsorted(x, score, "left"))]
        assert drawn == pytest.approx(calibration.authentic_above(score)), score
    assert [t.get_text() for t in axes.texts] == ["cannot tell", "unsure", "look here"]


def test_alarms_count_what_lies_above_each_threshold():
    figure = figures.alarms([0.1, 0.2, 0.6, 0.7], [0.3, 0.9], [0.15, 0.5, 0.8])
    steps = figure.layout.sliders[0].steps
    titles = [step.args[1]["title"]["text"] for step in steps]
    assert [t.count("%") for t in titles] == [2, 2, 2]
    assert "75 %" in titles[0] and "100 %" in titles[0] and "50 %" in titles[1] and "0 %" in titles[2]
    assert "plotly-alarms" in show(figure, "alarms", "some words of alt text")._repr_html_()
    with pytest.raises(InputError, match="some of both"):
        figures.alarms([], [0.1], [0.5])
