"""Figures of chapter 2: one score map, many scores. Every function takes data and returns the figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpc_lite.errors import InputError
from mpc_lite.evaluation.metrics import count, f1, iou
from mpc_lite.evaluation.protocols import get_protocol
from mpc_lite.figures.interactive import picture, slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLES, WIDTH

SCORES = ["F1", "IoU", "precision", "recall"]


def _blank(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Figure, columns: int = 0) -> Figure:
    """Take away the upper and right spine; with `columns` put a legend below."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=10)
    if columns:
        figure.legend(loc="outside lower center", ncols=columns, fontsize=10, frameon=False)
    return figure


def _words(protocols: Iterable[str]) -> list[str]:
    """Names for an axis, with a star where the protocol chooses the threshold with the truth."""
    return [name if get_protocol(name).threshold is not None else f"{name}*" for name in protocols]


def eight(
    image: np.ndarray,
    truth: np.ndarray,
    score_map: np.ndarray,
    scores: Mapping[str, float],
    nothing: Mapping[str, float],
    *,
    source: str,
) -> Figure:
    """One photograph, its truth and its score map above the F1 that each protocol gives to this one map.

    Args:
        image: (H,W,3) uint8 RGB. truth: (H,W), 1 = tampered. score_map: (H,W) in [0,1].
        scores, nothing: F1 by protocol, of the score map and of the map that marks nothing. source: `check_licence`.
    """
    check_licence([source])
    if list(scores) != list(nothing):
        raise InputError(f"scores of {list(scores)} beside {list(nothing)}; expected the same protocols")
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2.1])
    pictures = {"image": image, "truth": truth, "score": score_map}
    for axes, (title, panel) in zip(top.subplots(1, 3), pictures.items(), strict=True):
        axes.imshow(panel, cmap="magma" if title == "score" else "gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    axes = bottom.subplots()
    rows = np.arange(len(scores))
    axes.barh(rows, list(scores.values()), color=BLUE, height=0.6, label="this map")
    axes.plot(list(nothing.values()), rows, "D", color=ORANGE, ms=6, label="a map that marks nothing", ls="none")
    for row, value in zip(rows, scores.values(), strict=True):
        axes.text(value + 0.02, row, f"{value:.2f}", va="center", fontsize=10)
    axes.set_yticks(rows, _words(scores))
    axes.set(xlim=(0, 1.16), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="F1 (* uses the truth)")
    axes.invert_yaxis()
    bottom.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    return figure


_CELLS = {"TP": (BLUE, "white"), "FP": (ORANGE, "white"), "FN": (PURPLE, "black"), "TN": ("white", GREY)}


def by_hand(score_map: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> Figure:
    """Small score map (h,w) and truth (h,w) side by side: scores with the region outlined, then the four outcomes."""
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    height, width = truth.shape
    left.imshow(score_map, cmap="Greys", vmin=0, vmax=1.6)
    for row, column in np.ndindex(height, width):
        left.text(column, row, f"{score_map[row, column]:.1f}", ha="center", va="center", fontsize=10)
        marked, tampered = score_map[row, column] > threshold, truth[row, column] == 1
        here = ("TP" if tampered else "FP") if marked else ("FN" if tampered else "TN")
        ground, ink = _CELLS[here]
        right.add_patch(_square(column, row, facecolor=ground, edgecolor="#ddd"))
        right.text(column, row, here, ha="center", va="center", fontsize=10, color=ink, fontweight="bold")
    for row, column in np.argwhere(truth == 1):
        left.add_patch(_square(column, row, fill=False, edgecolor=GREEN, linewidth=2.5))
    right.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    for axes, title in [(left, "scores; truth in green"), (right, f"marked where score > {threshold:g}")]:
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    return figure


def _square(column: int, row: int, **style) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, **style)


# -------------------------------------------------------------------------------------------------- trivial maps


def trivial(shares: np.ndarray, curves: Mapping[str, np.ndarray], points: Mapping[str, tuple]) -> Figure:
    """Closed forms of the trivial maps' scores against the tampered share; `points` are images, (shares, scores)."""
    figure, axes = _blank(3.2)
    for (name, values), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
        axes.plot(shares, values, color=colour, ls=dash, label=name)
        if name in points:
            axes.plot(*points[name], ls="none", marker=marker, color=colour, ms=4, alpha=0.7)
    axes.set(xlabel="tampered share a of the image", ylabel="F1", xlim=(0, 0.6), ylim=(0, 0.8))
    axes.grid(alpha=0.3)
    return _finish(figure, 1)


# ----------------------------------------------------------------------------------------------------- thresholds


def outcomes(score_map: np.ndarray, truth: np.ndarray, threshold: float) -> np.ndarray:
    """Picture (H,W,3) uint8 of the four outcomes: TP blue, FP orange, FN purple stripes, TN near-white."""
    colour = {key: np.array([int(value[i : i + 2], 16) for i in (1, 3, 5)], np.uint8) for key, value in _RGB.items()}
    marked, tampered = score_map > threshold, truth == 1
    stripes = (np.add.outer(np.arange(truth.shape[0]), np.arange(truth.shape[1])) // 4) % 2 == 0
    canvas = np.broadcast_to(colour["TN"], (*truth.shape, 3)).copy()
    canvas[marked & ~tampered] = colour["FP"]
    canvas[marked & tampered] = colour["TP"]
    canvas[~marked & tampered & stripes] = colour["FN"]
    canvas[~marked & tampered & ~stripes] = 255
    return canvas


_RGB = {"TP": BLUE, "FP": ORANGE, "FN": "#9c3d78", "TN": "#eeeeee"}


def threshold_slider(
    score_map: np.ndarray, truth: np.ndarray, thresholds: Sequence[float], *, source: str
) -> go.Figure:
    """A slider over thresholds: hits, false marks and misses as a picture, four scores as bars, all precomputed."""
    check_licence([source])
    key = "  ".join(f'<span style="color:{_RGB[k]}">■</span> {words}' for k, words in _KEY.items())
    frames = []
    for threshold in thresholds:
        c = count(score_map, truth, threshold)
        values = [float(f1(c)), float(iou(c)), _part(c.tp, c.tp + c.fp), _part(c.tp, c.tp + c.fn)]
        texts = [f"{value:.2f}" for value in values]
        bars = go.Bar(x=np.round(values, 3), y=SCORES, orientation="h", text=texts, textposition="outside",
                      marker={"color": [BLUE, GREEN, GREY, GREY]}, hoverinfo="skip", cliponaxis=False)  # fmt: skip
        tally = f"TP {c.tp:,}   FP {c.fp:,}   FN {c.fn:,}   TN {c.tn:,}".replace(",", " ")
        notes = [_note(1.0, key, 28), _note(0.36, tally, -2)]
        data_uri = picture(outcomes(score_map, truth, threshold), colours=16)
        image = {"source": data_uri, "xref": "paper", "yref": "paper", "x": 0.5, "y": 1, "sizex": 1, "sizey": 0.62,
                 "xanchor": "center", "yanchor": "top", "sizing": "contain"}  # fmt: skip
        frames.append(go.Figure(bars, layout={"images": [image], "annotations": notes}))
    frames[0].update_layout(
        height=560,
        showlegend=False,
        margin={"l": 10, "r": 30, "t": 40, "b": 10},
        xaxis={"range": [0, 1.12], "tickvals": [0, 0.5, 1], "fixedrange": True},
        yaxis={"domain": [0, 0.3], "autorange": "reversed", "fixedrange": True},
    )
    labels = [f"{threshold:.2f}" for threshold in thresholds]
    return slider(frames, labels, "threshold ", active=int(np.argmin(np.abs(np.asarray(thresholds) - 0.5))))


_KEY = {"TP": "hit", "FP": "false mark", "FN": "miss (striped)"}


def _part(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _note(y: float, text: str, shift: int) -> dict:
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": y, "xanchor": "center", "yanchor": "top"}
    return {**place, "text": text, "showarrow": False, "yshift": shift, "font": {"size": 13}}


def threshold_curves(thresholds: np.ndarray, curves: np.ndarray) -> Figure:
    """F1 of every image (n,T) against the threshold (T,), each image's best threshold, and the mean over the images."""
    figure, axes = _blank(3.0)
    best = curves.argmax(axis=1)
    for row, at in zip(curves, best, strict=True):
        axes.plot(thresholds, row, color=GREY, alpha=0.25, linewidth=0.7)
        axes.plot(thresholds[at], row[at], "o", color=ORANGE, ms=4)
    axes.plot([], [], "o", color=ORANGE, ms=4, label="best of each image")
    axes.plot(thresholds, curves.mean(axis=0), color=BLUE, linewidth=2.2, label="mean of the images")
    axes.axvline(0.5, color="black", ls=":", linewidth=1)
    axes.set(xlabel="threshold", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    return _finish(figure, 2)


# ----------------------------------------------------------------------------------------------------------- sets


def methods(table: Mapping[str, Mapping[str, float]]) -> Figure:
    """F1 by protocol (rows) of several methods (marks): table {method: {protocol: F1}}."""
    protocols = list(next(iter(table.values())))
    figure, axes = _blank(3.6)
    rows = np.arange(len(protocols))
    styles = [(BLUE, "o"), (GREEN, "s"), (PURPLE, "^"), (GREY, "x"), (ORANGE, "D")]
    for (name, scores), (colour, marker) in zip(table.items(), styles, strict=False):
        axes.plot([scores[p] for p in protocols], rows, marker, color=colour, ms=6, mfc="none", ls="none", label=name)
    axes.hlines(rows, 0, 1, color="#ddd", linewidth=0.8, zorder=0)
    axes.set_yticks(rows, _words(protocols))
    axes.set(xlim=(-0.02, 1), xlabel="F1 of the set (* uses the truth)")
    axes.invert_yaxis()
    return _finish(figure, 2)


def intervals(entries: Mapping[str, tuple], leads: Mapping[str, tuple]) -> Figure:
    """Values with intervals, {name: (value, (low, high))}: F1 of methods, below leads between two of them."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    for axes, rows, label in zip(figure.subplots(2, 1), (entries, leads), ("F1", "lead in F1"), strict=True):
        for row, (value, (low, high)) in enumerate(rows.values()):
            colour, marker = (BLUE, "o") if low > 0 or high < 0 else (ORANGE, "D")
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
            axes.plot(value, row, marker, color=colour, ms=6)
        words = [f"{name}\n{v:.2f} [{low:.2f}, {high:.2f}]" for name, (v, (low, high)) in rows.items()]
        axes.set_yticks(range(len(rows)), words)
        axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.3)
    axes.axvline(0, color="black", linewidth=1)
    return _finish(figure)


def alarms(
    authentic: Sequence[float], tampered: Sequence[float], rates: np.ndarray, precision: Mapping[str, np.ndarray]
) -> Figure:
    """Image scores of both kinds above; below, the share of alarms that are right against the share of forgeries."""
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[1, 1.5])
    for row, (scores, colour, marker) in enumerate([(authentic, GREY, "x"), (tampered, ORANGE, "o")]):
        spread = row + 0.3 * (np.arange(len(scores)) % 5 - 2) / 2
        top.plot(scores, spread, marker, color=colour, ms=5, ls="none", alpha=0.8)
    top.axvline(0.5, color="black", ls=":", linewidth=1)
    top.set_yticks([0, 1], ["authentic", "tampered"])
    top.set(xlim=(0, 1), ylim=(1.6, -0.6), xlabel="image score")
    for (name, values), (colour, _, dash) in zip(precision.items(), STYLES, strict=False):
        bottom.semilogx(rates, values, color=colour, ls=dash, label=name)
    bottom.set(xlabel="share of forgeries among the photographs", ylabel="alarms that are right", ylim=(0, 1.02))
    bottom.grid(alpha=0.3)
    return _finish(figure, 1)


def plane(
    own: tuple[np.ndarray, np.ndarray], mean: tuple[float, float], published: Mapping[str, tuple[float, float]]
) -> Figure:
    """F1 against IoU: images (f1s, ious) on the curve, means of sets between the curve and the diagonal."""
    figure, axes = _blank(4.0)
    x = np.linspace(0, 1, 101)
    axes.fill_between(x, x / (2 - x), x, color="#eee", label="where averages can lie")
    axes.plot(x, x / (2 - x), color=GREY, linewidth=1, label="IoU = F1/(2 − F1), any one image")
    axes.plot(*own, "o", color=BLUE, ms=4, alpha=0.6, ls="none", label="lite2, each image")
    axes.plot(*mean, "*", color=BLUE, ms=14, mec="white", ls="none", label="lite2, mean")
    axes.plot(
        *zip(*published.values(), strict=True), "s", color=ORANGE, ms=5, ls="none", label="MPC, ten sets (arXiv v1)"
    )
    for name, (a, b) in published.items():
        if name in ("Columbia", "FF++"):
            axes.annotate(name, (a, b), (6, -10), textcoords="offset points", fontsize=10)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="F1", ylabel="IoU", aspect="equal")
    return _finish(figure, 1)
