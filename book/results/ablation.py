"""Table 8 and what it leaves out, on a laptop: train recipe `table8` in each form, write results/ablation.json.

    python book/results/ablation.py FOLDER [RUN,RUN,… [SEED,SEED,…]]

Chapters 10 and 14 read the file. One run is both stages from random weights, on generated crops, shortened; the encoder
is frozen in stage 2, so that the score depends on what stage 1 left. `no stage 1` is the same with a learning rate of
1e-12: running statistics settle, weights stay. Runs of one seed share their starting weights and their images, but for
the forms of another width. Finished runs of FOLDER are not run again, an unfinished one goes on, and each call writes
the file from all that have finished; calls with other runs or seeds may go side by side. RUN counts from 0 in RUNS. The
chapters read the first five rows with as many seeds each: until FOLDER holds these, keep the file that is committed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from mpc_lite import MPC
from mpc_lite.contrast.loss import mpc_loss_per_image
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import forge, write_set
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network import hrformer
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training import pretrain as stage1
from mpc_lite.training.finetune import finetune
from mpc_lite.training.pretrain import pretrain

RESULT = Path(__file__).resolve().with_suffix(".json")
SEEDS, TEST, STEPS = (0, 1, 2, 3, 4), 96, {"pretrain": 150, "finetune": 100}
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
    "full": {},
    "without_within_image": {"ablation": "without_within_image"},
    "no stage 1": {"pretrain.learning_rate": 1e-12, "pretrain.steps": 40, "pretrain.validate_every": 40},
    "without_cross_modality": {"ablation": "without_cross_modality"},
    "without_cross_scale": {"ablation": "without_cross_scale"},
    "within_image alone": {"pretrain.terms": ["within_image"]},
    "cross_scale alone": {"pretrain.terms": ["cross_scale"]},
    "cross_modality alone": {"pretrain.terms": ["cross_modality"]},
    "temperature 0.05": {"pretrain.temperature": 0.05},
    "temperature 0.5": {"pretrain.temperature": 0.5},
    "128 pixels a class": {"pretrain.max_pixels": 128},
    "512 pixels a class": {"pretrain.max_pixels": 512},
    "second view identical": {},
    "anchors of both classes": {},
    "32 channels": {},
    "128 channels": {},
    "no ReLU": {},
}


def nano(**changes: Any) -> AbstractContextManager:
    """Networks of size nano are built with these changes while it lasts."""
    return patch.dict(hrformer.SIZES, nano=replace(hrformer.SIZES["nano"], **changes))


def of_both_classes(maps_a, maps_b, mask, *settings, **names):
    """The released terms, and the same with the classes exchanged: tampered pixels are anchors too."""
    exchanged = torch.where(mask > 1, mask, 1 - mask)
    (ours, counted), (theirs, too) = (
        mpc_loss_per_image(maps_a, maps_b, labels, *settings, **names) for labels in (mask, exchanged)
    )
    both = counted & too
    return {name: torch.where(both, (ours[name] + theirs[name]) / 2, 0) for name in ours}, both


# What no key of a recipe says: how the network or the loss differs while a run lasts.
FORMS: dict[str, Callable[[], AbstractContextManager]] = {
    "second view identical": lambda: nano(drop_path=0.0),
    "anchors of both classes": lambda: patch.object(stage1, "mpc_loss_per_image", of_both_classes),
    "32 channels": lambda: nano(embedding=32),
    "128 channels": lambda: nano(embedding=128),
    "no ReLU": lambda: patch.object(hrformer.Projection, "forward", lambda self, x: self.bn(self.conv(x))),
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


def run(name: str, seed: int, folder: Path, manifest: Path) -> dict:
    started = time.monotonic()
    recipe = load_recipe("table8", overrides={**SHORT, "ablation": "full", **RUNS[name], "seed": seed})
    with FORMS.get(name, nullcontext)():
        encoder = pretrain(recipe, folder, resume=True, device="cpu")
        weights = finetune(recipe, folder, resume=True, device="cpu")
        row = {"run": name, "seed": seed, "terms": terms_of(encoder), **score(weights, manifest)}
    return {**row, "minutes": round((time.monotonic() - started) / 60, 1)}


def main(folder: Path, names: list[str], seeds: list[int]) -> None:
    manifest = folder / "test" / "manifest.csv"
    if not manifest.is_file():
        scenes = Scenes("test", ["packaged", "dead_leaves"])
        write_set(manifest.parent, "test", TEST, 0, 128, scenes, authentic_share=0)
    for name in names:
        for seed in seeds:
            out = folder / f"{list(RUNS).index(name)}-{seed}"
            if not (out / "scores.json").is_file():
                row = run(name, seed, out, manifest)
                write_atomic(out / "scores.json", json.dumps(row).encode())
                print(json.dumps(row), flush=True)
            rows = [json.loads(file.read_text()) for file in folder.glob("*/scores.json")]
            facts = record(
                command="python book/results/ablation.py FOLDER",
                recipe="table8",
                profile="lite",
                overrides=SHORT,
                parameters=RUNS,
                test={"forgeries": TEST, "size": 128, "seed": 0, "protocol": "mpc"},
                device="cpu",
            )
            rows.sort(key=lambda r: (list(RUNS).index(r["run"]), r["seed"]))
            write_atomic(RESULT, (json.dumps({**facts, "runs": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    chosen = sys.argv[2].split(",") if len(sys.argv) > 2 else [str(k) for k in range(len(RUNS))]
    main(
        Path(sys.argv[1]),
        [list(RUNS)[int(k)] for k in chosen],
        [int(seed) for seed in sys.argv[3].split(",")] if len(sys.argv) > 3 else list(SEEDS),
    )
