"""Drawing pixels of one class: (B,D,h,w) maps become the lists of embeddings that the contrastive loss compares."""

from __future__ import annotations

import math
from numbers import Integral
from typing import NamedTuple

import torch

from mpc_lite.errors import InputError

PATHS = ("auto", "fixed", "compact")


class PixelSet(NamedTuple):
    """Embeddings drawn from each image of a batch; images hold different numbers, so short ones are padded.

    embeddings: (B,K,D), the dtype and device of the maps. Rows that are not valid hold other pixels: mask them.
    valid:      (B,K) bool. Except where every pixel has its slot, the valid rows of an image come first.
    """

    embeddings: torch.Tensor
    valid: torch.Tensor


def sample_pixels(
    maps: torch.Tensor,
    labels: torch.Tensor,
    target: int,
    max_pixels: int | None = None,
    keys: torch.Tensor | None = None,
    path: str = "auto",
) -> PixelSet:
    """Draw at most `max_pixels` pixels labelled `target` from each image, uniformly and without replacement.

    Every pixel holds a random key; the pixels of the class with the largest keys are drawn. The same keys draw the same
    pixels on both paths, and one set of keys serves both classes of a pool, since no pixel belongs to both.
    To draw from several maps as one pool, concatenate their pixels first (`views.pool`): the cap holds for the union.

    maps:       (B,D,h,w) floating point.
    labels:     (B,h,w): 1 tampered, 0 authentic, 255 ignored, which is never drawn.
    target:     0 or 1.
    max_pixels: cap on the pixels of an image, at least 1; None keeps all of them.
    keys:       (B,h*w) uniform random numbers in [0,1) on the device of the maps; drawn here when a cap needs them.
                Others are refused by "compact"; "fixed", which looks at no value, draws no pixel of such a key.
    path:       "fixed" gives K = min(max_pixels, h*w) slots whatever the labels say and never reads a value back to
                the host (CUDA, torch.compile, DDP). "compact" gives K = the largest number of valid rows in the batch,
                which costs one read on the host and saves the arithmetic on padding. "auto" is "compact" for tensors
                on the CPU outside torch.compile, "fixed" everywhere else.
    Returns a PixelSet with embeddings (B,K,D) and valid (B,K).
    Raises InputError for anything but tensors, shapes that do not fit together, a cap that is no whole number from 1 or
    an unknown path.
    Source: released code, stage-1 sampling ("at most 5000 of each class per pool, without replacement"); the fixed
    slots are our choice.
    """
    check_tensors(maps=maps, labels=labels, **({} if keys is None else {"keys": keys}))
    if maps.ndim != 4 or 0 in maps.shape or labels.shape != (maps.shape[0], *maps.shape[2:]):
        raise InputError(
            f"maps {tuple(maps.shape)} with labels {tuple(labels.shape)}: expected (B,D,h,w) with (B,h,w), "
            "none of them 0; bring the mask to the size of the map first (views.label_pyramid)"
        )
    if target not in (0, 1):
        raise InputError(f"target {target!r}: expected 0 (authentic) or 1 (tampered)")
    check_cap(max_pixels, 1, "or None to keep every pixel")
    if path not in PATHS:
        raise InputError(f"path {path!r}: expected one of {', '.join(PATHS)}")
    rows = maps.flatten(2).transpose(1, 2)  # (B,P,D), a view
    batch, pixels, channels = rows.shape
    if keys is not None and keys.shape != (batch, pixels):
        raise InputError(f"keys {tuple(keys.shape)}: expected one key per pixel, {(batch, pixels)}")

    match = labels.flatten(1) == target
    slots = pixels if max_pixels is None else min(max_pixels, pixels)
    capped = slots < pixels
    if path == "compact" or (path == "auto" and maps.device.type == "cpu" and not torch.compiler.is_compiling()):
        if capped and keys is not None and not (keys >= 0).all():
            raise InputError("keys hold NaN or a negative number, so their pixels would not be drawn; expected [0,1)")
        slots = min(slots, int(match.sum(1).max()))
    elif not capped:
        return PixelSet(rows, match)  # a slot for every pixel: nothing to draw, nothing to copy

    if not capped:  # all pixels of the class stay; falling keys keep them in reading order, which is kind to the cache
        keys = torch.arange(pixels, 0, -1, device=maps.device, dtype=torch.float32).expand(batch, -1)
    elif keys is None:
        keys = torch.rand(batch, pixels, device=maps.device)
    best, index = torch.where(match, keys, -1.0).topk(slots, dim=1)
    embeddings = rows.gather(1, index.unsqueeze(2).expand(-1, -1, channels))
    return PixelSet(embeddings, best >= 0)


def check_tensors(**values: object) -> None:
    """InputError, with its name, for a value that is no tensor: numpy's arrays look alike until they are computed."""
    for name, value in values.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"{name} of type {type(value).__module__}.{type(value).__qualname__}; expected a tensor, of an array "
                "torch.from_numpy(array)"
            )


def check_cap(max_pixels: int | None, least: int, hint: str) -> None:
    """InputError for a cap on pixels that is no whole number, or below `least`; None passes."""
    if max_pixels is None or (isinstance(max_pixels, Integral) and max_pixels >= least):
        return
    raise InputError(f"max_pixels {max_pixels!r}: expected a whole number, at least {least} {hint}")


def check_temperature(temperature: float, learns: bool = False) -> None:
    """InputError for what is no τ; and, but for a loss that autograd differentiates, for a τ that is to be learnt."""
    if isinstance(temperature, torch.Tensor) and temperature.requires_grad:
        if torch.is_grad_enabled() and not learns:
            raise InputError(
                "temperature is a tensor that requires a gradient, and this loss forms none for it; give a number, or "
                "take mean_positive_infonce with implementation='dense'"
            )
        temperature = temperature.detach()
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature {temperature}: expected a positive number, such as 0.1")
