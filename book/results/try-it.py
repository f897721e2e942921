"""What the page of chapter 21 reads, and what its preview would say of authentic photographs.

    python book/results/try-it.py

Writes try-it.json. The page takes its first look at a photograph that was reduced to 384 pixels. The calibration in
the weights' file holds for photographs at their own size, so the preview is given no words; this counts what they would
be, for the photographs of the calibration (`validation`) and for others that no training saw (`test`). `MPC_LITE_DATA`
names the folder of photographs.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "book" / "tools" / "site")]
try_it, second_edition = import_module("try_it"), import_module("second-edition")

from mpc_lite.files import write_atomic  # noqa: E402 (after the path to the two above)
from mpc_lite.images import read_image  # noqa: E402
from mpc_lite.inference.localizer import Localizer  # noqa: E402
from mpc_lite.provenance import record  # noqa: E402

TARGET = Path(__file__).with_suffix(".json")
WEIGHTS = "lite2"


def preview(image: np.ndarray) -> np.ndarray:
    """The photograph with its longer side at most that of the page's first look."""
    height, width = image.shape[:2]
    share = min(1, try_it.PREVIEW / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    return image if share == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def main() -> None:
    native = Localizer.from_pretrained(WEIGHTS, device="cpu")
    whole = Localizer.from_pretrained(WEIGHTS, "pad", backend="onnx")
    known, sizes, scores = native.calibration, [], {"validation": [], "test": []}
    for name, paths in second_edition.photographs().items():
        split = name.partition(":")[0]
        for path in paths:
            image = read_image(path)
            if split == "validation":
                sizes.append(image.shape[0] * image.shape[1] / 1e6)
            scores[split].append(whole(preview(image)).score)
    files = try_it.large_files(WEIGHTS, native, try_it.examples())
    results = record(
        schema=1,
        command="python book/results/try-it.py",
        fingerprint=native.fingerprint,
        bytes=try_it.first_click(files),
        megapixels={"smallest": min(sizes), "largest": max(sizes)},
        previews={
            split: {
                "n": len(each),
                "median": float(np.median(each)),
                "verdicts": dict(Counter(known.verdict(score).partition(":")[0] for score in each)),
            }
            for split, each in scores.items()
        },
    )
    write_atomic(TARGET, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
