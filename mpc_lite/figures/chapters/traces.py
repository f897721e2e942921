"""Chapter 1: two measures of what a camera leaves in the pixels, and the figures that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE, STYLES, WIDTH

HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 6
NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
FLOOR = 0.25  # grey levels; keeps the logarithm of a silent place finite in pictures

# ------------------------------------------------------------------------------------------------------- measures


def residual(image: np.ndarray) -> np.ndarray:
    """What (1 -2 1)ᵀ(1 -2 1) / 6 leaves of the grey image: (H,W,3) uint8 or (H,W) -> (H,W) float32, grey levels.

    The squares of the nine weights sum to 1, so that white noise of standard deviation σ leaves a residual of root mean
    square σ. Whatever changes evenly along rows or along columns leaves nothing.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return cv2.filter2D(grey.astype(np.float32), -1, HIGH_PASS)


def contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """Octaves between the residual's root mean squares inside and outside: |log2(s_in / s_out)|.

    image: (H,W,3) uint8 or (H,W). mask: (H,W), 1 = inside.
    """
    energy = residual(image) ** 2
    inside, outside = (max(float(energy[mask == side].mean()), 1e-12) for side in (1, 0))
    return abs(0.5 * float(np.log2(inside / outside)))


def rhythm(image: np.ndarray, where: np.ndarray | None = None) -> float:
    """Octaves by which green misses the mean of its four neighbours more at measured than at interpolated pixels.

    image: (H,W,3), RGGB mosaic from its first pixel on, so that green was measured where row + column is odd.
    where: (H,W) bool, the pixels to look at; None: all. 0 = no rhythm; a mosaic that starts elsewhere turns the sign.
    """
    green = image[..., 1].astype(np.float32)
    error = np.abs(green - cv2.filter2D(green, -1, NEIGHBOURS))
    odd = np.indices(green.shape).sum(axis=0) % 2 == 1
    where = np.ones_like(odd) if where is None else where
    measured, interpolated = (float(error[where & site].mean()) + 1e-3 for site in (odd, ~odd))
    return float(np.log2(measured / interpolated))


def level(image: np.ndarray, window: int = 5) -> np.ndarray:
    """Root mean square of the residual over window × window pixels, in octaves above one grey level: (H,W) float32."""
    energy = cv2.blur(residual(image) ** 2, (window, window))
    return np.log2(np.sqrt(np.maximum(energy, 0)) + FLOOR)  # a running sum can end a hair below zero


def auc(high: Sequence[float] | np.ndarray, low: Sequence[float] | np.ndarray) -> float:
    """How often a value drawn from `high` exceeds one drawn from `low`; ties count half. 0.5 = told apart by chance."""
    high, low = np.asarray(high).ravel(), np.sort(np.asarray(low).ravel())
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / (2 * len(low)))


# ------------------------------------------------------------------------------------------------------- pictures


def _grid(rows: int, columns: int, side: float) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(side * columns, side * rows + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.set(xticks=[], yticks=[])
    return figure, axes


def beside(image: np.ndarray, mask: np.ndarray, source: str, limits=(-2.0, 5.0)) -> Figure:
    """Photograph, residual level and truth of one forgery, and how its levels spread inside and outside."""
    check_licence([source])
    figure = Figure(figsize=(WIDTH, WIDTH + 0.3), layout="constrained")
    axes = figure.subplots(2, 2)
    values = level(image)
    axes[0, 0].imshow(image)
    axes[0, 1].imshow(values, cmap="gray", vmin=limits[0], vmax=limits[1])
    axes[1, 0].imshow(mask, cmap="gray", vmin=0, vmax=1)
    for each, title in zip(axes.flat, ["what you see", "residual level", "truth", "levels (octaves)"], strict=True):
        each.set_title(title, fontsize=10)
    for each in axes.flat[:3]:
        each.set(xticks=[], yticks=[])
    edges = np.linspace(*limits, 41)
    for side, name, (colour, _, dash) in ((1, "inside", STYLES[0]), (0, "outside", STYLES[3])):
        share = np.histogram(np.clip(values[mask == side], *limits), edges)[0] / (mask == side).sum()
        axes[1, 1].stairs(share, edges, color=colour, ls=dash, label=name)
    axes[1, 1].margins(y=0.35)  # room for the legend
    axes[1, 1].set(yticks=[], box_aspect=1)
    axes[1, 1].tick_params(labelsize=10)
    axes[1, 1].spines[["top", "right", "left"]].set_visible(False)
    axes[1, 1].legend(fontsize=10, frameon=False, loc="upper left", handlelength=1.2, borderaxespad=0)
    return figure


def rows_of(pictures: Mapping[str, tuple[np.ndarray, np.ndarray]], source: str, limits=(-2.0, 5.0)) -> Figure:
    """One row per forgery: photograph, residual level, truth.

    Args:
        pictures: name -> (image (H,W,3) uint8, mask (H,W), 1 = tampered). source: see `check_licence`.
        limits: octaves drawn black and white.
    """
    check_licence([source])
    figure, axes = _grid(len(pictures), 3, WIDTH / 3)
    for row, (name, (image, mask)) in zip(axes, pictures.items(), strict=True):
        row[0].imshow(image)
        row[1].imshow(level(image), cmap="gray", vmin=limits[0], vmax=limits[1])
        row[2].imshow(mask, cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(name, fontsize=10)
    for each, title in zip(axes[0], ["what you see", "residual level", "truth"], strict=True):
        each.set_title(title, fontsize=10)
    return figure


def coloured(raw: np.ndarray) -> np.ndarray:
    """A mosaic as it lies under its colour filters, RGGB: (H,W) -> (H,W,3), two of three colours black."""
    out = np.zeros((*raw.shape, 3), raw.dtype)
    for row, column, colour in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        out[row::2, column::2, colour] = raw[row::2, column::2]
    return out


def patches(pictures: Mapping[str, np.ndarray], source: str) -> Figure:
    """Small pieces of a picture, magnified, three a row; pictures: title -> (h,w,3) uint8 or float in [0,1]."""
    check_licence([source])
    figure, axes = _grid(-(-len(pictures) // 3), 3, WIDTH / 3)
    figure.set_figheight(figure.get_figheight() + 0.3)  # a title over every row
    for each, (title, piece) in zip(axes.flat, pictures.items(), strict=False):
        each.imshow(piece, interpolation="nearest")
        each.set_title(title, fontsize=10)
    for each in axes.flat[len(pictures) :]:
        each.set_axis_off()
    return figure


def outlined(image: np.ndarray, mask: np.ndarray, source: str, title: str = "", limits=(-2.0, 5.0)) -> Figure:
    """The residual level of one picture with the border of the tampered region drawn on it."""
    check_licence([source])
    figure = Figure(figsize=(WIDTH * 0.8, WIDTH * 0.8 + 0.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(level(image), cmap="gray", vmin=limits[0], vmax=limits[1])
    axes.contour(mask, [0.5], colors=ORANGE, linewidths=1, linestyles="--")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)
    return figure


# --------------------------------------------------------------------------------------------------------- curves


def _axes(height: float) -> tuple[Figure, object]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    return figure, axes


def noise_line(signal: np.ndarray, variance: np.ndarray, shot: float, read: float) -> Figure:
    """Variance measured on flat patches (points) and the noise model shot · signal + read (line)."""
    figure, axes = _axes(2.4)
    line = np.linspace(0, float(np.max(signal)), 50)
    axes.plot(line, (shot * line + read) * 1e6, color=BLUE, ls="--", label="shot · signal + read")
    axes.plot(signal, np.asarray(variance) * 1e6, color=ORANGE, marker="o", ls="none", label="measured")
    axes.set_xlabel("signal at the sensor (1 = saturated)", fontsize=10)
    axes.set_ylabel("variance × 10⁶", fontsize=10)
    axes.legend(fontsize=10, frameon=False)
    return figure


def rhythm_steps(values: Mapping[str, Sequence[float]]) -> Figure:
    """Rhythm after each step of the camera: median over photographs, bars from the lower to the upper quartile."""
    figure, axes = _axes(2.6)
    names = list(values)
    low, middle, high = np.array([np.quantile(values[name], [0.25, 0.5, 0.75]) for name in names]).T
    at = np.arange(len(names))
    axes.errorbar(at, middle, yerr=[middle - low, high - middle], color=BLUE, marker="o", ls="-", capsize=3)
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set_xticks(at, names, rotation=35, ha="right", fontsize=10)
    axes.set_ylabel("rhythm (octaves)", fontsize=10)
    return figure


def contrasts(values: Mapping[str, Sequence[float]]) -> Figure:
    """One row of points per kind of picture, the median as a bar; points are spread over the row in their order."""
    figure, axes = _axes(0.45 * len(values) + 0.9)
    for row, (name, (colour, marker, _)) in enumerate(zip(values, STYLES, strict=False)):
        points = np.asarray(values[name])
        spread = row + 0.25 * np.linspace(-1, 1, len(points))
        axes.plot(points, spread, color=colour, marker=marker, ls="none", ms=3, alpha=0.6, label=name)
        axes.plot([np.median(points)] * 2, [row - 0.35, row + 0.35], color="black", lw=2)
    axes.set_yticks(range(len(values)), list(values), fontsize=10)
    axes.invert_yaxis()
    axes.set_xlabel("residual contrast (octaves)", fontsize=10)
    return figure


def by_quality(names: Sequence[str], series: Mapping[str, np.ndarray], ylabel: str = "octaves") -> Figure:
    """Median over pictures against the quality of the last save, with the quartiles as a band.

    Args:
        names: of the qualities, best first. series: name -> (len(names), n) values.
    """
    if any(len(each) != len(names) for each in series.values()):
        raise InputError(f"{len(names)} qualities, but series of {sorted({len(each) for each in series.values()})}")
    figure, axes = _axes(3.0)
    at = np.arange(len(names))
    for (name, rows), (colour, marker, dash) in zip(series.items(), STYLES, strict=False):
        low, middle, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=1)
        axes.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(at, middle, color=colour, marker=marker, ls=dash, ms=4, label=name)
    axes.set_xticks(at, names, fontsize=10)
    axes.set_xlabel("JPEG quality of the last save", fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=10, frameon=False, loc="outside lower center", ncols=1)
    return figure


def scores(values: Mapping[str, Mapping[str, tuple[float, ...]]]) -> Figure:
    """F1 by method for two kinds of test images.

    values: kind -> method -> (F1,) or (F1, lower, upper end of its interval).
    """
    figure, axes = _axes(2.4)
    for (kind, methods), (colour, marker, _), shift in zip(values.items(), STYLES, (-0.12, 0.12), strict=False):
        for at, (value, *ends) in enumerate(methods.values()):
            bars = [[value - ends[0]], [ends[1] - value]] if ends else None
            style = {"color": colour, "marker": marker, "ls": "none", "capsize": 3}
            axes.errorbar([value], [at + shift], xerr=bars, label=kind if at == 0 else None, **style)
    names = list(next(iter(values.values())))
    axes.set_yticks(range(len(names)), names, fontsize=10)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 at the threshold (protocol mpc)", fontsize=10)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=10, frameon=False, loc="outside lower center", ncols=2)
    return figure
