"""What the processes of test_many_processes.py do: `torchrun many_processes.py FOLDER`, and `… FOLDER kill`, `… end`,
`… die RANK`.

Each process leaves what it saw in FOLDER/RANK.pt.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import torch

from mpc_lite.cli import leave_the_others
from mpc_lite.cli import main as command
from mpc_lite.data.stream import Forgeries
from mpc_lite.errors import InputError
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import finetune
from mpc_lite.training.loop import Interrupted
from mpc_lite.training.pretrain import ContrastiveStep, Pretraining, pretrain
from mpc_lite.training.processes import Processes

STEPS = 3
SMALL = {  # nano, 64 pixels, forgeries
    "data.scenes": ["dead_leaves"],
    "data.authentic_share": 0,
    "data.validation_images": 5,
    **{
        f"{stage}.{key}": value
        for stage in ("pretrain", "finetune")
        for key, value in {"steps": STEPS, "batch": 2, "validate_every": STEPS, "checkpoint_every": 1}.items()
    },
    "finetune.encoder": "trained",
}


def recipe(**changes):
    return load_recipe("quickstart", "smoke", {**SMALL, **{k.replace("__", "."): v for k, v in changes.items()}})


OPTIONS = ["--recipe", "quickstart", "--profile", "smoke"]
OPTIONS += [word for key, value in SMALL.items() for word in ("-p", f"{key}={value}")]

# One term, so that most projections get no gradient and an image passes once; weights that all but stand still.
STILL = recipe(pretrain__terms=["within_image"], pretrain__learning_rate=1e-12, pretrain__checkpoint_every=STEPS)

RARE = recipe(pretrain__checkpoint_every=100)  # none before the end


def uneven(seen: dict):
    """Training images of which some hold one class only and some are ignored in part; notes what was read."""
    plain = Forgeries.__getitem__

    def item(self, position):
        made = plain(self, position)
        if self.split == "train":
            seen.setdefault("positions", []).append(position)
            if position in (0, 1, 5, 11):
                made["mask"] = torch.zeros_like(made["mask"])
            if position % 7 == 2:
                made["mask"][:40] = 255
        return made

    return item


def note_counts(seen: dict) -> None:
    """How many images count in each micro-batch of stage 1."""
    count = Pretraining.count

    def counting(self, batch):
        seen.setdefault("counts", []).append(count(self, batch))
        return seen["counts"][-1]

    Pretraining.count = counting


def note_statistics(seen: dict) -> None:
    """The running statistics before and after they are averaged."""
    average = Processes.average_statistics

    def averaging(self, model):
        before = statistics(model)
        average(self, model)
        seen.setdefault("statistics", []).append((before, statistics(model)))

    Processes.average_statistics = averaging


def statistics(model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if "running_" in k}


def note_gradients(seen: dict) -> None:
    """Of the first step that is made from now on. (Adam's steps are no measure: it makes rounding errors as large as
    anything else where a gradient is zero but for them.)"""
    step = torch.optim.AdamW.step

    def noting(self, *arguments, **options):
        seen.setdefault("gradients", [p.grad.clone() for group in self.param_groups for p in group["params"]])
        return step(self, *arguments, **options)

    torch.optim.AdamW.step = noting


def in_step(number: int, rank: int, act) -> None:
    """Let one process do something in the forward pass of a step."""
    forward, calls = ContrastiveStep.forward, []

    def acting(self, batch):
        calls.append(1)
        if len(calls) == number and int(os.environ["RANK"]) == rank:
            act()
        return forward(self, batch)

    ContrastiveStep.forward = acting


def end_the_launcher() -> None:
    """SIGTERM to the process that started this one, and wait until it has been handed on."""
    told, answer = threading.Event(), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: (told.set(), answer(number, frame)))
    os.kill(os.getppid(), signal.SIGTERM)
    assert told.wait(60), "the launcher kept SIGTERM to itself"


def outcome(work) -> str:
    try:
        return f"done: {work().name}"
    except (Interrupted, InputError) as error:
        return f"{type(error).__name__}: {error}"


def main(folder: Path) -> None:
    seen, rank = {}, int(os.environ["RANK"])
    plain, forward = Forgeries.__getitem__, ContrastiveStep.forward
    count, average = Pretraining.count, Processes.average_statistics
    seen["unbroken"] = outcome(lambda: pretrain(recipe(), folder / "unbroken", device="cpu"))

    Forgeries.__getitem__ = uneven(seen)
    note_counts(seen)
    pretrain(recipe(), folder / "uneven", device="cpu")
    Pretraining.count = count
    seen["positions of stage 1"] = seen.pop("positions")
    finetune(recipe(), folder / "uneven", device="cpu")
    Forgeries.__getitem__ = plain

    in_step(2, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
    note_statistics(seen)
    seen["stopped"] = outcome(lambda: pretrain(STILL, folder / "stopped", device="cpu"))
    Processes.average_statistics = average
    ContrastiveStep.forward = forward

    if rank == 1:
        Forgeries.__getitem__ = lambda self, p: "row 7 is bad" if p == 10 else plain(self, p)  # read in step 2
    # Two micro-batches in each process, activations computed twice: neither may show in the gradients.
    twice = recipe(finetune__accumulate=2, finetune__checkpoint_activations=True)
    note_gradients(seen)
    seen["bad"] = outcome(lambda: finetune(twice, folder / "bad", weights="lite-stage1", device="cpu"))
    torch.save(seen, folder / f"{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[2:] == ["kill"]:
        in_step(3, 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
        pretrain(recipe(), Path(sys.argv[1]), device="cpu")
    elif sys.argv[2:3] == ["die"]:
        in_step(3, int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGKILL))
        sys.exit(command(["pretrain", "--out", sys.argv[1], "--device", "cpu", *OPTIONS]))
    elif sys.argv[2:] == ["end"]:
        in_step(2, 0, end_the_launcher)
        said = outcome(lambda: pretrain(RARE, Path(sys.argv[1]), device="cpu"))
        os.write(1, f"{said}\n".encode())  # at once: print may write the end of the line apart, into the other's line
    else:
        main(Path(sys.argv[1]))
    leave_the_others()
