"""Figures of chapter 14: what can be recomputed from printed tables, and what an ablation says. They take data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpc_lite.figures.interactive import slider
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, STYLES, WIDTH

ROUNDING = 0.05  # of a figure with one decimal
POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the number of images, as a set's weight


def averages(rows: Sequence[tuple[str, str, float, float]]) -> Figure:
    """Printed average minus the one recomputed, a dot for each row of a table.

    Args:
        rows: (table, method, printed, recomputed); rows further off than rounding an average allows are named.
    """
    tables = list(dict.fromkeys(table for table, *_ in rows))
    figure = Figure(figsize=(WIDTH, 0.8 + 0.36 * len(tables)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-ROUNDING, ROUNDING, color=GREY, alpha=0.2, lw=0, label="rounding of the average")
    for at, name in enumerate(tables):
        off = [(printed - recomputed, method) for table, method, printed, recomputed in rows if table == name]
        spread = np.linspace(-0.22, 0.22, len(off)) if len(off) > 1 else [0]
        for (difference, method), y in zip(off, spread, strict=True):
            strange = abs(difference) > ROUNDING + 1e-9
            axes.plot(difference, at + y, color=ORANGE if strange else BLUE, marker="D" if strange else "o", ms=4)
            if strange:
                side = {"ha": "right", "x": difference - 0.08} if difference > 1 else {"ha": "left", "x": 0.12}
                axes.text(y=at + y, s=f"{method} {difference:+.2f}", va="center", fontsize=9, **side)
    axes.set_yticks(range(len(tables)), tables)
    axes.set(ylim=(len(tables) - 0.5, -0.5), xlabel="printed − recomputed average, points")
    axes.legend(fontsize=9, frameon=False, loc="upper right")
    _plain(axes)
    return figure


def iou_bounds(f1: float | np.ndarray) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Least and largest mean IoU of tampered images whose mean F1 is `f1`, both in percent: F1/(2 − F1) and F1."""
    return 100 * f1 / (200 - f1), f1


def plane(pairs: Mapping[str, Sequence[tuple[float, float]]], outside: Mapping[str, tuple[float, float]]) -> Figure:
    """Mean F1 and mean IoU of the same images, in percent, between the bounds; points `outside` by name."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    x = np.linspace(0, 100, 201)
    low, high = iou_bounds(x)
    axes.fill_between(x, low, high, color=GREY, alpha=0.18, lw=0)
    axes.plot(x, low, color=GREY, lw=1)
    axes.plot(x, high, color=GREY, lw=1)
    for (name, points), (colour, marker, _) in zip(pairs.items(), STYLES[::-1], strict=False):
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ls="", ms=3.5, alpha=0.8, label=name)
    for name, (f1, iou) in outside.items():
        axes.plot(f1, iou, color="black", marker="X", ls="", ms=8)
        axes.annotate(name, (f1, iou), (f1 - 10, iou + 45), fontsize=9, arrowprops={"arrowstyle": "-"})
    axes.text(38, 52, "each image 0 or 1", rotation=43, fontsize=9, ha="center", va="center")
    axes.text(62, 36, "all images alike", rotation=36, fontsize=9, ha="center", va="center")
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="mean F1, %", ylabel="mean IoU, %")
    axes.legend(fontsize=9, frameon=False, loc="lower right")
    _plain(axes)
    return figure


def remaining(shares: Mapping[str, Sequence[float]], still: Mapping[str, float]) -> Figure:
    """Dots of the share of within-image's descent that is left without it: a row for each case, one dot a batch.

    still: the share by the same rows where the two passes are equal and cross-scale is left aside, a black tick.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=GREY, lw=0.8)
    for at, (name, values) in enumerate(shares.items()):
        after = "after" in name
        colour, marker = (ORANGE, "D") if after else (BLUE, "o")
        axes.plot(values, np.full(len(values), at), color=colour, marker=marker, ls="", ms=6, alpha=0.8)
        axes.plot(still[name], at, color="black", marker="|", ls="", ms=18)
    axes.set_yticks(range(len(shares)), list(shares))
    axes.set(ylim=(len(shares) - 0.5, -0.5), xlabel="share of L1's descent left")
    axes.grid(axis="x", alpha=0.3)
    _plain(axes)
    return figure


def ablation(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each score, a row for each set of terms, a dot for each seed; the bar is the mean over seeds."""
    figure = Figure(figsize=(WIDTH, 1.9 * len(panels) + 0.2), layout="constrained")
    for axes, (score, rows) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        for at, values in enumerate(rows.values()):
            axes.plot([np.mean(values)] * 2, [at - 0.3, at + 0.3], color=BLUE, lw=2)
            for value, marker in zip(values, "osD^v", strict=False):
                axes.plot(value, at, color=ORANGE, marker=marker, ls="", ms=5, alpha=0.85)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=score)
        axes.grid(axis="x", alpha=0.3)
        _plain(axes)
    return figure


def digitised(levels: Sequence[object], curves: Mapping[str, Sequence[float]], known: Mapping[str, float]) -> Figure:
    """Curves that were read off a picture, each inside a band of one point; `known` is printed for the first level."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    at = np.arange(len(levels))
    for (name, values), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
        values = np.asarray(values)
        axes.fill_between(at, values - 1, values + 1, color=colour, alpha=0.2, lw=0)
        axes.plot(at, values, color=colour, marker=marker, ls=dash, ms=4, label=name)
        axes.plot(0, known[name], color="black", marker="_", ms=14, ls="")
    axes.set_xticks(at, [str(level) for level in levels])
    axes.set(xlabel="JPEG quality (N/A: untouched)", ylabel="F1 on Columbia, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    _plain(axes)
    return figure


# ------------------------------------------------------------------------------------------------------- interactive


def weights(images: Mapping[str, int], power: float) -> dict[str, float]:
    """Weight of each set, n^power over their sum: 1 is the paper's Eq. 6, 0 counts each set alike."""
    raw = {name: n**power for name, n in images.items()}
    return {name: value / sum(raw.values()) for name, value in raw.items()}


def ranks(
    scores: Mapping[str, Mapping[str, float]], images: Mapping[str, int], powers: Sequence[float] = POWERS
) -> go.Figure:
    """Average of every method as bars in their order; the slider goes from weights by images (a = 1) to sets alike (0).

    Three methods keep their colour, so that the eye can follow them: MPC, CAT-Net, PSCC-Net.
    """
    colours = {"MPC": BLUE, "CAT-Net": ORANGE, "PSCC-Net": GREEN}
    frames = []
    for power in powers:
        w = weights(images, power)
        rows = sorted((sum(w[s] * row[s] for s in images), name) for name, row in scores.items())
        names = [f"{len(rows) - place}. {name}" for place, (_, name) in enumerate(rows)]
        bars = go.Bar(
            x=[round(value, 2) for value, _ in rows],
            y=list(range(len(rows))),
            orientation="h",
            marker={"color": [colours.get(name, "#c4c4c4") for _, name in rows]},
            text=[f"{name}  {value:.1f}" for name, (value, _) in zip(names, rows, strict=True)],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
        frames.append(go.Figure([bars]))
        frames[-1].update_layout(title={"text": _heaviest(w), "font": {"size": 13}})
    frames[0].update_layout(height=560, margin={"l": 10, "r": 10, "t": 50, "b": 90}, bargap=0.25)
    frames[0].update_xaxes(range=[0, 56], fixedrange=True, dtick=10)
    frames[0].update_yaxes(showticklabels=False, showgrid=False, fixedrange=True)
    return slider(frames, [f"{p:g}" for p in powers], prefix="images to the power a = ")


def _heaviest(w: Mapping[str, float]) -> str:
    first, second = sorted(w, key=w.get, reverse=True)[:2]
    return f"average F1, %; {first} weighs {100 * w[first]:.0f} %, {second} {100 * w[second]:.0f} %"


def lead(
    first: Mapping[str, float],
    second: Mapping[str, float],
    images: Mapping[str, int],
    names: tuple[str, str],
    powers: Sequence[float] = POWERS,
) -> go.Figure:
    """What each set adds to the lead of one method over another, w_s · (v_s − u_s), under each weighting."""
    frames = []
    for power in powers:
        w = weights(images, power)
        parts = {s: w[s] * (first[s] - second[s]) for s in images}
        bars = go.Bar(
            x=[round(v, 3) for v in parts.values()],
            y=list(parts),
            orientation="h",
            marker={"color": [BLUE if v >= 0 else ORANGE for v in parts.values()]},
            text=[f"{v:+.2f}" for v in parts.values()],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
        frames.append(go.Figure([bars]))
        title = f"{names[0]} − {names[1]}, points: {sum(parts.values()):+.2f} in all"
        frames[-1].update_layout(title={"text": title, "font": {"size": 14}})
    frames[0].update_layout(height=480, margin={"l": 10, "r": 10, "t": 50, "b": 90})
    frames[0].update_xaxes(range=[-5, 3], dtick=1, fixedrange=True)
    frames[0].update_yaxes(autorange="reversed", showgrid=False, fixedrange=True)
    return slider(frames, [f"{p:g}" for p in powers], prefix="images to the power a = ")


# ------------------------------------------------------------------------------------------------------------ private


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
