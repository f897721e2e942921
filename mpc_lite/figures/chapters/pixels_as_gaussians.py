"""The figures of chapter 18: Gaussians that meet, a contrast that is flat, and what a pasted pixel is called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpc_lite.figures.interactive import slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, STYLES, WIDTH
from mpc_lite.neighbours.pppc.gaussians import SIMILARITIES

RANGE = (1.0, math.e)  # of the heads' variances


def expected_likelihood(distance: float, variance0: float, variance1: float) -> float:
    """E of two Gaussians in one channel, means `distance` apart: ∫ N(z; 0, σ₀²) N(z; d, σ₁²) dz."""
    values = (torch.tensor(x, dtype=torch.float64) for x in (distance**2, math.log(variance0), math.log(variance1)))
    return math.exp(SIMILARITIES["likelihood"](*values).item() - math.log(2 * math.pi) / 2)


def flat_or_not(losses: Mapping[str, Sequence[float]], gaps: Mapping[str, Sequence[float]]) -> Figure:
    """Above the contrastive loss of each preset against the steps, below the gap D·(s(own) − s(other)) in nats.

    losses, gaps: preset -> one value a step; gaps are means over the two classes.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for axes, curves in ((above, losses), (below, gaps)):
        for (name, values), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
            style = {"color": colour, "marker": marker, "ls": dash, "ms": 4, "markevery": max(1, len(values) // 8)}
            axes.plot(np.arange(len(values)), values, label=name, **style)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    above.axhline(math.log(2), color=GREY, lw=1, ls=":", label="ln 2")
    below.axhline(0, color=GREY, lw=1)
    above.set(ylabel="contrastive loss, nats")
    above.set_ylim(bottom=0)
    below.set(ylabel="own − other prototype,\nnats of log E", xlabel="steps of plain gradient descent")
    above.legend(fontsize=9, frameon=False)
    return figure


def pixel_maps(
    image: np.ndarray, mask: np.ndarray, maps: Mapping[str, np.ndarray], *, sources: Sequence[str]
) -> Figure:
    """A forgery, then maps of its pixels with a colour bar each; the outline of the tampered region lies on all.

    Args:
        image: (H,W,3) uint8. mask: (H,W), 1 = tampered. maps: three titles and (h,w) values. sources: `check_licence`.
    """
    check_licence(sources)
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    grid = figure.subplots(2, 2).flat
    extent = (0, mask.shape[1], mask.shape[0], 0)
    panels: list[tuple[str, np.ndarray | None]] = [("forgery", None), *maps.items()]
    for axes, (title, values) in zip(grid, panels, strict=True):
        if values is None:
            axes.imshow(image, extent=extent)
        else:
            shown = axes.imshow(values, extent=extent, cmap="cividis", interpolation="nearest")
            figure.colorbar(shown, ax=axes, location="bottom", shrink=0.9, aspect=20).ax.tick_params(labelsize=8)
        _outline(axes, mask, "white")
        axes.set_title(title, fontsize=9)
    return figure


def mixes(images: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], *, sources: Sequence[str]) -> Figure:
    """Above the images of a mix, below what each rule calls its pixels: dark authentic, bright tampered.

    Args:
        images: title -> (H,W,3) uint8. labels: as many rules -> (H,W), 1 = tampered. sources: see `check_licence`.
    """
    check_licence(sources)
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    rows = figure.subplots(2, len(images))
    for axes, (title, image) in zip(rows[0], images.items(), strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
    for axes, (title, label) in zip(rows[1], labels.items(), strict=True):
        axes.imshow(label == 1, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"{title}\n{(label == 1).mean():.0%} tampered", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return figure


def two_gaussians(variances: Sequence[float], distance: float, prototype: float, active: int = 0) -> go.Figure:
    """A slider over a pixel's variance in one channel: both densities, their product, and log E against the variance.

    Args:
        variances: σ₀² of the pixel, one frame each. distance: of the two means. prototype: σ₁². active: first frame.
    """
    z = np.linspace(-4, 4, 161)
    curve = np.geomspace(min(variances), max(variances), 61)
    distances = {"means apart": distance, "means equal": 0.0}
    lines = {name: [math.log(expected_likelihood(d, v, prototype)) for v in curve] for name, d in distances.items()}
    frames = [_pair(z, v, distance, prototype, curve, lines) for v in variances]
    figure = slider(frames, [f"{v:.3g}" for v in variances], prefix="variance of the pixel: ", active=active)
    figure.layout.sliders[0].pad = {"t": 60, "b": 10}
    return figure


def _pair(z, variance, distance, prototype, curve, lines) -> go.Figure:
    def normal(mean, v):
        return np.exp(-((z - mean) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)

    pixel, other = normal(-distance / 2, variance), normal(distance / 2, prototype)
    value = expected_likelihood(distance, variance, prototype)
    figure, x = go.Figure(), z.round(3)
    for name, y, colour, dash in (("pixel", pixel, ORANGE, "solid"), ("prototype", other, BLUE, "dash")):
        figure.add_scatter(x=x, y=y.round(4), mode="lines", name=name, line={"color": colour, "dash": dash, "width": 3})
    figure.add_scatter(
        x=x, y=(pixel * other).round(4), mode="lines", fill="tozeroy", name="product", line={"color": GREEN, "width": 1}
    )
    lower = {"xaxis": "x2", "yaxis": "y2", "mode": "lines"}
    for (name, y), dash in zip(lines.items(), ("solid", "dot"), strict=True):
        figure.add_scatter(
            x=curve.round(4), y=np.round(y, 4), name=name, line={"color": "#222", "dash": dash, "width": 2}, **lower
        )
    lower["mode"] = "markers"
    marker = {"color": ORANGE, "size": 12, "symbol": "diamond"}
    figure.add_scatter(x=[variance], y=[round(math.log(value), 4)], name="now", marker=marker, **lower)
    low, high = (math.log10(v) for v in RANGE)
    box = {"type": "rect", "xref": "x2", "yref": "y2 domain", "y0": 0, "y1": 1, "line": {"width": 0}}
    figure.update_layout(
        height=660,
        margin={"l": 55, "r": 10, "t": 110, "b": 10},
        title={
            "text": f"E = {value:.3f}, log E = {math.log(value):.3f}",
            "font": {"size": 15},
            "y": 0.98,
            "yanchor": "top",
        },
        shapes=[{**box, "x0": 10**low, "x1": 10**high, "fillcolor": "rgba(0,114,178,0.15)", "layer": "below"}],
        xaxis={"title": {"text": "value of one channel", "standoff": 4}, "domain": [0, 1], "fixedrange": True},
        yaxis={"title": {"text": "density"}, "range": [0, 1.3], "domain": [0.56, 1], "fixedrange": True},
        xaxis2={
            "type": "log",
            "title": {"text": "variance of the pixel", "standoff": 4},
            "tickvals": [0.1, 0.3, 1, 3, 10],
            "anchor": "y2",
            "fixedrange": True,
        },
        yaxis2={"title": {"text": "log E"}, "domain": [0, 0.34], "anchor": "x2", "nticks": 5, "fixedrange": True},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def _outline(axes: Axes, mask: np.ndarray, colour: str) -> None:
    axes.contour(
        mask == 1, [0.5], colors=colour, linewidths=1, origin="upper", extent=(0, mask.shape[1], mask.shape[0], 0)
    )
    axes.set(xticks=[], yticks=[])
