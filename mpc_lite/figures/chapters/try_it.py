"""Figures of chapter 21: what a photograph's map says, and what it does not. Data in, figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, STYLES, WIDTH
from mpc_lite.inference.calibration import SUSPICIOUS, UNSURE, Calibration
from mpc_lite.inference.overlay import LEAST_WIDTH, legend, painted

WORDS = ("look here", "unsure", "cannot tell")  # of the verdicts, by rising share of authentic photographs


def looked_at(
    images: Sequence[np.ndarray], maps: Sequence[np.ndarray], titles: Sequence[str], sources: Sequence[str]
) -> Figure:
    """One row a photograph: as it is, and under its map as `predict` draws it; the legend below.

    Args:
        images: (H,W,3) uint8 RGB. maps: (H,W) in [0,1]. titles: above each row. sources: see `check_licence`.
    """
    if not images or len({len(images), len(maps), len(titles), len(sources)}) != 1:
        raise InputError(
            f"{len(images)} images, {len(maps)} maps, {len(titles)} titles, {len(sources)} sources; expected as many "
            "of each, at least one"
        )
    check_licence(sources)
    side = WIDTH / 2
    figure = Figure(figsize=(WIDTH, (side + 0.25) * len(images) + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0, hspace=0)
    rows = figure.add_gridspec(len(images) + 1, 2, height_ratios=[*[side] * len(images), 0.3])
    for row, (image, score_map, title) in enumerate(zip(images, maps, titles, strict=True)):
        for column, picture in enumerate((image, painted(image, score_map))):
            axes = figure.add_subplot(rows[row, column])
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_title(title, fontsize=10, loc="left")
    axes = figure.add_subplot(rows[-1, :])
    axes.imshow(legend(2 * LEAST_WIDTH))
    axes.set_axis_off()
    return figure


def ranks(calibration: Calibration, marks: Mapping[str, float]) -> Figure:
    """Share of authentic photographs that score as high (a staircase) under what `predict` says of it, and where single
    photographs stand."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    bounds = (1 / (len(calibration.scores) + 1) / 1.2, SUSPICIOUS, UNSURE, 1.2)
    for shade, (low, high), word in zip((0.75, 0.87, 1), pairwise(bounds), WORDS, strict=True):
        axes.axhspan(low, high, color=str(shade), lw=0)
        axes.text(0.405, (low * high) ** 0.5, word, fontsize=9, va="center")
    steps = np.r_[0, calibration.scores, 1]
    axes.step(steps, [calibration.authentic_above(score) for score in steps], where="pre", color=BLUE)
    for (name, score), (colour, marker, _) in zip(marks.items(), STYLES, strict=False):
        share = calibration.authentic_above(score)
        axes.plot([score], [share], marker=marker, color=colour, mec="white", ms=8, ls="none", label=name)
    axes.set(xlim=(0.4, 1), ylim=(bounds[0], bounds[-1]), yscale="log")
    axes.set(xlabel="image score", ylabel="authentic ones as high")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def clicks(
    image: np.ndarray,
    mask: np.ndarray,
    points: Mapping[str, tuple[int, int]],
    similarities: Sequence[np.ndarray],
    source: str,
) -> Figure:
    """A photograph with the truth's border, and for each clicked pixel the similarity of every embedding to its own.

    Args:
        image: (H,W,3) uint8 RGB. mask: (H,W), 1 = tampered. points: name -> (row, column), pixels of the image.
        similarities: (h,w) in [-1,1], one a point. source: see `check_licence`.
    """
    check_licence([source])
    height, width = image.shape[:2]
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(points))
    left.imshow(image)
    left.contour(mask, [0.5], colors="black", linewidths=2.5)
    left.contour(mask, [0.5], colors="white", linewidths=1)
    left.set_title("photograph, truth", fontsize=9)
    shade = Normalize(-1, 1)
    for axes, (name, (row, column)), similarity in zip(others, points.items(), similarities, strict=True):
        axes.imshow(similarity, cmap="viridis", norm=shade, extent=(0, width, height, 0))
        axes.plot([column], [row], "+", color="black", ms=13, mew=4)
        axes.plot([column], [row], "+", color="white", ms=12, mew=1.5)
        axes.set_title(name, fontsize=9)
    for axes in (left, *others):
        axes.set(xticks=[], yticks=[])
    bar = figure.colorbar(ScalarMappable(shade, "viridis"), ax=others, location="bottom", shrink=0.8, aspect=30)
    bar.set_label("cosine similarity to the crossed pixel", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    return figure
