"""Figures of chapter 12: what the name of a data set leaves open, and what an epoch consists of."""

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

ROLES = {"trained on": (ORANGE, "s", -0.22), "selects": (GREY, "x", 0.0), "reported": (BLUE, "o", 0.22)}


def readings(rows: Sequence[tuple[str, float, float, tuple[float, float] | None]]) -> Figure:
    """Top to bottom, a row a reading: (name, score of a detector, score of a perfect map, range).

    The range (low, high) of the detector's score is drawn as a bar; None where there is none. The first row is the
    reading that is meant; a dotted line repeats its score.
    """
    figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.0), layout="constrained")
    axes = figure.subplots()
    axes.axvline(rows[0][1], color=GREY, ls=":", lw=1)
    for y, (_, _, _, span) in enumerate(rows):
        if span is not None:
            axes.plot(span, [y, y], color=ORANGE, lw=12, alpha=0.35, solid_capstyle="butt")
    for k, (label, marker, colour) in enumerate([("a detector", "o", ORANGE), ("a perfect map", "D", BLUE)], start=1):
        axes.plot([row[k] for row in rows], range(len(rows)), marker, color=colour, ms=6, label=label)
    axes.set(yticks=range(len(rows)), yticklabels=[row[0] for row in rows], xlim=(-0.04, 1.04), xlabel="F1")
    axes.invert_yaxis()
    axes.tick_params(labelsize=9)
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def roles(protocols: Mapping[str, Mapping[str, Sequence[str]]]) -> Figure:
    """Which set is what in which protocol: rows are sets, columns protocols, a mark for each of `ROLES`.

    protocols: {protocol: {role: names of sets}}. Rows come in the order in which the names occur.
    """
    names = list(dict.fromkeys(s for role in ROLES for sets in protocols.values() for s in sets.get(role, ())))
    figure = Figure(figsize=(WIDTH, 0.24 * len(names) + 1.0), layout="constrained")
    axes = figure.subplots()
    for role, (colour, marker, shift) in ROLES.items():
        at = [(x + shift, names.index(s)) for x, sets in enumerate(protocols.values()) for s in sets.get(role, ())]
        axes.plot([x for x, _ in at], [y for _, y in at], marker, color=colour, ms=6, mew=2, label=role)
    axes.set(xticks=range(len(protocols)), xticklabels=list(protocols), xlim=(-0.5, len(protocols) - 0.5))
    axes.set(yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    axes.tick_params(labelsize=9, length=0)
    axes.grid(alpha=0.3, axis="y")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def jpeg_masks(
    masks: Mapping[str, np.ndarray], qualities: Sequence[int], false: Mapping[str, Sequence[float]], share: str
) -> Figure:
    """A mask read in several ways (above), and what each way adds against the JPEG quality (below).

    Args:
        masks: name -> (H,W) 0/1. false: name of the threshold -> a value for each quality, in percent of `share`; drawn
            on a scale that is linear up to 1 and logarithmic above.
    """
    figure = Figure(figsize=(WIDTH, 4.1), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.5])
    for axes, (name, mask) in zip(above.subplots(1, len(masks)), masks.items(), strict=True):
        axes.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=10)
    axes = below.subplots()
    for (colour, marker, dash), (name, values) in zip(STYLES, false.items(), strict=False):
        axes.plot(qualities, values, color=colour, marker=marker, ls=dash, ms=5, label=name)
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    axes.set(xlabel="JPEG quality of the mask's file", ylabel=f"added, % of {share}", ylim=(-0.3, 4000))
    axes.legend(fontsize=9, frameon=False)
    _tidy(axes)
    return figure


def thin(widths: Sequence[int], best: Mapping[str, Sequence[float]], area: Mapping[str, Sequence[float]]) -> Figure:
    """What labels of a small grid keep of a strip: F1 against the full mask (above), area as a multiple of it (below).

    best, area: name of the grid -> a value for each width.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for (colour, marker, dash), name in zip(STYLES, best, strict=False):
        for axes, values in ((above, best[name]), (below, area[name])):
            axes.plot(widths, values, color=colour, marker=marker, ls=dash, ms=5, label=name)
    above.set(ylabel="F1 of the labels", ylim=(0, 1.03))
    below.set(ylabel="area / true area", xlabel="width of the strip, pixels of the photograph")
    below.axhline(1, color=GREY, lw=1, ls=":")
    above.legend(fontsize=9, frameon=False)
    for axes in (above, below):
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(w) for w in widths])
        _tidy(axes)
    return figure


def augmented(pairs: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str], source: str) -> Figure:
    """Pictures (H,W,3) uint8 under their masks (H,W), three in a row, each with its name."""
    check_licence([source])
    rows = -(-len(pairs) // 3)
    figure = Figure(figsize=(WIDTH, WIDTH / 3 * rows + 0.2 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    grid = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes, (image, mask), name in zip(grid, pairs, names, strict=False):
        axes.imshow(painted(image, mask.astype(np.float32)), interpolation="nearest")
        axes.set_title(name, fontsize=9)
    for axes in grid:
        axes.set(xticks=[], yticks=[])
    for axes in grid[len(pairs) :]:
        axes.set_visible(False)
    return figure


def shares(images: Mapping[str, int], repeats: Mapping[str, int]) -> dict[str, float]:
    """Share of an epoch's entries by source: r·n / Σ r·n, r = 1 for a source that `repeats` does not name."""
    entries = {name: n * repeats.get(name, 1) for name, n in images.items()}
    return {name: count / sum(entries.values()) for name, count in entries.items()}


def repeat_slider(
    images: Mapping[str, int],
    repeats: Mapping[str, int],
    moved: str,
    choices: Sequence[int],
    seen: int,
    active: int = 0,
) -> go.Figure:
    """Share of each source in what a network sees, a slider over the repeats of the source `moved`.

    Args:
        images: pictures by source. repeats: as in a recipe. seen: entries read in all, steps times batch.
    """
    if moved not in images:
        raise InputError(f"no source '{moved}'; there are {', '.join(images)}")
    names, whole, frames = list(images), sum(images.values()), []
    for times in choices:
        now = {**repeats, moved: times}
        part = shares(images, now)
        entries = sum(n * now.get(name, 1) for name, n in images.items())
        views = {name: now.get(name, 1) * seen / entries for name in names}
        frame = go.Figure()
        for label, values, colour, pattern in [
            ("of the pictures", {name: n / whole for name, n in images.items()}, GREY, "/"),
            ("of an epoch", part, ORANGE, ""),
        ]:
            marker = {"color": colour, "pattern": {"shape": pattern}}
            frame.add_bar(y=names, x=[round(100 * values[n], 2) for n in names], name=label, marker=marker)
            frame.data[-1].orientation = "h"
        frame.data[1].text = [f"each {views[n]:.1f}×" for n in names]
        frame.data[1].update(textposition="auto", insidetextanchor="start", constraintext="none", textangle=0)
        title = f"epoch of {entries:,} entries<br>a {moved} picture is seen {views[moved]:.1f} times".replace(",", " ")
        frame.update_layout(
            title={"text": title, "font": {"size": 13}, "x": 0.5, "xanchor": "center", "y": 0.95, "yanchor": "top"},
            barmode="group",
            height=540,
            margin={"l": 10, "r": 10, "t": 110, "b": 10},
            legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 1.0, "yanchor": "bottom"},
            xaxis={"title": "%", "range": [0, 40], "nticks": 5},
            yaxis={"autorange": "reversed"},
        )
        frames.append(frame)
    moving = slider(frames, [str(times) for times in choices], prefix=f"repeats of {moved}: ", active=active)
    moving.layout.sliders[0].pad = {"t": 55, "b": 10}
    return moving


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The dotted keys whose values differ between two recipes (`Recipe.as_dict()`), in order: (key, in a, in b)."""
    rows = []
    for key in dict.fromkeys([*a, *b]):
        left, right = a.get(key), b.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            rows += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            rows.append((prefix + key, left, right))
    return rows


def _tidy(axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
