"""Figures of chapter 10: differences of runs of equal seeds, and which could have been seen. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from mpc_lite.evaluation.paired import detectable_difference, paired_difference
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

MARKERS = "osD^v"  # one a seed
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down")
NOT_RUN = "not run"


def differences(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each score, a row for each arm: a dot for each seed's difference, the 95 % interval of their mean.

    panels: title -> arm -> differences in scores, one a seed; drawn in points, hundredths of a score. A row without
    differences says *not run*, one with a single seed has no interval.
    """
    rows = max(map(len, panels.values()))
    figure = Figure(figsize=(WIDTH, len(panels) * (0.7 + 0.32 * rows)), layout="constrained")
    for axes, (title, arms) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        axes.axvline(0, color="black", lw=0.8)
        for at, values in enumerate(arms.values()):
            if not len(values):
                axes.text(0, at, f" {NOT_RUN}", va="center", fontsize=9, color=GREY)
                continue
            mean = paired_difference(values, np.zeros(len(values)))
            if mean.n > 1:
                axes.plot([100 * mean.low, 100 * mean.high], [at, at], color=BLUE, lw=2)
            axes.plot(100 * mean.mean, at, color=BLUE, marker="|", ms=14, mew=2)
            for value, marker in zip(values, MARKERS, strict=False):
                axes.plot(100 * value, at, color=ORANGE, marker=marker, ls="", ms=4.5, alpha=0.85)
        axes.set_yticks(range(len(arms)), list(arms))
        reach = max(1.0, *map(abs, axes.get_xlim()))
        axes.set(xlim=(-reach, reach), ylim=(len(arms) - 0.5, -0.5), xlabel=title)
        axes.grid(axis="x", alpha=0.3)
        _plain(axes)
    return figure


def pairs(values: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """Scores of two or more arms side by side; a line joins what one seed gave. All arms have the same seeds."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for seed, (line, (colour, marker, dash)) in enumerate(
        zip(zip(*values.values(), strict=True), STYLES, strict=False)
    ):
        axes.plot(range(len(values)), line, color=colour, marker=marker, ls=dash, ms=6, label=f"seed {seed}")
    axes.set_xticks(range(len(values)), list(values))
    axes.set(xlim=(-0.4, len(values) - 0.6), ylabel=ylabel)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    _plain(axes)
    return figure


def detectable(deviations: Mapping[str, float], seeds: Sequence[int], now: int) -> Figure:
    """The difference that is seen in 80 of 100 experiments against the number of seeds, a curve for each deviation.

    deviations: name -> standard deviation of one difference, in scores. now: number of seeds to mark.
    """
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    for (name, deviation), (colour, marker, dash) in zip(deviations.items(), STYLES, strict=False):
        curve = [100 * detectable_difference(deviation, n) for n in seeds]
        axes.plot(seeds, curve, color=colour, marker=marker, ls=dash, ms=3.5, label=f"{name}: {100 * deviation:.1f}")
    axes.axvline(now, color=GREY, lw=1)
    axes.annotate(f" {now} seeds", (now, 0.97), xycoords=("data", "axes fraction"), fontsize=9, va="top")
    axes.set(xscale="log", yscale="log", xlabel="seeds", ylabel="detectable difference, points")
    ticks = [n for n in (2, 3, 5, 10, 20, 50) if n <= max(seeds)]
    axes.set_xticks(ticks, [str(n) for n in ticks], minor=False)
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    ticks = [y for y in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= y <= high]
    axes.set_yticks(ticks, [f"{y:g}" for y in ticks], minor=False)
    axes.set_yticks([], minor=True)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    _plain(axes)
    return figure


def browse(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> go.Figure:
    """`differences` for a page: a slider over the panels, dots and intervals of all arms, one scale for all."""
    every = [100 * value for arms in panels.values() for values in arms.values() for value in values]
    reach = 1.15 * max([1.0, *map(abs, every)])
    frames = [_frame(arms) for arms in panels.values()]
    names = list(next(iter(panels.values())))
    frames[0].update_layout(height=470, margin={"l": 10, "r": 10, "t": 20, "b": 110}, showlegend=False)
    frames[0].update_xaxes(range=[-reach, reach], title="minus focal only, points", fixedrange=True)
    frames[0].update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6], fixedrange=True
    )
    return slider(frames, list(panels), prefix="")


def _frame(arms: Mapping[str, Sequence[float]]) -> go.Figure:
    """Traces: zero, intervals, means, dots, and what each row says."""
    figure, found = go.Figure(), {}
    for at, values in enumerate(arms.values()):
        if len(values):
            found[at] = paired_difference(values, np.zeros(len(values)))
    figure.add_scatter(x=[0, 0], y=[-0.6, len(arms) - 0.4], mode="lines", line={"color": "black", "width": 1})
    x, y = [], []
    for at, mean in found.items():
        if mean.n > 1:
            x += [round(100 * mean.low, 2), round(100 * mean.high, 2), None]
            y += [at, at, None]
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": BLUE, "width": 4}, hoverinfo="skip")
    bar = {"color": BLUE, "size": 16, "symbol": "line-ns-open", "line": {"width": 3}}
    figure.add_scatter(
        x=[round(100 * mean.mean, 2) for mean in found.values()], y=list(found), mode="markers", marker=bar
    )
    dots = [(100 * v, at, k) for at, values in enumerate(arms.values()) for k, v in enumerate(values)]
    figure.add_scatter(
        x=[round(v, 2) for v, _, _ in dots],
        y=[at for _, at, _ in dots],
        mode="markers",
        marker={"color": ORANGE, "size": 8, "symbol": [SYMBOLS[k % len(SYMBOLS)] for _, _, k in dots]},
    )
    words = [_words(found.get(at)) for at in range(len(arms))]
    figure.add_scatter(
        x=[0] * len(arms), y=[at + 0.34 for at in range(len(arms))], mode="text", text=words, hoverinfo="skip"
    )
    return figure


def _words(mean) -> str:
    if mean is None:
        return NOT_RUN
    if mean.n == 1:
        return f"{100 * mean.mean:+.1f}, one seed"
    return f"{100 * mean.mean:+.1f} [{100 * mean.low:+.1f}, {100 * mean.high:+.1f}], {mean.n} seeds"


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
