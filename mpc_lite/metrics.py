"""Metrics: counts first, scores second, and never a number without the name of its protocol.

The field prints at least eight different "F1" for one and the same score map. Here each is a `Protocol`: a threshold
rule, a kind of F1, a way of averaging, and what happens at the border of the tampered region. `PROTOCOLS` lists them.

Scores are rounded to 16 bits (steps of 1/65535) before anything is counted: exactly what a saved map holds, so a saved
map gives the same figures to the last digit, and "every threshold" is a histogram of 65 536 bins. Halves are rounded
down, so `score > 0.5` decides the same before and after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from mpc_lite.config import InputError

TOP = 65535  # the level of score 1
IGNORE = 255
_PART = 1 << 22  # pixels counted at a time: bincount wants 8 bytes for each


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


def _released_iou(counts: Counts):
    """MPC, released code, stage-2 test: TP / (union + 1e-6), and 1 when nothing is tampered and nothing marked."""
    union = counts.tp + counts.fp + counts.fn
    return np.where(union > 0, counts.tp / (union + 1e-6), 1.0)


_F1 = {
    "foreground": f1,
    "macro": lambda c: (f1(c) + f1(c.authentic())) / 2,
    "permuted": lambda c: np.maximum(f1(c), f1(c.inverted())),
}
_IOU = {
    "foreground": iou,
    "permuted": lambda c: np.maximum(iou(c), iou(c.inverted())),
    "released": _released_iou,
}


# -------------------------------------------------------------------------------------------------- from maps to counts


def quantise(score_map: np.ndarray) -> np.ndarray:
    """Score map (H,W), float in [0,1] -> levels (H,W) uint16, 0–65535, halves rounded down; uint16 is levels already.

    Raises InputError for another shape, for NaN and for values outside [0,1].
    """
    scores = np.asarray(score_map)
    if scores.ndim != 2 or not scores.size:
        raise InputError(f"score map of shape {scores.shape}; expected (H,W), one score per pixel of the mask")
    if scores.dtype == np.uint16:
        return scores
    scores = scores.astype(np.float32)  # a copy: it is worked on in place
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -1e-5 and high <= 1 + 1e-5):  # also false for NaN
        raise InputError(f"score map with values {low:g} to {high:g}, expected [0,1]; apply a sigmoid or divide by 255")
    scores *= TOP
    scores -= 0.5
    return np.clip(np.ceil(scores, out=scores), 0, TOP, out=scores).astype(np.uint16)


def histogram(score_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels per class and level: (2,65536) int64, row 0 authentic, row 1 tampered. mask (H,W) 0/1, 255 is left out.

    Raises InputError when the two sizes differ or the mask holds other values.
    """
    levels, mask = quantise(score_map).ravel(), np.asarray(mask)
    if np.shape(score_map) != mask.shape:
        raise InputError(f"score map {np.shape(score_map)}, mask {mask.shape}; resize the score map to the mask's size")
    truth, counts = mask.ravel(), np.zeros(3 * (TOP + 1), np.int64)
    for start in range(0, truth.size, _PART):
        part = truth[start : start + _PART]
        wrong = (part > 1) & (part != IGNORE)
        if wrong.any():
            raise InputError(f"mask value {part[wrong][0]}; expected 0 authentic, 1 tampered, 255 ignore")
        rows = np.minimum(part.astype(np.intp), 2)
        counts += np.bincount(rows * (TOP + 1) + levels[start : start + _PART], minlength=counts.size)
    return counts.reshape(3, TOP + 1)[:2]


def counts_by_level(pixels: np.ndarray) -> Counts:
    """Counts at every threshold, from a histogram (2,65536): entry i, 0–65536, marks the pixels of level >= i."""
    above = np.zeros((2, TOP + 2), np.int64)
    above[:, : TOP + 1] = pixels[:, ::-1].cumsum(axis=1)[:, ::-1]
    (fp, tp), (authentic, tampered) = above, above[:, 0]
    return Counts(tp, fp, tampered - tp, authentic - fp)


def level_of(threshold: float) -> int:
    """The lowest level, 0–65536, whose score is > threshold."""
    return int(np.clip(np.floor(threshold * TOP + 1e-6) + 1, 0, TOP + 1))


def count(score_map: np.ndarray, mask: np.ndarray, threshold: float = 0.5) -> Counts:
    """Counts of one image with the pixels of score > threshold marked; map (H,W) in [0,1], mask (H,W) 0/1/255."""
    return counts_by_level(histogram(score_map, mask))[level_of(threshold)]


def pixel_auc(pixels: np.ndarray) -> float | None:
    """Area under the ROC curve of a histogram (2,65536) of pixels, ties counted half; None without both classes."""
    if not pixels.any(axis=1).all():
        return None
    truth, levels = np.nonzero(pixels)
    return float(roc_auc_score(truth, levels, sample_weight=pixels[truth, levels]))


def ignore_border(mask: np.ndarray, erosion: int = 15, dilation: int = 11) -> np.ndarray:
    """Mask (H,W) 0/1/255 -> the same with 255 around every edge of the tampered region.

    Tampered is what erosion by a square of `erosion` pixels leaves of the region, authentic what lies outside its
    dilation by a square of `dilation` pixels. Source: TruFor's metrics.
    """
    tampered = (mask == 1).astype(np.uint8)
    inner = cv2.erode(tampered, np.ones((erosion, erosion), np.uint8))
    outer = cv2.dilate(tampered, np.ones((dilation, dilation), np.uint8))
    return np.where((inner == outer) & (mask != IGNORE), inner, np.uint8(IGNORE))


def image_score(score_map: np.ndarray) -> float:
    """How tampered the whole image looks: the maximum of the map (H,W) after 8×8 mean pooling, in [0,1].

    Pooling keeps a stray pixel from raising an alarm; blocks cut by the right or lower edge average what they have.
    """
    height, width = score_map.shape
    rows, columns = np.arange(0, height, 8), np.arange(0, width, 8)
    sums = np.add.reduceat(np.add.reduceat(score_map, rows, axis=0, dtype=np.float64), columns, axis=1)
    sizes = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    return float((sums / sizes).max() / (TOP if score_map.dtype == np.uint16 else 1))


# ------------------------------------------------------------------------------------------------ from counts to scores


@dataclass(frozen=True)
class ImageScore:
    """What a protocol says about one image; `threshold` is the one used, `auc` None where the image lacks a class."""

    f1: float
    iou: float
    auc: float | None
    threshold: float
    counts: Counts


@dataclass(frozen=True)
class Protocol:
    """One way of turning score maps and masks into a number: threshold rule, kind of F1 and IoU, averaging, border."""

    name: str
    description: str
    source: str  # who scores like this
    threshold: float | None = 0.5  # pixels above it are marked; None: for each image the one with the highest F1
    f1: Literal["foreground", "macro", "permuted"] = "foreground"
    iou: Literal["foreground", "permuted", "released"] = "foreground"
    averaging: Literal["image", "pooled"] = "image"  # mean over images, or one score of all pixels together
    border: tuple[int, int] | None = None  # (erosion, dilation) of the ignored band, in pixels

    def at(self, threshold: float) -> "Protocol":
        """The same protocol with another fixed threshold; one that looks for the best threshold stays as it is."""
        return self if self.threshold is None else replace(self, threshold=threshold)

    def score_image(self, score_map: np.ndarray, mask: np.ndarray) -> ImageScore:
        """Score one image: map (H,W) in [0,1] at the mask's size, mask (H,W) 0/1/255. Raises as `histogram` does."""
        pixels = histogram(score_map, mask if self.border is None else ignore_border(mask, *self.border))
        curve = counts_by_level(pixels)
        best = self.threshold is None
        level = int(np.argmax(_F1[self.f1](curve))) if best else level_of(self.threshold)
        counts = curve[level]
        return ImageScore(
            f1=float(_F1[self.f1](counts)),
            iou=float(_IOU[self.iou](counts)),
            auc=pixel_auc(pixels),
            threshold=(level - 0.5) / TOP if best else self.threshold,
            counts=counts,
        )

    def summarise(self, scores: Sequence[ImageScore]) -> dict:
        """{n, f1, iou, auc, f1_ci95} of a set. `auc` is the mean over the images that have both classes, else None."""
        values = self._per_image(scores)
        mean_f1, mean_iou = self._average(values)
        aucs = [s.auc for s in scores if s.auc is not None]
        auc = float(np.mean(aucs)) if aucs else None
        return {"n": len(scores), "f1": mean_f1, "iou": mean_iou, "auc": auc, "f1_ci95": self.interval([scores])}

    def score_set(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict:
        """Score (map, mask) pairs of tampered images and summarise them; raises InputError when there are none."""
        return self.summarise([self.score_image(score_map, mask) for score_map, mask in pairs])

    def _per_image(self, scores: Sequence[ImageScore]) -> np.ndarray:
        if not scores:
            raise InputError("no tampered image to average over; expected at least one")
        if self.averaging == "image":
            return np.array([(s.f1, s.iou) for s in scores])
        return np.array([(s.counts.tp, s.counts.fp, s.counts.fn, s.counts.tn) for s in scores])

    def _average(self, values: np.ndarray) -> tuple[float, float]:
        if self.averaging == "image":
            mean_f1, mean_iou = values.mean(axis=0)
        else:
            total = Counts(*values.sum(axis=0))
            mean_f1, mean_iou = _F1[self.f1](total), _IOU[self.iou](total)
        return float(mean_f1), float(mean_iou)

    def interval(
        self, sets: Sequence[Sequence[ImageScore]], beside: Sequence[Sequence[ImageScore]] | None = None
    ) -> list[float] | None:
        """95 % interval of F1, averaged over the sets by their numbers of images (MPC Eq. 6).

        Percentile bootstrap with 1000 draws, seed 0: images are drawn again within each set. With `beside`, scores of
        another method on the same images, the interval of the lead over it, on the same draws. None for a single image,
        which says nothing about the spread.
        """
        ours, theirs = ([self._per_image(s) for s in group] for group in (sets, beside or []))
        sizes = [len(values) for values in ours]
        if sum(sizes) < 2:
            return None
        draws, means = np.random.default_rng(0), []
        for _ in range(1000):
            chosen = [draws.integers(n, size=n) for n in sizes]
            f1s = [self._average(values[index])[0] for values, index in zip(ours, chosen, strict=True)]
            if beside:
                f1s = [f - self._average(v[i])[0] for f, v, i in zip(f1s, theirs, chosen, strict=True)]
            means.append(np.average(f1s, weights=sizes))
        return [float(bound) for bound in np.percentile(means, (2.5, 97.5))]


_ALL = (
    Protocol(
        "mpc",
        "foreground F1 and IoU at score > 0.5, mean over images",
        "MPC, paper; MVSS-Net, IMDL-BenCo",
    ),
    Protocol(
        "mpc_legacy",
        "as mpc at 255·score > 127; IoU = intersection / (union + 1e-6), 1 when nothing is tampered and nothing marked",
        "MPC, released code, stage-2 test",
        threshold=127 / 255,
        iou="released",
    ),
    Protocol(
        "macro",
        "mean of the F1 of the tampered and of the authentic class at score > 0.5, mean over images (at native size); "
        "an all-black map scores near 0.5",
        "FOCAL",
        f1="macro",
    ),
    Protocol(
        "permuted",
        "the larger of the F1 of the map and of its inverse at score > 0.5, mean over images",
        "CAT-Net's p-F1; IMDL-BenCo's 'double'",
        f1="permuted",
        iou="permuted",
    ),
    Protocol(
        "trufor",
        "as permuted, with the border of the region ignored (erosion 15, dilation 11 pixels)",
        "TruFor, fixed threshold; SAFIRE",
        f1="permuted",
        iou="permuted",
        border=(15, 11),
    ),
    Protocol(
        "best_threshold",
        "foreground F1 at the threshold that is best for each image, chosen with the truth in hand, mean over images",
        "ForMa's second figure",
        threshold=None,
    ),
    Protocol(
        "trufor_best",
        "as trufor, at the threshold that is best for each image, chosen with the truth in hand",
        "TruFor, best threshold; SAFIRE",
        threshold=None,
        f1="permuted",
        iou="permuted",
        border=(15, 11),
    ),
    Protocol(
        "pooled",
        "foreground F1 and IoU at score > 0.5 of all pixels of the set together: large images and regions weigh more",
        "photoholmes (torchmetrics)",
        averaging="pooled",
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; raises InputError that lists the known ones."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol '{name}'; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
