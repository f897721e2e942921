"""What PPPC takes over from mean-teacher self-training: the teacher's average, its labels, crops and ClassMix.

Target images have no labels. A teacher that averages the student's parameters labels them, the crop that shows most of
the ambiguous class is chosen, and half of the classes of a labelled source image are pasted into it. Pasting makes a
forgery, so what a mixed pixel is called is a choice, see `class_mix`. Nothing here reads a value back to the host.

Source: as for `mpc_lite.neighbours.pppc.gaussians`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.views import IGNORE, wide
from mpc_lite.errors import InputError
from mpc_lite.recipes.neighbour_keys import MIX_LABEL_RULES

CANDIDATES = 10  # crops that the ambiguity chooses from

# --------------------------------------------------------------------------------------------------- teacher, schedule


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, iteration: int) -> None:
    """θ' ← α θ' + (1 − α) θ,  α = min(1 − 1/(t + 1), 0.999), for parameters alone, not for batch norm's statistics.

    iteration: t from 0, where the teacher becomes a copy. Source: released code (PPPC).
    """
    alpha = min(1 - 1 / (iteration + 1), 0.999)
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - alpha)


def contrast_scale(iteration: int, iterations: int = 40_000, sharpness: float = 1.0) -> float:
    """The weight of the contrastive loss: exp(−c ((t + 1)/T)²), and 0 from the last iteration on.

    iteration: t from 0. iterations: T. sharpness: c, 1 by default, 10 for Dark Zurich. Source: released code (PPPC).
    """
    progress = (iteration + 1) / iterations
    return math.exp(-sharpness * progress**2) if progress < 1 else 0.0


# -------------------------------------------------------------------------------------------------------------- target


def pseudo_labels(logits: Tensor, size: tuple[int, int], confidence: float = 0.968) -> tuple[Tensor, Tensor]:
    """What the teacher makes of a target image: logits (B,1,h,w) -> labels (B,H,W) uint8 and quality q (B,).

    Labels are the likelier class of the resized logits; q is the share of pixels whose class has at least the
    probability `confidence`. Source: released code (PPPC), which takes one q for the whole batch.
    """
    logits = logits.to(wide(logits.dtype))
    logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    sure = torch.sigmoid(logits.abs()) >= confidence
    return (logits > 0).to(torch.uint8), sure.to(logits.dtype).mean((1, 2))


def ambiguity_weights(
    log_variance: Tensor, temperature: float = 0.01, keep: int = 10, without: Sequence[int] = ()
) -> Tensor:
    """How much a crop gains by a pixel of each class: softmax(mean_d s_k / T) of the `keep` largest, the others 0.

    log_variance: (K,D) of the prototypes, or (K,) already averaged. The softmax is over all classes, and stays as it is
    when some are cut off. without: classes that count nothing. Returns (K,). Source: released code (PPPC).
    """
    mean = log_variance if log_variance.ndim == 1 else log_variance.mean(1)
    weights = torch.softmax(mean / temperature, 0)
    chosen = torch.zeros_like(weights).scatter(0, weights.topk(min(keep, len(weights))).indices, 1)
    for k in without:
        chosen[k] = 0
    return weights * chosen


def draw_corners(images: Tensor, side: int, candidates: int = CANDIDATES, generator=None) -> Tensor:
    """Random upper left corners (B,N,2) int64, row and column, of squares in images (B,…,H,W).

    Raises InputError when a square of that side does not fit.
    """
    room = [length - side + 1 for length in images.shape[-2:]]
    if side < 1 or min(room) < 1:
        raise InputError(f"a crop of {side} pixels from images of {tuple(images.shape[-2:])}: take 1 to their side")
    draws = torch.rand(2, len(images), candidates, device=images.device, generator=generator)
    return torch.stack([(u * n).long() for u, n in zip(draws, room, strict=True)], 2)


def most_ambiguous(labels: Tensor, weights: Tensor, corners: Tensor, side: int) -> Tensor:
    """Of each image's candidate crops the one with the highest Σ_k w_k · (pixels labelled k), the first of several.

    labels: (B,H,W) pseudo-labels. weights: (K,). corners: (B,N,2). Returns (B,2). Source: released code (PPPC).
    """
    classes = torch.arange(len(weights), device=labels.device)
    members = (labels[:, None] == classes[:, None, None]).long()
    # Counts are whole numbers, so equal crops have equal scores.
    sums = F.pad(members.cumsum(2).cumsum(3), (1, 0, 1, 0))
    rows, columns = corners.unbind(2)
    batch = torch.arange(len(labels), device=labels.device)[:, None]

    def corner(row: int, column: int) -> Tensor:
        return sums[batch, :, rows + row, columns + column]  # (B,N,K)

    counts = corner(side, side) - corner(0, side) - corner(side, 0) + corner(0, 0)
    scores = (counts.to(weights.dtype) * weights).sum(2)
    return corners[batch[:, 0], scores.argmax(1)]


def crop(pictures: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut a square of `side` pixels from each of (B,C,H,W) or (B,H,W), its upper left corner at corners (B,2)."""
    index = corners[..., None] + torch.arange(side, device=pictures.device)
    batch = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    planes = pictures if pictures.ndim == 4 else pictures[:, None]
    pieces = planes[batch, :, index[:, 0, :, None], index[:, 1, None, :]].permute(0, 3, 1, 2)
    return pieces if pictures.ndim == 4 else pieces[:, 0]


# ------------------------------------------------------------------------------------------------------------ ClassMix


def draw_classes(labels: Tensor, classes: int = 2, generator=None) -> Tensor:
    """For each image, half of the labels that occur in the whole batch, rounded up; 255 counts as one.

    labels: (B,H,W). Returns (B,K+1) bool for the classes 0 … K−1 and 255. Source: released code (PPPC).
    """
    values = [*range(classes), IGNORE]
    present = torch.stack([(labels == value).any() for value in values])
    keys = torch.rand(len(labels), len(values), device=labels.device, generator=generator).masked_fill(~present, 2)
    return keys.argsort(1).argsort(1) < (present.sum() + 1) // 2


def class_mix(
    source: Tensor,
    source_labels: Tensor,
    target: Tensor,
    target_labels: Tensor,
    quality: Tensor,
    chosen: Tensor,
    rule: str = "released",
) -> tuple[Tensor, Tensor, Tensor]:
    """Paste the chosen classes' pixels of each source image into its target image, where they are.

    released:  labels travel with their pixels. An authentic piece of another image is called authentic there, although
               pasting it is a splice.
    splice:    every pasted pixel is called tampered (1), whatever it was. Where nothing of the target is left, nothing
               was pasted into anything: the labels remain the source's.
    intra:     as released; the caller gives as target the degraded twin of the source image itself, turned and cropped
               alike. Pixel and surroundings then show the same scene, and no new forgery arises.

    source, target: (B,C,H,W). source_labels, target_labels: (B,H,W) of one dtype. quality: (B,) weight of the target's
    pixels, or a number. chosen: (B,K+1) bool, see `draw_classes`.
    Returns the images, their labels and the pixels' weights, 1 where source; the inputs stay as they are.
    Raises InputError for shapes that differ or an unknown rule.
    Source: released code (PPPC) for "released"; the other rules are ours.
    """
    if rule not in MIX_LABEL_RULES:
        raise InputError(f"mix_label_rule {rule!r}: expected one of {', '.join(MIX_LABEL_RULES)}")
    if source.shape != target.shape or not source_labels.shape == target_labels.shape == source[:, 0].shape:
        shapes = [tuple(x.shape) for x in (source, target, source_labels, target_labels)]
        raise InputError(f"images and labels {shapes}: expected (B,C,H,W) twice and (B,H,W) twice, of equal size")
    values = torch.arange(chosen.shape[1], device=chosen.device)
    values = torch.where(values == len(values) - 1, IGNORE, values)
    pasted = ((source_labels[:, None] == values[:, None, None]) & chosen[..., None, None]).any(1)
    labels = torch.where(pasted, source_labels, target_labels)
    if rule == "splice":
        foreign = pasted & ~pasted.all(2).all(1)[:, None, None]
        labels = labels.masked_fill(foreign, 1)
    quality = torch.as_tensor(quality, dtype=torch.float32, device=source.device).expand(len(source))
    weights = torch.where(pasted, 1, quality[:, None, None])
    return torch.where(pasted[:, None], source, target), labels, weights
