"""Choose the baselines' thresholds on validation forgeries and write mpc_lite/pretrained/baselines.json.

    python book/results/baselines.py

The images are made in a temporary folder; nothing is downloaded. Run it again when the forgeries change.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from mpc_lite.evaluation.baselines import THRESHOLDS_FILE, choose_thresholds
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import write_set

SPLIT, SEED, SIZE, N, SCENES = "validation", 0, 256, 150, ["packaged", "dead_leaves"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_set(Path(folder), SPLIT, N, SEED, SIZE, Scenes(SPLIT, SCENES))
        chosen = choose_thresholds(manifest)
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    provenance = {
        "split": SPLIT,
        "seed": SEED,
        "size": SIZE,
        "n": N,
        "tampered": chosen.pop("tampered"),
        "scenes": SCENES,
    }
    provenance |= {"manifest_sha256": digest, "command": "python book/results/baselines.py"}
    text = json.dumps({"schema": 2, **chosen, "provenance": provenance}, indent=2)
    THRESHOLDS_FILE.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
