"""Slow, plain readings of the metrics' definitions, one pixel at a time."""

import numpy as np


def counts(score_map: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[int, int, int, int]:
    """(tp, fp, fn, tn) with the pixels of score > threshold marked and those of mask 255 left out."""
    tp = fp = fn = tn = 0
    for score, truth in zip(score_map.ravel(), mask.ravel(), strict=True):
        if truth == 255:
            continue
        if score > threshold:
            tp, fp = tp + (truth == 1), fp + (truth == 0)
        else:
            fn, tn = fn + (truth == 1), tn + (truth == 0)
    return tp, fp, fn, tn


def f1(tp: int, fp: int, fn: int) -> float:
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0


def best_f1(score_map: np.ndarray, mask: np.ndarray, permuted: bool = False) -> float:
    """The highest F1 over every threshold that marks another set of pixels, marking all and none among them."""
    best = 0.0
    for threshold in [-1.0, *np.unique(score_map)]:
        tp, fp, fn, tn = counts(score_map, mask, threshold)
        best = max(best, f1(tp, fp, fn))
        if permuted:
            best = max(best, f1(fn, tn, tp))
    return best


def auc(score_map: np.ndarray, mask: np.ndarray) -> float:
    """Share of (tampered, authentic) pairs of pixels in the right order; a tie counts half."""
    won = pairs = 0.0
    for tampered in score_map[mask == 1]:
        for authentic in score_map[mask == 0]:
            pairs += 1
            won += 1.0 if tampered > authentic else 0.5 if tampered == authentic else 0.0
    return won / pairs


def image_score(score_map: np.ndarray) -> float:
    """Maximum over blocks of 8×8 pixels of the mean of the pixels the block has."""
    height, width = score_map.shape
    blocks = [(y, x) for y in range(0, height, 8) for x in range(0, width, 8)]
    return max(float(np.mean(score_map[y : y + 8, x : x + 8].astype(np.float64))) for y, x in blocks)
