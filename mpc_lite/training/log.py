"""``OUT/log.jsonl``: one JSON object a line, for people, for curves and for the progress shown in a terminal."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from mpc_lite.errors import InputError
from mpc_lite.files import write_atomic
from mpc_lite.training.processes import Processes


class Log:
    """The log of one stage. Process 0 writes it.

    Reading a loss waits for the device, so losses are added up there and read every N steps: a line holds the mean over
    all that counted, in all processes, since the line before.
    """

    def __init__(self, out: Path, stage: str, steps: int, first: int, accelerator: Accelerator, processes: Processes):
        self.path, self.stage, self.steps = out / "log.jsonl", stage, steps
        self.accelerator, self.processes = accelerator, processes
        self.every = max(1, min(10, steps // 20))
        self.begun, self.first = time.monotonic(), first
        self.sums: dict[str, Tensor] = {}
        self.counted = 0.0
        processes.first(self._open)

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        except OSError as error:
            folder = self.path.parent
            raise InputError(f"{folder} cannot be written: {error.strerror}; choose another output folder") from None
        lines = [_current(x) for x in lines if _keep(x, self.stage, self.first)]
        write_atomic(self.path, "".join(f"{x}\n" for x in lines).encode())

    def add(self, sums: dict[str, Tensor]) -> None:
        """Take down the sums of one micro-batch of this process, as they are, on the device."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()

    def step(self, step: int, counted: float, rate: float) -> None:
        """A step is done, with `counted` items in all processes; a line is written when one is due.

        Raises:
            InputError: the loss has become infinite or NaN.
        """
        self.counted += counted
        if step % self.every and step not in (1, self.steps):
            return
        sums = self.processes.sum(torch.stack(list(self.sums.values())))
        means = dict(zip(self.sums, (sums / max(1.0, self.counted)).tolist(), strict=True))
        self.sums, self.counted = {}, 0.0
        seconds = time.monotonic() - self.begun
        left = seconds / (step - self.first) * (self.steps - step)
        values = {("loss" if name == "total" else name): round(mean, 6) for name, mean in means.items()}
        times = {"seconds": round(seconds, 1), "seconds_left": round(left, 1)}
        self._write(step, {**values, "learning_rate": rate, **times})
        if not math.isfinite(values["loss"]):
            raise InputError(
                f"{self.stage}: the loss is {values['loss']} at step {step}; lower the learning rate or clip"
            )

    def validation(self, step: int, scores: dict[str, float]) -> None:
        self._write(step, {"validation": {k: round(float(v), 6) for k, v in scores.items()}})

    def _write(self, step: int, content: dict) -> None:
        flat = {k: v for k, v in content.get("validation", content).items() if isinstance(v, float)}
        self.accelerator.log({f"{self.stage}/{k}": v for k, v in flat.items()}, step=step)
        if self.processes.index == 0:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": self.stage, "step": step, "steps": self.steps, **content}) + "\n")


def _keep(line: str, stage: str, first: int) -> bool:
    """Lines of steps that will be done again go, so that curves show every step once; so does one cut off by a kill."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False
    return entry["stage"] != stage or entry["step"] <= first


def _current(line: str) -> str:
    """A line of a run begun when the learning rate was logged as "lr", with the name that the others of its log get."""
    entry = json.loads(line)
    if "lr" not in entry:
        return line
    return json.dumps({"learning_rate" if name == "lr" else name: value for name, value in entry.items()})
