"""Progress of a training from its log: a bar on a terminal, plain lines elsewhere.

Who trains (this process or a notebook's kernel) writes OUT/log.jsonl; who shows progress reads it. Lines that are
there already, from a run that is now resumed, are not shown again.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mpc_lite.errors import printable, printable_lines, to_nowhere

# What a stage's validation measures: stage 1 marks the smaller of two k-means clusters of the finest map's vectors,
# the others the pixels of held-out crops that score above 0.5. All F1s are of the tampered pixels.
VALIDATED = {"pretrain": "clusters, stride 4"}
VALIDATED |= dict.fromkeys(("finetune", "adapt", "mscc", "pppc", "pclmix", "borrowed"), "crops, > 0.5")
SCORES = {"f1": "F1", "iou": "IoU", "score": "mean of both", "authentic_marked": "marked in authentic images"}

_EVERY = 5.0  # seconds between plain lines of a stage
_POLL = 0.3


@contextlib.contextmanager
def following(log: Path, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Show the lines that are added to `log` until the block ends; gives a function that prints a text between them.

    `console` is standard error by default, so that standard output stays free for results.
    """
    console = console or Console(file=_Screen(sys.stderr) if sys.stderr else None, stderr=True, highlight=False)
    start = log.stat().st_size if log.is_file() else 0
    display = _Bars(console) if console.is_terminal else _Lines(console)
    done = threading.Event()

    def follow() -> None:
        tail = Tail(log, start)
        while True:
            last = done.is_set()
            for entry in tail.new():
                display.show(entry)
            if last:
                return
            done.wait(_POLL)

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    with display:
        thread.start()
        try:
            yield display.say
        finally:
            done.set()
            thread.join()


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a training log in their order; an empty list where there is none."""
    lines = Path(path).read_bytes().splitlines() if Path(path).is_file() else []
    return [entry for line in lines if (entry := parse(line))]


def parse(line: bytes) -> dict[str, Any] | None:
    """An entry of a log, without the numbers that were not finite; None for what is no entry, such as the half line of
    a process that was killed while it wrote."""
    try:
        entry = json.loads(line, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    kinds = {"stage": str, "step": int, "steps": int}
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in kinds.items()):
        return None
    entry = {k: _numbers(v) if k == "validation" and isinstance(v, dict) else v for k, v in entry.items()}
    entry = {k: v for k, v in entry.items() if v is not None and not (isinstance(v, float) and not math.isfinite(v))}
    numbers = {k: v for k, v in entry.items() if k not in kinds and not (k == "validation" and isinstance(v, dict))}
    return entry if _numbers(numbers) == numbers else None


def _whole(digits: str) -> int:
    """ValueError for more digits than any count has: what cannot be a float would break those who draw it."""
    if len(digits) > 18:
        raise ValueError("a number of too many digits")
    return int(digits)


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Those that are numbers, and finite."""
    return {k: v for k, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}


class Tail:
    """The complete lines that a file gained since the last look."""

    def __init__(self, path: Path, offset: int):
        self.path, self.offset = path, offset

    def new(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            # A resumed stage drops the lines of steps that it will do again: all that is left was shown before.
            self.offset = min(self.offset, file.seek(0, 2))
            file.seek(self.offset)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]  # a line that is still being written waits for the next look
        self.offset += len(text)
        yield from filter(None, map(parse, text.splitlines()))


def clock(seconds: float | None) -> str:
    """65 → "1:05"; unknown → "–:––"."""
    if seconds is None:
        return "–:––"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _validation(entry: dict[str, Any]) -> str:
    scores = entry["validation"]
    scores = scores if isinstance(scores, dict) else {"score": scores}
    known = {name: value for name, value in scores.items() if isinstance(value, (int, float))}
    values = ", ".join(f"{validation_name(entry['stage'], name)} {value:.4g}" for name, value in known.items())
    return f"{entry['stage']} {entry['step']}/{entry['steps']}: validation {values}"


def validation_name(stage: str, score: str) -> str:
    """`F1 (clusters, stride 4)`: a score of the log in words; its F1 says what it was measured on, others follow it."""
    name = SCORES.get(score, score)
    return f"{name} ({VALIDATED[stage]})" if score == "f1" and stage in VALIDATED else name


class _Screen:
    """A stream for as long as it takes anything. A window that is closed (its SIGHUP asks for a checkpoint), or `| tee`
    that a Ctrl-C has ended as well, must not end a training where it stands, as an error within a signal would."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            to_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            to_nowhere(self._stream)


class _Bars:
    def __init__(self, console: Console):
        self.progress = Progress(
            TextColumn("{task.description:>9}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[left]} left"),
            console=console,
        )
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> None:
        self.progress.start()

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        self.progress.console.print(printable_lines(text), markup=False, soft_wrap=True)

    def show(self, entry: dict[str, Any]) -> None:
        if "validation" in entry:
            self.say(_validation(entry))
            return
        stage = entry["stage"]
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(printable(stage), total=entry["steps"], loss="", left="")
        loss = f"{entry['loss']:.4f}" if isinstance(entry.get("loss"), (int, float)) else ""
        self.progress.update(
            self.tasks[stage], completed=entry["step"], loss=loss, left=clock(entry.get("seconds_left"))
        )


class _Lines:
    """One line a stage at its first and last step and every few seconds between; every validation."""

    def __init__(self, console: Console):
        self.console, self.shown = console, {}

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        self.console.print(printable_lines(text), markup=False, soft_wrap=True)

    def show(self, entry: dict[str, Any]) -> None:
        if "validation" in entry:
            self.say(_validation(entry))
            return
        now, stage = time.monotonic(), entry["stage"]
        if entry["step"] < entry["steps"] and now - self.shown.get(stage, float("-inf")) < _EVERY:
            return
        self.shown[stage] = now
        loss = f"  loss {entry['loss']:.4f}" if isinstance(entry.get("loss"), (int, float)) else ""
        self.say(f"{stage} {entry['step']}/{entry['steps']}{loss}  {clock(entry.get('seconds_left'))} left")
