"""How the benchmarks measure on a GPU: CUDA events, the allocator's peak, and a count against published ceilings.

On a CPU, in a dry run, a clock and the profiler stand in.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from side_by_side import allocated_bytes, ratio

from mpc_lite.cost.roofline import Ledger

# NVIDIA H100 SXM, dense, as published: fp32 outside the tensor cores, TF32 and bf16 in them; HBM3.
PEAKS = {"fp32": 67e12, "tf32": 494e12, "bf16": 989e12}
BANDWIDTH = 3.35e12


class Bench:
    """The ways of one part, timed on a device in a precision."""

    def __init__(self, device: torch.device, sizes: dict, rounds: int):
        self.device, self.sizes, self.rounds = device, sizes, rounds

    def autocast(self, precision: str):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def seconds(self, run: Callable) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000

    def peak(self, run: Callable) -> int:
        if self.device.type != "cuda":
            return allocated_bytes(run)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def compare(self, ways: dict[str, Callable], against: str, precision: str) -> dict:
        """Seconds, their ratio to the way `against`, peak memory, and what a count says of each."""
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(self.rounds + 1):
            for name, run in ways.items():
                seconds = self.seconds(run)
                if turn:
                    taken[name].append(seconds)
        return {
            name: {
                "precision": precision,
                "seconds": statistics.median(rounds),
                "rounds": rounds,
                "times_faster": ratio(taken[against], rounds),
                "peak": self.peak(ways[name]),
                **counted(ways[name], precision),
            }
            for name, rounds in taken.items()
        }


def counted(run: Callable, precision: str) -> dict:
    """FLOP and bytes of a call, and the seconds that they need at the published peaks, kind by kind."""
    with Ledger() as ledger:
        run()
    parts = ledger.parts.values()
    return {
        "flops": sum(part.flops for part in parts),
        "bytes": sum(part.bytes for part in parts),
        "ceiling_seconds": sum(part.bound(PEAKS[precision], BANDWIDTH) for part in parts),
    }


def check_equal(values: dict[str, torch.Tensor], against: str, tolerance: float) -> float:
    """The largest relative difference from those of the way `against`. ValueError above the tolerance: a faster way
    that computes something else is worth nothing."""
    expected = values[against].detach().double()
    far = {n: ((v.detach().double() - expected).norm() / expected.norm()).item() for n, v in values.items()}
    if not max(far.values()) < tolerance:
        raise ValueError(f"values differ by {far}: there is nothing to compare")
    return max(far.values())
