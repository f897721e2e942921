"""The figures of chapter 13, by their data."""

import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import at_scale as scale
from mpc_lite.figures.show import show


def test_a_killed_run_is_drawn_over_the_unbroken_one():
    axes = scale.killed({1: 3.0, 2: 2.0, 3: 1.0}, {1: 3.0, 2: 2.0}, {1: 3.0, 2: 2.0, 3: 1.0}).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["never disturbed", "killed, then resumed", "logged before the kill"]
    assert lines["logged before the kill"].get_linestyle() == "None"
    np.testing.assert_array_equal(lines["logged before the kill"].get_xdata(), [1, 2])
    np.testing.assert_array_equal(*(lines[k].get_ydata() for k in ("never disturbed", "killed, then resumed")))


def heights(axes):
    return [[bar.get_height() for bar in bars] for bars in axes.containers]


def test_a_mean_of_means_favours_the_images_of_small_micro_batches():
    axes = scale.weights_of_images([3, 1]).axes[0]
    right, wrong = heights(axes)
    assert right == pytest.approx([1 / 4] * 4) and wrong == pytest.approx([1 / 6] * 3 + [1 / 2])
    assert [t.get_text().split()[-1] for t in axes.get_xticklabels()] == ["1", "1", "1", "2"]


def test_a_micro_batch_without_counted_images_makes_the_mean_of_means_too_small():
    right, wrong = heights(scale.weights_of_images([2, 0]).axes[0])
    assert sum(right) == pytest.approx(1) and sum(wrong) == pytest.approx(1 / 2)
    with pytest.raises(InputError, match="at least one"):
        scale.weights_of_images([0, 0])


def test_memory_is_stacked_without_losing_a_byte():
    parts = {name: int(1e9) * (i + 1) for i, group in enumerate(scale.MEMORY.values()) for name in group}
    small = dict.fromkeys(parts, 10**8)
    axes = scale.memory_bars([("plain", parts), ("checkpointed", small)]).axes[0]
    bars = [[(bar.get_x(), bar.get_width()) for bar in group] for group in axes.containers]
    for row, memory in enumerate((parts, small)):
        x, width = bars[-1][row]
        assert x + width == pytest.approx(sum(memory.values()) / 1e9)
        assert [b[row][0] for b in bars[1:]] == pytest.approx(list(np.cumsum([b[row][1] for b in bars]))[:-1])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["plain", "checkpointed"]
    assert [t.get_text().strip() for t in axes.texts] == ["8.0", "0.5"]


def test_every_number_of_processes_reads_the_same_positions_in_the_same_step():
    figure = scale.shares(batch=2, micro_batches=8, steps=2, processes=(1, 2, 8))
    assert len(figure.data) == 6 and len(figure.layout.sliders[0].steps) == 3
    for k, number in enumerate((1, 2, 8)):
        for step in (0, 1):
            trace = figure.data[2 * k + step]
            assert sorted(trace.x) == list(range(16 * step, 16 * step + 16)) and set(trace.y) == set(range(number))
            assert {len([1 for y in trace.y if y == p]) for p in range(number)} == {16 // number}
    third = figure.data[2]  # two processes, step 0: a position belongs to ((step·A + a)·P + p)·b + i
    for x, y, (a,) in zip(third.x, third.y, third.customdata, strict=True):
        assert (a * 2 + y) * 2 <= x < (a * 2 + y) * 2 + 2
    with pytest.raises(InputError, match="divisor"):
        scale.shares(2, 8, 1, (3,))
    assert len(show(figure, "scale-share", alt="squares, one for each image read")._repr_html_()) < 100_000


def test_hours_fall_with_the_share_of_the_peak_and_thirty_per_cent_comes_first():
    figure = scale.hours({"one": {"a": 3.0, "b": 1.0}, "two": {"a": 30.0}}, (0.1, 0.3))
    assert len(figure.data) == 4 and figure.layout.sliders[0].active == 1
    assert list(figure.data[0].x) == [30.0, 300.0] and list(figure.data[2].x) == [10.0, 100.0]
    assert list(figure.data[3].x) == [3.3, 0.0] and figure.data[3].visible
    assert [s.label for s in figure.layout.sliders[0].steps] == ["10%", "30%"]
    assert "13, 100" in figure.layout.title.text and figure.layout.xaxis.range[1] >= 300


def test_each_seed_has_a_marker_in_every_row_and_the_line_of_its_own_images():
    axes = scale.seeds_and_rows({"full": (0.0, 0.28), "small": (0.25, 0.0)}, (0.31, 0.28)).axes[0]
    first, line, second, other = axes.lines
    assert list(first.get_xdata()) == [0.0, 0.25] and list(second.get_xdata()) == [0.28, 0.0]
    assert set(line.get_xdata()) == {0.31} and set(other.get_xdata()) == {0.28}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["full", "small"]
    assert first.get_marker() != second.get_marker()
