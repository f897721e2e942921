"""Where four mirrors of a photo disagree, is the mask wrong? Write confidence.json beside this file.

    MPC_LITE_DATA=… python book/results/confidence.py [EACH]

EACH (by default 24) tampered images of three sets: generated ones of both worlds, made anew in a temporary folder, and
the test rows of `lalonde` and `casia2`. A pixel is wrong where the mask at 0.5 differs from the truth. Two signs of an
error are compared on the same pixels: a low value of `Localizer.with_confidence`, which costs three passes more, and a
score near the cut, |2s − 1| small, which costs nothing. `auc_…` is the probability that a wrong pixel has a lower value
than a right one, ties half: 0.5 is chance.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from mpc_lite.data.manifest import Sample, read_manifest, read_mask
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.weights import weights_sha256
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe

RESULT = Path(__file__).with_suffix(".json")
WEIGHTS, SEED, SIDE, GENERATED = "lite2", 3, 192, 100
BINS = 100
EDGES = (0.0, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0)  # of the confidence, for the table


def auc_of(right: np.ndarray, wrong: np.ndarray) -> float:
    """P(a wrong pixel lies in a lower bin than a right one) + ½ P(in the same), from the counts of both by bin."""
    below = np.cumsum(wrong) - wrong
    return float((right * (below + wrong / 2)).sum() / (right.sum() * wrong.sum()))


def reliability(localizer: Localizer, samples: Sequence[Sample]) -> dict:
    """Counts of right and wrong pixels by bin of each sign, and what follows from them."""
    counts = np.zeros((2, 2, BINS))  # confidence, distance from the cut; right, wrong
    for sample in samples:
        image = read_image(sample.image)
        hit, mask = localizer.with_confidence(image), read_mask(sample, size=image.shape[:2])
        known = mask != 255
        wrong = (hit.mask != (mask == 1))[known]
        for sign, values in enumerate((hit.confidence_map, np.abs(2 * hit.score_map - 1))):
            bins = np.minimum((values[known] * BINS).astype(int), BINS - 1)
            for kind, these in enumerate((bins[~wrong], bins[wrong])):
                counts[sign, kind] += np.bincount(these, minlength=BINS)
    table = []
    for low, high in pairwise(EDGES):
        here = slice(round(low * BINS), round(high * BINS))
        right, wrong = counts[0, :, here].sum(1)
        pixels = right + wrong
        share = {"pixels": round(pixels / counts[0].sum(), 4), "wrong": round(wrong / pixels, 4) if pixels else None}
        table.append({"from": low, "to": high, **share})
    return {
        "n": len(samples),
        "wrong": round(counts[0, 1].sum() / counts[0].sum(), 4),
        "auc_confidence": round(auc_of(*counts[0]), 4),
        "auc_distance": round(auc_of(*counts[1]), 4),
        "bins": table,
    }


def main(each: int) -> None:
    localizer = Localizer.from_pretrained(WEIGHTS, "tiles", device="cpu")
    research = Path(os.environ["MPC_LITE_DATA"]) / "forged.csv"
    with tempfile.TemporaryDirectory() as folder:
        written = Stream("test", SEED, load_recipe("lite2").data, SIDE).write(Path(folder), GENERATED, SIDE)
        tampered = {"generated": [s for s in read_manifest(written) if s.label]}
        for name in ("lalonde", "casia2"):
            tampered[name] = [s for s in read_manifest(research) if (s.source, s.split, s.label) == (name, "test", 1)]
        sets = {name: reliability(localizer, list(islice(rows, each))) for name, rows in tampered.items()}
    facts = record(
        command="python book/results/confidence.py",
        weights={"name": WEIGHTS, "sha256": weights_sha256(WEIGHTS)},
        each=each,
        generated={"images": GENERATED, "size": SIDE, "seed": SEED},
        device="cpu",
    )
    write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "sets": sets}, indent=1) + "\n").encode())
    print(json.dumps(sets, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 24)
