"""How do the arms of `neighbours`, trained on generated forgeries alone, do on research images? neighbours-real.json.

    MPC_LITE_DATA=… python book/results/neighbours-real.py runs/neighbours/lite

FOLDER holds the run folders of `mpc-lite reproduce neighbours`. Each finished run is scored once, on the test rows of
`lalonde` and on `casia2`, fed as its recipe says; a run whose weights have been scored is skipped, and each call writes
all that is known. Nothing is chosen here: no threshold, no step, no arm.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from mpc_lite.data.manifest import read_manifest
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import weights_sha256
from mpc_lite.provenance import record
from mpc_lite.reproduce.neighbour_scores import arm_of

RESULT = Path(__file__).with_suffix(".json")
SETS = ("lalonde", "casia2")


def scores(weights: Path, way: dict, manifest: Path) -> dict[str, dict]:
    """{set: figures} of tampered images, with those of whole images where the set has authentic ones."""
    localizer = Localizer(MPC.from_pretrained(str(weights)), way["mode"], way["size"], way["overlap"])
    figures = {}
    for name in SETS:
        samples = [s for s in read_manifest(manifest) if (s.source, s.split) == (name, "test")]
        with tempfile.TemporaryDirectory() as maps:
            fixed = evaluate(localizer, samples, "mpc", maps_dir=maps, baselines={})
            best = rescore(samples, maps, "best_threshold")
        table, level = fixed["average"], fixed["image_level"]
        figures[name] = {
            "n": table["n"],
            **{key: round(table[key], 4) for key in ("f1", "iou", "auc")},
            "f1_best_threshold": round(best["average"]["f1"], 4),
            "n_authentic": level["n_authentic"],
            "image_auc": level["auc"] and round(level["auc"], 4),
            "false_alarms": level["false_alarm_rate"],
        }
    return figures


def main(folder: Path, manifest: Path) -> None:
    known = json.loads(RESULT.read_text())["runs"] if RESULT.is_file() else []
    for file in sorted(folder.glob("*/results.json")):
        run, weights = json.loads(file.read_text()), file.parent / "model.safetensors"
        arm, sha256 = arm_of(run), weights_sha256(weights)
        if arm is None or any(sha256 == row["weights"] for row in known):
            continue
        same = [row for row in known if (row["arm"], row["seed"], row["profile"]) == (arm, run["seed"], run["profile"])]
        known = [row for row in known if row not in same]
        row = {"arm": arm, "seed": run["seed"], "profile": run["profile"], "weights": sha256}
        known.append({**row, "sets": scores(weights, run["recipe"]["evaluate"], manifest)})
        known.sort(key=lambda row: (row["profile"], row["arm"], row["seed"]))
        facts = record(command="python book/results/neighbours-real.py FOLDER", protocol="mpc", device="cpu")
        write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "runs": known}, indent=1) + "\n").encode())
        print(arm, run["seed"], json.dumps(next(r["sets"] for r in known if r["weights"] == sha256)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(os.environ["MPC_LITE_DATA"]) / "forged.csv")
