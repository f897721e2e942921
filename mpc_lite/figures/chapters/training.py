"""Figures of chapter 8: two editions side by side, where to cut scores, and what a score means. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH
from mpc_lite.inference.calibration import SUSPICIOUS, UNSURE


def editions(panels: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """A panel for each score, a row for each test set: the first edition as a circle, the second as a diamond.

    panels: title -> test set -> (first, second), both in [0,1].
    """
    rows = max(map(len, panels.values()))
    figure = Figure(figsize=(WIDTH, len(panels) * (0.5 + 0.25 * rows) + 0.3), layout="constrained")
    for axes, (title, sets) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        for at, (first, second) in enumerate(sets.values()):
            axes.plot([first, second], [at, at], color=GREY, lw=1.2)
        first, second = zip(*sets.values(), strict=True)
        axes.plot(first, range(len(sets)), color=BLUE, marker="o", ls="", ms=6, mfc="white", label="first edition")
        axes.plot(second, range(len(sets)), color=ORANGE, marker="D", ls="", ms=6, label="second edition")
        axes.set_yticks(range(len(sets)), list(sets))
        axes.set(xlim=(0, 1), ylim=(len(sets) - 0.5, -0.5), xlabel=title)
        axes.grid(axis="x", alpha=0.3)
        _plain(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def validation(steps: Sequence[int], scores: Sequence[float], reference: float) -> Figure:
    """The score of the held-out images against the training step; a dashed line at the best one, `reference`."""
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, scores, color=BLUE, marker="o", ms=4)
    axes.axhline(reference, color=GREY, ls="--", lw=1)
    axes.set(xlabel="training step", ylabel="validation F1 at 0.5", ylim=(0, None))
    axes.grid(alpha=0.3)
    _plain(axes)
    return figure


def cuts(thresholds: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Mean F1 against the threshold, a curve for each network; its highest point is marked, 0.5 a line."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5, color=GREY, lw=1)
    for (name, values), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
        axes.plot(thresholds, values, color=colour, ls=dash, label=name)
        best = int(np.argmax(values))
        axes.plot(thresholds[best], values[best], color=colour, marker=marker, ms=7)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="threshold", ylabel="mean F1")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    _plain(axes)
    return figure


def ranks(scores: Sequence[float]) -> Figure:
    """p-value of a photograph against its score, with the verdict of each range beside it. scores: authentic ones."""
    ordered = np.sort(np.asarray(scores, float))
    n = len(ordered)
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.step([0, *ordered, 1], [1, *(1 + n - np.arange(n)) / (n + 1), 1 / (n + 1)], where="pre", color=BLUE)
    edges = {"cannot tell": (UNSURE, 1.0), "unsure": (SUSPICIOUS, UNSURE), "look here": (0.0, SUSPICIOUS)}
    for (word, (low, high)), shade in zip(edges.items(), (0.06, 0.16, 0.3), strict=True):
        axes.axhspan(max(low, 1e-3), high, color=ORANGE, alpha=shade, lw=0)
        aside = 0.16 if word == "unsure" else 0.02  # its band is no higher than a line of text
        axes.text(aside, max(low, 1e-3) * 1.15, word, fontsize=9, va="bottom")
    axes.set(yscale="log", xlim=(0, 1), ylim=(1e-3, 1.2), xlabel="image score", ylabel="authentic photographs as high")
    _plain(axes)
    return figure


def alarms(authentic: Sequence[float], tampered: Sequence[float], thresholds: Sequence[float]) -> go.Figure:
    """A slider over thresholds: histograms of the image scores of both kinds, alarms to the right of the line.

    authentic, tampered: image scores in [0,1].
    """
    if not len(authentic) or not len(tampered):
        raise InputError(f"{len(authentic)} authentic and {len(tampered)} tampered scores: expected some of both")
    edges = np.linspace(0, 1, 21)
    counts = [100 * np.histogram(scores, edges)[0] / len(scores) for scores in (authentic, tampered)]
    top = 1.2 * max(c.max() for c in counts)
    frames = []
    for threshold in thresholds:
        figure = go.Figure()
        for name, values, colour, pattern in (
            ("authentic", counts[0], BLUE, "/"),
            ("tampered", counts[1], ORANGE, ""),
        ):
            figure.add_bar(
                x=((edges[1:] + edges[:-1]) / 2).round(3),
                y=values.round(2),
                name=name,
                marker={"color": colour, "pattern": {"shape": pattern}},
            )
        figure.add_scatter(
            x=[threshold] * 2, y=[0, top], mode="lines", line={"color": "black", "width": 2}, name="threshold"
        )
        false, found = (100 * np.mean(np.asarray(scores) > threshold) for scores in (authentic, tampered))
        words = f"alarms on {false:.0f} % of the authentic,<br>on {found:.0f} % of the tampered images"
        figure.update_layout(title={"text": words, "font": {"size": 14}, "y": 0.95, "yanchor": "top"})
        frames.append(figure)
    frames[0].update_layout(height=480, barmode="group", margin={"l": 10, "r": 10, "t": 110, "b": 90})
    frames[0].update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    frames[0].update_xaxes(range=[0, 1], title="image score", fixedrange=True)
    frames[0].update_yaxes(range=[0, top], title="share of images, %", fixedrange=True)
    return slider(frames, [f"{t:.2f}" for t in thresholds], prefix="threshold ", active=len(thresholds) // 2)


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
