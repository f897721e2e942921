#!/usr/bin/env bash
# Python's garbage collector takes a quarter to a third of the time of a program that imports PyTorch and ends.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.0

"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

print(f"Python {sys.version.split()[0]}, torch {version('torch')}, numpy {version('numpy')}")
print("Guess: a program that only imports torch has no garbage, so whether Python looks for it changes little.")

PROGRAMS = {
    "plain": "import torch",
    "no search while it is imported": "import gc; gc.disable(); import torch; gc.enable()",
    "nor at the end": "import atexit, gc; gc.disable(); import torch; gc.enable(); atexit.register(gc.freeze)",
}
times = {name: [] for name in PROGRAMS}
for turn in range(8):
    for name, program in PROGRAMS.items():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        if turn:  # the first one fills the disk's cache
            times[name].append(time.perf_counter() - start)

count = "import gc, torch; gc.collect(); print(len(gc.get_objects()))"
objects = int(subprocess.run([sys.executable, "-c", count], check=True, capture_output=True).stdout)
print(f"\nSeen, {objects:,} objects to walk; start to end of a program, seconds, median of 7 and range:")
median = {name: statistics.median(each) for name, each in times.items()}
for name, each in times.items():
    print(f"  {name:32}{median[name]:5.2f} ({min(each):.2f}–{max(each):.2f}), {median[name] / median['plain']:.2f} of plain")

if median["nor at the end"] > 0.85 * median["plain"]:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: while hundreds of thousands of objects are made, the collector walks them time and again, and once")
print("more when the interpreter ends, after the exit handlers; gc.freeze keeps them from it. A command that is over in")
print("seconds gains as much as from leaving out most other imports.")
PYTHON
