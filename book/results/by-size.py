"""How small a region does the shipped model find? Scores by the share of the image that is tampered.

    MPC_LITE_DATA=… python book/results/by-size.py

Localizes the tampered test images of the second edition (generated ones of both worlds, and the research images of the
test split) with `lite2`, sorts them by the area of their masks, and writes by-size.json beside this file: for each set
and class of areas the number of images, mean F1 at 0.5 and at each image's best threshold, mean pixel AUC.
"""

from __future__ import annotations

import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from mpc_lite.data.manifest import manifest_rows, read_mask
from mpc_lite.evaluation.protocols import get_protocol
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.inference.score_map import quantise
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe

DATA, RESULT = Path(os.environ["MPC_LITE_DATA"]), Path(__file__).with_suffix(".json")
GENERATED, SIDE = 300, 256
EDGES = (0, 0.01, 0.03, 0.1, 0.3, 1)  # shares of the image


def scored(localizer: Localizer, manifest: Path, split: str | None) -> dict[str, list[dict[str, float]]]:
    """{source: [{area, f1, f1_best_threshold, auc} of each tampered image]}."""
    rows: dict[str, list[dict[str, float]]] = {}
    for sample, problem in manifest_rows(manifest):
        if problem or sample.label != 1 or (split and sample.split != split):
            continue
        image = read_image(sample.image)
        mask = read_mask(sample, size=image.shape[:2])
        levels = quantise(localizer(image).score_map)
        fixed, best = (get_protocol(name).score_image(levels, mask) for name in ("mpc", "best_threshold"))
        line = {"area": float(mask.mean()), "f1": fixed.f1, "f1_best_threshold": best.f1, "auc": fixed.auc}
        rows.setdefault(sample.source, []).append(line)
    return rows


def by_area(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """A line for each class of areas that holds images: its bounds, the images, the means of their scores."""
    lines = []
    for low, high in pairwise(EDGES):
        those = [row for row in rows if low < row["area"] <= high]
        if those:
            means = {key: round(float(np.mean([row[key] for row in those])), 4) for key in rows[0] if key != "area"}
            lines.append({"above": low, "to": high, "images": len(those), **means})
    return lines


def main() -> None:
    localizer, data = Localizer.from_pretrained("lite2", device="cpu"), load_recipe("lite2").data
    worlds = {
        "generated, simulated cameras": data.model_copy(update={"real": None}),
        "generated from real photographs": data.model_copy(
            update={"real": data.real.model_copy(update={"share": 1.0})}
        ),
    }
    sets: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, world in worlds.items():
            manifest = Stream("test", 1, world, SIDE).write(Path(folder) / name.replace(" ", "-"), GENERATED, SIDE)
            sets[name] = [row for rows in scored(localizer, manifest, None).values() for row in rows]
    sets |= scored(localizer, DATA / "forged.csv", "test")
    facts = record(command="python book/results/by-size.py", weights="lite2", protocol="mpc", device="cpu")
    facts["sets"] = {name: by_area(rows) for name, rows in sets.items()}
    write_atomic(RESULT, (json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
