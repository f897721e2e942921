"""The ablation of Table 8 on a laptop: train recipe `table8` with each set of terms, write results/ablation.json.

    python book/results/ablation.py

Chapter 14 reads the file. One run is both stages from random weights, on generated crops, shortened; the encoder is
frozen in stage 2, so that the score depends on what stage 1 left. `no stage 1` is the same with a learning rate of
1e-12: running statistics settle, weights stay. Runs of one seed share their starting weights and their images.
Finished runs are kept in the folder given as the only argument, or are made anew in a temporary one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mpc_lite import MPC
from mpc_lite.contrast.loss import mpc_loss_per_image
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import forge, write_set
from mpc_lite.inference.localizer import Localizer
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import finetune
from mpc_lite.training.pretrain import pretrain

RESULT = Path(__file__).resolve().with_suffix(".json")
SEEDS, TEST, STEPS = (0, 1, 2), 96, {"pretrain": 150, "finetune": 100}
SHORT = {
    "variant": "corrected",
    "data.size": 96,
    "data.workers": 0,
    "data.validation_images": 16,
    **{f"{stage}.{key}": steps for stage, steps in STEPS.items() for key in ("steps", "validate_every")},
    "pretrain.schedule": {"name": "cosine", "warmup": 15},
    "finetune.schedule": {"name": "cosine", "warmup": 10},
}
RUNS = {
    "full": {"ablation": "full"},
    "without_within_image": {"ablation": "without_within_image"},
    "no stage 1": {
        "ablation": "full",
        "pretrain.learning_rate": 1e-12,
        "pretrain.steps": 40,
        "pretrain.validate_every": 40,
    },
    "without_cross_modality": {"ablation": "without_cross_modality"},
    "without_cross_scale": {"ablation": "without_cross_scale"},
}


def terms_of(encoder_file: Path) -> dict[str, float]:
    """Every term of the released loss on 48 test forgeries, in training mode: also those that were not trained."""
    torch.manual_seed(0)
    scenes = Scenes("test", ["packaged", "dead_leaves"])
    model = MPC.from_pretrained(encoder_file).train()
    forgeries = [forge("test", 0, index, scenes, 128, authentic_share=0) for index in range(48)]
    sums, counted = {}, 0
    for k in range(0, 48, 12):
        images, masks = (
            torch.tensor(np.stack([getattr(f, part) for f in forgeries[k : k + 12]])) for part in ("image", "mask")
        )
        images = images.permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            values, usable = mpc_loss_per_image(model.encode(images), model.encode(images), masks)
        counted += int(usable.sum())
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.sum().item()
    return {name: round(value / counted, 4) for name, value in sums.items()}


def score(file: Path, manifest: Path) -> dict[str, float]:
    """F1 at 0.5 and at each image's best threshold, IoU, pixel AUC, and the F1 of marking everything."""
    maps = file.parent / "maps"
    average = evaluate(Localizer(MPC.from_pretrained(file), "tiles", 128, 64), manifest, maps_dir=maps)["average"]
    scores = {key: average[key] for key in ("f1", "iou", "auc")}
    scores["f1_best_threshold"] = rescore(manifest, maps, "best_threshold")["average"]["f1"]
    scores["all_tampered_f1"] = average["baselines"]["all_tampered"]["f1"]
    return {key: round(value, 4) for key, value in scores.items()}


def main(folder: Path) -> None:
    scenes = Scenes("test", ["packaged", "dead_leaves"])
    manifest = write_set(folder / "test", "test", TEST, 0, 128, scenes, authentic_share=0)
    runs = []
    for name, parameters in RUNS.items():
        for seed in SEEDS:
            out, started = folder / f"{name}-{seed}".replace(" ", "_"), time.monotonic()
            recipe = load_recipe("table8", overrides={**SHORT, **parameters, "seed": seed})
            stage1 = pretrain(recipe, out, resume=True, device="cpu")
            weights = finetune(recipe, out, resume=True, device="cpu")
            row = {"run": name, "seed": seed, "terms": terms_of(stage1), **score(weights, manifest)}
            print(json.dumps(row), f"{time.monotonic() - started:.0f} s", flush=True)
            runs.append(row)
    facts = record(
        command="python book/results/ablation.py",
        recipe="table8",
        profile="lite",
        overrides=SHORT,
        parameters=RUNS,
        test={"forgeries": TEST, "size": 128, "seed": 0, "protocol": "mpc"},
        device="cpu",
    )
    write_atomic(RESULT, (json.dumps({**facts, "runs": runs}, indent=1) + "\n").encode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
