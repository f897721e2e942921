"""The contrastive loss against the dense form: python FILE [--quick] [--memory] [--json OUT].

Three parts: one InfoNCE term (5000 anchors and negatives of 256 channels, fp32), the whole loss of a batch of four
(maps of 128² to 16², 256 channels, 5000 samples and all pixels), and growth from 1000 to 32 000 pixels.
Values and gradients are compared before anything is timed. --quick: small sizes, to see that it runs. --memory: measure
memory anew for the times that are in OUT; unlike them it does not depend on who else computes. --memory whole_loss:
that of our whole loss alone.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
import torch
import torch.nn.functional as F
from dense_loss import dense_loss, subtracted_loss, three_products
from side_by_side import allocated_bytes, earlier, interleaved, kept_bytes, ratio, report, with_backward

from mpc_lite.contrast.infonce import mean_positive_infonce
from mpc_lite.contrast.loss import mpc_loss
from mpc_lite.contrast.views import draw_terms, label_pyramid, unit_vectors

QUICK = "--quick" in sys.argv
N, D, SIDES, SAMPLES = (400, 32, (16, 8, 4, 2), 50) if QUICK else (5000, 256, (128, 64, 32, 16), 5000)
GROWTH = (100, 200, 400) if QUICK else (1000, 2000, 4000, 8000, 16000, 32000)
MB = 1e6
PARTS = ("one_term", "whole_loss", "growth")


def rows(n: int, seed: int) -> torch.Tensor:
    made = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    return F.normalize(made, dim=1).requires_grad_()


def peak(run, inputs) -> int:
    """Gradients that an earlier call has left would be taken for memory that was there before."""
    for x in inputs:
        x.grad = None
    return allocated_bytes(run)


def check_equal(ways, inputs, name: str) -> float:
    """Largest relative difference of value and gradients from those of the way `name`; stops when it is above 1e-4."""
    found = {}
    for way, run in ways.items():
        value = run()
        found[way] = [value.detach().reshape(1), *(x.grad.clone() for x in inputs)]
    pairs = [(x, y) for way in found for x, y in zip(found[way], found[name], strict=True)]
    worst = max(((x - y).norm() / y.norm()).item() for x, y in pairs)
    if not worst < 1e-4:
        raise SystemExit(f"values or gradients differ by {worst:.1e}: there is nothing to compare")
    return worst


def infonce(implementation: str):
    return lambda a, n: mean_positive_infonce(a, n, implementation=implementation)


def term_ways() -> tuple[tuple, dict, dict]:
    """Inputs of one term, the ways to compute it, and each with its backward pass."""
    inputs = rows(N, 0), rows(N, 1)
    functions = {
        "dense": dense_loss,
        "diagonal subtracted": subtracted_loss,
        "chunked": infonce("chunked"),
        "fused": infonce("fused"),
    }
    return inputs, functions, {name: with_backward(function, inputs) for name, function in functions.items()}


def one_term() -> dict:
    inputs, functions, ways = term_ways()
    worst = check_equal(ways, inputs, "dense")
    seconds = interleaved({**ways, "three products": lambda: three_products(*inputs)}, 7)
    found = {}
    for name in seconds:
        found[name] = {"seconds": statistics.median(seconds[name]), "rounds": seconds[name]}
        if name in ways:
            found[name]["times_faster_than_dense"] = ratio(seconds["dense"], seconds[name])
            found[name]["times_three_products"] = ratio(seconds[name], seconds["three products"])
            found[name]["kept"] = kept_bytes(lambda f=functions[name]: f(*inputs), inputs)
    return {"n": N, "m": N, "d": D, "largest_difference": worst, "ways": found}


def batch(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def made(side: int) -> torch.Tensor:  # in the memory format that the encoder's maps have
        maps = torch.rand(4, D, side, side, generator=generator)
        return maps.contiguous(memory_format=torch.channels_last).requires_grad_()

    maps = [[made(side) for side in SIDES] for _ in "ab"]
    mask = torch.zeros(4, 4 * SIDES[0], 4 * SIDES[0], dtype=torch.uint8)
    for i, share in enumerate((0.1, 0.25, 0.4, 0.5)):  # of the width: from a small forgery to half of the image
        mask[i, :, : int(share * mask.shape[2])] = 1
    return *maps, mask


def dense_image_by_image(maps_a, maps_b, mask, max_pixels: int, seed: int = 0) -> torch.Tensor:
    """The released code's five terms, from the same draws as `mpc_loss`: each image and term by itself, dense."""
    labels = label_pyramid(mask, maps_a)
    units = [unit_vectors(m) for m in maps_a], [unit_vectors(maps_b[0])]
    drawn = draw_terms(*units, labels, "official", max_pixels, torch.Generator().manual_seed(seed))
    total = 0
    for i in range(len(mask)):
        for anchors, _, negatives in (term for terms in drawn.values() for term in terms):
            chosen = [pixels.embeddings[i, pixels.valid[i]] for pixels in (anchors, negatives)]
            total = total + dense_loss(*chosen)
    return total / len(mask)


def whole_ways() -> tuple[tuple, dict]:
    maps_a, maps_b, mask = batch()
    inputs = (*maps_a, maps_b[0])

    def ours(*_, max_pixels=SAMPLES):
        return mpc_loss(maps_a, maps_b, mask, max_pixels=max_pixels, generator=torch.Generator().manual_seed(0))[
            "total"
        ]

    ways = {
        "dense": with_backward(lambda *_: dense_image_by_image(maps_a, maps_b, mask, SAMPLES), inputs),
        "ours": with_backward(ours, inputs),
        "ours, all pixels": with_backward(lambda *_: ours(max_pixels=None), inputs),
    }
    return inputs, ways


def whole_loss() -> dict:
    inputs, ways = whole_ways()
    worst = check_equal({name: ways[name] for name in ("dense", "ours")}, inputs, "dense")
    seconds = interleaved(ways, 5)
    found = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "rounds": seconds[name],
            "times_faster_than_dense": ratio(seconds["dense"], seconds[name]),
        }
        for name in ways
    }
    return {"batch": 4, "sides": SIDES, "channels": D, "samples": SAMPLES, "largest_difference": worst, "ways": found}


def exponent(sizes, values) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growing_ways(n: int) -> tuple[tuple, dict]:
    inputs = rows(n, 0), rows(n, 1)
    functions = {"fused": infonce("fused"), "chunked": infonce("chunked")}
    if n <= 8000:  # beyond, the dense form needs more memory than a laptop has
        functions["dense"] = dense_loss
    return inputs, {name: with_backward(function, inputs) for name, function in functions.items()}


def growth() -> dict:
    curves: dict[str, dict[str, list]] = {}
    for n in GROWTH:
        for name, seconds in interleaved(growing_ways(n)[1], 5 if n <= 16000 else 3).items():
            curve = curves.setdefault(name, {"n": [], "seconds": []})
            curve["n"].append(n)
            curve["seconds"].append(statistics.median(seconds))
    for curve in curves.values():
        curve["time_exponent"] = exponent(curve["n"], curve["seconds"])
    return curves


def add_peaks(part: dict, inputs, ways) -> None:
    for name, run in ways.items():
        part["ways"][name]["peak"] = peak(run, inputs)


def add_memory(results: dict) -> None:
    """Peak memory of all ways, beyond their inputs, and its growth."""
    inputs, ways = whole_ways()
    if "whole_loss" in sys.argv:  # ours; the dense form does not follow the package
        ways.pop("dense")
    add_peaks(results["whole_loss"], inputs, ways)
    if "whole_loss" in sys.argv:
        return
    add_peaks(results["one_term"], *term_ways()[::2])
    for curve in results["growth"].values():
        curve["peak"] = []
    for n in GROWTH:
        inputs, ways = growing_ways(n)
        for name, run in ways.items():
            results["growth"][name]["peak"].append(peak(run, inputs))
    for curve in results["growth"].values():
        curve["memory_exponent"] = exponent(curve["n"], curve["peak"])


def main() -> None:
    if "--memory" in sys.argv:
        results = earlier("times", *PARTS)
    else:
        results = {"one_term": one_term(), "whole_loss": whole_loss(), "growth": growth()}
    add_memory(results)
    lines = [f"{'one term, n = m = ' + str(N):28}   seconds  x faster  x 3 products  peak MB  kept MB (with inputs)"]
    for name, r in results["one_term"]["ways"].items():
        if "kept" not in r:
            lines.append(f"{name:28} {r['seconds']:9.3f}")
            continue
        lines.append(
            f"{name:28} {r['seconds']:9.3f} {r['times_faster_than_dense']['median']:9.2f} "
            f"{r['times_three_products']['median']:13.2f} {r['peak'] / MB:8.0f} "
            f"{r['kept']['beyond_inputs'] / MB:8.1f} ({r['kept']['in_all'] / MB:.1f})"
        )
    lines.append(f"{'whole loss, batch 4':28}   seconds  x faster  peak MB")
    for name, r in results["whole_loss"]["ways"].items():
        faster = r["times_faster_than_dense"]["median"]
        lines.append(f"{name:28} {r['seconds']:9.3f} {faster:9.2f} {r['peak'] / MB:8.0f}")
    lines.append(f"{'growth':28} exponent of time, of memory")
    for name, curve in results["growth"].items():
        lines.append(f"{name:28} {curve['time_exponent']:16.3f} {curve['memory_exponent']:10.3f}")
    report(lines, results)


if __name__ == "__main__":
    main()
