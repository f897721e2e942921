"""Pictures that several chapters and reports show: training curves, overlays, galleries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mpc_lite.errors import InputError
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, STYLES, WIDTH
from mpc_lite.inference.overlay import painted
from mpc_lite.training.progress import SCORES, VALIDATED

# ------------------------------------------------------------------------------------------------------ training


STAGES = {
    "pretrain": "stage 1, contrastive loss",
    "finetune": "stage 2, focal loss",
    "adapt": "stage 3, focal loss on other images",
    "mscc": "MSCCNet, three cross-entropies",
    "pppc": "PPPC, cross-entropies and contrast",
    "pclmix": "PCLMix, its terms weighted",
    "borrowed": "one stage, focal loss and a borrowed idea if any",
}
DRAWN = ("f1", "iou", "authentic_marked")  # of the validation scores in the log


def training_curves(log: Sequence[dict[str, Any]]) -> Figure:
    """Loss and validation against the step, one panel each for every stage in the log (`progress.read_log`).

    The loss is drawn as it was and smoothed over about a twentieth of the steps. Of a log that was lost, a sentence.
    """
    panels = []
    for stage in [*STAGES, *sorted({e["stage"] for e in log} - set(STAGES))]:
        losses = [(e["step"], e["loss"]) for e in log if e["stage"] == stage and "loss" in e]
        validations = [(e["step"], e["validation"]) for e in log if e["stage"] == stage and "validation" in e]
        panels += [(stage, "loss", losses)] if losses else []
        panels += [(stage, "validation", validations)] if validations else []
    if not panels:  # deleted since: weights, scores and report do not depend on it
        figure = Figure(figsize=(WIDTH, 0.6))
        figure.text(0.5, 0.5, "the training log is empty: its curves are lost", ha="center", va="center")
        return figure
    figure = Figure(figsize=(WIDTH, 1.9 * len(panels)), layout="constrained")
    for axes, (stage, kind, points) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        name = STAGES.get(stage, stage)
        if kind == "validation":
            on = f" ({VALIDATED[stage]})" if stage in VALIDATED else ""
            name = f"{name.partition(',')[0]}, validation{on}"
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        steps = [step for step, _ in points]
        if kind == "loss":
            values = np.array([value for _, value in points])
            axes.plot(steps, values, color=GREY, alpha=0.35, linewidth=0.8, label="each step")
            axes.plot(steps, _smooth(values), color=BLUE, label="smoothed")
            axes.set_ylabel("loss")
        else:
            axes.set_ylim(-0.03, 1.03)
            for (colour, marker, dash), key in zip(STYLES, DRAWN, strict=False):
                curve = [(step, scores[key]) for step, scores in points if key in scores]
                if not curve:
                    continue
                axes.plot(*zip(*curve, strict=True), color=colour, marker=marker, ls=dash, ms=4, label=SCORES[key])
        axes.legend(fontsize=9, frameon=False)
    return figure


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a centred window of a twentieth of the values, shorter at both ends."""
    half = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


# ------------------------------------------------------------------------------------------------------- pictures


def gallery(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    maps: Sequence[np.ndarray] | None = None,
    *,
    sources: Sequence[str],
    out: str | Path | None = None,
) -> Figure:
    """One row per photograph: image, truth and, with `maps`, score map and overlay as `predict` draws it.

    Args:
        images: (H,W,3) uint8 RGB. truths: (H,W), 1 = tampered, 255 = ignore (drawn grey). maps: (H,W) in [0,1].
        sources, out: see `check_licence`, which decides whether the pictures may be drawn.
    """
    if not images or len({len(images), len(truths), len(sources), len(maps or images)}) != 1:
        raise InputError(
            f"a gallery of {len(images)} images, {len(truths)} truths, {len(sources)} sources and "
            f"{'no' if maps is None else len(maps)} score maps; expected the same number, at least one"
        )
    check_licence(sources, out)
    titles = ["image", "truth"] + (["score map", "overlay"] if maps is not None else [])
    side = WIDTH / 4
    figure = Figure(figsize=(side * len(titles), side * len(images) + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    grid = figure.subplots(len(images), len(titles), squeeze=False)
    for row, (image, truth) in enumerate(zip(images, truths, strict=True)):
        pictures = [image, np.where(truth == 255, 0.5, truth)]
        if maps is not None:
            pictures += [maps[row], painted(image, maps[row])]
        for axes, picture, title in zip(grid[row], pictures, titles, strict=True):
            axes.imshow(picture, cmap="magma" if title == "score map" else "gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(title, fontsize=10)
    return figure
