"""What degradations do to forgeries, and to photographs that nobody changed: write degraded.json beside this file.

    MPC_LITE_DATA=… python book/results/degraded.py FOLDER [NAME,…]

FOLDER is that of `contrast.py`: its generated test images are scored, made there if they are missing. NAME is a shipped
network (`lite`, `lite2`) or a run of FOLDER (`0-0`: arm and seed); without names, both and every finished run of the
arms below. Networks that degraded.json holds are not scored again unless their weights have another sha256, or images,
cells or seed differ. Each image is degraded at its own size, and its map goes back to that size; the mask stays.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpc_lite.data.manifest import Sample, read_manifest, read_mask
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import Cell
from mpc_lite.evaluation.evaluate import ALARM
from mpc_lite.evaluation.metrics import roc_auc
from mpc_lite.evaluation.protocols import PROTOCOLS
from mpc_lite.evaluation.robustness import degraded_map
from mpc_lite.files import write_atomic
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.inference.score_map import image_score, quantise
from mpc_lite.network.weights import weights_sha256
from mpc_lite.provenance import record

RESULT = Path(__file__).with_suffix(".json")
SHIPPED = ("lite", "lite2")
ARMS = {"0": "two stages, whole network", "1": "focal only"}  # of contrast.py, by the number in a run's name
EACH, SEED, SHARE = 40, 0, 0.05  # images of a class; of the noise; of untouched authentic images above the threshold
SHARING = (("resize_ratio", 0.75), ("jpeg_quality", 75), ("jpeg_quality", 70))  # simulated: no network's settings
SINGLE = {
    "jpeg_quality": (95, 80, 60),
    "blur_kernel": (3, 7),
    "noise_sigma": (5, 15),
    "resize_ratio": (0.75, 0.5),
    "gamma": (0.7,),
}
CELLS = (
    Cell("none", None, ()),
    *(Cell(name, value, ((name, value),)) for name, values in SINGLE.items() for value in values),
    Cell("simulated sharing", None, SHARING),
)


def chosen(manifest: Path, each: int = EACH) -> list[Sample]:
    """The first so many authentic and tampered images of a manifest, in its order."""
    rows = read_manifest(manifest)
    found = [[sample for sample in rows if sample.label == label][:each] for label in (0, 1)]
    if min(map(len, found)) < each:
        raise InputError(f"{manifest}: {len(found[0])} authentic, {len(found[1])} tampered; expected {each} of each")
    return found[0] + found[1]


def threshold_of(authentic: Sequence[float], share: float = SHARE) -> float:
    """The score that this share of them exceeds, rounded down to whole images: 2 of 40."""
    return sorted(authentic)[-int(share * len(authentic)) - 1]


def scored(localizer: Localizer, samples: Sequence[Sample], cell: Cell) -> dict:
    """Scores of one cell: image scores of both classes, F1 of each tampered image, their means with 95 % intervals."""
    fixed, best, level = [], [], {0: [], 1: []}
    for sample in samples:
        image = read_image(sample.image)
        levels = quantise(degraded_map(localizer, image, cell.steps, SEED))
        level[sample.label].append(round(image_score(levels), 4))
        if sample.label:
            mask = read_mask(sample, size=image.shape[:2])
            fixed.append(PROTOCOLS["mpc"].score_image(levels, mask))
            best.append(PROTOCOLS["best_threshold"].score_image(levels, mask))
    means = PROTOCOLS["mpc"].summarise(fixed), PROTOCOLS["best_threshold"].summarise(best)
    return {
        "degradation": cell.degradation,
        "value": cell.value,
        "f1": round(means[0]["f1"], 4),
        "f1_ci95": [round(bound, 4) for bound in means[0]["f1_ci95"]],
        "f1_best": round(means[1]["f1"], 4),
        "f1_best_ci95": [round(bound, 4) for bound in means[1]["f1_ci95"]],
        "pixel_auc": round(means[0]["auc"], 4),
        "image_auc": round(roc_auc(np.repeat([0, 1], [*map(len, level.values())]), np.array(level[0] + level[1])), 4),
        "f1_of_each": [round(score.f1, 3) for score in fixed],
        "authentic": level[0],
        "tampered": level[1],
    }


def with_shares(cells: list[dict]) -> list[dict]:
    """The cells with the shares of images above 0.5, and above the threshold of the first cell's authentic images."""
    threshold = threshold_of(cells[0]["authentic"])
    for cell in cells:
        for name, at in (("half", ALARM), ("own", threshold)):
            for key, scores in (("alarms", cell["authentic"]), ("found", cell["tampered"])):
                cell[f"{key}_{name}"] = float(np.mean(np.array(scores) > at))
    return cells


def networks(folder: Path) -> dict[str, tuple[str, str, int | None]]:
    """{NAME: (weights, arm, seed)} of the shipped networks and of the finished runs."""
    found = {name: (name, name, None) for name in SHIPPED}
    for done in sorted(folder.glob("*/scores.json")):
        arm, _, seed = done.parent.name.partition("-")
        if arm in ARMS:
            found[done.parent.name] = (str(done.parent / "model.safetensors"), ARMS[arm], int(seed))
    return found


def test_images(folder: Path) -> Path:
    """The manifest of contrast.py's generated test images."""
    manifest = folder / "generated" / "manifest.csv"
    if not manifest.is_file():
        from contrast import test_sets  # the script beside this one; it needs MPC_LITE_DATA

        test_sets(folder)
    return manifest


def main(folder: Path, names: list[str]) -> None:
    samples = chosen(test_images(folder))
    digest = hashlib.sha256()
    for sample in samples:  # pixels: the bytes of a PNG hang on the library that packs them
        digest.update(read_image(sample.image).tobytes())
        digest.update(read_mask(sample.mask).tobytes() if sample.mask else b"")
    facts = {
        "command": "python book/results/degraded.py FOLDER",
        "images": {"of each class": EACH, "side": read_image(samples[0].image).shape[0], "sha256": digest.hexdigest()},
        "cells": [[c.degradation, c.value, [list(step) for step in c.steps]] for c in CELLS],
        "seed": SEED,
        "share": SHARE,
        "protocols": ["mpc", "best_threshold"],
        "device": "cpu, onnxruntime",
    }
    earlier = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    same = all(earlier.get(key) == facts[key] for key in ("images", "cells", "seed", "share"))
    rows = {row["name"]: row for row in earlier["networks"]} if same else {}
    known = networks(folder)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"no network '{unknown[0]}'; there are {', '.join(known)}")
    for name in names or known:
        weights, arm, seed = known[name]
        sha256 = weights_sha256(weights)
        if rows.get(name, {}).get("sha256") == sha256:
            continue
        started = time.monotonic()
        localizer = Localizer.from_pretrained(weights, "tiles", backend="onnx")  # the same maps, less time
        cells = with_shares([scored(localizer, samples, cell) for cell in CELLS])
        minutes = round((time.monotonic() - started) / 60, 1)
        about = {"name": name, "arm": arm, "seed": seed, "sha256": sha256, "minutes": minutes}
        rows[name] = {**about, "threshold": threshold_of(cells[0]["authentic"]), "cells": cells}
        text = json.dumps({"schema": 1, **record(**facts), "networks": [rows[key] for key in sorted(rows)]}, indent=1)
        text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)  # a list on one line
        write_atomic(RESULT, (text + "\n").encode())
        print(name, minutes, "minutes", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(",") if len(sys.argv) > 2 else [])
