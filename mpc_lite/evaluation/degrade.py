"""Degradations: what happens to a photograph between the forger and the detector, in steps with units in their names.

`degrade` applies steps such as ("jpeg_quality", 80) to a photograph at its own size, before any network resizes it.
`GRIDS` holds the cells of the robustness tables: `paper` (MPC, Fig. 2), `chains` (MPC, Table 7), and `field` (what
IMDL-BenCo and SAFIRE run). The mask stays as it is; after `resize_ratio` the score map is brought back to its size.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mpc_lite.errors import InputError
from mpc_lite.images import decode, encode_jpeg

Steps = Sequence[tuple[str, float]]
JPEG_SIDE, _BESIDE = 65408, 32  # pixels of a JPEG's side, and those around them: blocks of 16, together at most 65 500


# -------------------------------------------------------------------------------------------------------------- steps


def through_jpeg(image: np.ndarray, quality: int, subsampling: int) -> np.ndarray:
    """A picture (H,W,3) uint8 RGB of any size, saved as JPEG and opened again.

    The format ends at 65 500 pixels a side. A larger picture goes in parts that begin where blocks do, and overlap by
    more than a pixel of colour looks at: as one file would give it if there were one.
    """
    height, width = image.shape[:2]
    if max(height, width) <= JPEG_SIDE + 2 * _BESIDE:
        return decode(encode_jpeg(image, quality, subsampling))
    result = np.empty_like(image)
    for top in range(0, height, JPEG_SIDE):
        for left in range(0, width, JPEG_SIDE):
            first, start = max(0, top - _BESIDE), max(0, left - _BESIDE)
            part = image[first : top + JPEG_SIDE + _BESIDE, start : left + JPEG_SIDE + _BESIDE]
            saved = decode(encode_jpeg(np.ascontiguousarray(part), quality, subsampling))
            saved = saved[top - first :, left - start :][:JPEG_SIDE, :JPEG_SIDE]
            result[top : top + JPEG_SIDE, left : left + JPEG_SIDE] = saved
    return result


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    return through_jpeg(image, int(quality), subsampling=2)


def _blur(image: np.ndarray, kernel: float, rng: np.random.Generator) -> np.ndarray:
    size = int(kernel)
    return cv2.GaussianBlur(image, (size, size), blur_sigma(size))


def blur_sigma(kernel: int) -> float:
    """Standard deviation, in pixels, of a Gaussian kernel of that many pixels: σ = 0.3·((k − 1)/2 − 1) + 0.8.

    Source: OpenCV's rule for a call that gives the kernel alone. OpenCV itself replaces kernels of 3 to 7 pixels (9 in
    newer versions) by tables that differ by about 0.02 in a weight; here the rule holds in every version.
    """
    return 0.3 * ((kernel - 1) / 2 - 1) + 0.8


def _resize(image: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    height, width = (max(1, round(ratio * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _gamma(image: np.ndarray, gamma: float, rng: np.random.Generator) -> np.ndarray:
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)[image]


# How each way of writing down a strength of noise becomes a standard deviation in grey levels.
NOISE = {
    "noise_sigma": lambda v: v,
    "noise_variance": math.sqrt,
    "noise_sigma_unit": lambda v: 255 * v,
    "noise_variance_unit": lambda v: 255 * math.sqrt(v),
}


def _add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    out = np.empty_like(image)
    for colour in range(3):  # one plane of floats at a time
        plane = rng.standard_normal(image.shape[:2], dtype=np.float32)
        plane *= np.float32(sigma)
        plane += image[..., colour]
        out[..., colour] = np.clip(np.rint(plane, out=plane), 0, 255, out=plane)
    return out


def _noise(sigma_of):
    return lambda image, value, rng: _add_noise(image, sigma_of(value), rng)


_APPLY = {
    "jpeg_quality": _jpeg,
    "blur_kernel": _blur,
    "resize_ratio": _resize,
    "gamma": _gamma,
    **{name: _noise(sigma_of) for name, sigma_of in NOISE.items()},
}
_RULES = {
    "jpeg_quality": (lambda v: v == int(v) and 1 <= v <= 100, "a whole number from 1 to 100"),
    "blur_kernel": (lambda v: v == int(v) and v >= 1 and v % 2 == 1, "an odd whole number of pixels"),
    "resize_ratio": (lambda v: v > 0, "a number above 0"),
    "gamma": (lambda v: v > 0, "a number above 0"),
    **dict.fromkeys(NOISE, (lambda v: v >= 0, "a number of at least 0")),
}


def degrade(image: np.ndarray, steps: Steps, seed: int = 0) -> np.ndarray:
    """A photograph after the steps, in their order: (H,W,3) uint8 RGB -> (H',W',3) uint8; the input is not changed.

    Steps (name, value), each from whole grey levels to whole grey levels, as if the picture were saved in between:

    - `jpeg_quality`: saved as JPEG and opened, libjpeg's scale 1–100, 4:2:0 (Pillow's default); beyond 65 500 pixels a
      side, where the format ends, in parts.
    - `blur_kernel`: Gaussian of k×k pixels, k odd, σ by `blur_sigma`; borders mirrored without the edge pixel.
    - `resize_ratio`: sides times r, rounded to whole pixels (halves to even), bilinear without a filter before it.
    - `gamma`: g -> 255·(g / 255)^γ; below 1 brightens.
    - noise: Gaussian, independent in each pixel and colour, mean 0. σ in grey levels of 0–255 is v for `noise_sigma`,
      √v for `noise_variance` (IMDL-BenCo), 255·v for `noise_sigma_unit` and 255·√v for `noise_variance_unit`: the two
      readings of a strength that is given for images in [0,1] (MPC, Fig. 2: "0.002–0.01").

    The noise is a pure function of seed and pixels of `image`: not of the file's name, nor of what was degraded before.
    Different strengths take the same draw, scaled. Raises InputError for another image, an unknown step or a value
    outside its range.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB")
    if seed < 0:
        raise InputError(f"seed {seed}; expected a whole number of at least 0")
    for name, value in steps:
        if name not in _APPLY:
            raise InputError(f"unknown degradation '{name}'; expected one of {', '.join(_APPLY)}")
        good, expected = _RULES[name]
        if not (math.isfinite(value) and good(value)):
            raise InputError(f"{name} {value:g}; expected {expected}")
    rng = _image_rng(image, seed) if any(name in NOISE for name, _ in steps) else None
    for name, value in steps:
        image = _APPLY[name](image, value, rng)
    return image if steps else image.copy()


def _image_rng(image: np.ndarray, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(np.ascontiguousarray(image))
    return np.random.default_rng([seed, *np.frombuffer(digest.digest(), "<u4").tolist()])


# -------------------------------------------------------------------------------------------------------------- grids


@dataclass(frozen=True)
class Cell:
    """One cell of a grid: what it is called (`degradation`, `value`) and the steps that it applies."""

    degradation: str
    value: float | str | None
    steps: tuple[tuple[str, float], ...]


# MPC, Table 7: J = JPEG quality 60, R = resize 0.6, B = blur kernel 5, N = noise 0.006; an order is the letters' order.
LETTERS = {"J": ("jpeg_quality", 60), "R": ("resize_ratio", 0.6), "B": ("blur_kernel", 5), "N": ("noise", 0.006)}
ORDERS = ("JRBN", "RBNJ", "BNJR", "NJRB")
READINGS = ("noise_sigma_unit", "noise_variance_unit")


def chain(order: str, noise: str = "noise_sigma_unit") -> tuple[tuple[str, float], ...]:
    """Steps of a chain by its letters, such as `JRBN`, with the noise read as `noise` says (one of `READINGS`).

    Raises InputError for other letters or another reading.
    """
    if not order or set(order) - set(LETTERS):
        raise InputError(f"chain '{order}'; expected letters of {', '.join(LETTERS)}, such as {', '.join(ORDERS)}")
    if noise not in READINGS:
        raise InputError(f"noise '{noise}' of a chain; expected one of {', '.join(READINGS)}")
    steps = (LETTERS[letter] for letter in order)
    return tuple((noise if name == "noise" else name, value) for name, value in steps)


def _cells(table: dict[str, Sequence[float]]) -> tuple[Cell, ...]:
    single = (Cell(name, value, ((name, value),)) for name, values in table.items() for value in values)
    return (Cell("none", None, ()), *single)


_RATIOS = (0.9, 0.8, 0.7, 0.6, 0.5)
_FIG2_NOISE = (0.002, 0.004, 0.006, 0.008, 0.01)
_FIELD_NOISE = (3, 7, 11, 15, 19, 23)

# The first cell of every grid is the untouched photograph: "N/A" in Fig. 2, kernel 0 in BenCo's, gamma 1 in SAFIRE's.
GRIDS: dict[str, tuple[Cell, ...]] = {
    "paper": _cells(
        {
            "jpeg_quality": (100, 90, 80, 70, 60),
            "blur_kernel": (3, 5, 7, 9, 11),
            **dict.fromkeys(READINGS, _FIG2_NOISE),
            "resize_ratio": _RATIOS,
        }
    ),
    # IMDL-BenCo: JPEG, blur with kernel 23, variances; SAFIRE: JPEG, blur up to 19, true σ, gamma. Both draw a JPEG
    # quality from {q - 1, q}; here it is q. Neither resizes: those are the paper's ratios.
    "field": _cells(
        {
            "jpeg_quality": (100, 90, 80, 70, 60, 50),
            "blur_kernel": (3, 7, 11, 15, 19, 23),
            "noise_sigma": _FIELD_NOISE,
            "noise_variance": _FIELD_NOISE,
            "resize_ratio": _RATIOS,
            "gamma": (0.7, 0.85, 1.15, 1.3),
        }
    ),
    "chains": (
        Cell("none", None, ()),
        *(Cell(f"chain, {noise}", order, chain(order, noise)) for noise in READINGS for order in ORDERS),
    ),
}


def get_grid(name: str) -> tuple[Cell, ...]:
    """The cells of that grid; raises InputError that lists the known ones."""
    if name not in GRIDS:
        raise InputError(f"unknown grid '{name}'; expected one of {', '.join(GRIDS)}")
    return GRIDS[name]
