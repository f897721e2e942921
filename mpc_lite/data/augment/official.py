"""The augmentation of the released code: what is done to one picture, how often, and with which random numbers.

The operations themselves, as functions without chance, are in `augment_pixels` and `augment_warps`. A loader's worker
applies the pipeline to a picture at its own size, before the squash to the network's size.
"""

from __future__ import annotations

import numpy as np

from mpc_lite.data.augment import pixels, warps
from mpc_lite.data.augment.warps import Pair
from mpc_lite.errors import InputError

LONGEST = 32766  # OpenCV's remap counts in 16 bits


def official_augment(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, size: int = 512) -> Pair:
    """One picture and its mask, augmented as in the released code.

    With probability 1/4 nothing happens. Otherwise, in this order: scaled by U(0.5, 1) (p 3/4); mirrored outwards to at
    least size × size pixels; mirrored, flipped, turned or transposed (p 3/4); saved as JPEG of quality 50-95 (p 3/4);
    and one operation of one of the three `GROUPS` (p 1/4).

    Args:
        image: (H,W,3) uint8 RGB. mask: (H,W) uint8, 1 tampered, 0 authentic, 255 ignore.
        rng: every random number comes from it: the same state gives the same result.
        size: side of the network's input. The caller resizes. Sizes in pixels, as the ± 50 of the elastic warp, are
            meant for 512 and do not shrink with it.
    Returns:
        image and mask of one common size, in general another one; the very arrays that came in when nothing happens.
    Raises:
        InputError: another type or shape; a mask of another size; no pixels, or a side of more than 32 766.

    Source: the pipeline of FOCAL, which MPC's released code takes over but for the strength of the elastic warp;
    details by albumentations 1.3.1, the version that it pins. Ours differs in: red and blue in `augment_pixels.jpeg`;
    NumPy's generator in place of Python's, so that single pictures differ and their distribution does not.
    """
    _check(image, mask)
    if rng.random() >= 0.75:
        return image, mask
    if rng.random() < 0.75:
        image, mask = warps.scale(image, mask, rng.uniform(0.5, 1))
    image, mask = warps.pad(image, mask, size)
    if rng.random() < 0.75:
        image, mask = random_turn(image, mask, rng)
    if rng.random() < 0.75:
        image = pixels.jpeg(image, int(rng.integers(50, 96)))
    if rng.random() < 0.25:
        operations = GROUPS[rng.integers(len(GROUPS))]
        image, mask = operations[rng.integers(len(operations))](image, mask, rng)
    return image, mask


def _check(image: np.ndarray, mask: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB")
    height, width = image.shape[:2]
    if mask.dtype != np.uint8 or mask.shape != (height, width):
        raise InputError(f"mask of shape {mask.shape} and type {mask.dtype}; expected ({height}, {width}) uint8")
    if not 1 <= min(height, width) <= max(height, width) <= LONGEST:
        raise InputError(f"image {width}×{height}; augmentation takes sides of 1 to {LONGEST} pixels: make it smaller")


def random_turn(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """One of four with equal chances; a rotation by 0 quarters is one of the rotations."""
    kind = ("mirror", "flip", "rotate", "transpose")[rng.integers(4)]
    return warps.turn(image, mask, kind, int(rng.integers(4)) if kind == "rotate" else 1)


# ----------------------------------------------------------------------------------- the three groups and their chances


def _odd(rng: np.random.Generator) -> int:
    return int(rng.choice([3, 5, 7]))


def _box_blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return pixels.box_blur(image, _odd(rng)), mask


def _gaussian_blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    # A whole number from 3 to 7; albumentations takes the next odd one, so 5 and 7 come twice as often as 3.
    return pixels.gaussian_blur(image, int(rng.integers(3, 8)) // 2 * 2 + 1), mask


def _median_blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return pixels.median_blur(image, _odd(rng)), mask


def _motion_blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    size = _odd(rng)
    x = rng.integers(size, size=2)
    y = rng.choice(size, 2, replace=False) if x[0] == x[1] else rng.integers(size, size=2)
    (start, end) = ((int(x[k]), int(y[k])) for k in range(2))
    return pixels.motion_blur(image, pixels.motion_kernel(size, start, end)), mask


def _downscale(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return pixels.downscale(image), mask


def _gaussian_noise(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    sigma = np.float32(np.sqrt(rng.uniform(10, 50)))  # the variance is drawn, in grey levels of 0-255, squared
    return pixels.gaussian_noise(image, sigma * rng.standard_normal(image.shape, dtype=np.float32)), mask


def _iso_noise(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    colour, intensity = rng.uniform(0.01, 0.05), rng.uniform(0.1, 0.5)
    hue = np.float32(360 * colour * intensity) * rng.standard_normal(mask.shape, dtype=np.float32)
    photons = rng.poisson(255 * intensity * pixels.lightness_deviation(image), mask.shape).astype(np.float32)
    return pixels.iso_noise(image, hue, photons), mask


def _brightness_contrast(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return pixels.brightness_contrast(image, rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)), mask


def _gamma(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return pixels.gamma(image, rng.uniform(0.8, 1.2)), mask


def _tone_curve(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    low, high = np.clip(rng.normal([0.25, 0.75], 0.1), 0, 1)
    return pixels.tone_curve(image, low, high), mask


def _sharpen(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return pixels.sharpen(image, rng.uniform(0.2, 0.5), rng.uniform(0.5, 1)), mask


def _elastic(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    # ± 50 pixels, albumentations' own value: the released code dropped the 3.6 of FOCAL.
    shifts = rng.uniform(-50, 50, (3, 2))
    noise = 2 * rng.random((2, *mask.shape), dtype=np.float32) - 1
    return warps.elastic(image, mask, shifts, noise)


def _grid_distortion(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return warps.grid_distortion(image, mask, rng.uniform(0.7, 1.3, 6), rng.uniform(0.7, 1.3, 6))


GROUPS = (
    (_box_blur, _gaussian_blur, _median_blur, _motion_blur),
    (_downscale, _gaussian_noise, _iso_noise, _brightness_contrast, _gamma, _tone_curve, _sharpen),
    (_elastic, _grid_distortion),
)
