"""Train the recipe `lite-gpu` for the seconds there are: python FILE OUT --seconds S [--dry].

A schedule must know its steps, and how many a GPU does in a minute nobody has measured. So each stage first does a few
steps in a folder of its own, which says what one takes, and then as many as fit: a third of the time is stage 1's. When
the time is over all the same, a file `stop` in the run's folder asks for a checkpoint, as SIGTERM would. OUT holds what
a run's folder holds, and `training.json`. Without MPC_LITE_DATA the forgeries come from packaged photographs alone.
--dry: the recipe's smoke profile on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from side_by_side import write

from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import finetune
from mpc_lite.training.loop import Interrupted
from mpc_lite.training.pretrain import pretrain

STAGES = {"pretrain": (pretrain, 1 / 3), "finetune": (finetune, 1.0)}  # share of the time that is left when it begins
TRIED = 40  # steps that say how long one takes
SPARE = 0.8  # of the time goes into steps; validation and files take from the rest


def recipe_for(stage: str, steps: int | None, dry: bool) -> Recipe:
    values: dict[str, Any] = {"data.workers": 0 if dry else min(16, os.cpu_count() or 1)}
    if not dry and not os.environ.get("MPC_LITE_DATA"):
        values |= {"data.real": None, "data.photos": None, "data.scenes": ["packaged", "dead_leaves"]}
    if steps is not None:
        every = {f"{stage}.validate_every": max(1, steps // 8), f"{stage}.checkpoint_every": max(1, steps // 8)}
        values |= {f"{stage}.steps": steps, **every}
    return load_recipe("lite-gpu", "smoke" if dry else None, values)


def seconds_a_step(log: Path) -> float:
    """From the second half of a log's lines: the first steps wait for libraries and for the loader."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [(x["step"], x["seconds"]) for x in found if "seconds" in x]
    (first, start), (last, end) = lines[(len(lines) - 1) // 2], lines[-1]
    return (end - start) / max(1, last - first)


def run(stage: str, out: Path, recipe: Recipe, seconds: float, device: str, weights: Path | None = None) -> bool:
    """Whether the stage came to its end within the seconds."""
    out.mkdir(parents=True, exist_ok=True)
    clock = threading.Timer(max(1.0, seconds), (out / "stop").touch)
    clock.start()
    try:
        STAGES[stage][0](recipe, out, weights=weights, device=device)
        return True
    except Interrupted as stopped:
        print(stopped, flush=True)
        return False
    finally:
        clock.cancel()
        (out / "stop").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dry", action="store_true")
    given = parser.parse_args()
    end, device = time.monotonic() + given.seconds, "cpu" if given.dry else "cuda"
    if not given.dry and not torch.cuda.is_available():
        raise SystemExit("no GPU: torch sees no CUDA device; --dry tries the script without one")
    told: dict[str, Any] = {"dry": given.dry, "photographs": bool(os.environ.get("MPC_LITE_DATA")), "stages": {}}
    for stage, (_, share) in STAGES.items():
        began, first = time.monotonic(), given.out / "stage1.safetensors"
        weights = first if stage == "finetune" else None
        if weights and not weights.is_file():
            raise SystemExit("stage 1 was stopped before its first validation, so there are no weights to go on from")
        left = (end - began) * share
        with tempfile.TemporaryDirectory() as name:
            tried = recipe_for(stage, None if given.dry else TRIED, given.dry)
            run(stage, Path(name), tried, left / 2, device, weights)
            one = seconds_a_step(Path(name) / "log.jsonl")
        left -= time.monotonic() - began
        steps = getattr(tried, stage).steps if given.dry else max(TRIED, int(SPARE * left / one))
        plan = recipe_for(stage, steps, given.dry)
        told["stages"][stage] = {"seconds_a_step": one, "steps": steps, "batch": getattr(plan, stage).batch}
        write(given.out / "training.json", told)
        told["stages"][stage]["ended"] = run(stage, given.out, plan, left, device, None)
        told["stages"][stage]["seconds"] = time.monotonic() - began
        write(given.out / "training.json", told)
        print(f"{stage}: {json.dumps(told['stages'][stage])}", flush=True)


if __name__ == "__main__":
    main()
