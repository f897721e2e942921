"""Figures of chapter 17: gates of class-centre attention, how they grow with the grid, and the centres of two waves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters.sampling import outlined
from mpc_lite.figures.interactive import behind, picture, slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

COLUMNS = 3


def panels(image: np.ndarray, maps: Mapping[str, np.ndarray], *, sources: Sequence[str]) -> Figure:
    """A photograph and maps of numbers between 0 and 1, with one scale of colours.

    Args:
        image: (H,W,3) uint8 RGB. maps: title -> (h,w) in [0,1], any size. sources: see `check_licence`.
    """
    check_licence(sources)
    for title, values in maps.items():
        if values.ndim != 2 or not (values.min() >= 0 and values.max() <= 1):
            raise InputError(f"map '{title}' {values.shape}: expected (h, w) with values in [0, 1]")
    rows = -(-(len(maps) + 1) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 1.5 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes in grid:
        axes.set_axis_off()
    height, width = image.shape[:2]
    grid[0].imshow(image)
    for axes, values in zip(grid[1:], maps.values(), strict=False):
        axes.imshow(values, cmap="cividis", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="nearest")
    for axes, title in zip(grid, ["image", *maps], strict=False):
        axes.set_title(title, fontsize=9)
    scale = ScalarMappable(Normalize(0, 1), "cividis")
    bar = figure.colorbar(scale, ax=figure.axes, orientation="horizontal", fraction=0.04, pad=0.02, aspect=40)
    bar.ax.tick_params(labelsize=9)
    return figure


def growth(sides: Sequence[int], curves: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """One value for each side of the grid and rule; dotted: proportional to the side."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    for (name, values), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
        axes.plot(sides, values, color=colour, marker=marker, ls=dash, label=name)
    first = next(iter(curves.values()))
    straight = first[0] * np.array([0, *sides]) / sides[0]
    axes.plot([0, *sides], straight, color=GREY, ls=":", lw=1, label="proportional to the side")
    axes.set(xlabel="cells along a side of the grid", ylabel=ylabel, xticks=list(sides))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def signed_colours(values: np.ndarray) -> np.ndarray:
    """(h,w) -> (h,w,3) uint8: purple above zero, orange below, white at zero, full at the largest magnitude."""
    top = max(float(np.abs(values).max()), 1e-12)
    return np.round(255 * colormaps["PuOr"](0.5 + values / (2 * top))[..., :3]).astype(np.uint8)


def two_waves(
    feature: np.ndarray,
    labels: np.ndarray,
    waves: Sequence[tuple[int, int]],
    bank: np.ndarray,
    centers: np.ndarray,
    shown: int,
    *,
    sources: Sequence[str],
) -> go.Figure:
    """A slider over waves: one feature times the wave, and below every scene's two centres in this wave and the first.

    Args:
        feature: (h,w), one feature of scene `shown`. labels: (h,w), 1 = tampered. waves: (u,v) of each frame.
        bank: (len(waves),h,w). centers: (len(waves), scenes, 2), the centre of the authentic and of the tampered
            class; those of waves[0] are on the horizontal axis. sources: see `check_licence`.
    """
    check_licence(sources)
    if not len(waves) == len(bank) == len(centers):
        raise InputError(f"{len(waves)} waves, {len(bank)} pictures, {len(centers)} rows of centres: expected as many")
    centers = np.round(centers.astype(float), 3)
    top = np.abs(centers).max()
    frames = [
        _wave_frame(feature * wave, labels, f"({u},{v})", centers[0], centers[i], shown, waves[0], top)
        for i, ((u, v), wave) in enumerate(zip(waves, bank, strict=True))
    ]
    return slider(frames, [f"({u},{v})" for u, v in waves], prefix="wave (u,v): ", active=min(1, len(waves) - 1))


def _wave_frame(modulated, labels, name, across, up, shown, first, top) -> go.Figure:
    height, width = labels.shape
    figure = go.Figure()
    links = {key: [w for a, t in z for w in (a, t, None)] for key, z in (("x", across), ("y", up))}
    figure.add_scatter(**links, mode="lines", line={"color": GREY, "width": 1}, name="one scene", hoverinfo="skip")
    for k, (label, colour, symbol) in enumerate((("authentic", BLUE, "circle"), ("tampered", ORANGE, "triangle-up"))):
        marker = {"color": colour, "symbol": symbol, "size": 8}
        figure.add_scatter(x=across[:, k], y=up[:, k], mode="markers", marker=marker, name=label)
    ring = {"color": "#222", "symbol": "circle-open", "size": 16, "line": {"width": 2}}
    figure.add_scatter(x=across[shown], y=up[shown], mode="markers", marker=ring, name="the scene above")
    a, t = up[shown]
    hidden = {"visible": False, "fixedrange": True}
    span = [-1.1 * top, 1.1 * top]
    figure.update_layout(
        height=680,
        margin={"l": 55, "r": 10, "t": 60, "b": 10},
        title={
            "text": f"feature × wave {name}<br>sums: authentic {a:.2f}, tampered {t:.2f}",
            "font": {"size": 15},
        },
        images=[behind(picture(outlined(signed_colours(modulated), labels, 4), None, 64), width, height)],
        xaxis={"range": [0, width], "domain": [0.2, 0.8], **hidden},
        yaxis={"range": [height, 0], "domain": [0.62, 1], "scaleanchor": "x", **hidden},
        xaxis2={"title": {"text": f"centre in wave ({first[0]},{first[1]})"}, "anchor": "y2", "fixedrange": True},
        yaxis2={
            "title": {"text": "centre in this wave"},
            "domain": [0, 0.5],
            "range": span,
            "anchor": "x2",
            "fixedrange": True,
        },
        legend={"orientation": "h", "y": 0.52, "yanchor": "bottom", "x": 0},
    )
    for trace in figure.data:
        trace.update(xaxis="x2", yaxis="y2")
    # Without a trace on them, plotly draws no axes for the picture to lie on.
    figure.add_scatter(x=[0, width], y=[0, height], mode="markers", marker={"opacity": 0}, showlegend=False)
    figure.data[-1].update(xaxis="x", yaxis="y", hoverinfo="skip")
    return figure
