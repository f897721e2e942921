"""The curves of robustness show what the cells say, panel by panel."""

import pytest

from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import GRIDS
from mpc_lite.figures.robustness import NAMES, robustness_curves


def cells(grid):
    scored = [cell.__dict__ | {"f1": 0.9 - i / 100, "f1_ci95": [0.1, 1.0]} for i, cell in enumerate(GRIDS[grid])]
    return [{**cell, "f1_ci95": None} if i == 2 else cell for i, cell in enumerate(scored)]


def test_each_degradation_has_a_panel_that_starts_at_the_untouched_images():
    figure = robustness_curves({grid: cells(grid) for grid in ("paper", "chains")})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 5 + 2 and titles[0] == "JPEG quality (grid paper)" and "(grid chains)" in titles[-1]
    blur = figure.axes[1]
    assert [text.get_text() for text in blur.get_xticklabels()] == ["none", "3", "5", "7", "9", "11"]
    curve = next(line for line in blur.lines if line.get_marker() == "o")
    assert list(curve.get_ydata()) == pytest.approx([0.9, 0.84, 0.83, 0.82, 0.81, 0.80])
    assert curve.get_linestyle() == "-" and blur.get_ylim()[0] <= 0 and blur.get_ylim()[1] >= 1
    chains = next(line for line in figure.axes[-1].lines if line.get_marker() == "o")
    assert chains.get_linestyle() == "None"  # orders of a chain have no order


def test_every_degradation_of_every_grid_has_a_name():
    assert max(len(f"{name} (grid chains)") for name in NAMES.values()) <= 51  # what fits above a panel
    assert {cell.degradation for grid in GRIDS.values() for cell in grid} - {"none"} == set(NAMES)


def test_nothing_to_draw_is_said():
    for grids in ({}, {"paper": cells("paper")[:1]}):
        with pytest.raises(InputError, match="no degraded cell"):
            robustness_curves(grids)
