"""Do two micro-batches of half the size train as well as one? Write half-batches.json beside this.

    python book/results/half-batches.py FOLDER [WAY,… [SEED,…]]

Two processes of half the batch use two cores, and batch norm then sees half the images at a time; one process with
`accumulate: 2` computes the same. Recipe `quickstart`, both stages, `whole` as it stands and `halves` so. Finished runs
of FOLDER are not run again, an unfinished one goes on, and each call writes half-batches.json from all that have
finished. Runs of one seed share their first weights and their images; all are scored on the same test images.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import MPC
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import finetune
from mpc_lite.training.pretrain import pretrain

RESULT = Path(__file__).with_suffix(".json")
RECIPE, WAYS, SEEDS = "quickstart", ("whole", "halves"), (0, 1, 2)
TEST, TEST_SEED = 160, 7  # images, and a seed of their own: the same for every run


def overrides(way: str, seed: int) -> dict:
    values: dict = {"seed": seed}
    if way == "halves":
        recipe = load_recipe(RECIPE)
        for stage in ("pretrain", "finetune"):
            values |= {f"{stage}.batch": getattr(recipe, stage).batch // 2, f"{stage}.accumulate": 2}
    return values


def run(way: str, seed: int, out: Path, manifest: Path) -> dict:
    recipe, started = load_recipe(RECIPE, overrides=overrides(way, seed)), time.monotonic()
    first = pretrain(recipe, out, resume=True, device="cpu")
    weights = finetune(recipe, out, weights=first, resume=True, device="cpu")
    trained, how = time.monotonic() - started, recipe.evaluate
    localizer = Localizer(MPC.from_pretrained(str(weights)), how.mode, how.size, how.overlap)
    with tempfile.TemporaryDirectory() as maps:
        fixed = evaluate(localizer, manifest, "mpc", maps_dir=maps, baselines={})
        best = rescore(manifest, maps, "best_threshold")
    scores = {key: round(fixed["average"][key], 4) for key in ("f1", "iou", "auc")}
    scores["f1_best_threshold"] = round(best["average"]["f1"], 4)
    return {"way": way, "seed": seed, "minutes": round(trained / 60, 1), **scores}


def main(folder: Path, ways: list[str], seeds: list[int]) -> None:
    data = load_recipe(RECIPE).data
    manifest = Stream("test", TEST_SEED, data, data.test_size).write(folder / "test", TEST, data.test_size)
    for seed in seeds:
        for way in ways:
            out = folder / f"{way}-{seed}"
            if not (out / "scores.json").is_file():
                row = run(way, seed, out, manifest)
                write_atomic(out / "scores.json", json.dumps(row).encode())
                print(json.dumps(row), flush=True)
            facts = record(
                command="python book/results/half-batches.py FOLDER",
                recipe=RECIPE,
                test={"images": TEST, "seed": TEST_SEED, "size": data.test_size, "protocol": "mpc"},
                device="cpu",
            )
            rows = [json.loads(file.read_text()) for file in sorted(folder.glob("*/scores.json"))]
            write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "runs": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2].split(",") if len(sys.argv) > 2 else list(WAYS),
        [int(seed) for seed in sys.argv[3].split(",")] if len(sys.argv) > 3 else list(SEEDS),
    )
