"""Signals that ask a run to stop: Ctrl-C, SIGTERM (a scheduler's word before it kills), SIGHUP (a closed terminal).

Whoever asks gets a checkpoint; only a second Ctrl-C does not wait for it. Other signals may come twice for one wish:
SLURM sends SIGTERM to every process of a job, and `torchrun` hands its own on to its children.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
ECHO = 1.0  # seconds in which a second SIGINT may be the first one, handed on by a launcher


class Stopped(Exception):
    """A run ended because its user asked. number: of the signal that asked; SIGINT where the file `stop` did."""

    def __init__(self, text: str, number: int | None = None):
        super().__init__(text)
        self.number = int(number or signal.SIGINT)

    @property
    def exit_code(self) -> int:
        """As a shell counts: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


@contextmanager
def answering(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """`handler` for the signals that ask; one that this process was started to ignore (nohup) stays ignored.

    Only the main thread can have one, in others the caller keeps its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in ASKING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def unanswered() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP do what systems do by themselves, unless they are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in ASKING if number != signal.SIGINT and callable(signal.getsignal(number))]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending() -> Iterator[list[int]]:
    """For work without a checkpoint: SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, so that nothing
    half-written stays. Gives the numbers of the signals that came; after the first, only Ctrl-C raises again."""
    numbers: list[int] = []

    def answer(number: int, frame: Any) -> None:
        numbers.append(number)
        if len(numbers) == 1 or number == signal.SIGINT:
            raise KeyboardInterrupt  # readers that take any Exception for a damaged picture let this one pass

    with answering(answer):
        yield numbers


@contextmanager
def asked_to_stop(out: Path) -> Iterator[Callable[[], int]]:
    """Gives a function that tells whether somebody asked, by a signal or by creating ``OUT/stop``: 0, or the number of
    the signal. A second Ctrl-C raises KeyboardInterrupt at once, a third one ends the process where it stands."""
    numbers: list[int] = []
    since = 0.0

    def answer(number: int, frame: Any) -> None:
        nonlocal since
        if not numbers:
            numbers.append(number)
            since = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - since > ECHO:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt

    def stop() -> int:
        if (out / "stop").exists():
            with suppress(OSError):  # a folder of that name, or one that cannot be written, asks all the same
                (out / "stop").unlink(missing_ok=True)
            numbers.append(signal.SIGINT)
        return int(numbers[0]) if numbers else 0

    with answering(answer):
        yield stop
