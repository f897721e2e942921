"""Figure of robustness: F1 against the strength of each degradation, the untouched photographs at the left."""

from __future__ import annotations

from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.style import BLUE, GREY, WIDTH

NAMES = {  # of the degradations, for readers
    "jpeg_quality": "JPEG quality",
    "blur_kernel": "Gaussian blur, kernel in pixels",
    "noise_sigma": "noise, σ in grey levels",
    "noise_variance": "noise, variance in grey levels²",
    "noise_sigma_unit": "noise as σ of values in [0, 1]",
    "noise_variance_unit": "noise as variance of values in [0, 1]",
    "resize_ratio": "resized to this ratio",
    "gamma": "gamma",
    "chain, noise_sigma_unit": "chain, noise read as σ",
    "chain, noise_variance_unit": "chain, noise read as variance",
}


def robustness_curves(grids: dict[str, list[dict]]) -> Figure:
    """One panel per degradation of the grids {GRID: cells} (`robustness.robustness`); F1 with its 95 % interval.

    Levels stand in the grid's order at equal distances; chains have no order, so no line joins them. Raises InputError
    where no cell is degraded.
    """
    panels = []
    for grid, cells in grids.items():
        untouched = cells[0]
        for name in dict.fromkeys(cell["degradation"] for cell in cells[1:]):
            panels.append((grid, name, [untouched, *(cell for cell in cells if cell["degradation"] == name)]))
    if not panels:
        raise InputError("no degraded cell in the grids: there is nothing to draw yet")
    figure = Figure(figsize=(WIDTH, 1.9 * len(panels)), layout="constrained")
    for axes, (grid, name, cells) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        at = range(len(cells))
        scores = [cell["f1"] for cell in cells]
        joined = "" if name.startswith("chain") else "-"
        for x, cell in zip(at, cells, strict=True):
            if cell["f1_ci95"]:
                axes.plot([x, x], cell["f1_ci95"], color=GREY, linewidth=1)
        axes.plot(at, scores, color=BLUE, marker="o", markersize=4, linestyle=joined or "none")
        axes.axhline(scores[0], color=GREY, linestyle=":", linewidth=1)
        axes.set_xticks(list(at), ["none", *(str(cell["value"]) for cell in cells[1:])])
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("F1")
        axes.set_title(f"{NAMES.get(name, name)} (grid {grid})", fontsize=10, loc="left")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
