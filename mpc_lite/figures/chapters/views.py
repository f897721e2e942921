"""Figures of chapter 4: which pools meet, what a coarse label keeps, and what the encoder learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from mpc_lite.contrast.sampling import PixelSet
from mpc_lite.contrast.views import Term, label_pyramid, unit_vectors
from mpc_lite.errors import InputError
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLES, WIDTH

VIEWS = {"within_image": "within-image", "cross_scale": "cross-scale", "cross_modality": "cross-modality"}
STRIDES = (4, 8, 16, 32)
POOLS = ("A(X1)", "T(X1)", "A(X2∪X3∪X4)", "T(X2∪X3∪X4)", "A(Y1)", "T(Y1)")
COARSE, OTHER_PASS = "X2∪X3∪X4", "Y1"


class Meeting(NamedTuple):
    """One contrast in words: the pools, as `A(X1)`, that an anchor, its positives and its negatives come from."""

    anchors: str
    positives: str
    negatives: str


def coded_maps(labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Two passes of maps (B,2,h,w) whose pixels say who they are: the number of the map (Y1 is 4), and the class."""
    first = [torch.stack([torch.full_like(g, number), g], 1).float() for number, g in enumerate(labels)]
    second = [torch.stack([torch.full_like(labels[0], 4), labels[0]], 1).float()]
    return first, second


def meetings(terms: Mapping[str, Sequence[Term]]) -> dict[str, list[Meeting]]:
    """Read from what `draw_terms` drew on `coded_maps` which pools meet, view by view."""
    return {
        view: [Meeting(*(_pool_name(pixels) for pixels in term)) for term in view_terms]
        for view, view_terms in terms.items()
    }


def _pool_name(pixels: PixelSet) -> str:
    codes = {tuple(map(int, row)) for row in pixels.embeddings[pixels.valid].tolist()}
    maps, classes = sorted({c[0] for c in codes}), {c[1] for c in codes}
    if len(classes) != 1:
        raise InputError(f"a pool with the classes {sorted(classes)}: expected pixels of one class, and at least one")
    return f"{'AT'[classes.pop()]}({'∪'.join(OTHER_PASS if m == 4 else f'X{m + 1}' for m in maps)})"


def who_meets_whom(formulations: Mapping[str, Mapping[str, Sequence[Meeting]]]) -> Figure:
    """One column for each formulation, one row for each view: arrows from anchors to positives and to negatives.

    A ring marks the pools that hold anchors. Green, solid: drawn to; purple, dashed: pushed from; a loop is the
    anchor's own pool. Each arrow carries its meaning as `gid`, as in `A(X1) pull A(X1)`.
    """
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    grid = figure.subplots(len(VIEWS), len(formulations), squeeze=False)
    for column, (name, views) in enumerate(formulations.items()):
        for row, (view, contrasts) in enumerate(views.items()):
            axes = grid[row, column]
            _diagram(axes, contrasts)
            axes.set_title(f"{name}\n{VIEWS[view]}" if row == 0 else VIEWS[view], fontsize=10)
    key = [Line2D([], [], color=GREEN, label="drawn to"), Line2D([], [], color=PURPLE, ls="--", label="pushed from")]
    key.append(Line2D([], [], marker="o", ls="", mfc="white", mec="black", mew=2.2, ms=9, label="anchors"))
    figure.legend(handles=key, loc="outside lower center", ncols=3, columnspacing=1, fontsize=9, frameon=False)
    return figure


def _diagram(axes: Axes, contrasts: Sequence[Meeting]) -> None:
    pools = sorted({pool[2:-1] for meeting in contrasts for pool in meeting}, key=lambda p: (p != "X1", p))
    x = {"X1": 0.5} if len(pools) == 1 else {pools[0]: 0.2, pools[1]: 0.8}
    place = {f"{c}({p})": (x[p], y) for p in pools for c, y in (("A", 0.62), ("T", 0.1))}
    anchors = {meeting.anchors for meeting in contrasts}
    for meeting in contrasts:
        for verb, target in (("pull", meeting.positives), ("push", meeting.negatives)):
            colour, dash = (GREEN, "-") if verb == "pull" else (PURPLE, "--")
            start, end = place[meeting.anchors], place[target]
            style = {"arrowstyle": "-|>", "color": colour, "linestyle": dash, "linewidth": 1.6, "mutation_scale": 11}
            if start == end:  # a loop on the far side of the node
                side = 1 if meeting.anchors[0] == "A" else -1
                start, end = (start[0] - 0.09, start[1] + 0.06 * side), (end[0] + 0.09, end[1] + 0.06 * side)
                style |= {"shrinkA": 0, "shrinkB": 0, "connectionstyle": f"arc3,rad={-1.6 * side}"}
            else:
                style |= {
                    "shrinkA": 9,
                    "shrinkB": 9,
                    "connectionstyle": f"arc3,rad={0.3 if start[0] == end[0] else 0.1}",
                }
            arrow = axes.annotate("", end, start, arrowprops=style)
            arrow.set_gid(f"{meeting.anchors} {verb} {target}")
    for pool, (left, height) in place.items():
        colour = BLUE if pool[0] == "A" else ORANGE
        edge, width = ("black", 2.2) if pool in anchors else ("white", 0)
        axes.scatter([left], [height], s=230, color=colour, edgecolors=edge, linewidths=width, zorder=3)
        axes.text(left, height, pool[0], color="white", fontsize=10, ha="center", va="center", zorder=4)
    for pool, left in x.items():
        axes.text(left, -0.38, pool, fontsize=9, ha="center", va="center")
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.48, 1.05))
    axes.set_axis_off()


def pyramid(image: np.ndarray, labels: Sequence[np.ndarray], *, source: str) -> Figure:
    """The picture (H,W,3) uint8 and the labels (h,w) of its maps: tampered orange, authentic blue, ignored grey."""
    check_licence([source])
    figure = Figure(figsize=(WIDTH, 1.15), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    panels = [image, *(_tint(g) for g in labels)]
    titles = ["image", *(f"stride {s}" for s in STRIDES)]
    for axes, picture, title in zip(figure.subplots(1, 5), panels, titles, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9)
    return figure


def _tint(labels: np.ndarray) -> np.ndarray:
    colours = {0: (0.6, 0.8, 0.92), 1: (0.84, 0.37, 0.0), 255: (0.42, 0.42, 0.42)}
    out = np.zeros((*labels.shape, 3))
    for value, colour in colours.items():
        out[labels == value] = colour
    return out


def asked(axes: Axes, labels: Sequence[np.ndarray]) -> None:
    """The labels of the finest map, and a mark on each cell that a coarser map asks for its own label."""
    axes.imshow(_tint(labels[0]), interpolation="nearest")
    for number, (marker, size) in enumerate(((".", 8), ("s", 22), ("D", 60)), 1):
        step, side = 2**number, labels[number].shape[0]
        rows, columns = np.divmod(np.arange(side * side), side)
        tampered = labels[number].ravel() == 1
        edges = np.where(tampered, "black", "white")
        axes.scatter(columns * step, rows * step, s=size, marker=marker, facecolors="none", edgecolors=edges, lw=0.8)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel("cells: " + " / ".join(str(int((g == 1).sum())) for g in labels), fontsize=9)


def vanishing(areas: Sequence[float], shares: Mapping[int, Sequence[float]], n: int) -> Figure:
    """Share of masks without a tampered cell against the tampered area, a line for each stride."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for (colour, marker, dash), (stride, values) in zip(STYLES[::-1], shares.items(), strict=True):
        x = 100 * np.asarray(areas)
        axes.plot(x, values, color=colour, marker=marker, ls=dash, ms=5, label=f"stride {stride}")
    axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel="tampered area, % of the image", ylabel="share of masks")
    axes.set_xticks(100 * np.asarray(areas), [f"{100 * a:g}" for a in areas])
    axes.minorticks_off()
    axes.set_title(f"no tampered cell left, n = {n} each", fontsize=10, loc="left")
    axes.legend(fontsize=9, frameon=False)
    _plain(axes)
    return figure


def pool_cosines(maps_a: Sequence[Tensor], maps_b: Sequence[Tensor], mask: Tensor) -> np.ndarray:
    """Mean cosine between the pixels of every two of the `POOLS`, for each image: (B,6,6), NaN where a pool is empty.

    On the diagonal a pixel does not meet itself. Arguments as in `loss.mpc_loss`.
    """
    labels = label_pyramid(mask, maps_a)
    fine, coarse, other = unit_vectors(maps_a[0]), [unit_vectors(m) for m in maps_a[1:]], unit_vectors(maps_b[0])
    groups = ([fine], labels[:1]), (coarse, labels[1:]), ([other], labels[:1])
    sums, squares, counts = [], [], []
    for maps, classes in groups:
        pixels = torch.cat([m.flatten(2) for m in maps], 2).double()
        flat = torch.cat([g.flatten(1) for g in classes], 1)
        for target in (0, 1):
            chosen = (flat == target).double()
            sums.append(torch.einsum("bdp,bp->bd", pixels, chosen))
            squares.append((pixels.square().sum(1) * chosen).sum(1))
            counts.append(chosen.sum(1))
    total, n = torch.stack(sums, 1), torch.stack(counts, 1)
    products, pairs = torch.einsum("bid,bjd->bij", total, total), n[:, :, None] * n[:, None, :]
    products, pairs = products - torch.diag_embed(torch.stack(squares, 1)), pairs - torch.diag_embed(n)
    return torch.where(pairs > 0, products / pairs, torch.nan).numpy()


def same_pixel_cosines(maps_a: Sequence[Tensor], maps_b: Sequence[Tensor]) -> np.ndarray:
    """Mean cosine of a pixel with itself in the other pass, for each image and map: (B,4)."""
    pairs = zip(maps_a, maps_b, strict=True)
    return torch.stack([(unit_vectors(a) * unit_vectors(b)).sum(1).mean((1, 2)) for a, b in pairs], 1).numpy()


def companions(cosines: np.ndarray, same: np.ndarray) -> dict[str, np.ndarray]:
    """What an authentic pixel of X1 resembles, image by image: rows for `resemblance`."""
    return {
        "authentic, same map": cosines[:, 0, 0],
        "tampered, same map": cosines[:, 0, 1],
        "itself, second pass": same[:, 0],
        "authentic, coarser maps": cosines[:, 0, 2],
        "tampered, coarser maps": cosines[:, 0, 3],
    }


def resemblance(networks: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """A dot for the mean cosine over images and a line from the 10th to the 90th percentile, for each network."""
    names = list(next(iter(networks.values())))
    figure = Figure(figsize=(WIDTH, 0.7 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    at = np.arange(len(names))
    for number, ((colour, marker, _), (label, rows)) in enumerate(zip(STYLES[::-1], networks.items(), strict=False)):
        y = at + 0.26 * (number - (len(networks) - 1) / 2)
        means = [np.nanmean(rows[name]) for name in names]
        low, high = np.array([np.nanpercentile(rows[name], [10, 90]) for name in names]).T
        axes.hlines(y, low, high, color=colour, lw=1.2)
        axes.plot(means, y, color=colour, marker=marker, ls="", ms=6, label=label)
    axes.set_yticks(at, names)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5), xlabel="cosine with an authentic X1 pixel")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(networks), fontsize=9, frameon=False)
    _plain(axes)
    return figure


def matrices(networks: Mapping[str, np.ndarray]) -> Figure:
    """The mean cosine between every two pools (6,6), one panel for each network, with the number in each cell."""
    figure = Figure(figsize=(WIDTH, 2.9 * len(networks)), layout="constrained")
    panels = figure.subplots(len(networks), squeeze=False)[:, 0]
    for axes, (name, cosines) in zip(panels, networks.items(), strict=True):
        axes.imshow(cosines, cmap="cividis", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(cosines):
            colour = "white" if value < 0.55 else "black"
            axes.text(column, row, f"{value:.2f}", color=colour, fontsize=9, ha="center", va="center")
        short = [p.replace(COARSE, "X2–4") for p in POOLS]
        axes.set_yticks(range(6), short, fontsize=9)
        axes.set_xticks(range(6), short, fontsize=9, rotation=35, ha="right")
        axes.set_title(name, fontsize=10, loc="left")
    return figure


def passes(networks: Mapping[str, np.ndarray]) -> Figure:
    """A mark for each image: the cosine (n,4) of a pixel with itself in the second pass, at each stride."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for number, ((colour, marker, _), (name, cosines)) in enumerate(zip(STYLES[::-1], networks.items(), strict=False)):
        spread = np.linspace(-0.12, 0.12, len(cosines))[:, None]
        x = np.arange(4) + 0.34 * (number - (len(networks) - 1) / 2) + spread
        axes.scatter(x, cosines, s=9, color=colour, marker=marker, alpha=0.6, label=name)
    axes.set_xticks(range(4), [f"X{k + 1}\nstride {s}" for k, s in enumerate(STRIDES)])
    axes.set(ylim=(-0.03, 1.03), ylabel="cosine, first pass · second")
    figure.legend(loc="outside upper center", ncols=len(networks), fontsize=9, frameon=False)
    _plain(axes)
    return figure


def race(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """The three terms against the step, one panel for each formulation."""
    figure = Figure(figsize=(WIDTH, 2.1 * len(runs) + 0.2), layout="constrained")
    panels = figure.subplots(len(runs), sharex=True, squeeze=False)[:, 0]
    for axes, (name, terms) in zip(panels, runs.items(), strict=True):
        for (colour, _, dash), (key, label) in zip(STYLES, VIEWS.items(), strict=False):
            axes.plot(range(1, len(terms) + 1), [t[key] for t in terms], color=colour, ls=dash, label=label)
        axes.axhline(0, color=GREY, lw=0.8)
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_ylabel("loss term")
        _plain(axes)
    axes.set_xlabel("step")
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        columnspacing=1,
        handlelength=1.5,
        fontsize=9,
        frameon=False,
    )
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
