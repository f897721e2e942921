"""What should a pasted patch be called? Train PCLMix and PPPC under each `mix_label_rule`, write mix-rules.json here.

    python book/results/mix-rules.py FOLDER [NEIGHBOUR,… [RULE,… [SEED,…]]]

Recipes `pclmix` (scribbles alone) and `pppc` (labelled clean pictures, degraded ones without), half as long: STEPS
steps. Finished runs of FOLDER are not run again, an unfinished one goes on, and each call writes mix-rules.json from
all that have finished. Runs of one neighbour and seed share their first weights and their images; all are scored on
the same generated test images, with one thread.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.inference.localizer import Localizer
from mpc_lite.neighbours.stages import train_neighbour
from mpc_lite.network.model import MPC
from mpc_lite.provenance import commit, record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.recipes.neighbour_keys import MIX_LABEL_RULES

RESULT = Path(__file__).with_suffix(".json")
NEIGHBOURS = ("pclmix", "pppc")
STEPS = 160
SEEDS = (0, 1, 2)
TEST, TEST_SEED = 160, 7  # images, and a seed of their own: the same for every run


def overrides(neighbour: str, rule: str, seed: int) -> dict:
    keys = {"steps": STEPS, "validate_every": STEPS // 2, "checkpoint_every": STEPS // 4, "mix_label_rule": rule}
    keys["schedule"] = {"name": "cosine", "warmup": STEPS // 16}
    return {"seed": seed, **{f"{neighbour}.{key}": value for key, value in keys.items()}}


def run(neighbour: str, rule: str, seed: int, out: Path, manifest: Path) -> dict:
    recipe, started = load_recipe(neighbour, overrides=overrides(neighbour, rule, seed)), time.monotonic()
    weights = train_neighbour(recipe, out, resume=True, device="cpu")
    trained, way = time.monotonic() - started, recipe.evaluate
    localizer = Localizer(MPC.from_pretrained(str(weights)), way.mode, way.size, way.overlap)
    with tempfile.TemporaryDirectory() as maps:
        fixed = evaluate(localizer, manifest, "mpc", maps_dir=maps, baselines={})
        best = rescore(manifest, maps, "best_threshold")
    scores = {key: round(fixed["average"][key], 4) for key in ("f1", "iou", "auc")}
    scores["f1_best_threshold"] = round(best["average"]["f1"], 4)
    level = {key: fixed["image_level"][key] for key in ("auc", "false_alarm_rate")}
    facts = {"neighbour": neighbour, "rule": rule, "seed": seed, "minutes": round(trained / 60, 1)}
    return {**facts, **scores, "image_level": level, "commit": commit()}


def main(folder: Path, neighbours: list[str], rules: list[str], seeds: list[int]) -> None:
    data = load_recipe("pclmix").data
    manifest = Stream("test", TEST_SEED, data, data.test_size).write(folder / "test", TEST, data.test_size)
    for neighbour, seed, rule in itertools.product(neighbours, seeds, rules):
        out = folder / f"{neighbour}-{rule}-{seed}"
        if not (out / "scores.json").is_file():
            row = run(neighbour, rule, seed, out, manifest)
            write_atomic(out / "scores.json", json.dumps(row).encode())
            print(json.dumps(row), flush=True)
        facts = record(
            command="python book/results/mix-rules.py FOLDER",
            steps=STEPS,
            test={"images": TEST, "seed": TEST_SEED, "size": data.test_size, "protocol": "mpc"},
            device="cpu",
        )
        rows = [json.loads(file.read_text()) for file in sorted(folder.glob("*/scores.json"))]
        write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "runs": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    given = [each.split(",") for each in sys.argv[2:]]
    neighbours, rules, seeds = (*given, *[NEIGHBOURS, MIX_LABEL_RULES, SEEDS][len(given) :])
    main(Path(sys.argv[1]), list(neighbours), list(rules), [int(seed) for seed in seeds])
