"""Peak memory of `Localizer` with tiles, beyond photograph and map, 6 to 24 megapixels: python FILE [--json OUT].

Each size runs in a process of its own, because a process never gives back its peak. Seconds are of this machine, once.
"""

import json
import subprocess
import sys

SIZES = {6: (3000, 2000), 12: (4000, 3000), 24: (6000, 4000)}  # megapixels: width, height
CHILD = """
import json, resource, sys, time
import numpy as np
from mpc_lite.localizer import Localizer

width, height = int(sys.argv[1]), int(sys.argv[2])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
localizer = Localizer.from_pretrained("lite")
localizer(np.zeros((400, 400, 3), np.uint8))  # libraries and their buffers
photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
np.empty((height, width), np.float32).fill(0)  # a map's worth, given back: the peak starts above photo and map
before, start = peak(), time.perf_counter()
hit = localizer(photo)
print(json.dumps({"map_mib": hit.score_map.nbytes / 2**20, "beyond_mib": round(peak() - before, 1),
                  "seconds": round(time.perf_counter() - start, 1), "mode": localizer.mode, "tile": localizer.size}))
"""


def main() -> None:
    results = {}
    for megapixels, size in SIZES.items():
        words = [sys.executable, "-c", CHILD, *map(str, size)]
        results[megapixels] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        r = results[megapixels]
        print(
            f"{megapixels:3d} MP  map {r['map_mib']:6.1f} MiB  beyond {r['beyond_mib']:6.1f} MiB  {r['seconds']:6.1f} s"
        )
    if sys.argv[1:2] == ["--json"]:
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
