"""Weak labels: from a dense mask the few strokes that somebody with a pen would have drawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mpc_lite.contrast.views import IGNORE
from mpc_lite.errors import InputError

STEP = 2.0  # pixels between the points of a stroke
BEND = 0.25  # standard deviation of the change of direction at each of them, radians
TRIES = 8  # directions tried where a stroke would leave its region


def scribbles(
    mask: np.ndarray,
    seed: int | Sequence[int],
    strokes: int = 2,
    length: float = 0.5,
    width: int = 3,
    margin: int = 4,
) -> np.ndarray:
    """Strokes of both classes, drawn inside their regions; everything else unlabelled. A function of its arguments.

    A stroke is a walk that bends at random and stays `margin` pixels inside its region, or, where the region is too
    thin for that, on its deepest pixels. No stroke labels a pixel that the mask labels otherwise.

    mask:    (H,W), any integer type: 0 authentic, 1 tampered, 255 neither.
    seed:    of the random numbers; a sequence such as (run's seed, row of the manifest).
    strokes: of each class that occurs. length: of a stroke, as a share of the longer side, in (0,1]. width: of a
             stroke, pixels. margin: pixels.
    Returns (H,W) uint8: 0, 1, and 255 where nothing was drawn. `(result != 255).mean()` is the labelled share.
    Raises InputError for a mask of another shape or with other values, and for a number out of range.
    Source: ours; PCLMix reads scribbles that experts drew on cardiac images.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.isin(mask, (0, 1, IGNORE)).all():
        raise InputError(f"mask {mask.shape} with values {np.unique(mask)[:4]}: expected (H,W) with 0, 1 and {IGNORE}")
    if strokes < 1 or not 0 < length <= 1 or width < 1 or margin < 0:
        raise InputError(
            f"strokes {strokes}, length {length}, width {width}, margin {margin}: "
            "expected at least 1, a share in (0,1], at least 1, at least 0"
        )
    rng = np.random.default_rng(seed)
    labels = np.full(mask.shape, IGNORE, np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    points = max(2, round(length * max(mask.shape) / STEP))
    for label in (0, 1):
        region = (mask == label).astype(np.uint8)
        if not region.any():
            continue
        inner = cv2.erode(region, kernel)
        if not inner.any():
            depth = cv2.distanceTransform(region, cv2.DIST_L2, 3)
            inner = (depth == depth.max()).astype(np.uint8)
        canvas = np.zeros_like(region)
        for _ in range(strokes):
            path = _walk(inner, points, rng)
            cv2.polylines(canvas, [path], False, 1, width)
            canvas[path[0, 0, 1], path[0, 0, 0]] = 1  # a line of one point draws nothing
        labels[(canvas & region).astype(bool)] = label
    return labels


def _walk(inner: np.ndarray, points: int, rng: np.random.Generator) -> np.ndarray:
    """(P,1,2) int32, x before y: at most so many points of a walk on the non-zero pixels of `inner`."""
    inside = np.flatnonzero(inner)
    y, x = divmod(int(inside[rng.integers(len(inside))]), inner.shape[1])
    here, heading, path = np.array([x, y], float), rng.uniform(0, 2 * np.pi), [(x, y)]
    while len(path) < points:
        heading += rng.normal(0, BEND)
        for turn in (0.0, *rng.uniform(0, 2 * np.pi, TRIES)):
            there = here + STEP * np.array([np.cos(heading + turn), np.sin(heading + turn)])
            x, y = np.rint(there).astype(int)
            if 0 <= x < inner.shape[1] and 0 <= y < inner.shape[0] and inner[y, x]:
                break
        else:
            break
        here, heading = there, heading + turn
        path.append((x, y))
    return np.array(path, np.int32)[:, None]
