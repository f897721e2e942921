"""Slow, plain readings of the metrics' definitions, one pixel at a time."""

from collections.abc import Callable

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


# ------------------------------------------------------------------------------------- geometry, one pair at a time


def mean_cosine(first, second, same_set: bool) -> float:
    """Mean product of a vector of each list; within one list never of a vector with itself."""
    products = [
        float(np.dot(a, b)) for i, a in enumerate(first) for j, b in enumerate(second) if not (same_set and i == j)
    ]
    return sum(products) / len(products)


def fisher(authentic, tampered) -> float:
    """Squared distance of the means over the mean squared distances to them, added up."""
    means = [np.mean(x, axis=0) for x in (authentic, tampered)]
    within = [np.mean([np.sum((v - m) ** 2) for v in x]) for x, m in zip((authentic, tampered), means, strict=True)]
    return float(np.sum((means[0] - means[1]) ** 2) / sum(within))


def purity(vectors, labels, places, others, other_labels, other_places, apart, neighbours):
    """(share, chance, counted) with dead pixels left out, neighbour by neighbour."""
    shares, chances = [], []
    for vector, label, place in zip(vectors, labels, places, strict=True):
        if not np.any(vector):
            continue
        far = [
            (-float(np.dot(vector, other)), int(other_label == label))
            for other, other_label, there in zip(others, other_labels, other_places, strict=True)
            if np.any(other) and max(abs(place - there)) >= apart
        ]
        if len(far) < neighbours:
            continue
        shares.append(np.mean([same for _, same in sorted(far)[:neighbours]]))
        chances.append(np.mean([same for _, same in far]))
    return np.mean(shares), np.mean(chances), len(shares)


def interval(
    sets: list[np.ndarray], beside: list[np.ndarray], mean_f1: Callable[[np.ndarray], float]
) -> tuple[float, float]:
    """The bootstrap, one draw at a time: images drawn again within each set, sets weighed by their numbers of images.

    sets, beside: an array a set, one row an image, or none; mean_f1: of the rows of a set."""
    sizes, generator, means = [len(values) for values in sets], np.random.default_rng(0), []
    for _ in range(1000):
        drawn = [generator.integers(n, size=n) for n in sizes]
        f1s = [mean_f1(values[rows]) for values, rows in zip(sets, drawn, strict=True)]
        if beside:
            f1s = [f - mean_f1(values[rows]) for f, values, rows in zip(f1s, beside, drawn, strict=True)]
        means.append(np.average(f1s, weights=sizes))
    return tuple(np.percentile(means, (2.5, 97.5)))
