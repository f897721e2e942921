"""Shape of an embedding: how alike pixels of a class are, how far classes lie apart, and how much of it is alive.

All measures are of one image and take vectors as the contrastive loss compares them, (N,D) with length 1 or, for a
pixel that lost every channel to the ReLU, length 0 (`contrast.views.unit_vectors`). None of them knows a threshold or a
head: they say how pixels lie, not whether anybody can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpc_lite.contrast.views import pool, unit_vectors
from mpc_lite.errors import InputError


class Pixels(NamedTuple):
    """Pixels of one image. vectors: (N,D) double, length 1 or 0. labels: (N,), 0, 1, 255. places: (N,2) double, row and
    column of the cell's centre in pixels of the image."""

    vectors: Tensor
    labels: Tensor
    places: Tensor

    def of_class(self, label: int) -> Tensor:
        """The vectors (n,D) of one class."""
        return self.vectors[self.labels == label]

    def take(self, index: np.ndarray | Tensor) -> Pixels:
        return Pixels(*(x[torch.as_tensor(index)] for x in self))


class Purity(NamedTuple):
    """value: share of neighbours with the pixel's own label, [0,1]. chance: the same if each were drawn at random from
    all that lie far enough away. counted: pixels that have enough of those. Both shares are nan when it is 0."""

    value: float
    chance: float
    counted: int


# -------------------------------------------------------------------------------------------------------------- pixels


def image_pixels(maps: Sequence[Tensor], labels: Sequence[Tensor], strides: Sequence[int]) -> Pixels:
    """The pixels of one image's maps as one pool, with length 1.

    maps: (1,D,h,w) raw, as `MPC.encode` gives them. labels: (1,h,w) each, from `label_pyramid`. strides: of each map.
    """
    if len(maps) != len(strides) or any(m.shape[0] != 1 for m in maps):
        shapes = [tuple(m.shape) for m in maps]
        raise InputError(f"{shapes} with strides {list(strides)}: expected maps of one image and one stride each")
    vectors, classes = pool([unit_vectors(m.double()) for m in maps], labels)
    places = [
        torch.cartesian_prod(*(torch.arange(side, device=m.device).double() for side in m.shape[2:])).add(0.5) * stride
        for m, stride in zip(maps, strides, strict=True)
    ]
    return Pixels(vectors[0, :, 0].T, classes[0, 0], torch.cat(places))


def balanced(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `per_class` authentic and then as many tampered entries of `labels` (N,), drawn without replacement.

    Raises InputError when a class has fewer.
    """
    counts = [int((labels == c).sum()) for c in (0, 1)]
    if min(counts) < per_class:
        raise InputError(f"{counts[0]} authentic and {counts[1]} tampered pixels: expected {per_class} of each")
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in (0, 1)])


def dead(maps: Tensor) -> Tensor:
    """Which pixels of raw maps (B,D,h,w) lost every channel to the ReLU: (B,h,w) bool.

    Their cosine with everything is 0, and no gradient passes through them to the convolution.
    """
    return (maps == 0).all(1)


# ------------------------------------------------------------------------------------------------------------ measures


def compactness(vectors: Tensor, others: Tensor | None = None) -> float:
    """Mean cosine of two different pixels of a set, or, with `others` (M,D), of a pixel of each. [-1,1]; nan if empty.

    (‖Σv‖² − Σ‖v‖²) / (N(N − 1)): what the loss calls the positive similarity, averaged over the anchors.
    """
    if others is not None:
        return float(vectors.mean(0) @ others.mean(0))
    n = len(vectors)
    return float((vectors.sum(0).square().sum() - vectors.square().sum()) / (n * (n - 1))) if n > 1 else float("nan")


def separability(pixels: Pixels, others: Pixels | None = None) -> float:
    """How much more alike two pixels of one class are than two of different classes; mean over the two classes.

    With `others` the second pixel of each pair comes from there: another scale or another pass. Without a difference
    between the classes it is 0 on average; orthogonal classes that are one point each give 1. [-2,2].
    """
    classes = [pixels.of_class(c) for c in (0, 1)]
    if others is None:
        return sum(map(compactness, classes)) / 2 - compactness(*classes)
    second = [others.of_class(c) for c in (0, 1)]
    same = sum(compactness(a, b) for a, b in zip(classes, second, strict=True))
    return (same - compactness(classes[0], second[1]) - compactness(classes[1], second[0])) / 2


def fisher_ratio(pixels: Pixels) -> float:
    """‖μ₁ − μ₀‖² / (tr S₀ + tr S₁): squared distance of the class means over the variance within. At least 0; inf for
    two different points, nan for two equal ones.

    S_c is the covariance of class c, divided by its number of pixels. Fisher's criterion without a direction: the
    trace form, which needs no inverse and no more pixels than channels.
    """
    authentic, tampered = (pixels.of_class(c) for c in (0, 1))
    between = (tampered.mean(0) - authentic.mean(0)).square().sum()
    within = sum((x - x.mean(0)).square().sum(1).mean() for x in (authentic, tampered))
    return float(between / within)


def effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the singular values of (N,D), scaled to sum 1. From 1 to min(N,D); nan for zeros alone.

    Centre the vectors first to ask in how many directions pixels *differ*. Source: Roy and Vetterli 2007.
    """
    values = torch.linalg.svdvals(vectors)
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def neighbour_purity(pixels: Pixels, others: Pixels | None = None, apart: float = 32, neighbours: int = 1) -> Purity:
    """Share of the nearest neighbours by cosine, at least `apart` pixels away in the image, with the pixel's own label.

    Pixels side by side see nearly the same patch, so without a distance the measure rewards any smooth map. The
    distance is the larger of rows and columns. Dead pixels have no nearest neighbour and are nobody's: they are left
    out. With `others` the neighbours come from there.
    """
    others = pixels if others is None else others
    pixels, others = (x.take(torch.linalg.vector_norm(x.vectors, dim=1) > 0) for x in (pixels, others))
    far = (pixels.places[:, None] - others.places[None]).abs().amax(2) >= apart
    kept = far.sum(1) >= neighbours
    pixels, far = pixels.take(kept), far[kept]
    if not len(pixels.labels):
        return Purity(float("nan"), float("nan"), 0)
    cosines = (pixels.vectors @ others.vectors.T).masked_fill(~far, -torch.inf)
    same = pixels.labels[:, None] == others.labels[None]
    near = cosines.topk(neighbours, dim=1).indices
    chance = (same & far).sum(1) / far.sum(1)
    return Purity(float(same.gather(1, near).double().mean()), float(chance.double().mean()), len(pixels.labels))
