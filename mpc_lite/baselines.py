"""Baselines: three detectors without a network, printed beside every score so that a number can be judged.

Each turns a photo into a score map in [0,1] by a fixed formula and is marked at one fixed threshold, chosen on
validation images and shipped in `pretrained/baselines.json`.
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mpc_lite.config import InputError
from mpc_lite.images import read_image
from mpc_lite.manifest import Sample, read_manifest, read_mask
from mpc_lite.metrics import TOP, counts_by_level, f1, histogram

THRESHOLDS_FILE = Path(__file__).parent / "pretrained" / "baselines.json"

ScoreMap = Callable[[np.ndarray], np.ndarray]  # (H,W,3) uint8 RGB -> (H,W) float32 in [0,1]


def all_tampered(image: np.ndarray) -> np.ndarray:
    """Score 1 everywhere: what a score is worth that has not looked at the image. (H,W,3) uint8 -> (H,W) float32."""
    return np.ones(image.shape[:2], np.float32)


def ela(image: np.ndarray) -> np.ndarray:
    """Error level analysis, relative to the image's own level: (H,W,3) uint8 RGB -> (H,W) float32 in [0,1).

    d = mean over colours and 17×17 pixels of |image - image saved as JPEG, quality 90 (Pillow)|, in levels; octaves
    r = |log2((d + 0.1) / median(d + 0.1))|; score = r / (r + 1). Taken as it is, d mostly shows texture: on generated
    forgeries no fixed threshold of it beats marking everything.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    difference = cv2.absdiff(image, np.asarray(Image.open(file))).mean(axis=2, dtype=np.float32)
    level = cv2.blur(difference, (17, 17), borderType=cv2.BORDER_REPLICATE) + np.float32(0.1)
    octaves = np.abs(np.log2(level / np.median(level)))
    return octaves / (octaves + 1)


def noise_residual(image: np.ndarray) -> np.ndarray:
    """Noise level, relative to the image's own: (H,W,3) uint8 RGB -> (H,W) float32 in [0,1).

    s = root mean square, per block of 8×8 pixels, of the grey image after the high-pass (1 -2 1)ᵀ(1 -2 1) / 6; octaves
    r = |log2((s + 0.5) / median(s + 0.5))|, resized bilinearly; score = r / (r + 1). More and less noise count alike.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    energy = cv2.filter2D(grey, cv2.CV_32F, np.outer([1, -2, 1], [1, -2, 1]) / 6) ** 2
    height, width = grey.shape
    blocks = cv2.resize(energy, (-(-width // 8), -(-height // 8)), interpolation=cv2.INTER_AREA)
    spread = np.sqrt(blocks) + np.float32(0.5)
    octaves = np.abs(np.log2(spread / np.median(spread)))
    octaves = cv2.resize(octaves, (width, height), interpolation=cv2.INTER_LINEAR)
    return octaves / (octaves + 1)


BASELINES: dict[str, ScoreMap] = {"all_tampered": all_tampered, "ela": ela, "noise_residual": noise_residual}


def choose_thresholds(manifest: str | Path | Sequence[Sample], split: str | None = None) -> dict:
    """The baselines' thresholds: for each the one with the highest mean foreground F1 over the tampered images.

    Returns what baselines.json holds: {schema, thresholds: {NAME: threshold}, validation: {manifest, n, f1}}.
    Choose on validation images, never on those that are reported. Raises InputError for a bad row and for a set without
    a tampered image.
    """
    name = None
    if isinstance(manifest, str | Path):
        name, manifest = Path(manifest).name, read_manifest(manifest, split)
    tampered = [s for s in manifest if s.label == 1 and split in (None, s.split)]
    if not tampered:
        raise InputError("no tampered image to choose thresholds on; expected rows with label 1 and a mask")
    curves = dict.fromkeys(BASELINES, 0)  # sum over images of F1 at each of the 65 537 levels
    for sample in tampered:
        image = read_image(sample.image)
        mask = read_mask(sample, size=image.shape[:2])
        for baseline, score_map in BASELINES.items():
            curves[baseline] = curves[baseline] + f1(counts_by_level(histogram(score_map(image), mask)))
    thresholds, best = {}, {}
    for baseline, curve in curves.items():
        top = np.flatnonzero(curve == curve.max())  # many levels where no score lies between them: take the middle
        thresholds[baseline] = round(float(top[len(top) // 2] - 0.5) / TOP, 6)
        best[baseline] = round(float(curve.max()) / len(tampered), 4)
    validation = {"manifest": name, "n": len(tampered), "f1": best}
    return {"schema": 1, "thresholds": thresholds, "validation": validation}


def shipped_thresholds() -> dict[str, float]:
    """The thresholds of `pretrained/baselines.json`, by name."""
    return json.loads(THRESHOLDS_FILE.read_text(encoding="utf-8"))["thresholds"]
