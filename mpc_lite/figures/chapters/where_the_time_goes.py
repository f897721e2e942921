"""Figures of chapter 16: what was to be reached and was, how far each part is from the machine's bound, how cost grows.

All are drawn from the results that the scripts in tests/benchmarks write; `cost.targets.read_goals` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mpc_lite.cost.targets import Goal, words
from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLES, WIDTH

SHORT = {  # kinds of `roofline.KINDS` in few words; colour and marker of those that have FLOPs
    "matrix products and 1×1 convolutions": ("products, 1×1", ORANGE, "o"),
    "3×3 convolutions": ("3×3 convolutions", GREEN, "s"),
    "depthwise convolutions": ("depthwise", PURPLE, "^"),
    "attention": ("attention", BLUE, "D"),
    "norms": ("norms", GREY, "v"),
    "element by element": ("element-wise", GREY, "<"),
    "copies and resizing": ("copies", GREY, ">"),
}


def targets(rows: Sequence[Goal]) -> Figure:
    """How many times better than wanted each goal came out, on a logarithmic axis; a line through its rounds' range."""
    if not rows:
        raise InputError("there is no goal to draw; `read_goals` reads them from the benchmarks' results")
    figure = Figure(figsize=(WIDTH, 0.38 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color=GREY, linewidth=1)
    for reached, colour, marker, label in (
        (True, BLUE, "o", "reached"),
        (False, ORANGE, "X", "missed"),
    ):
        chosen = [(y, goal) for y, goal in enumerate(rows) if goal.reached == reached]
        for y, goal in chosen:
            ends = [goal._replace(value=end).margin for end in (goal.low, goal.high)]
            axes.plot(ends, [y, y], color=colour, linewidth=2, alpha=0.5)
        points = [goal.margin for _, goal in chosen], [y for y, _ in chosen]
        axes.plot(*points, color=colour, marker=marker, ms=7, ls="", label=label)
    axes.set_xscale("log")
    margins = [goal._replace(value=x).margin for goal in rows for x in (goal.low, goal.value, goal.high)]
    axes.set(xlim=(min(min(margins) / 1.5, 0.2), max(1.6 * max(margins), 5)), ylim=(len(rows) - 0.4, -0.6))
    ticks = [x for x in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if axes.get_xlim()[0] < x < axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(rows)), [f"{goal.part}\n{words(goal)}" for goal in rows], fontsize=9)
    axes.set_xlabel("times the target")
    figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=2)
    _tidy(axes)
    return figure


# ------------------------------------------------------------------------------------------------ roof and distances


def roofline(runs: Mapping[str, Mapping[str, Mapping[str, float]]], peaks: Mapping[str, float]) -> Figure:
    """FLOP/s against FLOP a byte of all kinds that compute anything, below the roof min(P, β·intensity).

    runs: one or two, name -> {kind: {"flops", "bytes", "seconds"}}, as `roofline.Ledger` adds them up. peaks: as
    `roofline.machine_peaks` gives them.
    """
    peak, bandwidth = _peaks(peaks)
    if len(runs) > 2:
        raise InputError(f"{len(runs)} runs under one roof: expected at most 2, told apart by filled and open markers")
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots()
    lefts, lowest, styles = [peak / bandwidth], peak, {}
    for (name, kinds), fill in zip(runs.items(), ("full", "none"), strict=False):
        computing = {kind: part for kind, part in _timed(name, kinds).items() if part["flops"]}
        if not computing:
            raise InputError(f"'{name}' has no kind with FLOPs: nothing of it has a place under the roof")
        for kind, part in computing.items():
            x, y = part["flops"] / part["bytes"], part["flops"] / part["seconds"]
            short, colour, marker = SHORT[kind]
            axes.plot(x, y / 1e9, color=colour, marker=marker, fillstyle=fill, ms=8, ls="", mew=1.5)
            styles[short] = {"color": colour, "marker": marker}
            lefts.append(x)
            lowest = min(lowest, y)
        styles[name] = {"color": GREY, "marker": "o", "fillstyle": fill}
    for label, style in styles.items():
        axes.plot([], [], ms=7, ls="", label=label, **style)
    ends = np.array([min(lefts) / 3, peak / bandwidth, 3 * max(lefts)])
    axes.plot(ends, np.minimum(peak, bandwidth * ends) / 1e9, color=GREY, linewidth=2)
    axes.text(ends[2], 1.15 * peak / 1e9, f"{peak / 1e9:.0f} GFLOP/s", ha="right", fontsize=9, color=GREY)
    x = np.sqrt(ends[0] * ends[1])  # half-way up the slope
    axes.text(1.1 * x, 0.8 * bandwidth * x / 1e9, f"{bandwidth / 1e9:.0f} GB/s", va="top", fontsize=9, color=GREY)
    axes.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="GFLOP/s", xlim=(ends[0], ends[2]))
    axes.set_ylim(min(lowest, bandwidth * ends[0]) / 2e9, 2.2 * peak / 1e9)
    figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=2)
    _tidy(axes)
    return figure


def distances(runs: Mapping[str, Mapping[str, Mapping[str, float]]], peaks: Mapping[str, float]) -> Figure:
    """Seconds of every kind beside the bound max(F / P, Q / β): a panel a run, arguments as for `roofline`."""
    peak, bandwidth = _peaks(peaks)
    rows = {name: _timed(name, kinds) for name, kinds in runs.items()}
    heights = [0.33 * len(kinds) + 0.5 for kinds in rows.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), layout="constrained")
    panels = figure.subplots(len(rows), height_ratios=heights, squeeze=False)[:, 0]
    for axes, (name, kinds) in zip(panels, rows.items(), strict=True):
        for y, part in enumerate(kinds.values()):
            clocks = part["flops"] / peak, part["bytes"] / bandwidth
            by_bytes = clocks[1] > clocks[0]
            axes.plot([max(clocks), part["seconds"]], [y, y], color=GREY, linewidth=1)
            colour, marker = (GREEN, "s") if by_bytes else (ORANGE, "^")
            axes.plot(max(clocks), y, color=colour, marker=marker, ms=7, ls="", fillstyle="none")
            axes.plot(part["seconds"], y, color=BLUE, marker="o", ms=7, ls="")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(kinds)), [SHORT[kind][0] for kind in kinds])
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.set_title(name, fontsize=10, loc="left")
        _tidy(axes)
    panels[-1].set_xlabel("seconds")
    for colour, marker, fill, label in (
        (BLUE, "o", "full", "measured"),
        (ORANGE, "^", "none", "bound: arithmetic"),
        (GREEN, "s", "none", "bound: bytes"),
    ):
        panels[-1].plot([], [], color=colour, marker=marker, fillstyle=fill, ms=7, ls="", label=label)
    figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _peaks(peaks: Mapping[str, float]) -> tuple[float, float]:
    peak, bandwidth = (peaks.get(key, 0) for key in ("flops_per_second", "bytes_per_second"))
    if not (peak > 0 and bandwidth > 0):
        raise InputError(
            f"peaks {dict(peaks)}: expected flops_per_second and bytes_per_second above 0, as machine_peaks() gives"
        )
    return peak, bandwidth


def _timed(name: str, kinds: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The kinds that took any time."""
    parts = {kind: part for kind, part in kinds.items() if part["seconds"] > 0}
    if not parts:
        raise InputError(f"'{name}' has no kind of operation that took any time; run it inside a Ledger first")
    if unknown := [kind for kind in parts if kind not in SHORT]:
        raise InputError(f"'{name}' has the kind '{unknown[0]}'; expected some of {', '.join(SHORT)}")
    return parts


# ------------------------------------------------------------------------------------------------------------ growth


def growth(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Seconds and peak memory against n = m, with fitted exponents: `growth` of the result speed-loss."""
    for name, curve in curves.items():
        if len({len(curve[key]) for key in ("n", "seconds", "peak")}) != 1 or not all(curve["peak"]):
            raise InputError(
                f"curve '{name}': expected seconds and a peak for every n; benchmarks need Linux for peaks"
            )
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    for axes, key, unit, power, label in (
        (upper, "seconds", 1, "time_exponent", "seconds"),
        (lower, "peak", 1e6, "memory_exponent", "MB at the peak"),
    ):
        for (name, curve), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
            values = np.array(curve[key]) / unit
            text = f"{name}: $n^{{{curve[power]:.2f}}}$"
            axes.plot(curve["n"], values, color=colour, marker=marker, ls=dash, ms=5, label=text)
        axes.set(xscale="log", yscale="log", ylabel=label)
        axes.legend(fontsize=9, frameon=False)
        _tidy(axes)
    sizes = sorted({n for curve in curves.values() for n in curve["n"]})
    lower.set_xticks(sizes, [f"{n / 1000:g}k" if n >= 1000 else str(n) for n in sizes])
    lower.xaxis.set_minor_formatter(NullFormatter())
    lower.set_xlabel("n anchors, and as many negatives")
    return figure


# ------------------------------------------------------------------------------------------------------------ memory


def matrices(sizes: Sequence[int], chunk: int, active: int = 0) -> go.Figure:
    """The two similarity matrices of the dense form and the strip that is held in chunks, to scale; a slider over n.

    sizes: of n = m. chunk: similarities held at a time (`infonce.CHUNK_ELEMENTS`).
    """
    if not sizes or min(sizes) < 1 or chunk < 1:
        raise InputError(f"sizes {list(sizes)} and a chunk of {chunk}: expected whole numbers above 0")
    frames, most, gap = [], max(sizes), 0.12 * max(sizes)
    for n in sizes:
        rows = min(n, max(1, chunk // n))
        frame = go.Figure()
        for left, height, name, colour, pattern in (
            (0, n, "dense: anchors × anchors", ORANGE, "/"),
            (most + gap, n, "dense: anchors × negatives", PURPLE, "x"),
            (most + gap, rows, "one chunk", BLUE, ""),
        ):
            right = left + n
            frame.add_scatter(
                x=[left, right, right, left, left],
                y=[0, 0, height, height, 0],
                mode="lines",
                fill="toself",
                fillcolor=BLUE if not pattern else "rgba(0,0,0,0.06)",
                line={"color": colour, "width": 2, "dash": "solid" if not pattern else "dash"},
                name=f"{name}, {_bytes(4 * n * height)}",
                hoverinfo="name",
            )
        title = f"dense {_bytes(8 * n * n)}; a chunk of {rows:,} rows {_bytes(4 * rows * n)}"
        frame.update_layout(title={"text": title, "font": {"size": 13}, "y": 0.98, "yanchor": "top"})
        frames.append(frame)
    axis = {"showgrid": False, "zeroline": False, "fixedrange": True}
    frames[0].update_layout(
        height=480,
        margin={"l": 10, "r": 10, "t": 110, "b": 10},
        legend={"orientation": "v", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
        xaxis={**axis, "title": "pixels", "range": [-0.02 * most, 2.15 * most + gap], "showticklabels": False},
        yaxis={
            **axis,
            "title": "anchors",
            "range": [1.03 * most, -0.03 * most],
            "scaleanchor": "x",
            "constrain": "domain",
        },
    )
    moving = slider(frames, [f"{n:,}" for n in sizes], prefix="n = ", active=active)
    moving.layout.sliders[0].pad = {"t": 45, "b": 10}
    return moving


def _bytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
