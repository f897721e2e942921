"""Figures of chapter 3, "A backbone that keeps resolution"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mpc_lite.figures.interactive import picture, slider
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLES, WIDTH
from mpc_lite.network.hrformer import WINDOW, Size

STRIDES = (4, 8, 16, 32)
GROUND = 240  # grey of authentic pixels: the picture then stands out from the page
VERDICTS = {"found": GREY, "missed": ORANGE, "false": BLUE}
_BRANCH_COLOURS = (BLUE, GREEN, PURPLE, ORANGE)


def reach(scores: Mapping[str, np.ndarray], strides: Sequence[int] = STRIDES) -> Figure:
    """F1 of masks that went down to a stride and back: median and 10–90 % range, one line a group of masks.

    Args:
        scores: group -> (n, strides, 2): F1 at threshold 0.5, and at the best threshold for each mask.
    """
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    panels = figure.subplots(2, sharex=True)
    at = np.arange(len(strides))
    for which, (axes, title) in enumerate(
        zip(panels, ("marked above 0.5", "best threshold for each mask"), strict=True)
    ):
        for k, ((colour, marker, dash), (name, values)) in enumerate(zip(STYLES, scores.items(), strict=False)):
            low, middle, high = np.quantile(values[:, :, which], [0.1, 0.5, 0.9], axis=0)
            axes.errorbar(
                at + 0.05 * (k - 1),
                middle,
                yerr=[middle - low, high - middle],
                color=colour,
                marker=marker,
                ls=dash,
                ms=5,
                capsize=3,
                label=name,
            )
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylim(-0.04, 1.04)
        axes.set_ylabel("F1")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].set_xticks(at, [str(s) for s in strides])
    panels[1].set_xlabel("stride of the map, pixels")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize=9, frameon=False)
    return figure


def verdict(mask: np.ndarray, coverage: np.ndarray, threshold: float = 0.5) -> tuple[np.ndarray, dict[str, int]]:
    """Which pixels a map finds: (H,W,3) uint8 picture, and the numbers of found, missed and falsely marked pixels."""
    marked, tampered = coverage > threshold, mask == 1
    image = np.full((*mask.shape, 3), GROUND, np.uint8)
    counts = {}
    classes = (marked & tampered, ~marked & tampered, marked & ~tampered)
    for (name, colour), pixels in zip(VERDICTS.items(), classes, strict=True):
        image[pixels] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        counts[name] = int(pixels.sum())
    return image, counts


def mask_frames(
    masks: Mapping[str, np.ndarray],
    coverages: Mapping[str, Sequence[np.ndarray]],
    strides: Sequence[int] = STRIDES,
    active: int = 2,
) -> go.Figure:
    """A slider over strides: above what a map of that stride holds of each mask, below what a threshold makes of it.

    Args:
        masks: name -> (H,W) 0/1. coverages: name -> for each stride the coverage, back at full size, in [0,1].
    """
    frames = []
    for k, stride in enumerate(strides):
        frame = go.Figure()
        xs, texts = [], []
        for column, (name, mask) in enumerate(masks.items()):
            coverage = coverages[name][k]
            below, counts = verdict(mask, coverage)
            f1 = 2 * counts["found"] / max(2 * counts["found"] + counts["missed"] + counts["false"], 1)
            above = np.round(GROUND * (1 - coverage)).astype(np.uint8)
            for row, image in ((2.05, above), (1.0, below)):
                frame.add_layout_image(
                    source=picture(image[::2, ::2], colours=32),
                    xref="x",
                    yref="y",
                    x=column,
                    y=row,
                    sizex=0.96,
                    sizey=0.96,
                    sizing="stretch",
                    layer="below",
                )
            xs.append(column + 0.48)
            texts.append(", ".join(f"{what} {n}" for what, n in counts.items()))
            label = {"xref": "x", "yref": "y", "x": column + 0.48, "showarrow": False}
            frame.add_annotation(text=name, y=2.17, **label)
            frame.add_annotation(text=f"F1 {f1:.2f}", y=-0.1, **label)
        key = [
            f'<span style="color:{c}">■</span> {w}' for c, w in [(GREY, "found"), (ORANGE, "missed"), (BLUE, "false")]
        ]
        middle = {"xref": "x", "yref": "y", "x": 1.48, "showarrow": False}
        frame.add_annotation(text=f"stride {stride}: above the map, below the marks", y=2.56, **middle)
        frame.add_annotation(text="  ".join(key), y=2.38, **middle)
        frame.add_trace(
            go.Scatter(
                x=xs,
                y=[0.52] * len(xs),
                mode="markers",
                marker={"size": 40, "opacity": 0, "color": GREY},
                text=texts,
                hovertemplate="%{text} pixels<extra></extra>",
                showlegend=False,
            )
        )
        frame.update_xaxes(range=[-0.02, len(masks)], visible=False, fixedrange=True)
        frame.update_yaxes(range=[-0.22, 2.7], visible=False, fixedrange=True, scaleanchor="x")
        frame.update_layout(height=470, margin={"l": 5, "r": 5, "t": 5, "b": 10}, dragmode=False)
        frames.append(frame)
    return slider(frames, [str(s) for s in strides], prefix="stride ", active=active)


def branches(size: Size, side: int = 512) -> Figure:
    """The network as lanes: one lane a branch, one box a round of blocks, lines where the branches exchange maps."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()

    def box(x: float, branch: int, half: float, colour: str) -> None:
        corner = (x - half, 3 - branch - 0.22)
        axes.add_patch(FancyBboxPatch(corner, 2 * half, 0.44, boxstyle="round,pad=0.02", color=colour, lw=0))

    def line(x: float, branch: int, end: float, target: int) -> None:
        axes.plot([x, end], [3 - branch, 3 - target], color=GREY, lw=0.6, alpha=0.7, zorder=0)

    box(0, 0, 0.35, GREY)
    axes.text(0, 2.65, "stem", ha="center", va="top", fontsize=9)
    before, x = {0: 0.4}, 1.0
    for stage, rounds in enumerate(size.modules, start=2):
        axes.text(x + (rounds - 1) / 2, 3.4, f"stage {stage}", ha="center", fontsize=9)
        for _ in range(rounds):
            for target in range(stage):
                # A new branch grows from the coarsest one alone; the others hear everybody.
                for source in before if target in before else [max(before)]:
                    line(before[source], source, x - 0.22, target)
                box(x, target, 0.2, _BRANCH_COLOURS[target])
            before, x = {b: x + 0.22 for b in range(stage)}, x + 1
    for b, start in before.items():
        for target in before:
            line(start, b, x - 0.1, target)
        cells, colour = -(-side // STRIDES[b]), _BRANCH_COLOURS[b]
        axes.text(x, 3 - b + 0.03, f"X{b + 1}", fontsize=10, va="bottom", color=colour, weight="bold")
        axes.text(x, 3 - b - 0.03, f"{size.embedding}×{cells}×{cells}", fontsize=9, va="top")
        axes.text(-3.6, 3 - b + 0.03, f"stride {STRIDES[b]}", fontsize=9, va="bottom")
        axes.text(-3.6, 3 - b - 0.03, f"{size.channels[b]} channels", fontsize=9, va="top")
    axes.set(xlim=(-3.7, x + 3.3), ylim=(-0.5, 3.7))
    axes.set_axis_off()
    return figure


def fields(panels: Sequence[tuple[str, np.ndarray]], query: tuple[int, int], columns: int = 3) -> Figure:
    """How strongly each token moves one token's output: logarithmic colour, white where not at all, 7×7 windows.

    Args:
        panels: (title, |gradient| (H,W)), row by row. query: row and column of the token that is asked.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 1.62 * rows), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=True):
        logarithms = np.log10(np.where(values > 0, values / values.max(), np.nan))
        image = axes.imshow(logarithms, cmap="viridis", vmin=-6, vmax=0)
        for edge in range(0, values.shape[0] + 1, WINDOW):
            axes.axhline(edge - 0.5, color=GREY, lw=0.5)
            axes.axvline(edge - 0.5, color=GREY, lw=0.5)
        axes.plot(query[1], query[0], marker="x", color=ORANGE, ms=5)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{title}\n{np.count_nonzero(values)} tokens", fontsize=9)
    figure.colorbar(image, ax=figure.axes, location="bottom", shrink=0.7, aspect=30, label="log₁₀ influence")
    return figure


def influence(shares: Mapping[str, np.ndarray], radii: np.ndarray) -> Figure:
    """Share of one embedding's gradient that lies within a distance in the image: mean and range over images.

    Args:
        shares: map -> (n, radii), each row rising to 1. radii: pixels.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for (colour, marker, dash), (name, values) in zip(STYLES, shares.items(), strict=True):
        mean = values.mean(0)
        axes.fill_between(radii, values.min(0), values.max(0), color=colour, alpha=0.12, lw=0)
        axes.plot(
            radii, mean, color=colour, ls=dash, marker=marker, markevery=max(len(radii) // 6, 1), ms=4, label=name
        )
    axes.axhline(0.5, color=GREY, lw=0.8)
    axes.set(xlabel="distance from the pixel asked, pixels", ylabel="share of the gradient", ylim=(0, 1.02))
    axes.set_xlim(0, radii[-1])
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, frameon=False, loc="lower right")
    return figure


def beside_padding(side: int) -> float:
    """Share of the tokens of a map (side,side) that sit in a window with padding."""
    whole = sum(0 <= start <= side - WINDOW for start in range(-(-side % WINDOW // 2), side, WINDOW))
    return 1 - (WINDOW * whole / side) ** 2


def padding(changes: Mapping[int, np.ndarray]) -> Figure:
    """Where hiding the padded keys changes the attention's output: stride -> relative change of each token (H,W)."""
    figure = Figure(figsize=(WIDTH, 4.5), layout="constrained")
    top = max(np.quantile(change, 0.99) for change in changes.values())
    for axes, (stride, change) in zip(figure.subplots(2, 2).flat, changes.items(), strict=True):
        image = axes.imshow(change, cmap="magma_r", vmin=0, vmax=top)
        axes.set_title(f"stride {stride}: {beside_padding(len(change)):.0%} of {len(change)}²", fontsize=9)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=figure.axes, location="bottom", shrink=0.7, aspect=30, label="relative change")
    return figure


PARTS = {
    "stem": r"conv[12]|layer1|transition\d\.\d",
    "branch 1": r"stage\d\.\d\.branches\.0",
    "branch 2": r"stage\d\.\d\.branches\.1",
    "branch 3": r"stage\d\.\d\.branches\.2",
    "branch 4": r"stage\d\.\d\.branches\.3",
    "exchange": r"stage\d\.\d\.fuse_layers\.\d\.\d",
    "projections": r"convs\.\d",
}


def parts(counts: Mapping[str, float]) -> dict[str, float]:
    """Counts of all modules, by the names that `FlopCounterMode` gives them -> counts of the parts of the network."""
    patterns = {name: re.compile(rf"MPC\.encoder\.({pattern})") for name, pattern in PARTS.items()}
    patterns["head"] = re.compile(r"MPC\.decoder")
    return {
        part: sum(count for name, count in counts.items() if pattern.fullmatch(name))
        for part, pattern in patterns.items()
    }


def cost(costs: Mapping[str, Mapping[str, float]]) -> Figure:
    """Multiply-adds of each part, one marker a size. costs: size -> part -> multiply-adds."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    names = list(next(iter(costs.values())))
    for (colour, marker, _), (size, values) in zip(STYLES, costs.items(), strict=False):
        axes.plot([values[n] / 1e9 for n in names], range(len(names)), marker, color=colour, ms=6, label=size)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("multiply-adds for one 512² image, 10⁹")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure
