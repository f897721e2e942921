"""The figures of chapter 16, by their data."""

import numpy as np
import pytest

from mpc_lite.cost.roofline import KINDS
from mpc_lite.cost.targets import read_goals
from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import where_the_time_goes as speed
from mpc_lite.figures.show import show
from tests.cost.test_targets import small_results


def test_each_target_has_a_marker_on_its_side_of_the_line():
    rows = read_goals(small_results())
    axes = speed.targets(rows).axes[0]
    points = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert points["reached"].get_marker() != points["missed"].get_marker()
    assert min(points["reached"].get_xdata()) >= 1 > max(points["missed"].get_xdata())
    drawn = {y: x for line in points.values() for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert [drawn[y] for y in range(len(rows))] == pytest.approx([goal.margin for goal in rows])
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[0] == "one term: time\n3.00 (≥ 3.5)" and len(labels) == len(rows)
    spans = [line.get_xdata() for line in axes.lines if line.get_label().startswith("_")]
    assert any(np.allclose(span, [2 / 3.5, 4 / 3.5]) for span in spans)
    low, high = axes.get_xlim()
    assert low < min(drawn.values()) and high > max(drawn.values())
    with pytest.raises(InputError, match="no goal"):
        speed.targets([])


PEAKS = {"flops_per_second": 100e9, "bytes_per_second": 10e9}
PRODUCTS, DEPTHWISE, NORMS = KINDS[0], KINDS[2], KINDS[4]
RUN = {
    PRODUCTS: {"flops": 50 * 10**9, "bytes": 10**9, "seconds": 1.0},
    DEPTHWISE: {"flops": 10**9, "bytes": 10**9, "seconds": 0.5},
    NORMS: {"flops": 0, "bytes": 10**9, "seconds": 0.2},
    KINDS[3]: {"flops": 0, "bytes": 0, "seconds": 0.0},
}


def marks(axes):
    return [line for line in axes.lines if line.get_marker() not in ("None", "") and len(line.get_xdata())]


def test_every_kind_of_the_package_has_a_short_name():
    assert set(speed.SHORT) == set(KINDS)
    assert len({marker for _, _, marker in speed.SHORT.values()}) == len(KINDS)


def test_kinds_stand_below_the_roof_at_their_intensity():
    axes = speed.roofline({"forward": RUN, "step": RUN}, PEAKS).axes[0]
    found = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks(axes)]
    assert found == [(50.0, 50.0), (1.0, 2.0)] * 2  # norms and what took no time have no place
    fills = [line.get_fillstyle() for line in marks(axes)]
    assert fills == ["full"] * 2 + ["none"] * 2
    (roof,) = [line for line in axes.lines if len(line.get_xdata()) == 3]
    x, y = roof.get_xdata(), roof.get_ydata()
    assert x[1] == 10 and np.allclose(y, np.minimum(100, 10 * x)) and y[1] == y[2] == 100
    assert {t.get_text() for t in axes.texts} == {"100 GFLOP/s", "10 GB/s"}
    named = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    assert named == ["products, 1×1", "depthwise", "forward", "step"]


def test_the_bound_is_the_slower_clock():
    axes = speed.distances({"forward": RUN, "step": {NORMS: RUN[NORMS]}}, PEAKS).axes
    bounds = [(line.get_xdata()[0], line.get_marker()) for line in marks(axes[0]) if line.get_fillstyle() == "none"]
    assert bounds == [(0.5, "^"), (0.1, "s"), (0.1, "s")]
    taken = [line.get_xdata()[0] for line in marks(axes[0]) if line.get_fillstyle() == "full"]
    assert taken == [1.0, 0.5, 0.2]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["products, 1×1", "depthwise", "norms"]
    assert [a.get_title(loc="left") for a in axes] == ["forward", "step"]


def test_runs_and_peaks_that_nobody_measured_are_refused():
    nothing = {PRODUCTS: {"flops": 0, "bytes": 0, "seconds": 0.0}}
    for draw in (speed.roofline, speed.distances):
        with pytest.raises(InputError, match="machine_peaks"):
            draw({"forward": RUN}, {"flops_per_second": 1e9})
        with pytest.raises(InputError, match="inside a Ledger"):
            draw({"forward": nothing}, PEAKS)
        with pytest.raises(InputError, match="'sorting'"):
            draw({"forward": {"sorting": RUN[NORMS]}}, PEAKS)
    with pytest.raises(InputError, match="no kind with FLOPs"):
        speed.roofline({"forward": {NORMS: RUN[NORMS]}}, PEAKS)
    with pytest.raises(InputError, match="at most 2"):
        speed.roofline(dict.fromkeys("abc", RUN), PEAKS)


def curve(n, power):
    return {
        "n": n,
        "seconds": [1e-6 * k**power for k in n],
        "peak": [1000 * k for k in n],
        "time_exponent": power,
        "memory_exponent": 1.0,
    }


def test_growth_has_time_above_memory_and_exponents_in_the_legend():
    curves = {"fused": curve([1000, 2000, 4000], 2), "dense": curve([1000, 2000], 2)}
    upper, lower = speed.growth(curves).axes
    assert [len(line.get_xdata()) for line in upper.lines] == [3, 2]
    assert list(lower.lines[0].get_ydata()) == [1.0, 2.0, 4.0]  # MB
    assert [t.get_text() for t in upper.get_legend().get_texts()] == ["fused: $n^{2.00}$", "dense: $n^{2.00}$"]
    assert len({line.get_marker() for line in upper.lines}) == len({line.get_linestyle() for line in upper.lines}) == 2
    assert [t.get_text() for t in lower.get_xticklabels()] == ["1k", "2k", "4k"]
    curves["dense"]["peak"] = [None, None]
    with pytest.raises(InputError, match=r"'dense'.*Linux"):
        speed.growth(curves)


def area(trace):
    return (max(trace.x) - min(trace.x)) * (max(trace.y) - min(trace.y))


def test_matrices_grow_and_the_chunk_does_not():
    sizes, chunk = [100, 1000, 4000], 200_000
    figure = speed.matrices(sizes, chunk, active=1)
    assert len(figure.data) == 9 and figure.layout.sliders[0].active == 1
    for k, n in enumerate(sizes):
        among, across, strip = figure.data[3 * k : 3 * k + 3]
        assert area(among) == area(across) == n * n and area(strip) == min(n * n, chunk)
        assert min(strip.x) == min(across.x) > 4000  # beside the largest of the first, whatever n is
        assert among.line.dash != strip.line.dash and (among.visible, strip.visible) == (k == 1, k == 1)
    assert [s.label for s in figure.layout.sliders[0].steps] == ["100", "1,000", "4,000"]
    assert figure.layout.title.text == "dense 8 MB; a chunk of 200 rows 1 MB"
    assert "64 MB" in figure.data[6].name and "1 MB" in figure.data[8].name
    assert len(show(figure, "time-matrix", alt="two squares and a strip in one")._repr_html_()) < 50_000
    for wrong in (([], 5), ([0], 5), ([5], 0)):
        with pytest.raises(InputError, match="above 0"):
            speed.matrices(*wrong)
