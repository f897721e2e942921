"""How the benchmarks measure: side by side in one process, the median of several rounds, memory beyond the inputs.

On a shared machine two runs of one program differ more than two programs in one run. So the ways to compute are called
in turn, round by round, after a round that does not count; what is reported is the median of each and the ratio of
medians, with the range that single rounds gave. Memory is measured in a call of its own: what PyTorch's allocator hands
out at its peak, or what the process holds beyond what it held before (Linux: VmHWM).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mpc_lite.files import write_atomic
from mpc_lite.provenance import record

Run = Callable[[], Any]


def with_backward(function: Callable[..., torch.Tensor], inputs: tuple) -> Run:
    """A call of the function and its backward pass; gradients that an earlier call has left go first."""

    def run():
        for x in inputs:
            x.grad = None
        value = function(*inputs)
        value.backward()
        return value

    return run


def interleaved(ways: Mapping[str, Run], rounds: int = 5, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each way in each round. A round before the first, the warm-up, does not count; without `warm_up` the
    caller has called all ways already."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(0 if warm_up else 1, rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times faster: of the medians, and the smallest and largest of the rounds."""
    each = [s / f for s, f in zip(slow, fast, strict=True)]
    return {"median": statistics.median(slow) / statistics.median(fast), "low": min(each), "high": max(each)}


def peak_bytes(run: Run) -> int | None:
    """Bytes that the process holds at its peak during `run` beyond what it held before; None where nobody can tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed and the allocator kept would hide what this one takes
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def allocated_bytes(run: Run) -> int:
    """Bytes that PyTorch's allocator hands out at its peak during `run` beyond what it had handed out before.

    Exact, where the process's own peak also shows what the C library keeps of memory that was given back. Work space
    that a matrix library takes for itself is not in it, nor are NumPy's arrays.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no line {key}")


def kept_bytes(run: Run, inputs: tuple[torch.Tensor, ...]) -> dict[str, int]:
    """What autograd holds between forward and backward: beyond the inputs, and in all. Each storage counts once."""
    own = {x.untyped_storage().data_ptr() for x in inputs}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = run()
    beyond = sum(size for place, size in kept.items() if place not in own)
    del result
    return {"beyond_inputs": beyond, "in_all": sum(kept.values())}


def earlier(what: str, *keys: str) -> dict[str, Any]:
    """Those parts of the results in `--json FILE` that are not measured anew, and under `what` how they were made."""
    found = json.loads(_target().read_text())
    made = found.get(what) or {key: found[key] for key in ("command", "commit", "threads")}
    return {what: made, **{key: found[key] for key in keys}}


def _target() -> Path:
    return Path(sys.argv[sys.argv.index("--json") + 1])


def report(lines: list[str], results: dict[str, Any]) -> None:
    """Print the table; with `--json FILE` in the command, write the results with what they were made with."""
    print("\n".join(lines))
    if "--json" in sys.argv:
        write(_target(), results)


def write(target: Path, results: dict[str, Any]) -> None:
    """Results, and before them what they were made with."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    about = record(
        schema=1,
        command=" ".join(["python", *(os.path.relpath(x) if os.path.exists(x) else x for x in sys.argv)]),
        device=cuda or "cpu",
        cuda="measured" if cuda else "not measured",
        machine=platform.machine(),
        processors=os.cpu_count(),
        threads=torch.get_num_threads(),
    )
    write_atomic(target, (json.dumps({**about, **results}, indent=1) + "\n").encode())
