"""A run that is killed again and again: `python -m tests.trust.lives FOLDER KILLS SEED`.

This process imports torch and forks a child for each life of the run, so that a life costs no import, not even of what
the first optimiser brings along. A life is killed
at a random moment: while it starts, or after its first checkpoint, somewhere in the step that follows or in saving it.
Prints the number of kills, then lets the run end in FOLDER/killed; FOLDER/whole holds the run that nobody killed.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # in every life anew otherwise: optimisers import it, for more than a second

from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.pretrain import pretrain

STEPS = 36
RECIPE = {
    "data.scenes": ["dead_leaves"],
    "data.authentic_share": 0,
    "data.validation_images": 2,
    "pretrain.steps": STEPS,
    "pretrain.batch": 2,
    "pretrain.checkpoint_every": 1,
    "pretrain.validate_every": 12,
}
AT_MOST = 900  # seconds to wait for one life; nothing here takes them
START = 1.5  # seconds in which a life begins, roughly


def life(out: Path) -> int:
    """Start the run in a child, or go on with it; its process number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pretrain(load_recipe("quickstart", "smoke", RECIPE), out, resume=True, device="cpu")
            code = 0
        finally:
            os._exit(code)
    return child


def wait(child: int, seconds: float = AT_MOST, until: Callable[[], bool] = lambda: False) -> bool:
    """Whether the child lives still, after some seconds or as soon as something is so. SystemExit: it has failed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"a life ended with {os.waitstatus_to_exitcode(status)}")
            return False
        time.sleep(0.002)
    return True


def written(file: Path) -> int:
    """When the checkpoint that lies there was written; 0: there is none."""
    return file.stat().st_mtime_ns if file.exists() else 0


def killed(out: Path, moment: random.Random, step: float) -> bool:
    """One life, killed at some moment; False when it came to its end before. step: seconds of a step, roughly."""
    state, child = out / "pretrain.state", life(out)
    if moment.random() < 0.25:
        alive = wait(child, moment.uniform(0, START))
    else:
        before = written(state)
        alive = wait(child, until=lambda: written(state) not in (0, before)) and wait(child, moment.uniform(0, step))
    if not alive:
        return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main(folder: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    start = time.monotonic()
    if wait(life(folder / "whole")):
        raise SystemExit("the run that nobody kills does not end")
    step, moment = (time.monotonic() - start) / STEPS, random.Random(seed)
    done = sum(killed(folder / "killed", moment, step) for _ in range(kills))
    print(done, flush=True)
    if wait(life(folder / "killed")):
        raise SystemExit("the run that was killed does not end")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
