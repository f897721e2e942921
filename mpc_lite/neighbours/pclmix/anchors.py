"""Which pixels become anchors of PCLMix's contrast: of each class of each image a few, half of them hard ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mpc_lite.errors import InputError


class Quota(NamedTuple):
    """How many pixels may become anchors: `anchors` in all, `views` of one class of one image, which qualifies with
    `cells` labelled pixels. The release asks for more cells than views, 101 of a 28x28 grid: no small region ever
    qualifies."""

    anchors: int = 1024
    views: int = 100
    cells: int = 8


LITE_QUOTA, RELEASED_QUOTA = Quota(), Quota(1024, 100, 101)


class Anchors(NamedTuple):
    """Pixels drawn from a batch, N slots. Rows that are not valid are padding.

    index:  (N,) int64, image·h·w + y·w + x. label: (N,) int64, their class. valid: (N,) bool.
    number: (N,) int64, the row of an anchor in the release's order (first pixel of all sets, second of all sets, …).
    """

    index: Tensor
    label: Tensor
    valid: Tensor
    number: Tensor


def draw_anchors(
    certain: Tensor,
    predicted: Tensor,
    classes: int = 2,
    quota: Quota = LITE_QUOTA,
    keys: Tensor | None = None,
    path: str = "auto",
) -> Anchors:
    """Draw pixels of each class of each image, half of them hard: those that the main decoder gets wrong.

    The S classes of images that qualify share the quota: min(⌊anchors/S⌋, views) pixels each, half hard and half easy
    and filled up from the other kind where one is scarce. Within a kind the largest keys are drawn.

    certain:   (B,h,w) certainty labels: 0…K−1, any other value for "not certain". predicted: (B,h,w), the main
               decoder's class. classes: K.
    keys:      (B,h*w) uniform random numbers on the device of the labels; None draws them.
    path:      "fixed" gives B·K·min(views, h·w) slots and reads nothing back to the host; "compact" the valid ones
               alone, in the release's order; "auto" is compact on the CPU outside torch.compile.
    Raises InputError for shapes that differ, a quota that draws nothing, an unknown path.
    Source: PCLMix, released code (hard and easy anchors).
    """
    if certain.ndim != 3 or certain.shape != predicted.shape:
        raise InputError(f"labels {tuple(certain.shape)}, classes {tuple(predicted.shape)}: expected (B,h,w) twice")
    if min(quota) < 1:
        raise InputError(f"{quota}: expected at least 1 of each")
    if path not in ("auto", "fixed", "compact"):
        raise InputError(f"path {path!r}: expected auto, fixed or compact")
    device, pixels = certain.device, certain[0].numel()
    label = torch.arange(classes, device=device)
    certain, predicted = certain.flatten(1).unsqueeze(1), predicted.flatten(1).unsqueeze(1)
    member = certain == label[:, None]  # (B,K,P)
    hard = member & (predicted != certain)
    count, n_hard = member.sum(2), hard.sum(2)
    qualified = count >= quota.cells
    sets = qualified.sum()
    views = (quota.anchors // sets.clamp_min(1)).clamp(1, quota.views)
    n_drawn = torch.where(qualified, torch.minimum(count, views), 0)
    n_hard = torch.minimum(n_hard, torch.maximum(n_drawn // 2, n_drawn - (count - n_hard)))[..., None]

    if keys is None:
        keys = torch.rand(len(certain), pixels, device=device)
    slots = min(quota.views, pixels)
    slot = torch.arange(slots, device=device)
    order = [torch.where(kind, keys[:, None], -1.0).topk(slots, dim=2).indices for kind in (hard, member & ~hard)]
    pixel = torch.where(slot < n_hard, order[0], order[1].gather(2, (slot - n_hard).clamp_min(0)))
    image = torch.arange(len(certain), device=device)[:, None, None]
    place = (qualified.flatten().cumsum(0) - 1).view(*qualified.shape, 1)
    valid = slot < n_drawn[..., None]
    labels = label[:, None].expand(pixel.shape)
    anchors = Anchors(*(x.flatten() for x in (image * pixels + pixel, labels, valid, slot * sets + place)))
    if path == "fixed" or (path == "auto" and (device.type != "cpu" or torch.compiler.is_compiling())):
        return anchors
    rows = anchors.valid.nonzero().squeeze(1)
    rows = rows[anchors.number[rows].argsort()]
    return Anchors(*(x[rows] for x in anchors))


def embeddings_at(maps: Tensor, index: Tensor) -> Tensor:
    """The pixels of maps (B,D,h,w) at `Anchors.index` (N,) -> (N,D)."""
    rows = maps.flatten(2)
    return rows[index // rows.shape[2], :, index % rows.shape[2]]
