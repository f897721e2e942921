"""Dask workers for a sweep: our own on this machine, or those of a scheduler that runs already.

Dask is imported only when workers are needed. A worker of our own has one thread, which waits for the kernel of its
cell's notebook: that is where the work is done.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from mpc_lite.errors import InputError
from mpc_lite.reproduce.kernel import OURS, SAFE
from mpc_lite.training.signals import ASKING

CONNECT = 15  # seconds in which a scheduler should answer

_COUNTED_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GIVEN = os.environ.get("OMP_NUM_THREADS")  # when this process began

# Dask's settings for the memory allocator would pass on to the kernels and cost them time; its profiler and its loops'
# 20 ms tick take an eleventh of a slow core beside two runs that last minutes, a third of that without.
_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "200ms",
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.deploy.lost-worker-timeout": "1 hour",
}


@contextlib.contextmanager
def connected(count: int, cpu: bool, scheduler: str | None, say: Callable[[str], None]) -> Iterator[Any]:
    """A `distributed.Client` for at most `count` cells at a time; no worker of our own is left behind.

    Args:
        cpu: leave GPUs alone. scheduler: address of one that runs already; None starts workers here.
    Raises:
        InputError: the scheduler does not answer, or one of its workers lacks this package or this folder.
    """
    import dask
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    if scheduler is None:
        with (
            _safe_path(),
            dask.config.set(_SETTINGS),
            _own_cluster(count, cpu, say) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    quiet = silence_logging_cmgr(logging.CRITICAL)  # of a scheduler that went Dask tells in tracebacks; we do in a line
    try:
        client = Client(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {scheduler}: {error}; expected the address of a running scheduler, such as "
            "tcp://host:8786, which 'dask scheduler' prints when it starts"
        ) from None
    with quiet, client:
        check_workers(client, os.getcwd())
        yield client


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that are started inside take no module from the working folder, which may hold any threading.py. What
    a worker starts hears nothing of it: see `kernel`."""
    theirs = os.environ.setdefault(SAFE, OURS)
    try:
        yield
    finally:
        if theirs == OURS:
            os.environ.pop(SAFE, None)


def check_workers(client: Any, folder: str) -> None:
    """Raises InputError where a worker has another version of this package or none, or lacks the working folder."""
    versions = client.get_versions(packages=["mpc-lite"])
    ours = versions["client"]["packages"]["mpc-lite"]
    for address, worker_versions in versions["workers"].items():
        theirs = worker_versions["packages"]["mpc-lite"] if worker_versions else None
        if theirs != ours:
            raise InputError(
                f"worker {address} has {f'mpc-lite {theirs}' if theirs else 'no mpc-lite'}, here it is {ours}: install "
                "the same version on every machine, for example from the same clone, and start the worker from there"
            )
    for address, there in client.run(os.path.isdir, folder).items():
        if not there:
            raise InputError(f"worker {address}: {_lacks(folder)}")


def workers_per_host(client: Any) -> dict[str, int]:
    """How many workers of a scheduler share each machine, by its address."""
    from distributed.comm import get_address_host

    return dict(Counter(get_address_host(address) for address in client.nthreads()))


def share_threads(asked: str | None, neighbours: dict[str, int], address: str) -> None:
    """Give the kernels that this worker of a scheduler elsewhere will start their threads.

    `dask worker` sets one thread for every library that counts them, by variables that torch heeds before
    OMP_NUM_THREADS. asked: OMP_NUM_THREADS of the sweep, for all workers. Without it the worker's own counts where it
    is more than dask's 1; else the workers of a machine share its cores.
    """
    from dask.system import CPU_COUNT
    from distributed.comm import get_address_host

    share = max(1, CPU_COUNT // neighbours.get(get_address_host(address), 1))
    threads = asked or (GIVEN if GIVEN not in (None, "1") else str(share))
    os.environ.update(dict.fromkeys(_COUNTED_BY, threads.partition(",")[0]))  # OpenMP's may be a list, by levels
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def see_folder(folder: str) -> None:
    """Raises InputError on a machine that lacks the working folder of the sweep."""
    if not os.path.isdir(folder):
        raise InputError(f"{socket.gethostname()}: {_lacks(folder)}")


def _lacks(folder: str) -> str:
    return f"its machine has no folder {folder}; start the sweep in one that all machines share under the same path"


# ------------------------------------------------------------------------------------------------------ our own workers


def _own_cluster(count: int, cpu: bool, say: Callable[[str], None]) -> Any:
    from distributed import Nanny, Scheduler, SpecCluster

    places = environments(count, [] if cpu else gpus())
    share = f"OMP_NUM_THREADS={places[0]['OMP_NUM_THREADS']}"
    if "CUDA_VISIBLE_DEVICES" in places[0]:
        share += " and one GPU"
    say(f"workers on this machine: {len(places)}, each with {share}")
    local = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    worker = {**local, "nthreads": 1, "memory_limit": 0, "preload": [__name__], "silence_logs": logging.CRITICAL}
    return SpecCluster(
        workers={i: {"cls": Nanny, "options": {**worker, "env": places[i]}} for i in range(len(places))},
        # A worker that dies fails its task: the sweep itself tries again, when a worker is free.
        scheduler={"cls": Scheduler, "options": {**local, "port": 0, "allowed_failures": 0}},
        silence_logs=logging.CRITICAL,
    )


def gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES of each worker can name."""
    import torch

    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(i) for i in range(count)]


def environments(count: int, devices: list[str]) -> list[dict[str, str]]:
    """The environment of each worker, for at most `count` cells at a time: one worker per GPU, else per core.

    They share the cores' threads; waiting threads sleep, for the other workers' sake. What the user set stays.
    """
    from dask.system import CPU_COUNT

    count = min(count, len(devices) or CPU_COUNT)
    shared = {"OMP_NUM_THREADS": str(max(1, CPU_COUNT // count)), "OMP_WAIT_POLICY": "PASSIVE"}
    shared = {key: os.environ.get(key, value) for key, value in shared.items()}
    return [{**shared, **({"CUDA_VISIBLE_DEVICES": devices[i]} if devices else {})} for i in range(count)]


def dask_setup(worker: Any) -> None:
    """Dask calls this in each worker of our own, in its main thread: what stops all processes of a terminal or a job
    reaches workers too, but only the client answers it."""
    for number in ASKING:
        signal.signal(number, lambda *_: None)
