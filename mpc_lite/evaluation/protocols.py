"""Protocols: never a number without the name of the way it was made.

The field prints at least eight different "F1" for one and the same score map. Here each is a `Protocol`: a threshold
rule, a kind of F1, a way of averaging, and what happens at the border of the tampered region. `PROTOCOLS` lists them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mpc_lite.errors import InputError, shown
from mpc_lite.evaluation.metrics import Counts, counts_by_level, f1, histogram, ignore_border, iou, pixel_auc
from mpc_lite.inference.score_map import TOP, level_of


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


_TOGETHER = 8  # draws of a bootstrap that are averaged at once: few, for a draw is as long as the set


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

    def histogram(self, score_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """`metrics.histogram` of the pixels that the protocol looks at."""
        return histogram(score_map, mask if self.border is None else ignore_border(mask, *self.border))

    def f1_of(self, counts: Counts):
        """The protocol's kind of F1 of counts: a number, or an array where the counts are arrays."""
        return _F1[self.f1](counts)

    def score_image(self, score_map: np.ndarray, mask: np.ndarray, ranked: bool = True) -> ImageScore:
        """Score one image: map (H,W) in [0,1] at the mask's size, mask (H,W) 0/1/255. Raises as `histogram` does.

        255 is ignored: a mask file as OpenCV or Pillow reads it has it for tampered; `read_mask` gives 1.
        Without `ranked` there is no AUC, which takes longer than the rest.
        """
        pixels = self.histogram(score_map, mask)
        curve = counts_by_level(pixels)
        best = self.threshold is None
        level = int(np.argmax(self.f1_of(curve))) if best else level_of(self.threshold)
        counts = curve[level]
        return ImageScore(
            f1=float(self.f1_of(counts)),
            iou=float(_IOU[self.iou](counts)),
            auc=pixel_auc(pixels) if ranked else None,
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
            mean_f1, mean_iou = self.f1_of(total), _IOU[self.iou](total)
        return float(mean_f1), float(mean_iou)

    def interval(
        self, sets: Sequence[Sequence[ImageScore]], beside: Sequence[Sequence[ImageScore]] | None = None
    ) -> list[float] | None:
        """95 % interval of F1, averaged over the sets by their numbers of images (MPC Eq. 6).

        Percentile bootstrap with 1000 draws, seed 0: images are drawn again within each set. With `beside`, scores of
        another method on the same images, the interval of the lead over it, on the same draws. A set of a single
        image says nothing about its spread and adds none; None where there is no larger one.
        """
        ours, theirs = ([self._per_image(s) for s in group] for group in (sets, beside or []))
        sizes = [len(values) for values in ours]
        if max(sizes, default=0) < 2:
            return None
        draws, means = np.random.default_rng(0), []
        for _ in range(1000 // _TOGETHER):
            chosen = [[draws.integers(n, size=n) for n in sizes] for _ in range(_TOGETHER)]
            indices = [np.stack(of_set, axis=1) for of_set in zip(*chosen, strict=True)]
            f1s = [self._drawn_f1(v, i) for v, i in zip(ours, indices, strict=True)]
            if beside:
                f1s = [f - self._drawn_f1(v, i) for f, v, i in zip(f1s, theirs, indices, strict=True)]
            means.append(np.average(np.stack(f1s, axis=1), axis=1, weights=sizes))
        return [float(bound) for bound in np.percentile(np.concatenate(means), (2.5, 97.5))]

    def _drawn_f1(self, values: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """(draws,) F1 as `_average` gives it, of the images `indices` (images,draws) of a set with these values."""
        if self.averaging == "image":
            return values[:, 0][indices].mean(axis=0)
        return self.f1_of(Counts(*values[indices].sum(axis=0).T))


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
        raise InputError(f"unknown protocol '{shown(name)}'; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
