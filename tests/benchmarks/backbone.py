"""The backbone and a stage-1 step against the plain HRFormer: python FILE [--quick] [--forward] [--json OUT].

HRFormer-base at 512², batch 1, fp32. Forward pass in evaluation mode: plain, ours as it is trained, ours folded,
outputs compared first. Step of stage 1 in training mode: two passes, the loss of 5000 samples, backward, AdamW; plain
with the dense loss against ours. Then the arithmetic, bytes and seconds of ours by kind of operation. --quick: `small`
at 64². --forward: the forward pass alone, anew, beside the step that is in OUT.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
from dense_loss import dense_loss
from plain_hrformer import PlainHRFormer
from side_by_side import earlier, interleaved, peak_bytes, ratio, report
from torch import nn

from mpc_lite.contrast.loss import mpc_loss
from mpc_lite.contrast.views import draw_terms, label_pyramid, unit_vectors
from mpc_lite.cost.roofline import Ledger, machine_peaks
from mpc_lite.network.folding import folded
from mpc_lite.network.hrformer import SIZES, HRFormer
from mpc_lite.network.model import MPC

QUICK = "--quick" in sys.argv
SIZE, SIDE, SAMPLES, ROUNDS = ("small", 64, 100, 2) if QUICK else ("base", 512, 5000, 5)


def networks() -> tuple[HRFormer, PlainHRFormer]:
    torch.manual_seed(0)
    ours, plain = HRFormer(SIZES[SIZE]), PlainHRFormer(SIZES[SIZE])
    plain.load_state_dict(ours.state_dict())
    return ours.to(memory_format=torch.channels_last), plain


def images() -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    mask[:, :, : SIDE // 4] = 1
    return made, mask


def forward() -> tuple[dict, Callable]:
    ours, plain = (network.eval() for network in networks())
    x, fast = images()[0], folded(ours)

    def run(network: nn.Module):
        with torch.no_grad():
            return network(x)

    expected = run(plain)
    far = {
        name: max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(run(net), expected, strict=True))
        for name, net in (("ours", ours), ("ours, folded", fast))
    }
    if not max(far.values()) < 1e-4:
        raise SystemExit(f"outputs differ from the plain network's by {far}: there is nothing to compare")
    ways = {"plain": lambda: run(plain), "ours": lambda: run(ours), "ours, folded": lambda: run(fast)}
    seconds = interleaved(ways, ROUNDS + 2)
    return {**table(seconds, ways, "plain"), "largest_difference": far}, ways["ours, folded"]


def plain_call() -> dict:
    """`model(images)` as users call it, against the folded copy of the same network."""
    torch.manual_seed(0)
    model, x = MPC.build(SIZE).eval(), images()[0]
    fast = folded(model)

    def run(network: nn.Module):
        with torch.no_grad():
            return network(x)

    ways = {"folded": lambda: run(fast), "plain call": lambda: run(model)}
    return table(interleaved(ways, ROUNDS + 2), ways, "folded")


def contrastive_step(network: nn.Module, loss: Callable) -> Callable:
    """A whole step of stage 1: images to the optimiser's step; ours with the optimiser as `training.train` makes it."""
    x, mask = images()
    optimizer = torch.optim.AdamW(network.train().parameters(), 1e-6, fused=isinstance(network, HRFormer) or None)

    def run():
        torch.manual_seed(0)  # DropPath drops the same residuals in every round
        optimizer.zero_grad()
        loss(network(x), network(x), mask).backward()
        optimizer.step()

    return run


def our_loss(maps_a, maps_b, mask):
    return mpc_loss(maps_a, maps_b, mask, max_pixels=SAMPLES)["total"]


def plain_loss(maps_a, maps_b, mask):
    labels = label_pyramid(mask, maps_a)
    units = [unit_vectors(m) for m in maps_a], [unit_vectors(maps_b[0])]
    terms = [term for terms in draw_terms(*units, labels, max_pixels=SAMPLES).values() for term in terms]
    return sum(dense_loss(*(x.embeddings[0, x.valid[0]] for x in (term.anchors, term.negatives))) for term in terms)


def step() -> tuple[dict, Callable]:
    ours, plain = networks()
    ways = {"plain": contrastive_step(plain, plain_loss), "ours": contrastive_step(ours, our_loss)}
    return table(interleaved(ways, ROUNDS), ways, "plain"), ways["ours"]


def table(seconds: dict, ways: dict, against: str) -> dict:
    return {
        name: {
            "seconds": statistics.median(values),
            "rounds": values,
            "times_faster": ratio(seconds[against], values),
            "peak": peak_bytes(ways[name]),
        }
        for name, values in seconds.items()
    }


def parts(run: Callable) -> dict:
    run()
    with Ledger() as ledger:
        run()
    return {kind: vars(part) for kind, part in ledger.parts.items()}


def main() -> None:
    results: dict = {"size": SIZE, "pixels": SIDE, "batch": 1, "samples": SAMPLES}
    lines = []
    measures = {"forward": forward, "stage-1 step": step}
    if "--forward" in sys.argv:
        del measures["stage-1 step"]
        results |= earlier("step", "stage-1 step", "stage-1 step, by kind")
    results["plain call"] = plain_call()
    called = results["plain call"]["plain call"]["times_faster"]
    lines.append(f"a plain call against the folded copy: {1 / called['median']:.2f} times as long")
    for name, measure in measures.items():
        results[name], ours = measure()
        results[f"{name}, by kind"] = parts(ours)
        del ours
    for name in ("forward", "stage-1 step"):
        lines.append(f"{name:32}  seconds  x faster  (rounds)        peak MB")
        for way, r in results[name].items():
            if way != "largest_difference":
                faster = r["times_faster"]
                span = f"({faster['low']:.2f}-{faster['high']:.2f})"
                lines.append(f"{way:32} {r['seconds']:8.2f} {faster['median']:9.2f}  {span:15} {r['peak'] / 1e6:8.0f}")
    results["peaks"] = machine_peaks()
    for name in ("forward", "stage-1 step"):
        lines.append(f"{name + ', by kind':42} calls    GFLOP      GB  seconds")
        for kind, r in results[f"{name}, by kind"].items():
            lines.append(
                f"{kind:40} {r['calls']:7d} {r['flops'] / 1e9:8.1f} {r['bytes'] / 1e9:7.2f} {r['seconds']:8.3f}"
            )
    reached = results["peaks"]
    lines.append(
        f"this machine: {reached['flops_per_second'] / 1e9:.0f} GFLOP/s, {reached['bytes_per_second'] / 1e9:.0f} GB/s"
    )
    report(lines, results)


if __name__ == "__main__":
    main()
