"""Does contrastive pre-training help? Train every arm at equal images seen, write contrast.json beside this file.

    MPC_LITE_DATA=… python book/results/contrast.py FOLDER [ARM,ARM,… [SEED,SEED,…]]

Finished runs of FOLDER are not run again, an unfinished one goes on, and each call writes contrast.json from all that
have finished; so calls with other arms or seeds may run side by side, one thread each. All arms are recipe `lite2`,
shortened: nano, crops of 96² from both worlds, IMAGES images seen in all. `two stages` spends a third of them on the
contrastive loss. Runs of one seed share their first weights and the stream of their images. Scored are the weights of
the last step: a choice by validation images keeps the first of equal steps, and at threshold 0.5 all steps of such
short trainings may score 0.

Arms with `% labelled` give the focal loss a fixed set of so many of stage 2's images, seen again and again for as many
steps as before; the set is the same for both. Stage 1 keeps all of its images, and their masks: it is supervised too.

`focal only, equal compute` is the one arm that sees more images. A step of stage 1 sends each image through the encoder
twice, so the steps of stage 1 count double, and focal only gets as many passes as two stages have.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from mpc_lite.data.manifest import read_manifest
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.weights import read_facts, save_weights
from mpc_lite.provenance import record
from mpc_lite.recipes.keys import DataSection
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import finetune
from mpc_lite.training.loop import starting_model
from mpc_lite.training.pretrain import pretrain

DATA, RESULT = Path(os.environ["MPC_LITE_DATA"]), Path(__file__).with_suffix(".json")
BATCH, STAGE1, STAGE2 = 16, 120, 240
IMAGES = BATCH * (STAGE1 + STAGE2)
SHORT = {
    "data.size": 96,
    "data.validation_images": 96,
    "pretrain.batch": BATCH,
    "pretrain.steps": STAGE1,
    "pretrain.validate_every": STAGE1,
    "pretrain.schedule": {"name": "cosine", "warmup": 12},
    "finetune.batch": BATCH,
    "finetune.schedule": {"name": "cosine", "warmup": 20},
}
ARMS = {  # name: (steps of stage 1, what else differs)
    "two stages, whole network": (STAGE1, {"finetune.encoder": "trained"}),
    "focal only": (0, {"finetune.encoder": "trained"}),
    "two stages, head only": (STAGE1, {"finetune.encoder": "frozen"}),
    "two stages, paper's form": (STAGE1, {"finetune.encoder": "trained", "pretrain.formulation": "paper"}),
    "random encoder, head only": (0, {"finetune.encoder": "frozen"}),
    "one stage, both losses": (0, {"finetune.encoder": "trained", "finetune.contrast": 0.001}),
    "two stages, 10 % labelled": (STAGE1, {"finetune.encoder": "trained"}),
    "focal only, 10 % labelled": (0, {"finetune.encoder": "trained"}),
    "two stages, 1 % labelled": (STAGE1, {"finetune.encoder": "trained"}),
    "focal only, 1 % labelled": (0, {"finetune.encoder": "trained"}),
    "focal only, equal compute": (0, {"finetune.encoder": "trained"}),
}
PASSES = {"focal only, equal compute": 2 * STAGE1 + STAGE2}  # its steps of stage 2, one pass an image each
LABELLED = {name: int(name.split()[-3]) / 100 for name in ARMS if name.endswith("% labelled")}
SEEDS = (0, 1, 2, 3, 4)
TEST, SIDE = 160, 192


def run(arm: str, seed: int, folder: Path, manifests: dict[str, Path]) -> dict:
    steps, changes = ARMS[arm]
    left = PASSES.get(arm, STAGE1 - steps + STAGE2)
    overrides = {**SHORT, "seed": seed, "finetune.steps": left, "finetune.validate_every": left, **changes}
    recipe, started = load_recipe("lite2", overrides=overrides), time.monotonic()
    if share := LABELLED.get(arm):
        lists = labelled(share, seed, folder.parent, recipe.data)
        recipe = load_recipe("lite2", overrides={**overrides, **lists})
    if steps:  # on tampered images alone: authentic ones have no contrast
        first = load_recipe("lite2", overrides={**overrides, "data.authentic_share": 0.0})
        whole = folder.parent / f"0-{seed}" if share else folder  # the same stage 1: it is done once a seed
        start = pretrain(first, whole, resume=True, device="cpu")
    else:
        start = folder / "initial.safetensors"
        save_weights(start, starting_model(recipe, None), recipe.as_dict(), stage="initial")
    weights = finetune(recipe, folder, resume=True, weights=start, device="cpu")
    trained = time.monotonic() - started
    scores = {}
    localizer = Localizer.from_pretrained(weights, "tiles", device="cpu")
    for name, manifest in manifests.items():
        with tempfile.TemporaryDirectory() as maps:
            split = "test" if name == "research images" else None
            fixed = evaluate(localizer, manifest, "mpc", split, maps, baselines={})
            best = rescore(manifest, maps, "best_threshold", split)
        sets = {name: fixed["average"]} if split is None else fixed["sets"]
        optima = {name: best["average"]} if split is None else best["sets"]
        for label, table in sets.items():
            scores[label] = {
                "n": table["n"],
                **{key: round(table[key], 4) for key in ("f1", "iou", "auc")},
                "f1_best_threshold": round(optima[label]["f1"], 4),
            }
        scores.setdefault("image level", {})[name] = fixed["image_level"]
    facts = {"arm": arm, "seed": seed, "step": read_facts(weights)["step"], "minutes": round(trained / 60, 1)}
    return {**facts, "scores": scores}


def labelled(share: float, seed: int, folder: Path, data: DataSection) -> dict[str, str]:
    """The keys that give stage 2 the first so many images of its stream, and validation images; made once a folder."""
    keys = {}
    for key, split, n in (
        ("data.manifest", "train", round(share * BATCH * STAGE2)),
        ("data.validation", "validation", data.validation_images),
    ):
        manifest = folder / f"{split}-{n}-{seed}" / "manifest.csv"
        if not manifest.is_file():
            Stream(split, seed, data, data.size).write(manifest.parent, n, data.size)
        keys[key] = str(manifest)
    return keys


def test_sets(folder: Path) -> dict[str, Path]:
    """Generated images of both worlds, null splices, and the research images; made once a folder."""
    data = load_recipe("lite2").data
    manifests = {"research images": DATA / "forged.csv"}
    for name, null in (("generated", False), ("null splices", True)):
        target = folder / name.replace(" ", "-")
        if not (target / "manifest.csv").is_file():
            Stream("test", 2, data, SIDE).write(target, TEST, SIDE, null=null)
        read_manifest(target / "manifest.csv")
        manifests[name] = target / "manifest.csv"
    return manifests


def main(folder: Path, arms: list[str], seeds: list[int]) -> None:
    manifests = test_sets(folder)
    for seed in seeds:
        for arm in arms:
            out = folder / f"{list(ARMS).index(arm)}-{seed}"
            if not (out / "scores.json").is_file():
                row = run(arm, seed, out, manifests)
                write_atomic(out / "scores.json", json.dumps(row).encode())
                print(json.dumps(row), flush=True)
            rows = [json.loads(file.read_text()) for file in sorted(folder.glob("*/scores.json"))]
            facts = record(
                command="python book/results/contrast.py FOLDER",
                recipe="lite2",
                overrides=SHORT,
                arms={name: {"stage 1 steps": steps, **changes} for name, (steps, changes) in ARMS.items()},
                images_seen=IMAGES,
                test={"images": TEST, "size": SIDE, "seed": 2, "protocol": "mpc"},
                device="cpu",
            )
            write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "runs": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    names = sys.argv[2].split(",") if len(sys.argv) > 2 else [str(k) for k in range(len(ARMS))]
    main(
        Path(sys.argv[1]),
        [list(ARMS)[int(name)] for name in names],
        [int(seed) for seed in sys.argv[3].split(",")] if len(sys.argv) > 3 else list(SEEDS),
    )
