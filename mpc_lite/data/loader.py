"""Batches of a data set, made by worker processes that end with the run, whatever ends it."""

from __future__ import annotations

import atexit
import multiprocessing.forkserver
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from multiprocessing.synchronize import Event
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from mpc_lite.data.stream import Item, Positions

_ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_MASKED = hasattr(signal, "pthread_sigmask")  # not on Windows, where processes inherit nothing


def loader(data: Dataset, positions: Positions | list[list[int]], workers: int) -> DataLoader:
    """Batches {image (B,3,S,S) uint8, mask (B,S,S) uint8, turn (B,) int64}, in the order of `positions`; or a message,
    for a batch with a row that cannot be read. A training batch whose images the device has still to save as JPEG has
    their quality (B,) int64. The masks of a validation batch are a list of B tensors (H,W) uint8,
    each of the size of its file."""
    return _Loader(
        data,
        batch_sampler=positions,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=partial(_begin_worker, _leaving()) if workers else None,
        collate_fn=_collate if data.split == "train" else _collate_native,
        generator=torch.Generator(),  # its own: a resumed run must find the global random numbers untouched
    )


class _Loader(DataLoader):
    def __iter__(self) -> Any:
        with _put_off() if self.num_workers else nullcontext():
            return super().__iter__()


@contextmanager
def _put_off() -> Iterator[None]:
    """Signals that ask a run to stop are answered after the block. In the midst of starting a process an exception is
    lost, or leaves the loader half made. The workers begin deaf to them: one that ended would be taken for killed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if multiprocessing.get_start_method() == "forkserver":  # which would keep what is set here, for all that it starts
        multiprocessing.forkserver.ensure_running()
    handlers = {number: handler for number in _ASKING if callable(handler := signal.getsignal(number))}
    came: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING) if _MASKED else ()
    try:
        yield
    finally:
        if _MASKED:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            handlers[number](number, None)


def _collate(items: list[Item | str]) -> Item | str:
    return next((item for item in items if isinstance(item, str)), None) or default_collate(items)


def _collate_native(items: list[Item | str]) -> dict[str, Tensor | list[Tensor]] | str:
    if message := next((item for item in items if isinstance(item, str)), None):
        return message
    masks = [item["mask"] for item in items]
    return {**default_collate([{k: v for k, v in item.items() if k != "mask"} for item in items]), "mask": masks}


@cache
def _leaving() -> Event:
    """Set when this process ends, before Python terminates the workers that are left and waits for them."""
    event = multiprocessing.Event()
    atexit.register(event.set)
    return event


def _begin_worker(leaving: Event, _: int) -> None:
    """A worker that spins up threads of its own takes the cores from the training step; one that answers a signal meant
    for the whole run takes it the images of its last step. It ends when the run does, also by an error that nobody
    catches: then the traceback holds the loader, and the word to end is Python's own SIGTERM."""

    def end_with_the_run(number: int, frame: Any) -> None:
        if leaving.is_set():
            os._exit(0)

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_with_the_run)
    if _MASKED:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKING)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
