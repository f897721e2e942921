"""`Localizer` with tiles on photographs of 6, 12 and 24 megapixels: python FILE [--quick] [--memory] [--json OUT].

Seconds a megapixel, medians of five rounds in which the sizes take turns; and, in a round before those, what the
process holds at its peak beyond the photograph and the map that it returns. Weights `lite`; photographs are noise.
--quick: a tenth of the sides. --memory: memory alone, anew, beside the times that are in OUT.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
from side_by_side import earlier, interleaved, peak_bytes, report

from mpc_lite.inference.localizer import Localizer

QUICK = "--quick" in sys.argv
SIZES = {6: (3000, 2000), 12: (4000, 3000), 24: (6000, 4000)}  # megapixels: width, height
ROUNDS = 1 if QUICK else 5


def main() -> None:
    localizer = Localizer.from_pretrained("lite")
    draw, scale = np.random.default_rng(0), 10 if QUICK else 1
    photos = {
        megapixels: draw.integers(0, 256, (height // scale, width // scale, 3), dtype=np.uint8)
        for megapixels, (width, height) in SIZES.items()
    }
    localizer(photos[6][:400, :400])  # libraries, their buffers, the folded network
    peaks = {megapixels: peak_bytes(lambda p=photo: localizer(p)) for megapixels, photo in photos.items()}
    ways = {str(megapixels): lambda p=photo: localizer(p) for megapixels, photo in photos.items()}
    results = {"mode": localizer.mode, "tile": localizer.size, "overlap": localizer.overlap}
    if "--memory" in sys.argv:
        results |= earlier("times", "sizes")
        seconds = {name: size["seconds"] for name, size in results["sizes"].items()}
    else:
        seconds = interleaved(ways, ROUNDS, warm_up=False)
    sizes = results["sizes"] = {}
    for megapixels, photo in photos.items():
        height, width = photo.shape[:2]
        area, map_bytes, rounds = height * width / 1e6, 4 * height * width, seconds[str(megapixels)]
        sizes[str(megapixels)] = {
            "width": width,
            "height": height,
            "seconds": rounds,
            "seconds_per_megapixel": statistics.median(rounds) / area,
            "map": map_bytes,
            "beyond_map": None if peaks[megapixels] is None else peaks[megapixels] - map_bytes,
        }
    per = [size["seconds_per_megapixel"] for size in sizes.values()]
    results["spread"] = max(per) / min(per) - 1
    lines = [
        f"tiles of {localizer.size}, overlap {localizer.overlap}; slowest against fastest {results['spread']:+.1%}"
    ]
    for name, s in sizes.items():
        beyond = "not measured" if s["beyond_map"] is None else f"{s['beyond_map'] / 1e6:.0f} MB beyond the map"
        lines.append(f"{name:>3} MP {s['seconds_per_megapixel']:7.2f} s/MP   map {s['map'] / 1e6:5.0f} MB   {beyond}")
    report(lines, results)


if __name__ == "__main__":
    main()
