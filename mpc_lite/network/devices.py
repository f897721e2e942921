"""Which device trains and scores. Scoring must not wait for accelerate, so only training imports it."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from mpc_lite.errors import InputError, shown

if TYPE_CHECKING:
    from accelerate import Accelerator

Item, Result = TypeVar("Item"), TypeVar("Result")


def choose_device(device: str | None) -> torch.device:
    """The device that scores, which is the one on which a single process trains.

    None or ``auto`` takes the accelerator that torch sees, else the CPU; ``cpu`` or ``cuda`` insist. InputError when
    there is no such device.
    """
    if device not in (None, "auto", "cpu", "cuda"):
        raise InputError(f"device '{device}' is unknown; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this torch sees no CUDA device; choose 'cpu' or leave the device out")
    if device == "cpu" or not torch.accelerator.is_available():
        return torch.device("cpu")
    chosen = torch.device(torch.accelerator.current_accelerator().type)
    if chosen.type == "mps":
        os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"  # as accelerate does: the CPU has the kernels that MPS lacks
    return chosen


def scoring_device(device: str | torch.device | None) -> torch.device:
    """`choose_device`, and whatever else torch itself finds, such as `cuda:1`. InputError when it does not."""
    if device is None or (isinstance(device, str) and device in ("auto", "cpu", "cuda")):
        return choose_device(device)
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError):  # AssertionError: this torch was built without CUDA
        text = f"device '{shown(device)}' is unknown, or not in this machine; choose auto, cpu or cuda"
        raise InputError(text) from None


MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # what accelerate takes for a launcher's, on a CPU


def processes_started() -> int:
    """How many processes were started together, as their launcher says in WORLD_SIZE. InputError: it is no number."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise InputError(
            f"WORLD_SIZE is '{shown(text)}' in the environment, expected how many processes were started together; "
            "unset it, or start them with 'accelerate launch', which sets it"
        )
    return int(text)


def started_by_launcher() -> bool:
    """Is LOCAL_RANK set, by which accelerate decides whether there are others to wait for, however few?"""
    return os.environ.get("LOCAL_RANK", "-1") != "-1"


def device_name(device: torch.device) -> str:
    """A device as records name it: `cpu`, `mps`, or `cuda (NVIDIA …)`."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def choose_accelerator(device: str | None, precision: str, **more) -> Accelerator:
    """The device for training, in as many processes as were started together; `device` as for `choose_device`."""
    choose_device(device)  # InputError before anything else
    processes, launched_before = processes_started(), started_by_launcher()  # accelerate sets LOCAL_RANK itself
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Processes started together without GPUs would otherwise not find each other, and each train by itself.
    several = processes > 1 and not torch.cuda.is_available()
    mixed = "bf16" if precision == "bf16" else "no"
    # The second stage of a process may want another precision, and one that trains alone another device.
    AcceleratorState._reset_state(reset_partial_state=processes == 1)
    try:
        accelerator = Accelerator(cpu=device == "cpu" or several, mixed_precision=mixed, **more)
    except ValueError as error:  # RANK, MASTER_ADDR and the like are missing, or no numbers
        launched = "LOCAL_RANK is set in the environment, as a launcher sets it, and what else it sets does not fit"
        if processes > 1:
            launched = (
                f"WORLD_SIZE says that {processes} processes were started together, and they do not find each other"
            )
        elif name := next((each for each in MPI if os.environ.get(each, "1") != "1"), None):
            launched = (
                f"{name} is set in the environment, as mpiexec and srun set it, and accelerate looks for the others"
            )
        elif not launched_before:
            raise
        advice = "unset it, or start trainings with 'accelerate launch', which sets all they need"
        raise InputError(f"{launched} ({shown(error, 200)}); {advice}") from error
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


@contextmanager
def training_threads(size: str) -> Iterator[None]:
    """One thread for `nano` inside the block, unless OMP_NUM_THREADS says otherwise; other sizes keep what they have.

    Its maps are so small that threads which share an operation wait for each other longer than they compute: on two
    cores a step takes less time with one thread than with two, whether the waiting one spins or sleeps. What is left of
    the cores serves the loader.
    """
    before = torch.get_num_threads()
    if size == "nano" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for what comes next; whether it will.

    Otherwise the maps of each step, or of each tile, are fresh pages that the system hands out and fills with zeros: a
    fifth of the time of a photograph in tiles (`tests/benchmarks/freed_memory.py`). It holds for the whole process.
    Other C libraries have no such switch; MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ in the environment is left
    alone.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold, most = -1, -3, 1 << 30  # malloc.h
    return bool(mallopt(trim_threshold, most) and (mallopt(mmap_threshold, most) or mallopt(mmap_threshold, 1 << 25)))


def side_by_side(do: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """do(item) of each item, in their order, in so many Python threads, which share PyTorch's threads out.

    Threads that share a small operation wait for each other at its end, hundreds of times an image; threads that have
    an image each do not. At most `threads` results are made or wait to be taken, so that memory stays bounded. An error
    of `do` is raised in its turn. With one thread, or in a thread that has only one, all happens in the caller's.
    """
    before, waiting = torch.get_num_threads(), deque()
    if min(threads, before) < 2:
        yield from map(do, items)
        return
    pool = ThreadPoolExecutor(threads, initializer=_compute_with, initargs=(max(1, before // threads),))
    try:
        for item in items:
            if len(waiting) == threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(do, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # else threads that start later would have learnt the number of these


def _compute_with(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.get_num_threads()  # settles it for this thread, whatever others set afterwards
