"""`Localizer` with PyTorch and with onnxruntime on photographs of 2, 6 and 12 megapixels:
python FILE [--quick] [--megapixels 2,6] [--rounds N] [--json OUT].

Both take turns in one process with as many threads as PyTorch is set to (OMP_NUM_THREADS), after their maps were
compared; seconds a megapixel, and in a round of its own what the process holds beyond the photograph and the map.
Weights `lite`; photographs are noise. --quick: a tenth of the sides.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
from side_by_side import interleaved, peak_bytes, ratio, report

from mpc_lite.inference.localizer import BACKENDS, Localizer

QUICK = "--quick" in sys.argv
SIZES = {2: (1600, 1200), 6: (3000, 2000), 12: (4000, 3000)}  # megapixels: width, height


def option(name: str, default: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def main() -> None:
    ways = {backend: Localizer.from_pretrained("lite", device="cpu", backend=backend) for backend in BACKENDS}
    chosen = [int(part) for part in option("--megapixels", "2,6,12").split(",")]
    rounds, scale, draw = int(option("--rounds", "1" if QUICK else "3")), 10 if QUICK else 1, np.random.default_rng(0)
    sizes, lines = {}, []
    for megapixels in chosen:
        width, height = (side // scale for side in SIZES[megapixels])
        photo = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        part = photo[: min(height, 600), : min(width, 600)]
        torch_map, onnx_map = (way(part).score_map for way in ways.values())  # also loads libraries and their buffers
        difference = float(np.abs(torch_map - onnx_map).mean())
        if difference > 1e-3:
            raise SystemExit(f"the maps differ by {difference:.2g} on average; times of different answers say nothing")
        peaks = {name: peak_bytes(lambda way=way, p=photo: way(p)) for name, way in ways.items()}
        calls = {name: lambda way=way, p=photo: way(p) for name, way in ways.items()}
        seconds = interleaved(calls, rounds, warm_up=False)
        map_bytes = 4 * height * width
        beyond = {name: None if peak is None else peak - map_bytes for name, peak in peaks.items()}
        faster = ratio(seconds["torch"], seconds["onnx"])
        sizes[str(megapixels)] = {
            "width": width,
            "height": height,
            "seconds": seconds,
            "seconds_per_megapixel": {k: statistics.median(v) / (height * width / 1e6) for k, v in seconds.items()},
            "faster": faster,
            "map": map_bytes,
            "beyond_map": beyond,
            "difference": difference,
        }
        held = ", ".join(f"{k} {'?' if v is None else round(v / 1e6)}" for k, v in beyond.items())
        per = ", ".join(f"{k} {v:.2f}" for k, v in sizes[str(megapixels)]["seconds_per_megapixel"].items())
        lines.append(
            f"{megapixels:>3} MP  {faster['median']:.2f}× faster ({faster['low']:.2f}–{faster['high']:.2f})   "
            f"s/MP: {per}   MB beyond the map: {held}"
        )
    localizer = ways["torch"]
    how = {"mode": localizer.mode, "tile": localizer.size, "overlap": localizer.overlap, "rounds": rounds}
    title = f"tiles of {how['tile']}, overlap {how['overlap']}; {rounds} rounds"
    report([title, "median ratio (lowest and highest of a round)", *lines], {**how, "sizes": sizes})


if __name__ == "__main__":
    main()
