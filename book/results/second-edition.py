"""What the second edition of the lite model is worth beside the first, and what its image score means.

    MPC_LITE_DATA=… python book/results/second-edition.py WEIGHTS

WEIGHTS is the file that `mpc-lite finetune --recipe lite2 --weights lite` wrote. Writes second-edition.json beside this
file. Chosen on validation images alone (real-camera forgeries of the validation split, authentic photographs outside
training): the summary of a map that is the image score. Scored once, with that choice: `lalonde` test, `casia2`,
`cvip`, generated test images, and authentic photographs of the test splits.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpc_lite.data.manifest import manifest_rows
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.evaluation.metrics import roc_auc
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.forgeries.photographs import Photographs
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.weights import weights_sha256
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe

DATA = Path(os.environ["MPC_LITE_DATA"])
TARGET = Path(__file__).with_suffix(".json")
GENERATED, SIDE = 300, 256


def summaries(score_map: np.ndarray) -> dict[str, float]:
    """Candidates for an image score, of the means over 8×8 pixels."""
    height, width = (side // 8 * 8 for side in score_map.shape)
    blocks = np.sort(score_map[:height, :width].reshape(height // 8, 8, width // 8, 8).mean((1, 3)), axis=None)

    def top(share: float) -> float:
        return float(blocks[-max(1, round(share * blocks.size)) :].mean())

    return {"maximum": float(blocks[-1]), "top 1 %": top(0.01), "top 5 %": top(0.05), "mean": top(1)}


def photographs() -> dict[str, list[Path]]:
    """Authentic photographs that no training saw, by what they serve for."""
    data = load_recipe("lite2").data.real
    sets = {}
    for split in ("validation", "test"):
        for item in Photographs(split, data.lists, data.sources, smallest=32).items:
            sets.setdefault(f"{split}: {'clothing' if item.source == 'clothing' else 'open'}", []).append(item.path)
    with open(DATA / "photos.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["source"] in ("bsds500", "kodak"):
                sets.setdefault(f"validation: {row['source']}", []).append(DATA / row["image"])
    return sets


def image_scores(localizer: Localizer, folder: Path) -> dict[str, list[dict]]:
    """{set: [{label, width × height in megapixels, summaries}]}."""
    scores = {
        name: [{"label": 0, **summaries(localizer(read_image(path)).score_map)} for path in paths]
        for name, paths in photographs().items()
    }
    manifests = {"validation: real-camera forgeries": (folder / "validation-real" / "manifest.csv", None)}
    manifests |= {"casia2": (DATA / "forged.csv", "casia2"), "lalonde": (DATA / "forged.csv", "lalonde")}
    for name, (manifest, source) in manifests.items():
        for sample, problem in manifest_rows(manifest):
            if problem or (source and (sample.source != source or sample.split != "test")):
                continue
            line = {"label": sample.label, **summaries(localizer(read_image(sample.image)).score_map)}
            scores.setdefault(name, []).append(line)
    return scores


def pixel_scores(localizer: Localizer, folder: Path) -> dict[str, dict]:
    """Every set under protocol mpc, and with the best threshold of each image, from the same maps."""
    sets = {name: (folder / name / "manifest.csv", None) for name in ("test-simulated", "test-null", "test-real")}
    sets["research images"] = (DATA / "forged.csv", "test")
    tables = {}
    for name, (manifest, split) in sets.items():
        with tempfile.TemporaryDirectory() as maps:
            fixed = evaluate(localizer, manifest, "mpc", split, maps)
            best = rescore(manifest, maps, "best_threshold", split)
        for source, table in fixed["sets"].items():
            table["f1_best_threshold"] = best["sets"][source]["f1"]
        fixed["average"]["f1_best_threshold"] = best["average"]["f1"]
        tables[name] = fixed
    return tables


def write_sets(folder: Path) -> None:
    data = load_recipe("lite2").data
    real = data.model_copy(update={"real": data.real.model_copy(update={"share": 1.0})})
    simulated = data.model_copy(update={"real": None})
    Stream("validation", 1, real, SIDE).write(folder / "validation-real", GENERATED, SIDE)
    Stream("test", 1, real, SIDE).write(folder / "test-real", GENERATED, SIDE)
    Stream("test", 1, simulated, SIDE).write(folder / "test-simulated", GENERATED, SIDE)
    Stream("test", 1, simulated, SIDE).write(folder / "test-null", GENERATED, SIDE, null=True)


def detection(scores: dict[str, list[dict]], key: str) -> dict:
    """With the threshold that 5 % of the authentic validation photographs exceed: alarms and detections of each set."""
    authentic = sorted(
        x[key]
        for name, s in scores.items()
        if name.startswith("validation")
        for x in s
        if not x["label"] and "forgeries" not in name
    )
    threshold = authentic[-(int(0.05 * (len(authentic) + 1)))]
    sets = {}
    for name, lines in scores.items():
        shares = {
            word: float(np.mean([x[key] > threshold for x in lines if x["label"] == label]))
            for label, word in ((0, "false_alarms"), (1, "detections"))
            if any(x["label"] == label for x in lines)
        }
        labels = np.array([x["label"] for x in lines])
        if 0 < labels.sum() < len(labels):
            shares["auc"] = roc_auc(labels, np.array([x[key] for x in lines]))
        sets[name] = {"n": len(lines), **shares}
    return {"photographs": len(authentic), "threshold": threshold, "sets": sets}


def main(weights: str) -> None:
    results = {"schema": 1, **record(device="cpu"), "weights": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sets(folder)
        for label, file in (("first", "lite"), ("second", weights)):
            localizer = Localizer.from_pretrained(file, "tiles", device="cpu")
            scores = image_scores(localizer, folder)
            results["weights"][label] = {
                "sha256": weights_sha256(file),
                "pixels": pixel_scores(localizer, folder),
                "images": {key: detection(scores, key) for key in ("maximum", "top 1 %", "top 5 %", "mean")},
            }
            write_atomic(TARGET, (json.dumps(results, indent=1) + "\n").encode())
            print(label, json.dumps(results["weights"][label]["images"], indent=1), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
