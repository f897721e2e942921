"""Training augmentation, in batch and on the device; its random numbers come with the batch from the loader."""

from __future__ import annotations

import torch
from torch import Tensor

DIHEDRAL = 8  # the symmetries of a square: four turns, each as it is or mirrored


def dihedral(images: Tensor, masks: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Turn and mirror each image and its mask alike.

    Args:
        images: (B,3,H,H). masks: (B,H,H). codes: (B,) int64, 0-7: bit 2 transposes, bit 1 flips rows, bit 0 columns.
    Returns:
        images and masks of the same shapes. No value is read back to the host: each step is a choice per image.
    Raises:
        ValueError: pictures that are not square.
    """
    if images.shape[-1] != images.shape[-2] or masks.shape[-2:] != images.shape[-2:]:
        raise ValueError(f"images {tuple(images.shape)} and masks {tuple(masks.shape)}: expected equal squares")
    both = torch.cat([images, masks[:, None].to(images.dtype)], dim=1)
    for bit, change in ((4, lambda x: x.transpose(2, 3)), (2, lambda x: x.flip(2)), (1, lambda x: x.flip(3))):
        chosen = (codes & bit).bool()[:, None, None, None]
        both = torch.where(chosen, change(both), both)
    return both[:, :-1], both[:, -1].to(masks.dtype)
