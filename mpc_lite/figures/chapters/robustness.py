"""Figures of chapter 11: what degradations do to forgeries and to authentic images. Data in, figure out.

A network is a row of book/results/degraded.json: {name, arm, seed, threshold, cells}; the first cell is untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH
from mpc_lite.inference.overlay import painted

_NAMES = {"jpeg_quality": "JPEG", "blur_kernel": "blur", "noise_sigma": "noise σ", "resize_ratio": "resize"}
LINES = [("tampered, found", "tampered", BLUE, "solid"), ("authentic, false alarm", "authentic", ORANGE, "dash")]
THRESHOLDS = np.linspace(0, 1, 101)


def short(cell: Mapping[str, Any]) -> str:
    """A cell's name for an axis: `JPEG 80`, `untouched`."""
    if cell["degradation"] == "none":
        return "untouched"
    name = _NAMES.get(cell["degradation"], cell["degradation"])
    return name if cell["value"] is None else f"{name} {cell['value']:g}"


def side_by_side(networks: Sequence[Mapping[str, Any]], share: float) -> Figure:
    """A panel a network, a row a cell: share of tampered images found, and of authentic ones that raise an alarm.

    Both above the threshold that `share` (dotted) of the untouched authentic images exceed.
    """
    labels = [short(cell) for cell in networks[0]["cells"]]
    cells = [cell for network in networks for cell in network["cells"]]
    right = 0.05 + max(max(cell["found_own"], cell["alarms_own"]) for cell in cells)
    figure = Figure(figsize=(WIDTH, 0.23 * len(labels) + 1.1), layout="constrained")
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        rows = np.arange(len(labels))
        found = np.array([cell["found_own"] for cell in network["cells"]])
        alarms = np.array([cell["alarms_own"] for cell in network["cells"]])
        axes.hlines(rows, alarms, found, color=GREY, lw=1)
        axes.plot(found, rows, "o", color=BLUE, ms=8, mfc="none", mew=1.6, label="tampered, found")
        axes.plot(alarms, rows, "s", color=ORANGE, ms=4, label="authentic, false alarm")
        axes.axvline(share, color="black", ls=":", lw=1)
        axes.set_title(network["name"], fontsize=10, loc="left")
        axes.set(xlim=(-0.04, right), xlabel="share of images")
        axes.set_yticks(rows, labels, fontsize=9)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def two_changes(points: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], labels: list[str]) -> Figure:
    """Two panels below each other, a row of values with intervals for each network over the cells.

    points: panel -> {network: (value, low, high) for each cell}. labels: of the cells. A dotted line marks no change.
    """
    figure = Figure(figsize=(WIDTH, 2.1 * len(points) + 0.6), layout="constrained")
    panels = figure.subplots(len(points), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, networks) in zip(panels, points.items(), strict=True):
        for i, ((name, values), (colour, marker, _)) in enumerate(zip(networks.items(), STYLES, strict=False)):
            at = np.arange(len(labels)) + 0.24 * (i - (len(networks) - 1) / 2)
            middle, low, high = np.array(values).T
            axes.vlines(at, low, high, color=colour, lw=1.2)
            axes.plot(at, middle, marker, color=colour, ms=5, ls="none", label=name)
        axes.axhline(0, color="black", ls=":", lw=1)
        axes.set_title(title, fontsize=10, loc="left")
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xticks(range(len(labels)), labels, rotation=90, fontsize=9)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    return figure


def maps_after(rows: Mapping[str, Mapping[str, np.ndarray]], image: Mapping[str, np.ndarray], sources: Sequence[str]):
    """Pictures in rows, columns their maps after each degradation. rows: picture -> {degradation: (H,W) in [0,1]}.

    image: picture -> (H,W,3) uint8 RGB, drawn grey under each map. sources: of the pictures, see `check_licence`.
    """
    check_licence(sources)
    columns = len(next(iter(rows.values())))
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, len(rows) * (side + 0.22)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, maps) in zip(grid, rows.items(), strict=True):
        for axes, (label, score_map) in zip(line, maps.items(), strict=True):
            axes.imshow(painted(image[name], score_map))
            axes.set(xticks=[], yticks=[])
            axes.set_title(label, fontsize=9)
        line[0].set_ylabel(name, fontsize=9)
    return figure


def reliability(sets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Share of wrong pixels by confidence, a line a set; the area of a mark is the bin's share of the set's pixels.

    sets: name -> a row of book/results/confidence.json, {bins: [{from, to, pixels, wrong}]}; empty bins are left out.
    """
    edges = [f"{b['to']:g}" for b in next(iter(sets.values()))["bins"]]
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for (name, each), (colour, marker, dash) in zip(sets.items(), STYLES, strict=False):
        points = [(at, b["wrong"], b["pixels"]) for at, b in enumerate(each["bins"]) if b["wrong"] is not None]
        at, wrong, pixels = zip(*points, strict=True)
        axes.plot(at, wrong, color=colour, ls=dash, lw=1.2, marker=marker, ms=3, label=name)
        axes.scatter(at, wrong, s=[400 * share for share in pixels], color=colour, alpha=0.35, lw=0)
    axes.set_xticks(range(len(edges)), edges)
    axes.set(xlabel="confidence of four mirrors, up to", ylabel="share of wrong pixels", ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    return figure


def bands(networks: Sequence[Mapping[str, Any]], panels: Mapping[str, str]) -> Figure:
    """Each arm over the cells: mean over its seeds and, with several, the band from its lowest to its highest.

    panels: key of a cell -> its title.
    """
    arms = by_arm(networks)
    labels = [short(cell) for cell in networks[0]["cells"]]
    figure = Figure(figsize=(WIDTH, 1.75 * len(panels) + 0.9), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (key, title) in zip(grid, panels.items(), strict=True):
        for (arm, seeds), (colour, marker, dash) in zip(arms.items(), STYLES, strict=False):
            values = np.array([[cell[key] for cell in network["cells"]] for network in seeds])
            label = f"{arm}, {len(seeds)} seeds" if len(seeds) > 1 else arm
            axes.plot(values.mean(0), color=colour, marker=marker, ls=dash, ms=4, lw=1.2, label=label)
            if len(seeds) > 1:
                axes.fill_between(range(len(labels)), values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylim(bottom=-0.03)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xticks(range(len(labels)), labels, rotation=90, fontsize=9)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=1, fontsize=9, frameon=False)
    return figure


def by_arm(networks: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """{arm: its networks}, in the order in which the arms come."""
    return {arm: [n for n in networks if n["arm"] == arm] for arm in dict.fromkeys(n["arm"] for n in networks)}


def above(scores: Sequence[float], thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """Share of the scores above each threshold."""
    return (np.asarray(scores)[:, None] > thresholds).mean(0)


def threshold_slider(networks: Sequence[Mapping[str, Any]]) -> go.Figure:
    """A slider over the cells: shares above each threshold, one panel a network; dotted: its own."""
    cells = range(len(networks[0]["cells"]))
    frames = [_shares(networks, i) for i in cells]
    return slider(frames, [short(cell) for cell in networks[0]["cells"]], prefix="degradation: ")


def _shares(networks: Sequence[Mapping[str, Any]], number: int) -> go.Figure:
    if len(networks) != 2:
        raise InputError(f"{len(networks)} networks; the slider has room for two")
    figure, words = go.Figure(), []
    for i, network in enumerate(networks):
        cell, axes = network["cells"][number], {"xaxis": f"x{i + 1}", "yaxis": f"y{i + 1}"}
        lines = [
            ("tampered, found", "tampered", BLUE, "solid"),
            ("authentic, false alarm", "authentic", ORANGE, "dash"),
        ]
        for name, key, colour, dash in lines:
            shape = {"color": colour, "dash": dash, "width": 2, "shape": "hv"}
            shares = above(cell[key]).round(3)
            figure.add_scatter(x=THRESHOLDS, y=shares, mode="lines", line=shape, name=name, showlegend=i == 0, **axes)
        own = network["threshold"]
        figure.add_scatter(
            x=[own, own], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot", "width": 1.5},
            name="own threshold", showlegend=i == 0, **axes,
        )  # fmt: skip
        words.append(f"{network['name']}: found {cell['found_own']:.1%}, false alarms {cell['alarms_own']:.1%}")
    figure.update_layout(
        height=690,
        margin={"l": 50, "r": 10, "t": 135, "b": 10},
        title={"text": "<br>".join(words), "font": {"size": 14}, "y": 0.96, "yanchor": "top"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    for i, network in enumerate(networks):
        low, across = 0.58 * (1 - i), {"text": "threshold", "standoff": 2}
        figure.update_layout(
            {
                f"xaxis{i + 1}": {
                    "title": across,
                    "range": [0, 1],
                    "anchor": f"y{i + 1}",
                },
                f"yaxis{i + 1}": {
                    "title": {"text": f"{network['name']}: share above"},
                    "range": [-0.03, 1.03],
                    "domain": [low, low + 0.42],
                    "anchor": f"x{i + 1}",
                },
            }
        )
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure
