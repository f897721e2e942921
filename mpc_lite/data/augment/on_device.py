"""Training augmentation, in batch and on the device; its random numbers come with the batch from the loader."""

from __future__ import annotations

import io
import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mpc_lite.images import encode_jpeg

DIHEDRAL = 8  # the symmetries of a square: four turns, each as it is or mirrored


def augment(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What is left to do to a batch of `data.loader` on the device: `jpeg` if the batch brings qualities, `dihedral`.

    batch: image (B,3,S,S) uint8, mask (B,S,S) uint8, turn (B,) int64, quality (B,) int64 if there is anything to save.
    Returns images and masks of the same shapes and types.
    """
    images = jpeg(batch["image"], batch["quality"]) if "quality" in batch else batch["image"]
    return dihedral(images, batch["mask"], batch["turn"])


def turned_mask(batch: dict[str, Tensor]) -> Tensor:
    """The masks (B,S,S) that `augment` returns, of the same batch, on whatever device it is; no image is touched."""
    return _turned(batch["mask"][:, None], batch["turn"])[:, 0]


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
    both = _turned(torch.cat([images, masks[:, None].to(images.dtype)], dim=1), codes)
    return both[:, :-1], both[:, -1].to(masks.dtype)


def _turned(planes: Tensor, codes: Tensor) -> Tensor:
    """Squares (B,C,S,S), each turned and mirrored by its code (B,), see `dihedral`."""
    for bit, change in ((4, lambda x: x.transpose(2, 3)), (2, lambda x: x.flip(2)), (1, lambda x: x.flip(3))):
        chosen = (codes & bit).bool()[:, None, None, None]
        planes = torch.where(chosen, change(planes), planes)
    return planes


# ---------------------------------------------------------------------------------------------------------------- JPEG


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Each image as it comes back from a JPEG file of its quality, colour at half the resolution (4:2:0).

    Args:
        images: (B,3,H,W) uint8 RGB, any size. quality: (B,) int64, libjpeg's 1-100; 0 leaves an image as it is.
    Returns:
        (B,3,H,W) uint8. No value is read back to the host, and no gradient goes through.
    Raises:
        ValueError: images of another type or shape, or not one quality for each.

    The steps are libjpeg's, its roundings included, because a compressed image differs from others in just these:
    colour averaged over 2x2 pixels, blocks of 8x8 pixels cosine-transformed, every coefficient rounded to a multiple of
    its table's step, and back, colour interpolated linearly. Only the packing into bytes, which loses nothing, is left
    out. kornia's codec rounds softly, to be differentiable, blurs colour before it is thinned out, and reads the
    qualities back to the host.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or quality.shape != images.shape[:1]:
        shapes = f"{images.dtype} {tuple(images.shape)} and qualities {tuple(quality.shape)}"
        raise ValueError(f"images {shapes}: expected torch.uint8 (B, 3, H, W) and (B,)")
    height, width = images.shape[2:]
    # Autocast would multiply the blocks in bfloat16, whose steps between grey levels are coarser than one.
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        tables = torch.tensor(_tables()).to(images.device, non_blocking=True)[quality].float()
        # JFIF's colours, with 0 for the middle of the range
        red, green, blue = F.pad(images.float(), (0, -width % 16, 0, -height % 16), "replicate").unbind(1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        colour = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], dim=1).round()
        odd = torch.arange(colour.shape[3], device=images.device) % 2
        colour = (F.avg_pool2d(colour, 2) + (1 + odd[: colour.shape[3] // 2]) / 4).floor()  # up and down in turn
        luma = _quantised(luma[:, None].round() - 128, tables[:, 0])[:, 0] + 128
        colour = _quantised(colour, tables[:, 1])
        colour = F.interpolate(colour, scale_factor=2, mode="bilinear")[..., :height, :width]
        first, second = (colour + 0.5 - odd[:width] / 16).floor().unbind(1)
        luma = luma[:, :height, :width]
        green = luma - (0.114 * 1.772 * first + 0.299 * 1.402 * second) / 0.587
        saved = torch.stack([luma + 1.402 * second, green, luma + 1.772 * first], dim=1)
        saved = saved.round().clamp(0, 255).to(torch.uint8)
        return torch.where((quality > 0)[:, None, None, None], saved, images)


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (B,C,H,W) around 0, sides multiples of 8, after rounding their blocks' coefficients to multiples of steps
    (B,8,8); whole numbers from -128 to 127."""
    steps = steps[:, None, None, None]
    k = torch.arange(8, device=planes.device)
    cosines = torch.cos((2 * k + 1) * k[:, None] * (math.pi / 16)) / 2
    cosines = torch.where(k[:, None] == 0, math.sqrt(1 / 8), cosines)
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (B,C,H/8,W/8,8,8)
    # libjpeg's transform counts in eighths, and halves are rounded away from 0. Both decide many a coefficient where
    # steps are small.
    eighths = (cosines @ blocks @ cosines.T * 8).round() / 8
    multiples = (eighths.abs() / steps + 0.5).floor() * eighths.sign()
    blocks = (cosines.T @ (multiples * steps) @ cosines).round().clamp(-128, 127)
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)


@lru_cache(maxsize=1)
def _tables() -> np.ndarray:
    """Steps of luma and colour for each quality, (101,2,8,8) uint8, read from files that Pillow saved; row 0 unused."""
    tables = np.ones((101, 2, 8, 8), np.uint8)
    for quality in range(1, 101):
        saved = io.BytesIO(encode_jpeg(np.zeros((8, 8, 3), np.uint8), quality, 2))
        with Image.open(saved, formats=["JPEG"]) as file:
            tables[quality] = [np.reshape(file.quantization[k], (8, 8)) for k in (0, 1)]
    return tables
