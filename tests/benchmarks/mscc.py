"""MSCC's class-centre attention against its equations written down: python FILE [--quick] [--memory] [--json OUT].

Three rows at the released FF++ size (512 channels, 64×64, k = 2), forward and backward, in training mode with dropout:
the attention alone (X -> O and the coarse map); the attention with its half of the 3×3 convolution that follows (X ->
Conv(O) and the coarse map); the whole module, where X's own half of that convolution is added, which nobody is spared.
Values and gradients are compared before anything is timed, in float64: in float32 the last ReLU opens for a few other
cells when a sum is ordered otherwise, which moves the gradient by a thousandth. --quick: small sizes, to see that it
runs. --memory: measure memory anew for the times that are in OUT.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from plain_mscc import PlainMSCC
from side_by_side import allocated_bytes, earlier, interleaved, kept_bytes, ratio, report
from torch import Tensor

from mpc_lite.neighbours.mscc.attention import MSCC, attend, recover

QUICK = "--quick" in sys.argv
CHANNELS, SIDE, K, ROUNDS = (64, 16, 2, 2) if QUICK else (512, 64, 2, 7)
MB = 1e6
Way = Callable[[Tensor], tuple[Tensor, Tensor]]


def ways(dtype: torch.dtype) -> dict[str, dict[str, Way]]:
    """For each row the plain way and ours, all with the same weights."""
    torch.manual_seed(0)
    ours = MSCC(CHANNELS, CHANNELS, k=K).to(dtype)
    plain = PlainMSCC(CHANNELS, CHANNELS, SIDE, SIDE, k=K).to(dtype).take(ours)

    def centers(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps, centers = ours.maps_and_centers(x)
        centers = ours.graph(centers)
        return attend(x, centers), centers, ours.fuse(maps)[:, 0].unflatten(2, x.shape[2:])

    def ours_alone(x: Tensor) -> tuple[Tensor, Tensor]:
        attention, mixed, coarse = centers(x)
        return recover(attention, mixed), coarse

    def ours_convolved(x: Tensor) -> tuple[Tensor, Tensor]:
        attention, mixed, coarse = centers(x)
        return ours.mix(attention, mixed), coarse

    def plain_convolved(x: Tensor) -> tuple[Tensor, Tensor]:
        recovered, coarse = plain.attention(x)
        return F.conv2d(recovered, ours.on_centers.weight, padding=1), coarse

    return {
        "attention": {"plain": plain.attention, "ours": ours_alone},
        "attention, convolved": {"plain": plain_convolved, "ours": ours_convolved},
        "module": {"plain": plain, "ours": ours},
    }


def with_backward(way: Way, x: Tensor, grads: list[Tensor]):
    def run() -> list[Tensor]:
        x.grad = None
        torch.manual_seed(1)  # equal dropout
        outputs = way(x)
        torch.autograd.backward(outputs, grads)
        return [*(out.detach() for out in outputs), x.grad]

    return run


def check_equal(runs: dict) -> float:
    """Largest relative difference of outputs and of the gradient of X; stops when it is above 1e-5."""
    plain, ours = runs["plain"](), runs["ours"]()
    worst = max(((a - b).norm() / b.norm()).item() for a, b in zip(ours, plain, strict=True))
    if not worst < 1e-5:
        raise SystemExit(f"values or gradients differ by {worst:.1e}: there is nothing to compare")
    return worst


def prepared(dtype: torch.dtype) -> dict[str, tuple[Tensor, dict[str, Way], dict]]:
    """For each row X, both ways, and both with their backward pass."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, CHANNELS, SIDE, SIDE, generator=generator).to(dtype).requires_grad_()
    grads = [torch.randn(1, n, SIDE, SIDE, generator=generator).to(dtype) for n in (CHANNELS, 2)]
    return {
        row: (x, pair, {name: with_backward(way, x, grads) for name, way in pair.items()})
        for row, pair in ways(dtype).items()
    }


def measure_times(rows: dict) -> dict:
    exact, results = prepared(torch.float64), {}
    for row, (_, _, runs) in rows.items():
        worst = check_equal(exact[row][2])
        seconds = interleaved(runs, ROUNDS)
        results[row] = {
            "largest_difference": worst,
            "times_faster": ratio(seconds["plain"], seconds["ours"]),
            "ways": {n: {"seconds": statistics.median(s), "rounds": s} for n, s in seconds.items()},
        }
    return results


def add_memory(results: dict, rows: dict) -> None:
    """Peak memory beyond X, the weights and their gradients, and what is kept for the backward pass."""
    for row, (x, pair, runs) in rows.items():
        found = results[row]["ways"]
        for name, run in runs.items():
            run()  # leaves the gradients of the weights
            x.grad = None
            found[name]["peak"] = allocated_bytes(run)
            found[name]["kept"] = kept_bytes(lambda way=pair[name], x=x: way(x), (x,))
        results[row]["share_of_peak"] = found["ours"]["peak"] / found["plain"]["peak"]


def main() -> None:
    rows = prepared(torch.float32)
    results = earlier("times", *rows) if "--memory" in sys.argv else measure_times(rows)
    add_memory(results, rows)
    size = f"{CHANNELS} channels, {SIDE}×{SIDE}, k = {K}"
    lines = [f"{size:30}   plain s   ours s  x faster (range)     plain MB  ours MB  share"]
    for row in rows:
        r, plain, ours = results[row], *(results[row]["ways"][n] for n in ("plain", "ours"))
        faster = r["times_faster"]
        lines.append(
            f"{row:30} {plain['seconds']:9.3f}{ours['seconds']:9.3f} {faster['median']:9.2f} "
            f"({faster['low']:.2f}-{faster['high']:.2f}) {plain['peak'] / MB:9.1f} {ours['peak'] / MB:8.1f} "
            f"{r['share_of_peak']:6.2f}"
        )
    report(lines, {"channels": CHANNELS, "side": SIDE, "k": K, **results})


if __name__ == "__main__":
    main()
