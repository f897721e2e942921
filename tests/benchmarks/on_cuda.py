"""Chapter 16's table on a GPU: python FILE OUT.json [--dry]. Results are written part by part.

one term      5000 anchors and negatives of 256 channels, with backward: dense, chunked and fused, in fp32 and in bf16
whole loss    batch of four, maps of 128² to 16²: dense image by image against ours, 5000 samples and all pixels
stage 1       a step of HRFormer-B, 512², batch 4, bf16: plain network and dense loss against ours
stage 2       the same for the head: plain encoder in training mode, as released, against ours, frozen
localizer     seconds a megapixel of a photograph of 6, in tiles, weights `lite2`

Seconds between two CUDA events, ways in turn, medians after a round that does not count; peak memory of the allocator
beyond what was there before. Beside them what a count says: FLOP and bytes of ours (`mpc_lite.cost.roofline`), and the
seconds that an H100's published peaks would need for them. --dry: small sizes on the CPU, and then each step at its
full size on tensors of a GPU that is not there, which have shapes and no data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from dense_loss import dense_loss
from events import BANDWIDTH, PEAKS, Bench, check_equal
from plain_hrformer import PlainHRFormer
from side_by_side import with_backward, write
from torch import nn
from torch._subclasses import FakeTensorMode

from mpc_lite.contrast.infonce import mean_positive_infonce
from mpc_lite.contrast.loss import mpc_loss
from mpc_lite.contrast.views import draw_terms, finest_labels, label_pyramid, unit_vectors
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.folding import folded
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC
from mpc_lite.training.finetune import focal_loss

FULL = {"rows": 5000, "channels": 256, "sides": (128, 64, 32, 16), "samples": 5000, "size": "base", "pixels": 512}
FULL |= {"compared": "base"}  # the network whose maps are held against the plain one's; it has no size nano
TINY = {"rows": 200, "channels": 16, "sides": (16, 8, 4, 2), "samples": 50, "size": "nano", "pixels": 64}
TINY |= {"compared": "small"}
BATCH = 4
EQUAL = {"fp32": 1e-4, "bf16": 1e-2}  # how far values may be apart


# ---------------------------------------------------------------------------------------------------------- the losses


def one_term(bench: Bench) -> dict:
    n, d = bench.sizes["rows"], bench.sizes["channels"]
    made = [torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    inputs = tuple(F.normalize(x, dim=1).to(bench.device).requires_grad_() for x in made)
    found = {}
    for precision in ("fp32", "bf16"):
        functions = {
            "dense": dense_loss,
            **{x: lambda a, c, x=x: mean_positive_infonce(a, c, implementation=x) for x in ("chunked", "fused")},
        }

        def way(function, precision=precision):
            def call(*rows):
                with bench.autocast(precision):
                    return function(*rows)

            return with_backward(call, inputs)

        ways = {name: way(function) for name, function in functions.items()}
        far = check_equal({name: run() for name, run in ways.items()}, "dense", EQUAL[precision])
        found |= labelled(bench.compare(ways, "dense", precision), precision)
    return {"n": n, "d": d, "largest_difference": far, "ways": found}


def labelled(table: dict, precision: str) -> dict:
    return {f"{name}, {precision}": row for name, row in table.items()}


def dense_image_by_image(maps_a, maps_b, mask, samples: int) -> torch.Tensor:
    """The released code's five terms from the same draws as ours: each image and term by itself, its matrices whole."""
    labels, generator = label_pyramid(mask, maps_a), torch.Generator(mask.device).manual_seed(0)
    units = [unit_vectors(m) for m in maps_a], [unit_vectors(maps_b[0])]
    drawn = draw_terms(*units, labels, "official", samples, generator, "compact")
    terms = [term for terms in drawn.values() for term in terms]
    total = 0
    for i in range(len(mask)):
        for anchors, _, negatives in terms:
            total = total + dense_loss(*(x.embeddings[i, x.valid[i]] for x in (anchors, negatives)))
    return total / len(mask)


def our_loss(maps_a, maps_b, mask, samples: int) -> torch.Tensor:
    generator = torch.Generator(mask.device).manual_seed(0)
    return mpc_loss(maps_a, maps_b, mask, max_pixels=samples, generator=generator)["total"]


def masks(side: int, device: torch.device | str) -> torch.Tensor:
    """(4,side,side): a tenth to a half of the width is tampered."""
    mask = torch.zeros(BATCH, side, side, dtype=torch.uint8)
    for i, share in enumerate((0.1, 0.25, 0.4, 0.5)):
        mask[i, :, : int(share * side)] = 1
    return mask.to(device)


def whole_loss(bench: Bench) -> dict:
    sides, samples, generator = bench.sizes["sides"], bench.sizes["samples"], torch.Generator().manual_seed(0)

    def made(side):
        maps = torch.rand(BATCH, bench.sizes["channels"], side, side, generator=generator).to(bench.device)
        return maps.contiguous(memory_format=torch.channels_last).requires_grad_()

    maps_a, maps_b = [[made(side) for side in sides] for _ in "ab"]
    mask, found = masks(4 * sides[0], bench.device), {}
    for precision in ("fp32", "bf16"):

        def way(function, precision=precision):
            def call(*_):
                with bench.autocast(precision):
                    return function()

            return with_backward(call, (*maps_a, maps_b[0]))

        ways = {
            "dense": way(lambda: dense_image_by_image(maps_a, maps_b, mask, samples)),
            "ours": way(lambda: our_loss(maps_a, maps_b, mask, samples)),
            "ours, all pixels": way(lambda: mpc_loss(maps_a, maps_b, mask)["total"]),
        }
        far = check_equal({name: ways[name]() for name in ("dense", "ours")}, "dense", EQUAL[precision])
        found |= labelled(bench.compare(ways, "dense", precision), precision)
    about = {"batch": BATCH, "sides": sides, "channels": bench.sizes["channels"], "samples": samples}
    return {**about, "largest_difference": far, "ways": found}


# ----------------------------------------------------------------------------------------------------------- the steps


class PlainMPC(nn.Module):
    """The plain encoder with our head, whose convolutions are plain ones."""

    def __init__(self, model: MPC):
        super().__init__()
        self.encoder, self.decoder = PlainHRFormer(SIZES[model.size]), model.new_decoder()

    def localize(self, maps) -> torch.Tensor:
        size = maps[0].shape[2:]
        parts = [F.interpolate(x, size, mode="bilinear", align_corners=True) for x in maps[1:]]
        return self.decoder(torch.cat([maps[0], *parts], 1))


def contrastive(encoder: Callable, loss: Callable, images, mask) -> torch.Tensor:
    return loss(encoder(images), encoder(images), mask)


def localization(encoder: Callable, localize: Callable, images, mask) -> torch.Tensor:
    return focal_loss(localize(encoder(images)), finest_labels(mask)[:, None])


def losses_of_steps(model: MPC, frozen: MPC, plain: PlainMPC | None, samples: int) -> dict[str, dict[str, tuple]]:
    """{stage: {way: (what learns, function (images, mask) -> loss)}}; without `plain` ours alone. frozen: ours as in
    stage 2."""
    ways: dict[str, dict[str, tuple]] = {"stage 1": {}, "stage 2": {}}
    if plain is not None:
        dense = lambda *x: dense_image_by_image(*x, samples)  # noqa: E731
        ways["stage 1"]["plain"] = plain.encoder, lambda *x: contrastive(plain.encoder, dense, *x)
        ways["stage 2"]["plain"] = plain.decoder, lambda *x: localization(plain.encoder, plain.localize, *x)
    ours = lambda *x: mpc_loss(*x, max_pixels=samples)["total"]  # noqa: E731
    ways["stage 1"]["ours"] = model.encoder, lambda *x: contrastive(model.encoder, ours, *x)
    ways["stage 2"]["ours"] = (
        frozen.decoder,
        lambda *x: localization(lambda images: folded(frozen.encoder)(images), frozen.localize, *x),
    )
    return ways


def check_encoders(bench: Bench) -> float:
    """The plain network with our weights gives our maps; loosely, for convolutions use TF32 unless told not to."""
    size = bench.sizes["compared"]
    model, plain = MPC.build(size).encoder.eval(), PlainHRFormer(SIZES[size]).eval()
    plain.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)).to(bench.device)
    networks = {"plain": plain.to(bench.device), "ours": model.to(bench.device, memory_format=torch.channels_last)}
    with torch.no_grad():
        maps = {name: torch.cat([m.flatten() for m in network(images)]) for name, network in networks.items()}
    return check_equal(maps, "plain", 1e-2)


def steps(bench: Bench, stage: str) -> dict:
    torch.manual_seed(0)
    far = check_encoders(bench)
    model = MPC.build(bench.sizes["size"]).train()
    plain = PlainMPC(model).train().to(bench.device)
    frozen = MPC.build(model.size).freeze_encoder().train()  # as Finetuning does it
    for network in (model, frozen):
        network.to(bench.device, memory_format=torch.channels_last)
    side = bench.sizes["pixels"]
    images = torch.rand(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0)).to(bench.device)
    inputs = {"plain": images, "ours": images.contiguous(memory_format=torch.channels_last)}
    mask = masks(side, bench.device)

    def step(name: str, learner: nn.Module, loss: Callable) -> Callable:
        optimizer = torch.optim.AdamW(learner.parameters(), 1e-6, fused=True if name == "ours" else None)

        def run():
            optimizer.zero_grad()
            with bench.autocast("bf16"):
                value = loss(inputs[name], mask)
            value.backward()
            optimizer.step()

        return run

    ways = losses_of_steps(model, frozen, plain, bench.sizes["samples"])[stage]
    found = bench.compare({name: step(name, *way) for name, way in ways.items()}, "plain", "bf16")
    about = {"size": bench.sizes["size"], "pixels": side, "batch": BATCH}
    return {**about, "largest_difference": far, "ways": found}


STEPS = {stage: partial(steps, stage=stage) for stage in ("stage 1", "stage 2")}


def localizer(bench: Bench) -> dict:
    """Network and blending of one photograph of noise; the map comes back to the host, so a clock will do."""
    height, width = (2000, 3000) if bench.device.type == "cuda" else (200, 300)
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ways = {}
    for batch in (4, 64):
        ours = Localizer.from_pretrained("lite2", device=bench.device.type)
        ours.batch = batch
        ours(photo)
        rounds = []
        for _ in range(bench.rounds):
            start = time.perf_counter()
            ours(photo)
            rounds.append((time.perf_counter() - start) / (height * width / 1e6))
        peak = bench.peak(lambda ours=ours: ours(photo))
        ways[f"{batch} tiles at a time"] = {"seconds": statistics.median(rounds), "rounds": rounds, "peak": peak}
    return {"megapixels": height * width / 1e6, "ways": ways, "unit": "seconds a megapixel"}


# ------------------------------------------------------------------------------------------------------- without a GPU


def pretended() -> dict:
    """Forward pass and loss of our steps at their full size on a GPU that has no data: a tensor of the CPU in between,
    or a look at a value, raises. {stage: seconds this took}; their values do not exist."""
    found = {}
    with FakeTensorMode(), torch.device("cuda"):  # autocast to bf16 needs a driver
        model, frozen = MPC.build(FULL["size"]).train(), MPC.build(FULL["size"]).freeze_encoder().train()
        images = torch.empty(BATCH, 3, FULL["pixels"], FULL["pixels"])
        mask = torch.zeros(BATCH, FULL["pixels"], FULL["pixels"], dtype=torch.uint8)
        for stage, ways in losses_of_steps(model, frozen, None, FULL["samples"]).items():
            start = time.perf_counter()
            value = ways["ours"][1](images, mask)
            if value.device.type != "cuda" or value.shape != ():
                raise SystemExit(f"{stage}: a loss of shape {tuple(value.shape)} on {value.device}")
            found[stage] = {"seconds_to_pretend": time.perf_counter() - start, "cuda": "not measured"}
    return found


def lines(name: str, part: dict) -> list[str]:
    made = [f"{name:28} milliseconds  x faster  at the ceiling   peak MB"]
    for way, row in part["ways"].items() if "ways" in part else ():
        faster = f"{row['times_faster']['median']:9.2f}" if "times_faster" in row else " " * 9
        ceiling = f"{1000 * row['ceiling_seconds']:13.3f}" if "ceiling_seconds" in row else " " * 13
        made.append(f"{way:28} {1000 * row['seconds']:12.2f} {faster} {ceiling} {row['peak'] / 1e6:11.0f}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dry", action="store_true", help="small, on the CPU; and pretended")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if not given.dry and not torch.cuda.is_available():
        raise SystemExit("no GPU: torch sees no CUDA device; --dry tries the script without one")
    bench = Bench(torch.device("cpu" if given.dry else "cuda"), TINY if given.dry else FULL, given.rounds)
    results: dict = {"dry": given.dry, "peaks": {**PEAKS, "bytes_per_second": BANDWIDTH}, "parts": {}, "failed": {}}
    peaks = " / ".join(f"{peak / 1e12:.0f}" for peak in PEAKS.values())
    print(f"published peaks of an H100: {peaks} TFLOP/s in {' / '.join(PEAKS)}, {BANDWIDTH / 1e12} TB/s")
    parts = {"one term": one_term, "whole loss": whole_loss, **STEPS, "localizer": localizer}
    if given.dry:
        parts["pretended"] = lambda _: pretended()
    for name, part in parts.items():
        try:
            results["parts"][name] = part(bench)
            print("\n".join(lines(name, results["parts"][name])), flush=True)
        except Exception as error:  # the next part may work, and minutes on a GPU are few
            results["failed"][name] = f"{type(error).__name__}: {error}"
            print(f"{name} failed: {results['failed'][name]}", flush=True)
        write(given.out, results)
    raise SystemExit(1 if results["failed"] else 0)


if __name__ == "__main__":
    main()
