"""Which pixels may meet: the views of an image (its scales, its two passes) and the terms of the loss they form."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from mpc_lite.contrast.sampling import PixelSet, check_tensors, sample_pixels
from mpc_lite.errors import InputError
from mpc_lite.images import IGNORE, TAMPERED_ABOVE
from mpc_lite.network.hrformer import STRIDES
from mpc_lite.recipes.stage_keys import TERMS

FORMULATIONS = ("official", "paper")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Term(NamedTuple):
    """One contrast: each anchor is drawn to the positives and pushed from the negatives of its own image.

    When `positives` is the same object as `anchors`, an anchor's positives are the other anchors, never itself.
    """

    anchors: PixelSet
    positives: PixelSet
    negatives: PixelSet


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that lengths and sums are kept in: at least fp32, double for double."""
    return torch.promote_types(dtype, torch.float32)


def differentiable_once(backward: Callable) -> Callable:
    """Of an autograd function whose gradient is formed by hand: a backward pass that raises RuntimeError where its
    result shall be differentiated again (`create_graph`). PyTorch's `once_differentiable` raises only where what comes
    from above needs a gradient, and otherwise leaves out, in silence, all that the inputs contribute."""

    @functools.wraps(backward)
    def checked(ctx, *grads):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this gradient is formed by hand and cannot be differentiated twice (create_graph=True); of the "
                "contrastive losses mean_positive_infonce with implementation='dense' can"
            )
        return backward(ctx, *grads)

    return checked


class _UnitVectors(torch.autograd.Function):
    """a = x / ‖x‖ for each pixel, dL/dx = (g − (g·a) a) / ‖x‖. Between the passes it keeps x and ‖x‖, and not a."""

    @staticmethod
    def forward(ctx, maps):
        length = torch.linalg.vector_norm(maps, dim=1, keepdim=True, dtype=wide(maps.dtype))
        length = length.masked_fill(length == 0, 1)
        ctx.save_for_backward(maps, length)
        return maps / length

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        maps, length = ctx.saved_tensors
        unit = maps / length
        along = (grad * unit).sum(1, keepdim=True)
        # In place from here: maps are large, and fresh memory costs more than the arithmetic.
        return unit.mul_(along).neg_().add_(grad).div_(length).to(maps.dtype)


def unit_vectors(maps: torch.Tensor) -> torch.Tensor:
    """Divide each pixel of (B,D,h,w) by its length over the channels, in fp32 (double stays double).

    A pixel whose channels are all zero, as after a ReLU, has no direction: it stays zero and its gradient stays finite.
    """
    return _UnitVectors.apply(maps)


def check_maps(maps_a: Sequence[torch.Tensor], maps_b: Sequence[torch.Tensor]) -> None:
    """Raise InputError unless the maps are two passes over one batch: equal B and D, X1 and Y1 of equal size, none of
    them empty, and all of floating point."""
    for name, maps in (("maps_a", maps_a), ("maps_b", maps_b)):
        if not isinstance(maps, Sequence | torch.Tensor):
            raise InputError(f"{name} of type {type(maps).__name__}: expected a list of maps (B,D,h,w), finest first")
        for i, one in enumerate(maps):
            check_tensors(**{f"{name}[{i}]": one})
    shapes = [tuple(m.shape) for m in maps_a]
    if len(shapes) < 2 or any(len(s) != 4 or s[:2] != shapes[0][:2] for s in shapes):
        raise InputError(f"maps_a {shapes}: expected two or more maps (B,D,h,w) with equal B and D, finest first")
    if len(maps_b) < 1 or tuple(maps_b[0].shape) != shapes[0]:
        shapes_b = [tuple(m.shape) for m in maps_b]
        raise InputError(f"maps_b {shapes_b}: expected the second pass of the same batch, its first map {shapes[0]}")
    if any(0 in s for s in shapes):
        raise InputError(f"maps_a {shapes}: expected an image, a channel and a pixel at least in each")
    if strange := [m.dtype for m in (*maps_a, maps_b[0]) if m.dtype not in FLOATS]:
        raise InputError(
            f"maps of {strange[0]}: expected floating point, what the network returns; convert with .float()"
        )


def check_labels(labels: torch.Tensor, name: str, ignore: int = IGNORE) -> None:
    """Raise InputError when a label is not 0, 1 or `ignore`. Only on the CPU: on a GPU the look would cost a wait."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    strange = (labels != 0) & (labels != 1) & (labels != ignore)
    if strange.any():
        raise InputError(
            f"{name} holds the value {labels[strange][0].item():g}; expected 0 (authentic), 1 (tampered) or {ignore} "
            f"(ignored); threshold 8-bit masks first (value > {TAMPERED_ABOVE} is tampered)"
        )


def resize_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bring a mask to the size of a map: bilinear, tampered where more than 127/255 of the weight is tampered.

    Ignored pixels have no class to interpolate, so an output cell that takes any weight from one is ignored itself;
    all other cells get what they would get without ignored pixels anywhere.

    mask: (B,H,W), any dtype, values 0, 1, 255. Checked on the CPU; on a GPU any other value counts as ignored.
    size: (h,w).
    Returns (B,h,w) uint8 with values 0, 1, 255, on the mask's device.
    Raises InputError for a mask that is no tensor (B,H,W) or, on the CPU, holds another value.
    Source: released code, label size (cv2 bilinear resize of the 8-bit mask, then > 127); the ignored cells are ours.
    """
    check_tensors(mask=mask)
    if mask.ndim != 3 or 0 in mask.shape[1:]:
        raise InputError(f"mask {tuple(mask.shape)}: expected (B,H,W), no side 0; drop a channel axis with mask[:, 0]")
    check_labels(mask, "mask")
    tampered = mask == 1
    ignored = ~tampered & (mask != 0)
    if mask.shape[1:] != tuple(size):
        planes = torch.stack((tampered, ignored), 1).float()
        planes = F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)
        tampered, ignored = planes[:, 0] > TAMPERED_ABOVE / 255, planes[:, 1] > 0
    return tampered.to(torch.uint8).masked_fill(ignored, IGNORE)


def finest_labels(mask: torch.Tensor) -> torch.Tensor:
    """A mask (B,H,W) at the size of the network's finest map and of its score map, (B,ceil(H/4),ceil(W/4)): what both
    stages' losses compare with, without a pass through the network. See `resize_mask`."""
    return resize_mask(mask, tuple(math.ceil(side / STRIDES[0]) for side in mask.shape[1:]))


def label_pyramid(mask: torch.Tensor, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Labels for each map: the mask resized to the first map, and from there nearest neighbour to the coarser ones.

    mask: (B,H,W) with values 0, 1, 255, any size. maps: (B,D,h,w) each, finest first.
    Returns one (B,h,w) uint8 tensor per map. When sizes halve, the coarser labels are labels[:, ::2, ::2] and so on.
    Raises InputError as `resize_mask` does, and when the batch sizes differ.
    Source: released code, stage-1 losses (F.interpolate(mode="nearest"), not nearest-exact).
    """
    check_tensors(mask=mask)
    if mask.ndim and any(m.shape[0] != mask.shape[0] for m in maps):
        raise InputError(f"mask {tuple(mask.shape)} with maps of batch {maps[0].shape[0]}: expected equal batch sizes")
    finest = resize_mask(mask, maps[0].shape[2:])
    coarser = [F.interpolate(finest[:, None], size=m.shape[2:], mode="nearest")[:, 0] for m in maps[1:]]
    return [finest, *coarser]


def pool(maps: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the pixels of several maps into one, X2∪X3∪X4 for instance, so that a cap holds for their union.

    maps: (B,D,h,w) each; labels: (B,h,w) each. Returns (B,D,1,P) and (B,1,P), P the pixels of all maps together.
    """
    pixels = torch.cat([m.flatten(2) for m in maps], 2)
    return pixels.unsqueeze(2), torch.cat([g.flatten(1) for g in labels], 1).unsqueeze(1)


def chosen_terms(names: Sequence[str] | None) -> list[str]:
    """The names of the terms wanted, in the order of `TERMS`; None: all. InputError for none at all, or an unknown."""
    if names is None:
        return list(TERMS)
    names = list(names)
    if not names or not set(names) <= set(TERMS):
        raise InputError(f"terms {', '.join(names) or 'none'}: expected some of {', '.join(TERMS)}")
    return [name for name in TERMS if name in names]


def draw_terms(
    maps_a: Sequence[torch.Tensor],
    maps_b: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    formulation: str = "official",
    max_pixels: int | None = None,
    generator: torch.Generator | None = None,
    path: str = "auto",
    views: Sequence[str] | None = None,
) -> dict[str, list[Term]]:
    """Draw the anchors, positives and negatives of the three views, anew for each view.

    A are the authentic and T the tampered pixels, X1…X4 the maps of the first pass, Y1 the second pass's finest map:

        view            official (anchors | negatives)      paper (anchors | positives | negatives), and A, T exchanged
        within_image    A(X1) | T(X1)                       A(X1) | A(X1) without itself | T(X1)
        cross_scale     A(X1) | T(X2∪X3∪X4)                 A(X1) | A(X2∪X3∪X4)          | T(X2∪X3∪X4)
                        A(X2∪X3∪X4) | T(X1)
        cross_modality  A(X1) | T(Y1),  A(Y1) | T(X1)       A(X1) | A(Y1)                | T(Y1)

    The official positives are always the anchors' own pool without the anchor; the two terms of a view share draws.

    maps_a, maps_b: (B,D,h,w) each, finest first; of maps_b only the first is used. labels: from `label_pyramid`.
    max_pixels:     cap per class and pool; X2∪X3∪X4 is one pool. None keeps all pixels.
    generator:      random numbers of the draws, on the device of the maps; None takes the global one.
    path:           see `sample_pixels`.
    views:          those wanted, nothing is drawn for the others; None takes all three.
    Returns {"within_image", "cross_scale", "cross_modality"}: lists of Term, for "paper" one for each class of anchor.
    Raises InputError for an unknown formulation or view.
    Source: MPC Eqs. 1-3 ("paper"); released code, stage-1 losses ("official").
    """
    if formulation not in FORMULATIONS:
        raise InputError(f"formulation {formulation!r}: expected one of {', '.join(FORMULATIONS)}")
    views = chosen_terms(views)

    def draw(maps: torch.Tensor, labels: torch.Tensor) -> tuple[PixelSet, PixelSet]:
        pixels, keys = labels.shape[1] * labels.shape[2], None
        if max_pixels is not None and max_pixels < pixels:
            keys = torch.rand(maps.shape[0], pixels, device=maps.device, generator=generator)
        authentic, tampered = (sample_pixels(maps, labels, target, max_pixels, keys, path) for target in (0, 1))
        return authentic, tampered

    def contrast(view: tuple[PixelSet, PixelSet] | None) -> list[Term]:
        authentic, tampered = draw(maps_a[0], labels[0])
        if view is None and formulation == "official":
            return [Term(authentic, authentic, tampered)]
        if view is None:
            return [Term(authentic, authentic, tampered), Term(tampered, tampered, authentic)]
        if formulation == "official":
            return [Term(authentic, authentic, view[1]), Term(view[0], view[0], tampered)]
        return [Term(authentic, view[0], view[1]), Term(tampered, view[1], view[0])]

    makers = {
        "within_image": lambda: contrast(None),
        "cross_scale": lambda: contrast(draw(*pool(maps_a[1:], labels[1:]))),
        "cross_modality": lambda: contrast(draw(maps_b[0], labels[0])),
    }
    return {view: makers[view]() for view in views}
