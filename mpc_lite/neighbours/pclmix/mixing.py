"""Mixtures of PCLMix: a rectangle of one image pasted into another, with labels for what comes out.

Pasting is itself a forgery, so who learns to find forgeries must say what a pasted patch is called: `mix_label_rule`
    released   labels travel with their pixels. An authentic patch pasted into another authentic image stays
               "authentic", although the result is a splice: faithful to the release, false for the task.
    splice     the patch is tampered wherever it comes from another image; outside it labels stay. True for the task,
               and it labels as many pixels as the patch has, which no scribble did.
    intra      the patch comes from the same place of a copy of the same image that was saved as JPEG once more: what it
               shows does not change, and labels stay true to it. But a patch of another compression is a trace as
               well, which the network is so taught to overlook.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mpc_lite.contrast.views import IGNORE, wide
from mpc_lite.errors import InputError
from mpc_lite.recipes.neighbour_keys import MIX_LABEL_RULES

PATCH_AREA = 0.2  # of the image


class MixDraw(NamedTuple):
    """What is random in a mixture. Both orders: (B,) int64, a permutation of the batch for each decoder's stream.
    boxes: (B,H,W) bool, one rectangle for each image, which travels with it. main_on_top: () bool, whether the main
    decoder's stream is the one pasted."""

    main: Tensor
    auxiliary: Tensor
    boxes: Tensor
    main_on_top: Tensor


class Mixed(NamedTuple):
    """images (B,C,H,W), scribble (B,H,W) and pseudo (B,H,W) int64, a class for each pixel from both decoders."""

    images: Tensor
    scribble: Tensor
    pseudo: Tensor


def cutmix_boxes(uniforms: Tensor, size: tuple[int, int]) -> Tensor:
    """Rectangles of a fifth of the image: height 0.2^u of its height, width 0.2 over that, uniform place inside.

    uniforms: (B,3) in [0,1]: for aspect, y and x. size: (H,W). Returns (B,4) int64: y0, x0, y1, x1, rounded half to
    even. Source: PCLMix, released code.
    """
    aspect, *place = uniforms.unbind(1)
    height = PATCH_AREA**aspect
    sides = [(height * size[0]).round(), (PATCH_AREA / height * size[1]).round()]
    start = [((whole - side) * u).round() for whole, side, u in zip(size, sides, place, strict=True)]
    return torch.stack([*start, *(x + side for x, side in zip(start, sides, strict=True))], 1).long()


def box_masks(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """boxes (B,4) y0, x0, y1, x1 -> (B,H,W) bool, True inside."""
    y0, x0, y1, x1 = boxes[:, :, None, None].unbind(1)
    y = torch.arange(size[0], device=boxes.device)[:, None]
    x = torch.arange(size[1], device=boxes.device)
    return (y >= y0) & (y < y1) & (x >= x0) & (x < x1)


def draw_mix(batch: int, size: tuple[int, int], device: str | torch.device, generator=None) -> MixDraw:
    """Orders, rectangles and coin of a mixture, drawn on the device; nothing is read back to the host."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    boxes = box_masks(cutmix_boxes(rand(batch, 3), size), size)
    return MixDraw(rand(batch).argsort(), rand(batch).argsort(), boxes, rand(()) > 0.5)


@torch.no_grad()
def mix(
    images: Tensor,
    scribble: Tensor,
    main: Tensor,
    auxiliary: Tensor,
    draw: MixDraw,
    rule: str = "released",
    copies: Tensor | None = None,
) -> Mixed:
    """Paste a rectangle of one stream into the other: pixels, scribbles, and the class that each stream's decoder saw.

        x = m⊙x¹ + (1−m)⊙x²,  y = m⊙y¹ + (1−m)⊙y²,  ŷ = argmax(m⊙p¹ + (1−m)⊙p²)

    images: (B,C,H,W). scribble: (B,H,W), 0…K−1 or 255. main, auxiliary: first-pass logits (B,K,H,W), of which no
    gradient is kept. draw: `draw_mix`. rule: see the module. copies: (B,C,H,W), for "intra" the other copy.
    Raises InputError for an unknown rule, "intra" without copies, "splice" with other than two classes, shapes.
    Source: PCLMix, released code ("released"); the other rules are ours.
    """
    check_labelled(main, auxiliary, scribble)
    if rule not in MIX_LABEL_RULES:
        raise InputError(f"mix_label_rule {rule!r}: expected one of {', '.join(MIX_LABEL_RULES)}")
    if rule == "intra" and (copies is None or copies.shape != images.shape):
        raise InputError("mix_label_rule 'intra' needs copies of the images, of their size; on_device.jpeg makes them")
    if rule == "splice" and main.shape[1] != 2:
        raise InputError(f"mix_label_rule 'splice' calls patches class 1, tampered; found {main.shape[1]} classes")
    top = torch.where(draw.main_on_top, draw.main, draw.auxiliary)
    bottom = torch.where(draw.main_on_top, draw.auxiliary, draw.main)
    if rule == "intra":
        bottom = top
    inside = draw.boxes[top]
    p = [x.to(wide(x.dtype)).softmax(1) for x in (main, auxiliary)]
    first, second = torch.where(draw.main_on_top, p[0], p[1]), torch.where(draw.main_on_top, p[1], p[0])
    pasted = (images if copies is None or rule != "intra" else copies)[top]
    result = torch.where(inside[:, None], pasted, images[bottom])
    labels = torch.where(inside, scribble[top], scribble[bottom])
    pseudo = torch.where(inside[:, None], first[top], second[bottom]).argmax(1)
    if rule == "splice":
        foreign = inside & (top != bottom)[:, None, None]
        labels, pseudo = labels.masked_fill(foreign, 1), pseudo.masked_fill(foreign, 1)
    return Mixed(result, labels, pseudo)


def check_labelled(main: Tensor, auxiliary: Tensor, labels: Tensor) -> None:
    """InputError unless logits and labels fit; values are looked at on the CPU only: on a GPU it would cost a wait."""
    if main.ndim != 4 or main.shape != auxiliary.shape or labels.shape != (main.shape[0], *main.shape[2:]):
        shapes = f"logits {tuple(main.shape)} and {tuple(auxiliary.shape)}, labels {tuple(labels.shape)}"
        raise InputError(f"{shapes}: expected (B,K,H,W) twice and (B,H,W)")
    if main.shape[1] < 2:
        raise InputError(f"logits {tuple(main.shape)}: one channel; expected K >= 2, see pclmix_training.two_logits")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        strange = (labels < 0) | ((labels >= main.shape[1]) & (labels != IGNORE))
        if strange.any():
            raise InputError(
                f"labels hold the value {labels[strange][0].item()}; expected 0 to {main.shape[1] - 1}, or {IGNORE} "
                "for unlabelled"
            )
