"""How large should tiles be, and how far should they overlap? Measured on validation images for tiles.json.

    MPC_LITE_DATA=… python book/results/tiles.py WEIGHTS [WEIGHTS …]

Each file is scored in every way of TILES on generated validation images of both worlds, 256² and 512², and on the
training split of `lalonde`, which no training of ours has seen: F1 at the one threshold that is best for the set, at
each image's best, pixel AUC, AUC of the image scores, and how many pixels the network computes for one of the image. No
test image is looked at.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpc_lite.data.manifest import manifest_rows, read_mask
from mpc_lite.evaluation.metrics import counts_by_level, f1, histogram, level_of, pixel_auc, roc_auc
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer, tile_starts
from mpc_lite.inference.score_map import image_score
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import weights_sha256
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe

DATA, RESULT = Path(os.environ.get("MPC_LITE_DATA", ".")), Path(__file__).with_suffix(".json")
TILES = ((192, 96), (192, 64), (224, 48), (256, 64), (320, 64))
GENERATED = {"generated, 256²": (120, 256), "generated, 512²": (32, 512)}  # images, side
SEED = 3
CUTS = np.arange(0.02, 0.981, 0.02)


def measured(localizer: Localizer, manifest: Path, split: str | None) -> dict:
    curves, best, aucs, scores, labels, pixels, computed = [], [], [], [], [], 0, 0
    for sample, problem in manifest_rows(manifest):
        if problem or (split and sample.split != split):
            continue
        hit = localizer(read_image(sample.image))
        height, width = (max(side, localizer.size) for side in hit.score_map.shape)
        tiles = np.prod([len(tile_starts(s, localizer.size, localizer.overlap)) for s in (height, width)])
        pixels, computed = pixels + hit.score_map.size, computed + int(tiles) * localizer.size**2
        scores.append(image_score(hit.score_map))
        labels.append(sample.label)
        if sample.label:
            counted = histogram(hit.score_map, read_mask(sample.mask))
            at_each = f1(counts_by_level(counted))
            curves.append([at_each[level_of(cut)] for cut in CUTS])
            best.append(at_each.max())
            aucs.append(pixel_auc(counted))
    curve = np.mean(curves, axis=0)
    row = {"n": len(best), "f1": curve.max(), "cut": CUTS[curve.argmax()], "f1_best_threshold": np.mean(best)}
    row |= {"auc": np.mean(aucs), "computed": computed / pixels}
    if len(set(labels)) == 2:
        row["image_auc"] = roc_auc(np.array(labels), np.array(scores))
    return {key: round(float(value), 4) for key, value in row.items()}


def main(files: list[str]) -> None:
    data, rows = load_recipe("lite2").data, []
    with tempfile.TemporaryDirectory() as name:
        manifests = {"lalonde, training split": (DATA / "forged.csv", "train")}
        for label, (count, side) in GENERATED.items():
            folder = Path(name) / str(side)
            Stream("validation", SEED, data, side).write(folder, count, side)
            manifests[label] = folder / "manifest.csv", None
        for weights in files:
            for size, overlap in TILES:
                localizer = Localizer(MPC.from_pretrained(weights), "tiles", size, overlap)
                sets = {label: measured(localizer, *where) for label, where in manifests.items()}
                rows.append({"weights": Path(weights).name, "sha256": weights_sha256(weights), "size": size})
                rows[-1] |= {"overlap": overlap, "sets": sets}
                print(json.dumps(rows[-1]), flush=True)
    facts = record(command="MPC_LITE_DATA=… python book/results/tiles.py WEIGHTS …", seed=SEED, device="cpu")
    write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "ways": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])
