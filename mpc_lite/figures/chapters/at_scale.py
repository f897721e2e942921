"""Figures of chapter 13: what a run costs, who reads which image, and what a run that was killed has lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpc_lite.data.stream import Positions
from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLES, WIDTH

MEMORY = {  # what the bars tell apart -> the parts of `cost.StageCost.memory` in it
    "weights, gradients, moments": ("weights", "gradients", "moments of AdamW"),
    "kept for backward": ("kept for backward",),
    "at work in the loss": ("at work in the loss",),
}


def killed(unbroken: Mapping[int, float], before: Mapping[int, float], after: Mapping[int, float]) -> Figure:
    """Loss by step of a run that nobody disturbed, and of one that was killed and resumed: step -> loss.

    before: what the killed process had logged. after: the log of the same folder at the end, every step once.
    """
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(*_points(unbroken), color=GREY, linewidth=5, alpha=0.45, label="never disturbed")
    axes.plot(*_points(after), color=BLUE, marker="o", ms=5, label="killed, then resumed")
    axes.plot(*_points(before), color=ORANGE, marker="x", ms=10, mew=2, ls="", label="logged before the kill")
    axes.set(xlabel="step", ylabel="loss of the step")
    axes.set_xticks(sorted(unbroken))
    axes.legend(fontsize=9, frameon=False)
    _tidy(axes)
    return figure


def _points(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    return sorted(values), [values[step] for step in sorted(values)]


def weights_of_images(counts: Sequence[int]) -> Figure:
    """How much each counted image weighs in the gradient of a step: right, and with a mean of the micro-batches' means.

    counts: images that count in each micro-batch; a micro-batch without any has a mean of zero.
    """
    if not sum(counts):
        raise InputError("no image counts in any micro-batch; expected at least one")
    right = [1 / sum(counts)] * sum(counts)
    wrong = [1 / (len(counts) * n) for n in counts for _ in range(n)]
    names = [f"image {i + 1}\nbatch {k + 1}" for i, k in enumerate(np.repeat(range(len(counts)), counts))]
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(names))
    axes.bar(place - 0.2, right, 0.4, color=BLUE, label="sum ÷ count")
    axes.bar(place + 0.2, wrong, 0.4, color=ORANGE, hatch="//", edgecolor="white", label="mean of means")
    axes.set_xticks(place, names)
    axes.set(ylabel="weight in the gradient", ylim=(0, 1.25 * max(*right, *wrong)))
    axes.legend(fontsize=9, frameon=False, ncols=2, loc="upper center")
    _tidy(axes)
    return figure


def memory_bars(rows: Sequence[tuple[str, Mapping[str, int]]]) -> Figure:
    """GPU memory of a step in GB as one bar a row: (label, `StageCost.memory`)."""
    figure = Figure(figsize=(WIDTH, 0.5 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(rows))
    for (name, parts), colour, hatch in zip(MEMORY.items(), (BLUE, ORANGE, GREEN), ("", "//", ".."), strict=True):
        values = np.array([sum(memory[part] for part in parts) for _, memory in rows]) / 1e9
        axes.barh(range(len(rows)), values, left=left, color=colour, hatch=hatch, edgecolor="white", label=name)
        left += values
    for y, total in enumerate(left):
        axes.text(total, y, f" {total:.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set(xlabel="GB of one GPU", ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.15 * left.max()))
    figure.legend(fontsize=9, frameon=False, loc="outside lower center")
    _tidy(axes)
    return figure


def shares(batch: int, micro_batches: int, steps: int, processes: Sequence[int]) -> go.Figure:
    """Which process reads which position of the stream; a slider over the number of processes.

    A step has `micro_batches` micro-batches of `batch` images in all, so P processes accumulate micro_batches / P.
    """
    if any(micro_batches % p for p in processes):
        raise InputError(f"{micro_batches} micro-batches cannot be shared by {list(processes)} processes: no divisor")
    colours, signs = (BLUE, ORANGE, GREEN, PURPLE), ("square", "circle", "diamond", "triangle-up")
    frames, most = [], max(processes)
    for number in processes:
        accumulate, frame = micro_batches // number, go.Figure()
        for step in range(steps):
            read = [
                (process, position, turn % accumulate)
                for process in range(number)
                for turn, batches in enumerate(Positions(0, steps * accumulate, batch, process, number))
                for position in batches
                if turn // accumulate == step
            ]
            frame.add_scatter(
                x=[position for _, position, _ in read],
                y=[process for process, _, _ in read],
                customdata=[[k] for _, _, k in read],
                mode="markers",
                name=f"step {step}",
                marker={"color": colours[step % 4], "symbol": signs[step % 4], "size": 6},
                hovertemplate="position %{x}: process %{y}, its micro-batch %{customdata[0]} of the step",
            )
        words = f"{number} × {accumulate} × {batch}: processes × micro-batches × images"
        frame.update_layout(title={"text": words, "font": {"size": 12}, "y": 0.98, "yanchor": "top"})
        frames.append(frame)
    frames[0].update_layout(
        height=430,
        margin={"l": 10, "r": 10, "t": 70, "b": 10},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
        xaxis={"title": "position in the stream of images", "dtick": micro_batches * batch, "fixedrange": True},
        yaxis={"title": "process", "range": [most - 0.5, -0.5], "dtick": 1, "fixedrange": True},
    )
    moving = slider(frames, [str(p) for p in processes], prefix="processes: ")
    moving.layout.sliders[0].pad = {"t": 55, "b": 10}
    return moving


def hours(
    rows: Mapping[str, Mapping[str, float]], shares_of_peak: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5)
) -> go.Figure:
    """GPU hours of whole experiments, stages side by side; a slider over the share of the peak. Starts at 0.3.

    rows: experiment -> {stage: hours at the full peak}.
    """
    stages = list(dict.fromkeys(stage for row in rows.values() for stage in row))
    frames, top = [], max(sum(row.values()) for row in rows.values()) / min(shares_of_peak)
    for share in shares_of_peak:
        frame = go.Figure()
        for stage, colour, pattern in zip(stages, (BLUE, ORANGE, GREEN), ("", "/", "x"), strict=False):
            values = [row.get(stage, 0) / share for row in rows.values()]
            marker = {"color": colour, "pattern": {"shape": pattern}}
            frame.add_bar(x=[round(v, 1) for v in values], y=list(rows), orientation="h", name=stage, marker=marker)
        totals = [sum(row.values()) / share for row in rows.values()]
        frame.update_layout(
            title={
                "text": "hours: " + ", ".join(f"{x:,.0f}" for x in totals),
                "font": {"size": 13},
                "y": 0.98,
                "yanchor": "top",
            },
            barmode="stack",
        )
        frames.append(frame)
    frames[0].update_layout(
        height=420,
        margin={"l": 10, "r": 10, "t": 70, "b": 10},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
        xaxis={"title": "hours of one GPU", "range": [0, round(1.05 * top)], "nticks": 5, "fixedrange": True},
        yaxis={"autorange": "reversed", "fixedrange": True},
    )
    first = list(shares_of_peak).index(0.3) if 0.3 in shares_of_peak else 0
    moving = slider(frames, [f"{share:.0%}" for share in shares_of_peak], prefix="of the peak: ", active=first)
    moving.layout.sliders[0].pad = {"t": 55, "b": 10}
    return moving


def seeds_and_rows(rows: Mapping[str, Sequence[float]], all_marked: Sequence[float]) -> Figure:
    """F1 of each row of a sweep, one marker a seed, and as dashed lines what marking every pixel scores on its images.

    rows: row -> one score a seed. all_marked: that of each seed's test images.
    """
    figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for seed, (level, (colour, marker, dash)) in enumerate(zip(all_marked, STYLES, strict=False)):
        values = [scores[seed] for scores in rows.values()]
        axes.plot(values, range(len(rows)), color=colour, marker=marker, ls="", ms=7, label=f"seed {seed}")
        label = f"every pixel marked, images of seed {seed}"
        axes.axvline(level, color=colour, ls=dash if dash != "-" else (0, (6, 2)), linewidth=1, label=label)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="F1", xlim=(-0.02, 0.5), ylim=(len(rows) - 0.5, -0.5))
    figure.legend(fontsize=9, frameon=False, loc="outside lower center")
    _tidy(axes)
    return figure


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
