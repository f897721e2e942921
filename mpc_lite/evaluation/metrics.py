"""Metrics: from a score map and a mask to counts, and from counts to F1, IoU and AUC.

Scores are rounded to 16 bits (steps of 1/65535) before anything is counted: exactly what a saved map holds, so a saved
map gives the same figures to the last digit, and "every threshold" is a histogram of 65 536 bins. Halves are rounded
down, so `score > 0.5` decides the same before and after.
"""

import math
from dataclasses import dataclass
from numbers import Real

import cv2
import numpy as np

from mpc_lite.errors import InputError, shown
from mpc_lite.images import IGNORE
from mpc_lite.inference.score_map import TOP, level_of, quantise

PART = 1 << 22  # pixels counted at a time: bincount wants 8 bytes for each


@dataclass(frozen=True)
class Counts:
    """Pixels by truth and mark: tampered and marked, authentic and marked, tampered and missed, authentic and unmarked.

    The four are integers, or integer arrays of one shape when many thresholds or images are counted at once.
    """

    tp: int | np.ndarray
    fp: int | np.ndarray
    fn: int | np.ndarray
    tn: int | np.ndarray

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    def __getitem__(self, index) -> "Counts":
        return Counts(self.tp[index], self.fp[index], self.fn[index], self.tn[index])

    def inverted(self) -> "Counts":
        """The counts had the map been inverted: marked becomes unmarked and the other way round."""
        return Counts(self.fn, self.tn, self.tp, self.fp)

    def authentic(self) -> "Counts":
        """The counts with the authentic class as the one to be found."""
        return Counts(self.tn, self.fn, self.fp, self.tp)


def _ratio(part, whole):
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)[()]


def f1(counts: Counts):
    """Foreground F1 = 2TP / (2TP + FP + FN); 0 when nothing is tampered and nothing marked, as in scikit-learn."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Counts):
    """Foreground IoU = TP / (TP + FP + FN); 0 when nothing is tampered and nothing marked, as in scikit-learn."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


# -------------------------------------------------------------------------------------------------- from maps to counts


def histogram(score_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels per class and level: (2,65536) int64, row 0 authentic, row 1 tampered. mask (H,W) 0/1, 255 is left out.

    Raises InputError when the two sizes differ, one of them holds no real numbers or the mask holds other values.
    """
    score_map, mask = _array(score_map, "score map"), _array(mask, "mask")
    levels = quantise(score_map).ravel()
    if score_map.shape != mask.shape:
        raise InputError(f"score map {score_map.shape}, mask {mask.shape}; resize the score map to the mask's size")
    truth, counts = mask.ravel(), np.zeros(3 * (TOP + 1), np.int64)
    for start in range(0, truth.size, PART):
        part = truth[start : start + PART]
        _check_values(part)
        rows = np.minimum(part.astype(np.intp), 2)
        counts += np.bincount(rows * (TOP + 1) + levels[start : start + PART], minlength=counts.size)
    return counts.reshape(3, TOP + 1)[:2]


def _check_values(mask: np.ndarray) -> None:
    wrong = (mask > 1) & (mask != IGNORE)
    if mask.dtype.kind in "if":  # else there is nothing below 0, between 0 and 1, or beside all numbers
        wrong |= (mask != 0) & (mask != 1) & (mask != IGNORE)
    if wrong.any():
        raise InputError(f"mask value {mask[wrong][0]}; expected 0 authentic, 1 tampered, 255 ignore")


def _array(values: np.ndarray, name: str) -> np.ndarray:
    """Whatever numpy takes for an array of real numbers; InputError for a tensor or a list that it does not."""
    try:
        array = np.asarray(values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {type(values).__name__} is no array ({shown(error)}); of a tensor give "
            "x.detach().float().cpu().numpy()"
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} of {array.dtype}; expected real numbers, such as float32 scores and a uint8 mask")
    return array


def counts_by_level(pixels: np.ndarray) -> Counts:
    """Counts at every threshold, from a histogram (2,65536): entry i, 0–65536, marks the pixels of level >= i."""
    above = np.zeros((2, TOP + 2), np.int64)
    above[:, : TOP + 1] = pixels[:, ::-1].cumsum(axis=1)[:, ::-1]
    (fp, tp), (authentic, tampered) = above, above[:, 0]
    return Counts(tp, fp, tampered - tp, authentic - fp)


def count(score_map: np.ndarray, mask: np.ndarray, threshold: float = 0.5) -> Counts:
    """Counts of one image with the pixels of score > threshold marked; map (H,W) in [0,1], mask (H,W) 0/1/255.

    Raises InputError as `histogram` does, and for a threshold that is no number.
    """
    if not isinstance(threshold, Real) or math.isnan(threshold):
        raise InputError(f"threshold {threshold!r}; expected a number, such as 0.5")
    return counts_by_level(histogram(score_map, mask))[level_of(threshold)]


def pixel_auc(pixels: np.ndarray) -> float | None:
    """Area under the ROC curve of a histogram (2,65536) of pixels, ties counted half; None without both classes."""
    if not pixels.any(axis=1).all():
        return None
    truth, levels = np.nonzero(pixels)
    return roc_auc(truth, levels, pixels[truth, levels])


def roc_auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve of scores (N,) of both classes, truth (N,) 0/1, ties counted half."""
    from sklearn.metrics import roc_auc_score  # takes as long to import as a photo takes to score

    return float(roc_auc_score(truth, scores, sample_weight=weights))


def ignore_border(mask: np.ndarray, erosion: int = 15, dilation: int = 11) -> np.ndarray:
    """Mask (H,W) 0/1/255 -> the same with 255 around every edge of the tampered region.

    Tampered is what erosion by a square of `erosion` pixels leaves of the region, authentic what lies outside its
    dilation by a square of `dilation` pixels. InputError for a mask of another shape or with other values, and for a
    square without a pixel. Source: TruFor's metrics.
    """
    mask = _array(mask, "mask")
    if mask.ndim != 2 or not mask.size:
        raise InputError(f"mask of shape {mask.shape}; expected (H,W)")
    if min(erosion, dilation) < 1:
        raise InputError(f"erosion {erosion}, dilation {dilation}; expected squares of at least 1 pixel")
    _check_values(mask)
    tampered = (mask == 1).astype(np.uint8)
    inner = cv2.erode(tampered, np.ones((erosion, erosion), np.uint8))
    outer = cv2.dilate(tampered, np.ones((dilation, dilation), np.uint8))
    return np.where((inner == outer) & (mask != IGNORE), inner, np.uint8(IGNORE))
