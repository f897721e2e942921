"""What each lever does to a step of `lite`: python FILE [--quick] [--json OUT].

The step as it was (two whole passes, PyTorch's attention with its look for empty rows, ReLUs into fresh memory), then
with each lever alone, then with all, then these in bf16, in turn in one process; a batch in two halves, as
micro-batches that fit into a smaller cache would be, beside the whole of it; last, a step by kinds of operation, and
what each kind would take at the roof of one core. Processor seconds of this process, not the clock's: what neighbours
take is not in them, what they push out of the caches is.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.nn.functional as F
from side_by_side import ratio, report

import mpc_lite.training.pretrain as stage_1
from mpc_lite.cost.roofline import Ledger, machine_peaks
from mpc_lite.network.hrformer import BiasedAttention
from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import Finetuning

QUICK = "--quick" in sys.argv
SIDE, ROUNDS = (32, 1) if QUICK else (128, 3)


BF16 = "all, in bf16"


def safe_attention(self, tokens):
    projections = (self.q_proj, self.k_proj, self.v_proj)
    q, k, v = (project(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in projections)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias()[None].to(q.dtype))
    return self.out_proj(mixed.transpose(1, 2).flatten(2))


def whole_passes(encoder, images):
    return encoder(images), encoder(images)


BEFORE = {
    "shared passes": lambda: patch.object(stage_1, "two_passes", whole_passes),
    "attention": lambda: patch.object(BiasedAttention, "forward", safe_attention),
    "in place": lambda: patch.object(F, "relu_", F.relu),
}


def step(kind, batch: int, parts: int = 1):
    """A step of a stage on images of noise, in `parts` backward passes; the weights move, as in training."""
    torch.manual_seed(0)
    stage = kind(MPC.build("nano"), load_recipe("lite", None, {"data.scenes": ["packaged"], "data.photos": None}))
    stage.network.to(memory_format=torch.channels_last)
    stage.prepare_epoch()
    mask = torch.zeros(batch, SIDE, SIDE, dtype=torch.uint8)
    mask[:, SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = 1
    image = torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
    made = {"image": image, "mask": mask, "turn": torch.arange(batch) % 8}
    optimizer = torch.optim.AdamW(stage.network.parameters(), lr=1e-4, fused=True)
    pieces = [{key: x[i::parts] for key, x in made.items()} for i in range(parts)]

    def run():
        for piece in pieces:
            (stage.network(piece)["total"] / batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def measure(run, ways: dict[str, list[str]]) -> dict:
    """ways: name -> the levers that are as they were."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, old in ways.items():
            with ExitStack() as stack:
                for lever in old:
                    stack.enter_context(BEFORE[lever]())
                if name == BF16:
                    stack.enter_context(torch.autocast("cpu", torch.bfloat16))
                start = time.process_time()
                run()
                if turn:
                    seconds[name].append(time.process_time() - start)
    return {
        name: {
            "processor_seconds": statistics.median(each),
            "rounds": each,
            "times_faster": ratio(seconds["before"], each),
        }
        for name, each in seconds.items()
    }


def halves(whole, split) -> dict:
    """How many times as long as a whole batch its two halves take, round by round."""
    times: list[float] = []
    for turn in range(2 * ROUNDS + 1):
        seconds = []
        for run in (whole, split):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
        if turn:
            times.append(seconds[1] / seconds[0])
    return {"median": statistics.median(times), "low": min(times), "high": max(times)}


def convolution_peak(channels: int = 128, side: int = 16 if QUICK else 64) -> float:
    """FLOP/s of one large 3×3 convolution, the best of six."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    images = torch.rand(16, channels, side, side).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(6):
            start = time.perf_counter()
            layer(images)
            seconds.append(time.perf_counter() - start)
    return 2 * images.numel() * 9 * channels / min(seconds)


def roof(run) -> dict:
    """A step's seconds by kinds of operation, and the least that each kind could take: max(F / P, Q / β) of one core,
    P and β measured in turn with the steps. P is the larger of what a product and what a convolution reach: the
    libraries behind them differ. Of the rounds the one with the shortest step counts."""
    rounds = []
    run()
    for _ in range(ROUNDS + 2):
        peaks = machine_peaks(**({"side": 256, "megabytes": 8} if QUICK else {}))
        of_product, of_convolution = peaks["flops_per_second"], convolution_peak()
        peaks["flops_per_second"] = max(of_product, of_convolution)
        with Ledger() as ledger:
            run()
        kinds = {
            kind: {"seconds": part.seconds, "roof_seconds": part.bound(*peaks.values())}
            for kind, part in ledger.parts.items()
            if part.calls
        }
        together = {key: sum(part[key] for part in kinds.values()) for key in ("seconds", "roof_seconds")}
        reached = {"product": of_product, "convolution": of_convolution, "copy": peaks["bytes_per_second"]}
        rounds.append({**together, "peaks": reached, "kinds": kinds})
    return min(rounds, key=lambda each: each["seconds"])


def main() -> None:
    torch.set_num_threads(1)
    # A processor without instructions for bf16 computes it with those of fp32 and conversions.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # newer versions of torch tell them
    instructions = [name for name, there in capabilities.items() if there and "bf16" in name]
    results: dict = {"side": SIDE, "bf16 instructions": instructions, "stages": {}, "halves": {}, "roof": {}}
    lines = []
    for name, kind, batch, levers in (
        ("pretrain", stage_1.Pretraining, 12, list(BEFORE)),
        ("finetune", Finetuning, 16, ["attention", "in place"]),
    ):
        ways = {"before": levers, **{x: [y for y in levers if y != x] for x in levers}, "all": [], BF16: []}
        results["stages"][name] = found = measure(step(kind, batch), ways)
        for way, row in found.items():
            t = row["times_faster"]
            times = f"{t['median']:.2f} ({t['low']:.2f}–{t['high']:.2f})"
            lines.append(f"{name:10}{way:16}{row['processor_seconds']:7.3f} s  {times}")
            print(lines[-1], flush=True)
        results["halves"][name] = t = halves(step(kind, batch), step(kind, batch, parts=2))
        lines.append(f"{name:10}two halves take {t['median']:.2f} ({t['low']:.2f}–{t['high']:.2f}) of the whole")
        print(lines[-1], flush=True)
        results["roof"][name] = r = roof(step(kind, batch))
        share = r["roof_seconds"] / r["seconds"]
        lines.append(f"{name:10}at the roof {r['roof_seconds']:.3f} of {r['seconds']:.3f} s, {share:.2f}")
        print(lines[-1], flush=True)
    report(lines, results)


if __name__ == "__main__":
    main()
