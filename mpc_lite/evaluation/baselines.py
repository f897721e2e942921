"""Baselines: three detectors without a network, printed beside every score so that a number can be judged.

Each turns a photo into a score map in [0,1] by a fixed formula and is marked at one fixed threshold: the best there is
for the protocol in use, chosen on validation images and shipped in `pretrained/baselines.json`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mpc_lite.data.manifest import Sample, read_manifest, read_mask
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import through_jpeg
from mpc_lite.evaluation.metrics import Counts, counts_by_level
from mpc_lite.evaluation.protocols import PROTOCOLS
from mpc_lite.images import read_image
from mpc_lite.inference.score_map import TOP, ScoreMap, quantise

# Rows worked on at a time, and those beside them that JPEG (blocks of 16, and what is between their colours) and the
# blur look at: both multiples of 16, so that the blocks are those of the whole photo.
BAND, BESIDE = 512, 32
THRESHOLDS_FILE = Path(__file__).parents[1] / "pretrained" / "baselines.json"


def all_tampered(image: np.ndarray) -> np.ndarray:
    """Score 1 everywhere: what a score is worth that has not looked at the image. (H,W,3) uint8 -> (H,W) float32."""
    return np.ones(image.shape[:2], np.float32)


def ela(image: np.ndarray) -> np.ndarray:
    """Error level analysis, relative to the image's own level: (H,W,3) uint8 RGB -> (H,W) float32 in [0,1).

    d = mean over colours and 17×17 pixels of |image - image saved as JPEG, quality 90 (Pillow)|, in levels; octaves
    r = |log2((d + 0.1) / median(d + 0.1))|; score = r / (r + 1). Taken as it is, d mostly shows texture: on generated
    forgeries no fixed threshold of it beats marking everything.
    """
    level = np.empty(image.shape[:2], np.float32)
    for top in range(0, len(image), BAND):
        first = max(0, top - BESIDE)
        part = image[first : top + BAND + BESIDE]
        difference = cv2.absdiff(part, through_jpeg(part, 90, subsampling=2)).mean(axis=2, dtype=np.float32)
        blurred = cv2.blur(difference, (17, 17), borderType=cv2.BORDER_REPLICATE)
        level[top : top + BAND] = blurred[top - first :][:BAND] + np.float32(0.1)
    return _score(level, np.median(level))


def noise_residual(image: np.ndarray) -> np.ndarray:
    """Noise level, relative to the image's own: (H,W,3) uint8 RGB -> (H,W) float32 in [0,1).

    s = root mean square, per block of 8×8 pixels, of the grey image after the high-pass (1 -2 1)ᵀ(1 -2 1) / 6; octaves
    r = |log2((s + 0.5) / median(s + 0.5))|, resized bilinearly; score = r / (r + 1). More and less noise count alike.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    energy = cv2.filter2D(grey, cv2.CV_32F, np.outer([1, -2, 1], [1, -2, 1]) / 6)
    energy *= energy
    height, width = grey.shape
    blocks = cv2.resize(energy, (-(-width // 8), -(-height // 8)), interpolation=cv2.INTER_AREA)
    spread = np.sqrt(blocks) + np.float32(0.5)
    octaves = np.abs(np.log2(spread / np.median(spread)))
    del energy  # a large photo's is large
    return _score(cv2.resize(octaves, (width, height), interpolation=cv2.INTER_LINEAR))


def _score(values: np.ndarray, median: np.float32 | None = None) -> np.ndarray:
    """r / (r + 1) in the memory of `values`: these are r, or levels whose distance in octaves from `median` is r."""
    for top in range(0, len(values), BAND):
        band = values[top : top + BAND]
        if median is not None:
            np.abs(np.log2(band / median), out=band)
        band /= band + 1
    return values


BASELINES: dict[str, ScoreMap] = {"all_tampered": all_tampered, "ela": ela, "noise_residual": noise_residual}
LABELS = {"all_tampered": "all tampered", "ela": "error levels", "noise_residual": "noise residual"}  # in every table


def choose_thresholds(manifest: str | Path | Sequence[Sample], split: str | None = None) -> dict:
    """The baselines' best fixed thresholds: for each protocol with a fixed threshold, those with the highest F1.

    Returns {thresholds: {PROTOCOL: {BASELINE: threshold}}, f1: {PROTOCOL: {BASELINE: F1 there}}, tampered: how many
    images}. F1 is what `evaluate` calls the average: over the tampered images, or, where a protocol pools pixels, over
    the sets by their numbers of images. A threshold of 1 marks nothing. Choose on validation images, never on those
    that are reported. Raises InputError for a bad row and for a set without a tampered image.
    """
    if isinstance(manifest, str | Path):
        manifest = read_manifest(manifest, split)
    tampered = [s for s in manifest if s.label == 1 and split in (None, s.split)]
    if not tampered:
        raise InputError("no tampered image to choose thresholds on; expected rows with label 1 and a mask")
    protocols = [protocol for protocol in PROTOCOLS.values() if protocol.threshold is not None]
    borders = {protocol.border: protocol for protocol in protocols}
    sums: dict[tuple[str, str], np.ndarray] = {}  # F1 at each of the 65 537 levels, added up over the images
    pools: dict[tuple[str, str, str], Counts] = {}  # where pixels are pooled: counts at each level, by set
    for sample in tampered:
        image = read_image(sample.image)
        mask = read_mask(sample, size=image.shape[:2])
        for baseline, score_map in BASELINES.items():
            levels = quantise(score_map(image))
            curves = {border: counts_by_level(p.histogram(levels, mask)) for border, p in borders.items()}
            for protocol in protocols:
                curve, key = curves[protocol.border], (protocol.name, baseline)
                if protocol.averaging == "pooled":
                    pool = (*key, sample.source)
                    pools[pool] = pools[pool] + curve if pool in pools else curve
                else:
                    sums[key] = sums.get(key, 0) + protocol.f1_of(curve)
    images = Counter(s.source for s in tampered)
    for (name, baseline, source), curve in pools.items():
        f1s = images[source] * PROTOCOLS[name].f1_of(curve)
        sums[name, baseline] = sums.get((name, baseline), 0) + f1s

    chosen = {"thresholds": {p.name: {} for p in protocols}, "f1": {p.name: {} for p in protocols}}
    for (name, baseline), curve in sums.items():
        top = np.flatnonzero(curve == curve.max())  # many levels where no score lies between them: take the middle
        level = top[len(top) // 2]
        chosen["thresholds"][name][baseline] = round(min(float(level - 0.5) / TOP, 1.0), 6)
        chosen["f1"][name][baseline] = round(float(curve.max()) / len(tampered), 4)
    return {**chosen, "tampered": len(tampered)}


def shipped_thresholds(protocol: str = "mpc") -> dict[str, float]:
    """The thresholds of `pretrained/baselines.json` for a protocol, by baseline.

    Raises InputError for a protocol that has none: an unknown one, or one that looks for the best threshold itself.
    """
    thresholds = json.loads(THRESHOLDS_FILE.read_text(encoding="utf-8"))["thresholds"]
    if protocol not in thresholds:
        raise InputError(
            f"no baseline thresholds for the protocol '{protocol}'; there are some for {', '.join(thresholds)}"
        )
    return thresholds[protocol]
