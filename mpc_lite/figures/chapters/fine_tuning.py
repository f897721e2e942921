"""Figures of chapter 7: what the focal loss listens to, and what a frozen encoder does while only the head learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

_ALL = [*STYLES, (GREY, "v", (0, (1, 1)))]


def focal_curve(p: np.ndarray, gamma: float, alpha: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Loss of one tampered pixel and the length of its gradient with respect to the logit, for scores `p` in (0,1).

    loss = −α (1−p)^γ log p,    |dloss/dlogit| = α (1−p)^γ (1 − p − γ p log p).
    """
    weight = alpha * (1 - p) ** gamma
    return -weight * np.log(p), weight * (1 - p - gamma * p * np.log(p))


def focal_curves(gammas: Sequence[float] = (0, 1, 2, 5), alpha: float = 0.5) -> Figure:
    """Loss (above) and gradient (below) of a tampered pixel against its score, one curve for each gamma."""
    p = np.linspace(0.005, 0.995, 199)
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for gamma, (colour, _, dash) in zip(gammas, _ALL, strict=False):
        for axes, values in zip((above, below), focal_curve(p, gamma, alpha), strict=True):
            axes.plot(p, values, color=colour, ls=dash, label=f"γ = {gamma:g}")
    above.set(ylabel="loss", ylim=(0, 1.5))
    below.set(ylabel="|d loss / d logit|", xlabel="score p of a tampered pixel", ylim=(0, None), xlim=(0, 1))
    above.legend(fontsize=9, frameon=False)
    for axes in (above, below):
        _tidy(axes)
    return figure


def loss_shares(scores: np.ndarray, target: np.ndarray, gamma: float, alpha: float, bins: int = 10) -> np.ndarray:
    """Share of the focal loss by class and score: (2,bins); row 0 authentic, row 1 tampered pixels; sums to one."""
    p = np.clip(scores.ravel(), 1e-6, 1 - 1e-6)
    truth = target.ravel()
    if p.shape != truth.shape:
        raise InputError(f"{p.size} scores with {truth.size} targets: expected as many")
    own = np.where(truth == 1, p, 1 - p)
    loss = focal_curve(own, gamma, alpha=1)[0] * np.where(truth == 1, alpha, 1 - alpha)
    place = np.minimum((p * bins).astype(int), bins - 1)
    shares = [np.bincount(place, loss * (truth == label), minlength=bins) for label in (0, 1)]
    return np.stack(shares) / loss[(truth == 0) | (truth == 1)].sum()


def share_slider(
    scores: np.ndarray, target: np.ndarray, gammas: Sequence[float] = (0, 0.5, 1, 2, 3, 5), alpha: float = 0.75
) -> go.Figure:
    """Where the loss comes from: bars by score and class, a slider over gamma. Starts at gamma = 2 where that is given.

    Args:
        scores: of any shape, in [0,1]. target: same shape, 1 tampered, 0 authentic, anything else is left out.
    """
    bins, frames = 10, []
    names = [f"{i / bins:.1f}" for i in range(bins)]
    shares = [loss_shares(scores, target, gamma, alpha, bins) for gamma in gammas]
    top = float(np.ceil(max(s.max() for s in shares) * 10) * 10)
    for share in shares:
        frame = go.Figure()
        for row, (label, colour, pattern) in enumerate([("authentic", BLUE, "/"), ("tampered", ORANGE, "")]):
            marker = {"color": colour, "pattern": {"shape": pattern}}
            frame.add_bar(x=names, y=np.round(100 * share[row], 2).tolist(), name=f"{label} pixels", marker=marker)
        title = f"tampered pixels carry {100 * share[1].sum():.0f} % of the loss"
        frame.update_layout(
            title={"text": title, "font": {"size": 13}, "x": 0.5, "xanchor": "center", "y": 0.98, "yanchor": "top"},
            barmode="group",
            height=460,
            margin={"l": 10, "r": 10, "t": 90, "b": 10},
            legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 1.0, "yanchor": "bottom"},
            xaxis={"title": "score p, from …", "type": "category", "tickvals": names[::2], "tickangle": 0},
            yaxis={"title": "% of the loss", "range": [0, top], "nticks": 5},
        )
        frames.append(frame)
    first = list(gammas).index(2) if 2 in gammas else 0
    moving = slider(frames, [f"{gamma:g}" for gamma in gammas], prefix="γ = ", active=first)
    moving.layout.sliders[0].pad = {"t": 55, "b": 10}
    return moving


def activity(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    sources: Sequence[str],
) -> Figure:
    """One row per photograph: image, truth, and the length of the finest map's embeddings before and after.

    images: (H,W,3) uint8. truths: (H,W). before, after: (h,w) ≥ 0; the two share one scale of colours in each row.
    """
    check_licence(sources)
    figure = Figure(figsize=(WIDTH, WIDTH / 4 * len(images) + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    rows = figure.subplots(len(images), 4, squeeze=False)
    for row, image, truth, *lengths in zip(rows, images, truths, before, after, strict=True):
        top = max(float(x.max()) for x in lengths)
        row[0].imshow(image)
        row[1].imshow(truth, cmap="gray", vmin=0, vmax=1)
        for axes, values in zip(row[2:], lengths, strict=True):
            axes.imshow(values, cmap="magma", vmin=0, vmax=top)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(rows[0], ("image", "truth", "before", "after"), strict=True):
        axes.set_title(title, fontsize=10)
    return figure


def statistics_drift(steps: Sequence[int], drift: Mapping[str, np.ndarray]) -> Figure:
    """How far batch norm's running statistics are from where they started, by part of the encoder.

    drift: part -> (seeds, steps, 2): distance of the means in standard deviations, of the log variances. The line is
    the mean over the seeds, the band their range.
    """
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    panels = figure.subplots(2, sharex=True)
    titles = ("running means: shift / standard deviation", "running variances: |log ratio|")
    for k, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for (part, values), style in zip(drift.items(), _ALL, strict=False):
            _band(axes, steps, values[:, :, k], style, part)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylim(0, None)
        _tidy(axes)
    panels[1].set_xlabel("step of stage 2")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=9, frameon=False, ncols=2, loc="outside lower center")
    return figure


def map_change(steps: Sequence[int], official: np.ndarray, frozen: float) -> Figure:
    """Relative change of the four feature maps of held-out images.

    official: (seeds, steps, 4); lines are means over the seeds, bands their range. frozen: the largest change seen with
    the frozen encoder, drawn as a level line.
    """
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    for k, style in zip(range(official.shape[2]), STYLES, strict=True):
        _band(axes, steps, official[:, :, k], style, f"X{k + 1}, official")
    axes.plot([steps[0], steps[-1]], [frozen, frozen], color=GREY, linewidth=2.5, label="X1 to X4, frozen")
    axes.set(xlabel="step of stage 2", ylabel="change ÷ length at the start", ylim=(-0.02, None))
    figure.legend(fontsize=9, frameon=False, ncols=2, loc="outside lower center")
    _tidy(axes)
    return figure


def paired(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """One dot for each way and seed, the dots of a seed joined: behaviour -> one value a seed."""
    names, table = list(values), np.array(list(values.values()))
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    for seed, (colour, marker, dash) in zip(range(table.shape[1]), _ALL, strict=False):
        axes.plot(range(len(names)), table[:, seed], color=colour, marker=marker, ls=dash, label=f"seed {seed}")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel=label, xlim=(-0.4, len(names) - 0.6))
    axes.legend(fontsize=9, frameon=False)
    _tidy(axes)
    return figure


def schedules(official: Sequence[float], ours: Sequence[float], peaks: tuple[float, float]) -> Figure:
    """Learning rate as a share of its peak against validations: the released swing, and one warm-up and decay."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    for values, peak, (colour, _, dash), name in zip(
        (official, ours), peaks, (STYLES[0], STYLES[3]), ("official", "cosine"), strict=True
    ):
        label = f"{name} (peak {peak:.0e})".replace("e-0", "e-")
        axes.plot(range(len(values)), np.asarray(values) / peak, color=colour, ls=dash, label=label)
    axes.set(xlabel="validation", ylabel="learning rate / peak", ylim=(-0.03, 1.25))
    axes.legend(fontsize=9, frameon=False, ncols=2, loc="upper center")
    _tidy(axes)
    return figure


def intervals(rows: Sequence[tuple[str, Mapping[str, tuple[float, float, float]]]]) -> Figure:
    """F1 with its 95 % interval by kind of forgery: (kind, {model: (value, low, high)})."""
    figure = Figure(figsize=(WIDTH, 0.55 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    for y, (_, models) in enumerate(rows):
        for k, (name, (value, low, high)) in enumerate(models.items()):
            colour, marker, _ = (STYLES[0], STYLES[3])[k]
            error = [[value - low], [high - value]]
            label = name if y == 0 else None
            axes.errorbar(
                value, y + 0.15 * (2 * k - 1), xerr=error, fmt=marker, color=colour, capsize=3, ms=5, label=label
            )
    axes.set_yticks(range(len(rows)), [kind for kind, _ in rows])
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="F1 at threshold 0.5")
    axes.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2)
    _tidy(axes)
    return figure


def _band(axes: Axes, steps: Sequence[int], values: np.ndarray, style: tuple, label: str) -> None:
    colour, marker, dash = style
    axes.plot(steps, values.mean(0), color=colour, marker=marker, ls=dash, ms=4, label=label)
    axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
