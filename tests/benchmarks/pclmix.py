"""PCLMix's queue contrast, forward and backward, against plain equations: python FILE [--quick] [--json OUT].

1024 anchors, a queue of 2 x 1000 entries of 256 channels, fp32: the released sizes, both classes held. The gradient of
the anchors alone is formed, as in training, where the queue is a memory. Values and gradients are compared before
anything is timed. --quick: small sizes, to see that it runs.
"""

from __future__ import annotations

import statistics
import sys

import torch
import torch.nn.functional as F
from plain_pclmix import plain_contrast
from side_by_side import allocated_bytes, interleaved, kept_bytes, ratio, report

from mpc_lite.neighbours.pclmix.queue import queue_contrast

QUICK = "--quick" in sys.argv
N, K, M, D = (64, 2, 40, 16) if QUICK else (1024, 2, 1000, 256)
MB = 1e6


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = F.normalize(torch.randn(N, D, generator=generator), dim=1).requires_grad_()
    queue = F.normalize(torch.randn(K, M, D, generator=generator), dim=2)
    labels = torch.randint(K, (N,), generator=generator)
    functions = {
        "plain": lambda: plain_contrast(anchors, labels, queue),
        "dense": lambda: queue_contrast(anchors, labels, queue, implementation="dense"),
        "fused": lambda: queue_contrast(anchors, labels, queue),
    }

    def step(name: str):
        def run():
            anchors.grad = None
            loss = functions[name]()
            loss.backward()
            return loss.detach(), anchors.grad

        return run

    ways = {name: step(name) for name in functions}

    def products() -> None:
        """What no exact way can do without: the similarities, and the gradient of the anchors."""
        with torch.no_grad():
            flat = queue.reshape(-1, D)
            (anchors @ flat.T) @ flat

    (value, grad), worst = ways["plain"](), 0.0
    for run in ways.values():
        found, slope = run()
        worst = max(worst, abs(found / value - 1).item(), ((slope - grad).norm() / grad.norm()).item())
    if not worst < 1e-5:
        raise SystemExit(f"values or gradients differ by {worst:.1e}: there is nothing to compare")
    seconds = interleaved({**ways, "two products": products}, 3 if QUICK else 15)
    lines = [f"{'queue contrast':12} ms, median  x faster (rounds)     peak MB   kept MB beyond inputs"]
    rows = {}
    for name, run in ways.items():
        anchors.grad = None
        rows[name] = {
            "seconds": statistics.median(seconds[name]),
            "rounds": seconds[name],
            "times_faster_than_plain": ratio(seconds["plain"], seconds[name]),
            "peak": allocated_bytes(run),
            "kept": kept_bytes(functions[name], (anchors, queue)),
        }
        r, faster = rows[name], rows[name]["times_faster_than_plain"]
        lines.append(
            f"{name:12} {1e3 * r['seconds']:11.1f} {faster['median']:9.2f} ({faster['low']:.2f}-{faster['high']:.2f}) "
            f"{r['peak'] / MB:12.1f} {r['kept']['beyond_inputs'] / MB:9.1f}"
        )
    rows["two products"] = {"seconds": statistics.median(seconds["two products"]), "rounds": seconds["two products"]}
    lines.append(f"{'two products':12} {1e3 * rows['two products']['seconds']:11.1f}")
    sizes = {"anchors": N, "classes": K, "entries": M, "channels": D}
    report(lines, {"queue_contrast": {**sizes, "largest_difference": worst, "ways": rows}})


if __name__ == "__main__":
    main()
