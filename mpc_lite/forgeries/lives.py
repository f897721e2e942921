"""The lives of pictures: what happens to a photograph between the camera and the one who looks at it.

It is made smaller, filtered a little, saved again with other tables and on another grid, or shown on a screen and
captured. A `Life` is drawn first and lived afterwards, so that two pieces can have lived the same one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import Image

from mpc_lite.images import TAMPERED_ABOVE

T = TypeVar("T")
Tables = tuple[tuple[int, ...], ...]  # of quantisation, luminance first, 64 numbers each

_FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Save:
    """One JPEG file: libjpeg's quality 1–100, or tables of its own; subsampling 0 = 4:4:4, 2 = 4:2:0."""

    quality: int
    tables: Tables | None
    subsampling: int


@dataclass(frozen=True)
class Life:
    """scale: pixels after / before. shift: where in its last 8×8 grid the picture begins, rows and columns."""

    scale: float
    resample: str
    filter: tuple[str, float] | None
    saves: tuple[Save, ...]
    shift: tuple[int, int]
    aligned: bool  # the piece begins on the grid of the file it was cut from


def choose(rng: np.random.Generator, shares: Mapping[T, float]) -> T:
    """One key, each as likely as its share says; shares sum to 1."""
    level = rng.random() * sum(shares.values())
    for key, share in shares.items():
        level -= share
        if level < 0:
            return key
    return key


def draw_save(rng: np.random.Generator, ranges: Mapping[str, Any], tables: Sequence[Tables]) -> Save:
    """`tables`: those of the split's photographs, none where they are lossless."""
    how = choose(rng, ranges["tables"])
    quality = int(ranges["quality"][rng.integers(len(ranges["quality"]))])
    own = None
    if how == "photograph" and tables:
        own = tables[int(rng.integers(len(tables)))]
    elif how == "sloped":
        own = sloped_tables(float(np.exp(rng.uniform(0, np.log(12)))), float(rng.uniform(0.5, 8)))
    return Save(quality, own, choose(rng, ranges["subsampling"]))


def sloped_tables(first: float, slope: float) -> Tables:
    """Tables of no library: q(u,v) = first · (1 + slope · (u+v) / 14), half as much again for colour."""
    u, v = np.mgrid[0:8, 0:8]
    steps = first * (1 + slope * (u + v) / 14)
    planes = (np.clip(np.round(factor * steps), 1, 255).astype(int) for factor in (1, 1.5))
    return tuple(tuple(int(x) for x in plane.ravel()) for plane in planes)


def draw_life(rng: np.random.Generator, ranges: Mapping[str, Any], tables: Sequence[Tables]) -> Life:
    """The life of a host or donor before the forgery. Raises KeyError for a block of `real.yaml` that is missing."""
    native = rng.random() < ranges["native_share"]
    low, high = ranges["scale"]
    scale = 1.0 if native else float(np.exp(rng.uniform(np.log(low), np.log(high))))
    saves = tuple(draw_save(rng, ranges, tables) for _ in range(choose(rng, ranges["saves"])))
    aligned = bool(rng.random() < ranges["aligned_share"])
    shift = (0, 0) if aligned else tuple(int(x) for x in rng.integers(0, 8, 2))
    return Life(
        scale=scale,
        resample=choose(rng, ranges["resample"]),
        filter=draw_filter(rng, ranges, ranges["filter_share"]),
        saves=saves,
        shift=shift,
        aligned=aligned,
    )


def draw_filter(rng: np.random.Generator, ranges: Mapping[str, Any], share: float) -> tuple[str, float] | None:
    return (choose(rng, ranges["filters"]), float(rng.random())) if rng.random() < share else None


def cut(window: np.ndarray, life: Life, side: int, place: tuple[float, float]) -> np.ndarray:
    """A piece of a photograph, made smaller as the life says, where the photograph has pixels enough.

    Args:
        window: (H,W,3) uint8, at least `side` high and wide, that begins on the file's 8×8 grid. place: in [0,1)²,
            rows and columns of the piece's corner.
    Returns:
        The piece (side,side,3) uint8.
    """
    short = min(window.shape[:2])
    extent = min(short, max(side, round(side / life.scale)))
    top, left = (int(p * (whole - extent + 1)) for p, whole in zip(place, window.shape[:2], strict=True))
    if life.aligned:
        top, left = top - top % 8, left - left % 8
    piece = window[top : top + extent, left : left + extent]
    return resize(piece, side, life.resample)


def resize(image: np.ndarray, side: int, resample: str) -> np.ndarray:
    """(H,H,3) to (side,side,3) by Pillow; far down first by averaging whole blocks, as fast viewers do."""
    if image.shape[0] == side:
        return np.ascontiguousarray(image)
    smaller = Image.fromarray(image).resize((side, side), _FILTERS[resample], reducing_gap=1.1)
    return np.asarray(smaller)


def apply_filter(image: np.ndarray, filter_: tuple[str, float] | None, rng: np.random.Generator) -> np.ndarray:
    """A mild filter, its strength in [0,1): blur σ 0.3–0.8, unsharp mask 0.3–1.2, gamma 0.75–1.35, noise
    σ 0.5–2.5 levels."""
    if filter_ is None:
        return image
    name, strength = filter_
    if name == "blur":
        return cv2.GaussianBlur(image, (0, 0), 0.3 + 0.5 * strength)
    if name == "sharpen":
        fine = image - cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
        return np.clip(np.round(image + np.float32(0.3 + 0.9 * strength) * fine), 0, 255).astype(np.uint8)
    if name == "curve":
        levels = (np.arange(256) / 255) ** (0.75 + 0.6 * strength)
        return np.round(levels * 255).astype(np.uint8)[image]
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image + np.float32(0.5 + 2 * strength) * noise), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, save: Save) -> tuple[np.ndarray, bytes]:
    """Save and open again: (H,W,3) uint8, and the file."""
    with io.BytesIO() as buffer:
        how = {"quality": save.quality} if save.tables is None else {"qtables": [list(t) for t in save.tables]}
        Image.fromarray(image).save(buffer, "JPEG", subsampling=save.subsampling, **how)
        data = buffer.getvalue()
    return np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"])), data


def live(piece: np.ndarray, life: Life, side: int, rng: np.random.Generator) -> np.ndarray:
    """Filter and save a piece (side+8,side+8,3), then cut (side,side,3) out of it: the cut shifts the grid."""
    piece = apply_filter(piece, life.filter, rng)
    for save in life.saves:
        piece, _ = jpeg(piece, save)
    top, left = life.shift
    return piece[top : top + side, left : left + side]


@dataclass(frozen=True)
class Whole:
    """What becomes of the finished picture. kind: file, resaved, resaved_twice, screenshot; size: before it lives."""

    kind: str
    size: int
    resample: str
    filter: tuple[str, float] | None
    saves: tuple[Save, ...]


def draw_whole(rng: np.random.Generator, ranges: Mapping[str, Any], tables: Sequence[Tables], size: int) -> Whole:
    kind = choose(rng, ranges["whole"])
    scale, resample = 1.0, choose(rng, ranges["resample"])
    if kind == "screenshot":
        low, high = ranges["screen_scale"]
        scale, resample = float(np.exp(rng.uniform(np.log(low), np.log(high)))), choose(rng, _SCREEN)
    elif rng.random() < ranges["whole_scale_share"]:
        scale = float(rng.uniform(*ranges["whole_scale"]))
    count = {"file": 0, "screenshot": 0, "resaved": 1, "resaved_twice": 2}[kind]
    saves = tuple(draw_save(rng, ranges, tables) for _ in range(count))
    return Whole(
        kind, max(32, round(size / scale)), resample, draw_filter(rng, ranges, ranges["whole_filter_share"]), saves
    )


_SCREEN = {"nearest": 0.3, "bilinear_plain": 0.7}
_PLAIN = {"nearest": cv2.INTER_NEAREST, "bilinear_plain": cv2.INTER_LINEAR}  # as screens do: no filter against aliasing


def finish(
    image: np.ndarray, mask: np.ndarray, whole: Whole, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bytes | None]:
    """The finished picture (size,size,3), its mask (size,size) and the JPEG file where the last step was a save."""
    if image.shape[0] != size:
        if whole.resample in _PLAIN:
            image = cv2.resize(image, (size, size), interpolation=_PLAIN[whole.resample])
        else:
            image = resize(image, size, whole.resample)
        share = cv2.resize(mask * np.uint8(255), (size, size), interpolation=cv2.INTER_AREA)
        mask = (share > TAMPERED_ABOVE).astype(np.uint8)
    image, data = apply_filter(image, whole.filter, rng), None
    for save in whole.saves:
        image, data = jpeg(image, save)
    return image, mask, data
