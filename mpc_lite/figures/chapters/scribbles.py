"""Figures of chapter 19: strokes, what becomes certain from them, pasted pictures. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from mpc_lite.contrast.views import IGNORE
from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import behind, picture, slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, STYLES, WIDTH

COLOURS = np.array([[0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]])  # BLUE for authentic, ORANGE for tampered
PERIOD = 6  # pixels between two stripes of the tampered class
SHARES = [("certain", BLUE, "solid"), ("right among the certain", GREEN, "dash"), ("found", ORANGE, "dot")]


def labelled(image: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None, factor: int = 2) -> np.ndarray:
    """Labels over a faded photograph, enlarged: authentic blue, tampered orange with pale stripes, 255 left as it is.

    image: (H,W,3) uint8. labels: (H,W), 0, 1, 255. mask: (H,W), 1 = tampered; its border is drawn black. factor: how
    many pixels each becomes. Returns (factor·H, factor·W, 3) uint8.
    """
    if image.shape[:2] != labels.shape or (mask is not None and mask.shape != labels.shape):
        raise InputError(f"image {image.shape}, labels {labels.shape}: expected the same height and width")
    grey = image.mean(2, keepdims=True)
    colours = np.repeat(0.45 * grey + 0.55 * 255, 3, 2)
    for label in (0, 1):
        colours[labels == label] = COLOURS[label]
    y, x = np.indices(labels.shape)
    colours[(labels == 1) & ((x + y) % PERIOD == 0)] = 255
    large = np.repeat(np.repeat(np.round(colours).astype(np.uint8), factor, 0), factor, 1)
    if mask is not None:
        region = np.repeat(np.repeat((mask == 1).astype(np.uint8), factor, 0), factor, 1)
        large[cv2.dilate(region, np.ones((3, 3), np.uint8)) != region] = 0
    return large


def panels(pictures: Mapping[str, np.ndarray], columns: int, *, sources: Sequence[str]) -> Figure:
    """Titled pictures in rows of so many. pictures: title -> (H,W,3) uint8. sources: see `check_licence`."""
    check_licence(sources)
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / columns + 0.25)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, image) in zip(grid, pictures.items(), strict=False):
        axes.imshow(image)
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
    for axes in grid[len(pictures) :]:
        axes.set_axis_off()
    return figure


def around_the_circle(degrees: np.ndarray, losses: Mapping[str, np.ndarray], entries: Mapping[str, float]) -> Figure:
    """The loss of one anchor on the unit circle against its angle; each curve's lowest point is marked.

    degrees: (n,). losses: name -> (n,), nats. entries: name -> angle of that class's queue entry, drawn as a line.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    for (name, values), (colour, marker, dash) in zip(losses.items(), STYLES[::-1], strict=False):
        axes.plot(degrees, values, color=colour, ls=dash, label=name)
        lowest = int(np.argmin(values))
        axes.plot(degrees[lowest], values[lowest], marker=marker, color=colour, ms=8)
    axes.set_ylim(top=1.2 * max(values.max() for values in losses.values()))  # room for the names of the lines
    for (name, angle), dash in zip(entries.items(), ("-", "--"), strict=False):
        axes.axvline(angle, color=GREY, lw=1, ls=dash)
        axes.annotate(f" {name}", (angle, 0.98), xycoords=("data", "axes fraction"), fontsize=9, va="top", ha="left")
    axes.set(xlabel="angle of the anchor, degrees", ylabel="loss, nats", xticks=range(-180, 181, 90))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def shares(labels: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """Of certainty labels (H,W), 0, 1 and 255, beside the truth (H,W), 0 and 1: the share that is certain; of these the
    share that is right; and of the tampered pixels the share that is certain and right."""
    certain = labels != IGNORE
    right = certain & (labels == mask)
    return certain.mean(), right.sum() / max(1, certain.sum()), right[mask == 1].sum() / max(1, (mask == 1).sum())


def playback(
    image: np.ndarray, mask: np.ndarray, labels: Sequence[np.ndarray], steps: Sequence[int], *, sources: Sequence[str]
) -> go.Figure:
    """A slider over training steps: the certainty labels on the photograph, and their shares below.

    image: (H,W,3) uint8. mask: (H,W), 1 = tampered. labels: (H,W) each, 0, 1 and 255, one for each of `steps`.
    sources: see `check_licence`.
    """
    check_licence(sources)
    if len(labels) != len(steps) or len(steps) < 2:
        raise InputError(f"{len(labels)} label maps for {len(steps)} steps: expected as many, at least two")
    curves = np.array([shares(x, mask) for x in labels]).T.round(3)
    frames = [_frame(image, mask, labels[i], steps, curves, i) for i in range(len(steps))]
    return slider(frames, [*map(str, steps)], prefix="step ", active=len(steps) // 2)


def _frame(image, mask, labels, steps, curves, now) -> go.Figure:
    height, width = mask.shape
    figure = go.Figure()
    for (name, colour, dash), values in zip(SHARES, curves, strict=True):
        line = {"color": colour, "dash": dash, "width": 2}
        figure.add_scatter(x=list(steps), y=100 * values, mode="lines", line=line, name=name)
    marker = {"color": [c for _, c, _ in SHARES], "size": 9, "symbol": "diamond"}
    figure.add_scatter(
        x=[steps[now]] * 3, y=100 * curves[:, now], mode="markers", marker=marker, showlegend=False, name="this step"
    )
    certain, right, tampered = 100 * curves[:, now]
    words = f"{certain:.0f} % certain, {right:.0f} % of it right<br>{tampered:.0f} % of the tampered pixels found"
    background = picture(labelled(image, labels, mask), None, 32)
    figure.update_layout(
        height=620,
        margin={"l": 50, "r": 10, "t": 60, "b": 10},
        title={"text": words, "font": {"size": 15}},
        images=[behind(background, width, height, "2")],
        xaxis={"title": {"text": "step", "standoff": 2}, "anchor": "y", "fixedrange": True},
        yaxis={"title": {"text": "%"}, "range": [-3, 103], "domain": [0, 0.27], "fixedrange": True},
        xaxis2={"range": [0, width], "visible": False, "fixedrange": True, "anchor": "y2"},
        yaxis2={
            "range": [height, 0],
            "domain": [0.42, 1],
            "scaleanchor": "x2",
            "visible": False,
            "fixedrange": True,
            "anchor": "x2",
        },
        legend={"orientation": "h", "y": 0.29, "yanchor": "bottom", "x": 0},
    )
    return figure
