"""Figures of the chapter on the contrastive loss; each takes numbers and returns a figure, or draws on given axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.interactive import slider
from mpc_lite.figures.show import Scripted, check_licence
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, WIDTH


def softmax_weights(cosines: np.ndarray, temperature: float) -> np.ndarray:
    """v_j = e^{s_j/τ} / Σ_k e^{s_k/τ} over the last axis, in float64."""
    logits = np.asarray(cosines, np.float64) / temperature
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def effective_number(weights: np.ndarray) -> np.ndarray:
    """exp of the entropy over the last axis: M for M equal weights, 1 when one weight has it all."""
    return np.exp(-(weights * np.log(np.maximum(weights, 1e-300))).sum(-1))


def weight_maps(
    image: np.ndarray,
    labels: np.ndarray,
    anchor: tuple[int, int],
    cosines: np.ndarray,
    temperatures: Sequence[float],
    *,
    sources: Sequence[str],
) -> Figure:
    """A forgery with one anchor, then how that anchor shares its push among the tampered pixels, one temperature each.

    Args:
        image: (H,W,3) uint8. labels: (h,w) of the finest map, 1 tampered. anchor: (row, column) on that map.
        cosines: (M,) similarity of the anchor to the tampered pixels in reading order; nan for a dead pixel, which gets
            no share and is drawn pale.
        temperatures: three of them, as the grid has four places. sources: see `check_licence`.
    """
    check_licence(sources)
    figure = Figure(figsize=(WIDTH, 1.12 * WIDTH), layout="constrained")
    grid = figure.subplots(2, 2).flat
    height, width = labels.shape
    tampered, alive = labels == 1, np.isfinite(cosines)
    gone = np.full(labels.shape, np.nan)
    gone[tampered] = np.where(alive, np.nan, 0.88)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    panels = [("the forgery", None)] + [
        (f"temperature {t:g}", softmax_weights(cosines[alive], t)) for t in temperatures
    ]
    mappable = None
    for axes, (title, weights) in zip(grid, panels, strict=True):
        if weights is None:
            axes.imshow(image, extent=extent)
            axes.contour(tampered, [0.5], colors="white", linewidths=1.2)
        else:
            values = np.full(labels.shape, np.nan)
            values[tampered & np.isnan(gone)] = np.maximum(weights * weights.size, 0.01)
            mappable = axes.imshow(
                values, extent=extent, cmap="cividis", norm=LogNorm(0.01, 100), interpolation="nearest"
            )
            axes.imshow(gone, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.plot(*anchor[::-1], marker="X", color=ORANGE, ms=9, mec="white", ls="none")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
    bar = figure.colorbar(mappable, ax=figure.axes, location="bottom", shrink=0.9, aspect=30, extend="min")
    bar.set_label("push on a tampered pixel ÷ equal share", fontsize=9)
    return figure


def forces(axes: Axes, anchors: np.ndarray, negatives: np.ndarray, steps: tuple[np.ndarray, np.ndarray]) -> None:
    """Unit vectors (N,2) and (M,2) in the first quadrant; arrows show where a step of descent takes each of them."""
    turn = np.linspace(-0.35, np.pi / 2 + 0.35, 200)
    axes.plot(np.cos(turn), np.sin(turn), color=GREY, linewidth=0.8, zorder=0)
    for points, moves, colour, marker, name in [
        (anchors, steps[0], BLUE, "o", "authentic anchors"),
        (negatives, steps[1], ORANGE, "s", "tampered negatives"),
    ]:
        axes.plot(*points.T, marker=marker, color=colour, ls="none", ms=7, label=name)
        axes.quiver(*points.T, *moves.T, color=colour, angles="xy", scale_units="xy", scale=1, width=0.012)
    axes.set(xlim=(-0.5, 1.35), ylim=(-0.5, 1.35), aspect="equal", xticks=[0, 1], yticks=[0, 1])
    axes.spines[["top", "right"]].set_visible(False)


def circle(anchors: np.ndarray, negatives: np.ndarray, steps: tuple[np.ndarray, np.ndarray]) -> Figure:
    """`forces` as a figure of its own, with a legend."""
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots()
    forces(axes, anchors, negatives, steps)
    axes.set(xlabel="first channel", ylabel="second channel")
    axes.legend(fontsize=9, frameon=False, loc="lower left")
    return figure


def draggable(
    anchors: np.ndarray, negatives: np.ndarray, temperature: float, temperatures: Sequence[float]
) -> Scripted:
    """`circle` to be played with: points that are dragged or moved by arrow keys, and a slider for the temperature.

    Args:
        anchors: (N,2) unit vectors, N ≥ 2. negatives: (M,2) unit vectors. temperature: one of `temperatures`.
    Raises:
        InputError: a temperature that the slider does not have.
    """
    if temperature not in temperatures:
        raise InputError(f"temperature {temperature} is not on the slider, which has {list(temperatures)}")
    degrees = [np.degrees(np.arctan2(x[:, 1], x[:, 0])).round(2).tolist() for x in (anchors, negatives)]
    data = {"anchors": degrees[0], "negatives": degrees[1], "temperature": temperature}
    script = Path(__file__).with_name("contrastive_loss.js").read_text(encoding="utf-8")
    return Scripted(script, {**data, "temperatures": list(temperatures)})


def temperature_slider(
    cosines: dict[str, np.ndarray], temperatures: Sequence[float], active: int = 0, points: int = 120
) -> go.Figure:
    """Sorted softmax weights of one anchor's negatives, for each network a line; a slider moves the temperature.

    Args:
        cosines: two networks by name, (M,) similarities of the same anchor to the same M negatives.
        points: ranks drawn, evenly spaced on the logarithmic axis.
    """
    count = len(next(iter(cosines.values())))
    ranks = np.unique(np.geomspace(1, count, points).round().astype(int))
    frames = []
    for temperature in temperatures:
        frame, lines = go.Figure(), []
        for (name, values), (colour, dash) in zip(cosines.items(), [(ORANGE, "dot"), (BLUE, "solid")], strict=True):
            weights = np.sort(softmax_weights(values, temperature))[::-1]
            heights = np.maximum(weights[ranks - 1], 1e-8)
            frame.add_scatter(
                x=ranks.tolist(),
                y=[float(f"{v:.3g}") for v in heights],
                name=name,
                mode="lines",
                line={"color": colour, "dash": dash, "width": 3},
                hovertemplate="rank %{x}: weight %{y:.2g}<extra></extra>",
            )
            lines.append(f"{name}: {effective_number(weights):.0f} of {count} count")
        equal = float(f"{1 / count:.3g}")
        line = {"color": GREY, "width": 1, "dash": "dash"}
        frame.add_scatter(x=[1, count], y=[equal, equal], name="equal shares", mode="lines", line=line)
        frame.update_layout(
            annotations=[
                {
                    "text": "<br>".join(lines),
                    "xref": "paper",
                    "yref": "paper",
                    "x": 0.02,
                    "y": 0.02,
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "showarrow": False,
                    "align": "left",
                    "bgcolor": "rgba(255,255,255,0.85)",
                    "bordercolor": GREY,
                    "borderpad": 4,
                }
            ],
            height=460,
            margin={"l": 60, "r": 15, "t": 15, "b": 20},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            xaxis={"type": "log", "title": "negative, hardest first", "tickvals": [1, 10, 100, 1000]},
            yaxis={
                "type": "log",
                "title": "softmax weight",
                "range": [-8, 0.2],
                "tickvals": [1e-8, 1e-6, 1e-4, 1e-2, 1],
                "ticktext": ["10⁻⁸", "10⁻⁶", "10⁻⁴", "0.01", "1"],
            },
        )
        frames.append(frame)
    moving = slider(frames, [f"{t:g}" for t in temperatures], prefix="temperature ", active=active)
    moving.layout.sliders[0].pad = {"t": 65, "b": 10}  # below the axis' title also on a narrow page
    return moving


def two_forms(temperature: float, negatives: int) -> Figure:
    """Loss and size of its gradient against the margin p − s, for `negatives` equal negatives: official and paper."""
    margin = np.linspace(-0.2, 1, 241)
    excess = np.log(negatives) - margin / temperature  # log of Σ e^{s/τ} over e^{p/τ}
    curves = {
        "official": (np.logaddexp(0, excess), 1 / (1 + np.exp(-excess)) / temperature, BLUE, "-"),
        "paper": (excess, np.full_like(excess, 1 / temperature), ORANGE, "--"),
    }
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for name, (loss, slope, colour, dash) in curves.items():
        above.plot(margin, loss, color=colour, ls=dash, label=name)
        below.plot(margin, slope, color=colour, ls=dash, label=name)
    above.axhline(0, color=GREY, linewidth=0.8)
    above.set(ylabel="loss of an anchor")
    below.set(ylabel="gradient with\nrespect to p, size", xlabel="margin: similarity to positives − to negatives")
    below.set_ylim(0, 1.15 / temperature)
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    above.legend(fontsize=9, frameon=False)
    return figure


def shortcut(values: dict[str, dict[str, float]]) -> Figure:
    """The three terms as bars for each row of `values`: {row label: {"within_image": …, "cross_scale": …, …}}."""
    names = ["within_image", "cross_scale", "cross_modality"]
    colours, hatches = [GREY, GREY, BLUE, GREEN], ["", "//", "", "//"]
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(values)
    for row, (label, terms) in enumerate(values.items()):
        at = np.arange(len(names)) + (row - (len(values) - 1) / 2) * height
        lengths = [terms[name] for name in names]
        style = {"color": colours[row % 4], "hatch": hatches[row % 4], "edgecolor": "white"}
        bars = axes.barh(at, lengths, 0.92 * height, label=label, **style)
        axes.bar_label(bars, fmt="%.2f", fontsize=9, padding=2)
    axes.set_yticks(np.arange(len(names)), [name.replace("_", "\n") for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(terms[name] for terms in values.values() for name in names))
    axes.set_xlabel("loss")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=2, handlelength=1.5, columnspacing=1)
    return figure
