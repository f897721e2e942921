"""Figures of chapter 9: how pixels lie in the embedding, by numbers and by colours. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mpc_lite.contrast.views import unit_vectors
from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

NAMES = {  # of the shipped weights, as the figures call them
    "lite-initial": "before stage 1",
    "lite-stage1": "after stage 1",
    "lite": "after stage 2",
    "lite2": "second edition",
}
SETS = {"generated": "generated forgeries", "lalonde": "research splices"}
VIEWS = {"within_image": "within the image", "cross_scale": "cross-scale", "cross_modality": "cross-modality"}
MEASURES = {"purity": ("purity", "neighbour purity"), "fisher_ratio": ("fisher", "Fisher ratio")}
DEAD = 20  # grey level of a dead pixel's ground; every second dot of it is white


def measure_by_weights(result: Mapping[str, Any], measure: str = "purity") -> Figure:
    """One panel a set: each image a dot, mean ± standard deviation beside the dots, the wrong mask's mean hollow.

    result: `book_result("geometry")`; sets or weights that are not there yet are left out. measure: see `MEASURES`.
    """
    key, label = MEASURES[measure]
    weights = [name for name in NAMES if name in result["weights"]]
    sets = [name for name in SETS if any(name in result["weights"][w] for w in weights)]
    figure = Figure(figsize=(WIDTH, 2.5 * len(sets)), layout="constrained")
    for axes, name in zip(figure.subplots(len(sets), squeeze=False, sharex=True, sharey=True)[:, 0], sets, strict=True):
        for x, weight in enumerate(weights):
            table = result["weights"][weight][name]["within_image"]
            each = np.array([v for v in table[f"{key}_each"] if v is not None])
            jitter = np.linspace(-0.13, 0.13, len(each))
            axes.plot(x - 0.12 + jitter, each, ".", color=GREY, ms=3, alpha=0.6)
            mean, spread = table[measure]["mean"], table[measure]["sd"]
            axes.errorbar(x + 0.12, mean, spread, color=ORANGE, marker="o", capsize=3, label="true mask" * (x == 0))
            wrong = table[measure]["wrong_mask"]
            axes.plot(x + 0.3, wrong, "D", mfc="white", mec=BLUE, label="mask of another image" * (x == 0))
        axes.set_title(f"{SETS[name]}, {table['n']} images", fontsize=10, loc="left")
        axes.set_ylabel(label, fontsize=9)
        axes.set_xticks(range(len(weights)), [NAMES[w].replace(" ", "\n", 1) for w in weights], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, axis="y")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def component_colours(maps: Tensor, factor: int = 4) -> np.ndarray:
    """A raw map (1,D,h,w) in colours: its three first principal components as red, green, blue; dead pixels dotted.

    Components are of the living pixels' unit vectors, each stretched over its own range from the 2nd to the 98th
    percentile, its sign such that its largest loading is positive: equal colours are near, but colours of two maps
    cannot be compared. Returns (factor·h, factor·w, 3) uint8.
    """
    vectors = unit_vectors(maps.double())[0].flatten(1).T
    alive = torch.linalg.vector_norm(vectors, dim=1) > 0
    if alive.sum() < 3 or vectors.shape[1] < 3:
        raise InputError(f"{int(alive.sum())} living pixels of {vectors.shape[1]} channels: expected 3 of each or more")
    centred = vectors[alive] - vectors[alive].mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    parts = centred @ axes.T
    low, high = (torch.quantile(parts, q, dim=0) for q in (0.02, 0.98))
    colours = torch.zeros(len(vectors), 3, dtype=torch.float64)
    colours[alive] = ((parts - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    shape = maps.shape[2:]
    large = np.round(255 * colours.view(*shape, 3).numpy()).astype(np.uint8)
    large = large.repeat(factor, 0).repeat(factor, 1)
    gone = (~alive).view(shape).numpy().repeat(factor, 0).repeat(factor, 1)
    y, x = np.indices(gone.shape)
    large[gone] = DEAD
    large[gone & ((x + y) % factor == 0)] = 255
    return large


def dead_by_factor(factors: Sequence[float], shares: Mapping[str, Sequence[float]]) -> Figure:
    """Share of dead pixels against the factor on every block's residual; factor 1 is how the network is used.

    shares: weights -> one share in [0,1] for each of `factors`.
    """
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    for (name, values), (colour, marker, dash) in zip(shares.items(), STYLES, strict=False):
        axes.plot(factors, 100 * np.array(values), color=colour, marker=marker, ls=dash, ms=5, label=NAMES[name])
    axes.axvline(1, color=GREY, lw=1)
    axes.annotate(" as used", (1, 0.98), xycoords=("data", "axes fraction"), fontsize=9, va="top")
    axes.set(xlabel="factor on each block's residual", ylabel="dead pixels of X1, %")
    axes.set_ylim(bottom=-1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False)
    return figure


def islands(maps: Mapping[str, np.ndarray], labels: np.ndarray) -> Figure:
    """Maps of UMAP one below the other. maps: title -> (N,2). labels: (N,), 0 or 1."""
    figure = Figure(figsize=(WIDTH, 2.3 * len(maps)), layout="constrained")
    for axes, (title, places) in zip(figure.subplots(len(maps), squeeze=False)[:, 0], maps.items(), strict=True):
        for label, (name, colour, marker) in enumerate([("authentic", BLUE, "o"), ("tampered", ORANGE, "x")]):
            x, y = np.asarray(places)[labels == label].T
            axes.plot(x, y, marker, ms=3, mfc="none", mec=colour, mew=0.7, label=name)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set(xticks=[], yticks=[])
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def purity_by_distance(result: Mapping[str, Any]) -> go.Figure:
    """A slider over set and view: purity against the least distance of a neighbour, a line for each network.

    Bars are two standard errors over images; thin lines: the mask of another image; grey: a map that knows only the
    place of a pixel, and chance. result: `book_result("geometry")`.
    """
    frames, labels = [], []
    weights = [name for name in NAMES if name in result["weights"]]
    for name in SETS:
        for view in VIEWS:
            tables = {w: result["weights"][w].get(name, {}).get(view, {}) for w in weights}
            tables = {w: table for w, table in tables.items() if "purity_at" in table}
            if len(tables) == len(weights):  # the slider's frames need the same lines
                frames.append(_distance_frame(result, name, view, tables))
                labels.append(f"{SETS[name]}, {VIEWS[view]}")
    return slider(frames, labels)


def _distance_frame(result: Mapping[str, Any], name: str, view: str, tables: Mapping[str, Any]) -> go.Figure:
    figure, distances = go.Figure(), result["distances"]
    symbols = ["circle", "square", "triangle-up", "diamond"]
    dashes = ["solid", "dash", "dot", "dashdot"]
    for (weight, table), (colour, *_), symbol, dash in zip(tables.items(), STYLES, symbols, dashes, strict=False):
        purity = table["purity_at"]
        bars = {"array": [round(2 * e, 3) for e in purity["se"]], "thickness": 1}
        line, marker = {"color": colour, "dash": dash, "width": 2}, {"symbol": symbol, "size": 8}
        y = [round(v, 3) for v in purity["mean"]]
        figure.add_scatter(
            x=distances, y=y, error_y=bars, line=line, marker=marker, name=NAMES[weight], legendgroup=weight
        )
        y = [round(v, 3) for v in purity["wrong_mask"]]
        thin = {"color": colour, "dash": dash, "width": 1}
        figure.add_scatter(x=distances, y=y, mode="lines", line=thin, legendgroup=weight, showlegend=False, opacity=0.6)
    grey = {"color": GREY, "width": 2}
    figure.add_scatter(x=distances, y=result["place_alone"][name], mode="lines", line=grey, name="place alone")
    chance = np.mean([table["chance_at"]["mean"] for table in tables.values()], axis=0).round(3).tolist()
    figure.add_scatter(x=distances, y=chance, mode="lines", line={**grey, "dash": "dot"}, name="chance")
    n = min(table["n"] for table in tables.values())
    figure.update_layout(
        height=560,
        margin={"l": 50, "r": 10, "t": 60, "b": 10},
        title={"text": f"{SETS[name]},<br>{VIEWS[view]}, {n} images", "font": {"size": 14}},
        xaxis={"title": {"text": "least distance of the neighbour, pixels"}, "fixedrange": True},
        yaxis={"title": {"text": "purity"}, "range": [0.2, 1.02], "fixedrange": True},
        legend={"orientation": "h", "y": -0.42, "yanchor": "top", "x": 0},
    )
    return figure
