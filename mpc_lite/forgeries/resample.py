"""Moved pixels: pictures read at other places, with the same bytes under OpenCV 4 and 5, with and without a processor's
newer instructions.

OpenCV 4 and 5 round places and weights of `warpAffine` and `remap` differently: up to 4 levels of 255. Here both are
whole numbers, as in OpenCV 4: a place counts in 1/32 of a pixel, and out = (Σ w v + 512) >> 10, with weights
w = (32 − f_x)(32 − f_y), …, of the four pixels around it. Borders are mirrored without the edge pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

_PART, _FINE = 32, 1024  # of a pixel: where a value is read; where a product is rounded


@contextmanager
def without_ipp() -> Iterator[None]:
    """In this thread OpenCV's own code computes, also as a decorator of what makes pictures.

    Its x86 wheels hold Intel's IPP, which takes over some functions: bicubic resizing, linear of float32 and uint16,
    `seamlessClone`. Its results hang on the processor (AVX2 or AVX-512), and other processors have none of it: a last
    bit here and there, which rounding and JPEG make into several levels of 255.
    """
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


def remap(picture: np.ndarray, x: np.ndarray, y: np.ndarray, linear: bool = True) -> np.ndarray:
    """out(r, c) = picture(y(r, c), x(r, c)).

    picture: (H,W) or (H,W,3) uint8. x, y: (h,w) float32, pixels, 0 is the middle of the first one. linear: between the
    four pixels around the place; otherwise the nearest one. Returns (h,w) or (h,w,3) uint8.
    """
    if not linear:
        return _nearest(picture, np.rint(x), np.rint(y))
    return _read(picture, *(np.rint(places * np.float32(_PART)).astype(np.int32) for places in (x, y)))


def affine(picture: np.ndarray, matrix: np.ndarray, linear: bool = True) -> np.ndarray:
    """out(M (x, y, 1)) = picture(x, y), of the picture's size.

    picture: as for `remap`. matrix: (2,3) float64, from places of the picture to places of the result.
    """
    height, width = picture.shape[:2]
    (a, b, c), (d, e, f) = np.asarray(matrix, np.float64)
    determinant = a * e - b * d
    scale = 1 / determinant if determinant else 0.0
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    c, f = -a * c - b * f, -d * c - e * f
    columns, rows = np.arange(width), np.arange(height)[:, None]
    half = _FINE // _PART // 2 if linear else _FINE // 2
    x, y = (
        np.rint(along * columns * _FINE).astype(np.int32)
        + np.rint((down * rows + first) * _FINE).astype(np.int32)
        + half
        for along, down, first in ((a, b, c), (d, e, f))
    )
    return _read(picture, x // _PART, y // _PART) if linear else _nearest(picture, x // _FINE, y // _FINE)


def _read(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places in 1/32 of a pixel, whole numbers."""
    (left, right), (top, bottom) = (x // _PART, x % _PART), (y // _PART, y % _PART)
    total = np.full(x.shape + picture.shape[2:], 512, np.int32)
    for down, weight_y in ((0, _PART - bottom), (1, bottom)):
        for along, weight_x in ((0, _PART - right), (1, right)):
            weight = weight_x * weight_y
            values = _nearest(picture, left + along, top + down)
            total += (weight[..., None] if picture.ndim == 3 else weight) * values
    return (total >> 10).astype(np.uint8)


def _nearest(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """At whole places, where all versions agree."""
    places = (np.asarray(p, np.float32) for p in (x, y))
    return cv2.remap(picture, *places, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
