"""Score maps: [0,1] in 16-bit levels, and one number for the whole image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpc_lite.errors import InputError

ScoreMap = Callable[[np.ndarray], np.ndarray]  # (H,W,3) uint8 RGB -> (H,W) float32 in [0,1]
TOP = 65535  # the level of score 1
_AT_ONCE, _SIDE = 2**20, 1024  # pixels, and the side of squares, worked on at a time: copies of a large map are large


def quantise(score_map: np.ndarray) -> np.ndarray:
    """Score map (H,W), float in [0,1] -> levels (H,W) uint16, 0–65535, halves rounded down; uint16 is levels already.

    Raises InputError for another shape, for what is no real number, for NaN and for values outside [0,1].
    """
    scores = np.asarray(score_map)
    if scores.dtype.kind not in "biuf":
        raise InputError(f"score map of {scores.dtype}; expected real numbers, such as float32 scores")
    if scores.ndim != 2 or not scores.size:
        raise InputError(f"score map of shape {scores.shape}; expected (H,W), one score per pixel of the mask")
    if scores.dtype == np.uint16:
        return scores
    low, high = (float(np.float32(value)) for value in (scores.min(), scores.max()))
    if np.isnan(low):
        raise InputError("score map with NaN, expected [0,1]; give the pixels without a score one")
    if not (low >= -1e-5 and high <= 1 + 1e-5):
        raise InputError(f"score map with values {low:g} to {high:g}, expected [0,1]; apply a sigmoid or divide by 255")
    levels = np.empty(scores.shape, np.uint16)
    rows = max(1, _AT_ONCE // scores.shape[1])
    for top in range(0, len(scores), rows):
        part = scores[top : top + rows].astype(np.float32)  # a copy: it is worked on in place
        part *= TOP
        part -= 0.5
        levels[top : top + rows] = np.clip(np.ceil(part, out=part), 0, TOP, out=part)
    return levels


def level_of(threshold: float) -> int:
    """The lowest level, 0–65536, whose score is > threshold."""
    return int(np.clip(np.floor(threshold * TOP + 1e-6) + 1, 0, TOP + 1))


def image_score(score_map: np.ndarray) -> float:
    """How tampered the whole image looks: the maximum of the map (H,W) after 8×8 mean pooling, in [0,1].

    Pooling keeps a stray pixel from raising an alarm; blocks cut by the right or lower edge average what they have.
    """
    height, width = score_map.shape
    corners = [(top, left) for top in range(0, height, _SIDE) for left in range(0, width, _SIDE)]
    pooled = [_highest_mean(score_map[top : top + _SIDE, left : left + _SIDE]) for top, left in corners]
    return float(np.max(pooled) / (TOP if score_map.dtype == np.uint16 else 1))


def _highest_mean(part: np.ndarray) -> float:
    height, width = part.shape
    rows, columns = np.arange(0, height, 8), np.arange(0, width, 8)
    sums = np.add.reduceat(np.add.reduceat(part, rows, axis=0, dtype=np.float64), columns, axis=1)
    sizes = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    return (sums / sizes).max()
