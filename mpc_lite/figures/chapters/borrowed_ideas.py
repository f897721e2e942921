"""Figures of chapter 20: arms of a comparison, and maps that should turn with their picture. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.evaluation.arms import Arm
from mpc_lite.figures.interactive import behind, picture, slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

HEAT = ((255, 255, 255), (213, 94, 0), (0, 0, 0))  # of a map: at 0, at a half (ORANGE), at 1


def comparison(arms: Sequence[Arm], label: str, against: str) -> Figure:
    """Left each seed and the mean of each arm, right its difference from the arm `against` with the 95 % interval;
    an interval that holds zero is grey and open. Arms that are not run keep their line and say so."""
    figure = Figure(figsize=(WIDTH, 0.8 + 0.3 * len(arms)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    right.axvline(0, color=GREY, lw=1)
    for y, arm in enumerate(arms):
        if arm.mean is None:
            left.text(0.5, y, "not run", transform=left.get_yaxis_transform(), ha="center", va="center", fontsize=9)
            continue
        left.plot(list(arm.scores.values()), [y] * len(arm.scores), ls="", marker="o", ms=4, mfc="none", color=BLUE)
        left.plot(arm.mean, y, marker="|", ms=12, mew=2, color=ORANGE)
        if arm.lead is None:
            continue
        noise = arm.lead.verdict not in ("above", "below")
        colour, fill = (GREY, "none") if noise else (ORANGE, ORANGE)
        if arm.lead.interval:
            right.plot(arm.lead.interval, [y, y], color=colour, lw=1.5)
        right.plot(arm.lead.mean, y, marker="D", ms=5, color=colour, mfc=fill)
    left.set(yticks=range(len(arms)), yticklabels=[arm.name for arm in arms], ylim=(len(arms) - 0.5, -0.5))
    left.set_xlabel(label, fontsize=9)
    right.set_xlabel(f"minus {against}", fontsize=9)
    for axes, drawn in ((left, any(arm.scores for arm in arms)), (right, any(arm.lead for arm in arms))):
        if not drawn:
            axes.set_xticks([])
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    return figure


def disagreements(networks: Mapping[str, Mapping[str, float]]) -> Figure:
    """One row for each change of the picture, a mark for each network; 1 is the line of a stranger's pixel.

    networks: name -> {change: disagreement over that of another pixel}, all with the same changes, at most four.
    """
    changes = list(next(iter(networks.values())))
    if any(list(values) != changes for values in networks.values()) or len(networks) > len(STYLES):
        raise InputError(f"{len(networks)} networks: expected at most {len(STYLES)} with the same changes {changes}")
    figure = Figure(figsize=(WIDTH, 1.1 + 0.3 * len(changes)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color=GREY, lw=1, ls="--")
    for (name, values), (colour, marker, _) in zip(networks.items(), STYLES, strict=False):
        axes.plot(list(values.values()), range(len(changes)), ls="", marker=marker, color=colour, label=name)
    axes.set(yticks=range(len(changes)), yticklabels=changes, ylim=(len(changes) - 0.5, -0.5))
    axes.set_xlim(left=0)
    axes.set_xlabel("1 − cosine, in units of another pixel's", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture (H,W,3) uint8 with a white line round the region, mask (H,W), 1 = tampered."""
    region = (mask == 1).astype(np.uint8)
    drawn = image.copy()
    drawn[cv2.dilate(region, np.ones((3, 3), np.uint8)) != region] = 255
    return drawn


def heat(values: np.ndarray) -> np.ndarray:
    """(h,w) in [0,1] -> (h,w,3) uint8, white at 0, orange in the middle, black at 1."""
    return np.stack([np.interp(values, (0, 0.5, 1), channel) for channel in zip(*HEAT, strict=True)], 2).astype(
        np.uint8
    )


def turning(
    pictures: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray], stranger: float, *, sources: Sequence[str]
) -> go.Figure:
    """A slider over changes of a picture: what the network was fed, and where its embeddings disagree afterwards.

    pictures: change -> (H,W,3) uint8. maps: change -> (h,w), 1 − cosine, in the place of the unchanged picture's
    pixels. stranger: the mean 1 − cosine of two pixels of different places. sources: see `check_licence`.
    """
    check_licence(sources)
    if list(pictures) != list(maps) or len(maps) < 2:
        raise InputError(f"pictures of {list(pictures)}, maps of {list(maps)}: expected the same, at least two")
    frames = [_turned(pictures[name], values, stranger) for name, values in maps.items()]
    return slider(frames, list(maps), active=1)


def _turned(image: np.ndarray, values: np.ndarray, stranger: float) -> go.Figure:
    figure = go.Figure()
    # plotly.js as the book has it draws no heat maps: the map is a picture, and a pale point carries its scale.
    marker = {"color": [0], "opacity": 0, "cmin": 0, "cmax": 1, "showscale": True}
    marker["colorscale"] = [[at, f"rgb{colour}"] for at, colour in zip((0, 0.5, 1), HEAT, strict=True)]
    marker["colorbar"] = {"title": {"text": "1 − cos"}, "thickness": 10, "len": 0.6, "x": 1.0}
    figure.add_scatter(
        x=[0.5], y=[0.5], mode="markers", marker=marker, xaxis="x2", yaxis="y2", hoverinfo="skip", showlegend=False
    )
    words = f"1 − cosine, mean {values.mean():.2f}<br>of another pixel: {stranger:.2f}"
    square = {"range": [1, 0], "visible": False, "fixedrange": True}
    figure.update_layout(
        height=420,
        margin={"l": 22, "r": 5, "t": 60, "b": 10},
        title={"text": words, "font": {"size": 15}},
        images=[behind(picture(image, None, 48), 1, 1), behind(picture(heat(values), None, 64), 1, 1, "2")],
        xaxis={"domain": [0, 0.47], "range": [0, 1], "visible": False, "fixedrange": True, "anchor": "y"},
        yaxis={**square, "scaleanchor": "x", "anchor": "x"},
        xaxis2={"domain": [0.51, 0.98], "range": [0, 1], "visible": False, "fixedrange": True, "anchor": "y2"},
        yaxis2={**square, "scaleanchor": "x2", "anchor": "x2"},
    )
    return figure
