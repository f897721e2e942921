"""``OUT/log.jsonl``: one JSON object a line, for people, for curves and for the progress shown in a terminal."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from mpc_lite.errors import InputError
from mpc_lite.files import open_file, write_atomic
from mpc_lite.run_folder import check_held
from mpc_lite.training.processes import Processes
from mpc_lite.training.progress import parse


@contextmanager
def trackers_silent() -> Iterator[None]:
    """Inside the block the thread of a tracker prints no traceback of a disk that takes no more: `Log` tells it."""
    print_other = threading.excepthook

    def answer(ended: threading.ExceptHookArgs) -> None:
        if not (isinstance(ended.exc_value, OSError) and _tracks(ended.thread)):
            print_other(ended)

    threading.excepthook = answer
    try:
        yield
    finally:
        threading.excepthook = print_other


def _tracks(thread: threading.Thread | None) -> bool:
    return type(thread).__module__.startswith("tensorboard")


class Log:
    """The log of one stage, and the curves of a tracker beside it. Process 0 writes them.

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
        folder, content = self.path.parent, b""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error.strerror}; choose another output folder") from None
        try:
            with suppress(FileNotFoundError), open_file(self.path) as file:
                content = file.read()
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read: {error.strerror}; expected the log of a training run. Move it away, and "
                "--resume goes on; only its curves are lost"
            ) from None
        lines = content[: content.rfind(b"\n") + 1].splitlines()  # without one that was cut off by a kill
        entries = [parse(line) for line in lines]
        if None in entries:
            raise InputError(
                f"{self.path}: line {entries.index(None) + 1} is damaged, or this is no log of a training run; delete "
                "the file, and --resume goes on; only its curves are lost"
            )
        # Steps that will be done again go, so that curves show every step once.
        entries = [_current(x) for x in entries if x["stage"] != self.stage or x["step"] <= self.first]
        write_atomic(self.path, "".join(f"{json.dumps(x)}\n" for x in entries).encode())

    def track(self) -> None:
        """Begin the curves of the accelerator's trackers."""
        self._tracked(lambda: self.accelerator.init_trackers(self.stage))

    def close(self) -> None:
        self._tracked(lambda: [tracker.finish() for tracker in self.accelerator.trackers])

    def _tracked(self, work: Callable[[], object]) -> None:
        """A tracker that cannot write ends no training: all that it would show stands in the log."""
        try:
            work()
        except OSError as error:
            self.accelerator.trackers.clear()
            for thread in filter(_tracks, threading.enumerate()):
                thread.join(1)  # it ends within `trackers_silent`
            folder = self.path.with_name(self.stage)
            warnings.warn(
                f"the tracker's curves in {folder} end here: {error.strerror or error}; {self.path.name} goes on",
                stacklevel=1,
            )

    def add(self, sums: dict[str, Tensor]) -> None:
        """Take down the sums of one micro-batch of this process, as they are, on the device."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()

    def due(self, step: int) -> bool:
        return step % self.every == 0 or step in (1, self.steps)

    def step(self, step: int, counted: float, rate: float) -> None:
        """A step is done, with `counted` items in all processes; a line is written when one is due.

        Raises:
            InputError: the file cannot be written.
        """
        self.counted += counted
        if not self.due(step):
            return
        sums = self.processes.sum(torch.stack(list(self.sums.values())))
        means = dict(zip(self.sums, (sums / max(1.0, self.counted)).tolist(), strict=True))
        self.sums, self.counted = {}, 0.0
        seconds = time.monotonic() - self.begun
        left = seconds / (step - self.first) * (self.steps - step)
        values = {("loss" if name == "total" else name): round(mean, 6) for name, mean in means.items()}
        times = {"seconds": round(seconds, 1), "seconds_left": round(left, 1)}
        self._write(step, {**values, "learning_rate": rate, **times})

    def validation(self, step: int, scores: dict[str, float]) -> None:
        self._write(step, {"validation": {k: round(float(v), 6) for k, v in scores.items()}})

    def _write(self, step: int, content: dict) -> None:
        flat = {k: v for k, v in content.get("validation", content).items() if isinstance(v, float)}
        self._tracked(lambda: self.accelerator.log({f"{self.stage}/{k}": v for k, v in flat.items()}, step=step))
        line = json.dumps(_finite({"stage": self.stage, "step": step, "steps": self.steps, **content}), allow_nan=False)
        self.processes.first(lambda: check_held(self.path.parent) or _append(self.path, f"{line}\n".encode()))


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(path: Path, line: bytes) -> None:
    """Add a line as a whole or not at all. InputError: no space is left, or the file cannot be written."""
    try:
        with open(path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; the lines before are unchanged. Free some space, and resume"
        ) from error


def _current(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of a run begun when the learning rate was logged as "lr", with the name that others of its log get."""
    return {"learning_rate" if name == "lr" else name: value for name, value in entry.items()}
