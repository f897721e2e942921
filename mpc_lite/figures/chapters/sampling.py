"""The figures of chapter 5: pixels drawn from a feature map, and what a draw does to the loss and its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import behind, picture, slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

DRAWN = [("authentic", BLUE, "o", "circle"), ("tampered", ORANGE, "^", "triangle-up")]
POINTS = 5000  # an interactive figure holds no more


def principal_colours(pixels: np.ndarray) -> np.ndarray:
    """Three principal components of a map as red, green and blue: (h,w,D) float -> (h,w,3) uint8.

    Each component is stretched from its 1st to its 99th percentile. The signs are fixed, so the colours are too.
    """
    flat = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    axes = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(3)])
    values = flat @ axes
    low, high = np.percentile(values, [1, 99], axis=0)
    scaled = (values - low) / np.maximum(high - low, 1e-12)
    return np.round(255 * scaled.clip(0, 1)).astype(np.uint8).reshape(*pixels.shape[:2], 3)


def loss_against_k(ks: Sequence[int], losses: Mapping[str, np.ndarray], full: Mapping[str, float], m: int) -> Figure:
    """The loss of K drawn pixels a class against K, with the value of all pixels and that value plus ln(K/M).

    Args:
        losses: name -> (len(ks), draws). full: name -> the loss of all pixels. m: number of negatives, M.
    """
    figure = Figure(figsize=(WIDTH, 2.1 * len(losses)), layout="constrained")
    for axes, (name, values), style in zip(
        figure.subplots(len(losses), squeeze=False)[:, 0], losses.items(), STYLES[::-1], strict=False
    ):
        colour, marker, _ = style
        shift = np.log(np.minimum(ks, m) / m)
        axes.axhline(full[name], color=GREY, lw=1, label="all pixels")
        axes.plot(ks, full[name] + shift, color="black", ls=":", label="all pixels + ln(K/M)")
        mean, sd = values.mean(1), values.std(1, ddof=1)
        axes.errorbar(ks, mean, sd, color=colour, marker=marker, capsize=3, label="drawn, mean ± sd")
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_ylabel("loss, nats")
        _pixels_axis(axes, ks)
    axes.set_xlabel("pixels drawn of each class, K")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def gradient_cosine(ks: Sequence[int], cosines: Mapping[str, np.ndarray]) -> Figure:
    """Direction of the gradient from a draw against the gradient of all pixels; every draw and the mean.

    cosines: name -> (len(ks), images, draws), cosines over all weights of the encoder.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    for i, ((name, values), style) in enumerate(zip(cosines.items(), STYLES[::-1], strict=False)):
        colour, marker, dash = style
        where = np.array(ks) * (0.93 if i == 0 else 1.07)
        each = values.reshape(len(ks), -1)
        axes.plot(np.repeat(where, each.shape[1]), each.ravel(), marker, color=colour, ms=3, alpha=0.35, ls="none")
        axes.plot(where, each.mean(1), color=colour, marker=marker, ls=dash, label=name)
    axes.axhline(1, color=GREY, lw=1)
    axes.axhline(0, color=GREY, lw=0.5)
    axes.set(xlabel="pixels drawn of each class, K", ylabel="cosine to the gradient\nof all pixels", ylim=(-1.05, 1.1))
    _pixels_axis(axes, ks)
    axes.legend(fontsize=9, frameon=False, loc="lower right")
    return figure


def weight_shares(weights: Mapping[str, np.ndarray]) -> Figure:
    """The share of the denominator that the heaviest negatives carry, mean over the anchors.

    weights: name -> (anchors, M), exp(similarity / temperature) of each negative, up to a factor for each anchor.
    """
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    for (name, w), (colour, marker, dash) in zip(weights.items(), STYLES[::-1], strict=False):
        share, carried = carried_share(w)
        axes.plot(100 * share, 100 * carried, color=colour, ls=dash, marker=marker, markevery=0.2, ms=4, label=name)
    x = np.geomspace(100 / w.shape[1], 100, 50)
    axes.plot(x, x, color=GREY, lw=1, ls=":", label="equal weights")
    axes.set(xlabel="heaviest negatives, % of all", ylabel="share of the sum, %", ylim=(0, 102))
    _pixels_axis(axes, (1, 10, 100))
    axes.set_xlim(left=100 / w.shape[1])
    axes.legend(fontsize=9, frameon=False)
    return figure


def carried_share(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(anchors, M) weights -> shares 1/M … 1 of the negatives, and the part of the sum that so many heaviest carry."""
    falling = -np.sort(-w, axis=1)
    carried = (falling / falling.sum(1, keepdims=True)).cumsum(1).mean(0)
    return np.arange(1, w.shape[1] + 1) / w.shape[1], carried


def drawn_pixels(
    image: np.ndarray, colours: np.ndarray, labels: np.ndarray, drawn: Sequence[np.ndarray], *, sources: Sequence[str]
) -> Figure:
    """The forgery, its feature map, and the pixels of both classes that were drawn from the map.

    Args:
        image: (H,W,3) uint8. colours: (h,w,3) uint8, see `principal_colours`. labels: (h,w), 1 = tampered.
        drawn: indices into h*w of the authentic and of the tampered pixels. sources: see `check_licence`.
    """
    check_licence(sources)
    figure = Figure(figsize=(WIDTH, 1.9), layout="constrained")
    titles = ("image", "embeddings", f"drawn, {' + '.join(str(len(d)) for d in drawn)}")
    height, width = labels.shape
    panels = (image, outlined(colours, labels, 4), faded(outlined(colours, labels, 4)))
    for axes, title, panel in zip(figure.subplots(1, 3), titles, panels, strict=True):
        axes.imshow(panel, extent=(0, width, height, 0))
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
    for indices, (name, colour, marker, _) in zip(drawn, DRAWN, strict=True):
        y, x = np.divmod(indices, width)
        axes.scatter(x + 0.5, y + 0.5, 5, color=colour, marker=marker, linewidths=0, label=name)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=9, frameon=False, markerscale=2)
    return figure


def outlined(colours: np.ndarray, labels: np.ndarray, factor: int) -> np.ndarray:
    """The map enlarged `factor` times, with a black line along the border of the tampered region."""
    large, region = (np.repeat(np.repeat(x, factor, 0), factor, 1) for x in (colours, (labels == 1).astype(np.uint8)))
    edge = region - cv2.erode(region, np.ones((3, 3), np.uint8))
    return np.where(edge[..., None] == 1, np.uint8(0), large)


def faded(colours: np.ndarray, white: float = 0.65) -> np.ndarray:
    return np.round(white * 255 + (1 - white) * colours).astype(np.uint8)


def sampler(
    colours: np.ndarray,
    labels: np.ndarray,
    ks: Sequence[int],
    drawn: Sequence[tuple[np.ndarray, np.ndarray]],
    losses: np.ndarray,
    full: float,
    *,
    sources: Sequence[str],
) -> go.Figure:
    """A slider over K: the pixels of one draw on the feature map, and below the loss of this and of other draws.

    Args:
        colours: (h,w,3) uint8. labels: (h,w), 1 = tampered. ks: pixels of each class, one frame each; a last frame
            shows all pixels. drawn: for each K the indices into h*w of the authentic and the tampered pixels.
        losses: (len(ks), draws); column 0 belongs to `drawn`. full: the loss of all pixels. sources: `check_licence`.
    """
    check_licence(sources)
    if not len(ks) == len(drawn) == len(losses):
        raise InputError(f"{len(ks)} values of K, {len(drawn)} draws, {len(losses)} rows of losses: expected as many")
    counts = [int((labels == c).sum()) for c in (0, 1)]
    ticks = [*ks, max(counts)]
    strong, pale = (picture(x, None, 64) for x in (outlined(colours, labels, 4), faded(outlined(colours, labels, 4))))
    frames = [
        _frame(pale, labels.shape, pair, k, ticks, losses, row, full)
        for row, (k, pair) in enumerate(zip(ks, drawn, strict=True))
    ]
    nothing = (np.zeros(0, int), np.zeros(0, int))
    frames.append(_frame(strong, labels.shape, nothing, ticks[-1], ticks, losses, None, full))
    frames[-1].layout.title.text = f"all {counts[0]} + {counts[1]} pixels<br>loss {full:.2f}"
    figure = slider(frames, [*map(str, ks), "all"], prefix="pixels of each class: ", active=1)
    points = sum(len(t.x) for t in figure.data)
    if points > POINTS:
        raise InputError(f"the sampler would hold {points} points, at most {POINTS}: leave out the largest K")
    return figure


def _frame(background, shape, pair, k, ticks, losses, row, full) -> go.Figure:
    height, width = shape
    figure = go.Figure()
    for indices, (name, colour, _, symbol) in zip(pair, DRAWN, strict=True):
        y, x = np.divmod(indices, width)
        marker = {"color": colour, "symbol": symbol, "size": 5}
        figure.add_scatter(x=x + 0.5, y=y + 0.5, mode="markers", marker=marker, name=name, hoverinfo="skip")
    value = full if row is None else float(losses[row, 0])
    others = {"x": np.repeat(ticks[:-1], losses.shape[1]), "y": losses.ravel().round(3)}
    lower = {"xaxis": "x2", "yaxis": "y2"}
    figure.add_scatter(**others, **lower, mode="markers", marker={"color": GREY, "size": 4}, name="other draws")
    line = {"color": "#222", "dash": "dot", "width": 1}
    figure.add_scatter(
        x=[ticks[0], ticks[-1]], y=[round(full, 3)] * 2, **lower, mode="lines", line=line, name="all pixels"
    )
    now = {"color": ORANGE, "size": 11, "symbol": "diamond"}
    figure.add_scatter(x=[k], y=[round(value, 3)], **lower, mode="markers", marker=now, name="this draw")
    hidden = {"visible": False, "fixedrange": True}
    figure.update_layout(
        height=700,
        margin={"l": 50, "r": 10, "t": 60, "b": 10},
        title={
            "text": f"{len(pair[0])} + {len(pair[1])} pixels drawn<br>loss {value:.2f} (all pixels: {full:.2f})",
            "font": {"size": 15},
        },
        images=[behind(background, width, height)],
        xaxis={"range": [0, width], "domain": [0, 1], **hidden},
        yaxis={"range": [height, 0], "domain": [0.42, 1], "scaleanchor": "x", **hidden},
        xaxis2={
            "type": "log",
            "title": {"text": "K", "standoff": 2},
            "range": [np.log10(0.8 * ticks[0]), np.log10(1.3 * ticks[-1])],
            "tickvals": ticks,
            "ticktext": [*map(str, ticks[:-1]), "all"],
            "anchor": "y2",
            "fixedrange": True,
        },
        yaxis2={"title": {"text": "loss, nats"}, "domain": [0, 0.22], "anchor": "x2", "nticks": 4, "fixedrange": True},
        legend={"orientation": "h", "y": 0.24, "yanchor": "bottom", "x": 0},
    )
    return figure


def _pixels_axis(axes, ticks: Sequence[int]) -> None:
    """A logarithmic axis with plain numbers at the ticks and nothing between them."""
    axes.set_xscale("log")
    axes.set_xticks(list(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
