"""Stage 1 of `lite` with one thread and with two, which spin or sleep where they wait: python FILE [--rounds 3]
[--quick] [--json OUT].

The command of this checkout, whole loop with data, in turn; then once more in turn while another process keeps a core
busy. Two threads that spin are left out there: they take minutes. Medians of seconds an image. --quick: to see that it
runs, one way each, without a busy neighbour and without threads that spin.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from side_by_side import report
from versus import THIS, neighbours, work

WAYS = {
    "one": {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    "two, asleep": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    "two, spinning": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"},
}
QUICK = "--quick" in sys.argv
ROUNDS = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 1 if QUICK else 3


def in_turn(ways: list[str], folder: Path) -> dict[str, dict]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name in ways:
            with patch.dict("os.environ", WAYS[name]):
                measures = work(THIS, "stage-1", folder, "small" if QUICK else "full")["measures"]
            seconds[name].append(measures["seconds an image"])
    return {name: {"median": statistics.median(each), "rounds": each} for name, each in seconds.items()}


def main() -> None:
    ways = list(WAYS)
    with tempfile.TemporaryDirectory() as folder:
        quiet = in_turn(ways[:1] if QUICK else ways, Path(folder))
        with neighbours(0 if QUICK else 1):
            busy = in_turn(ways[1:2] if QUICK else ways[:2], Path(folder))
    lines = ["seconds an image", *(f"{name:14} {found['median']:.4f}" for name, found in quiet.items())]
    lines += ["beside a busy process", *(f"{name:14} {found['median']:.4f}" for name, found in busy.items())]
    report(lines, {"rounds_each": ROUNDS, "quiet": quiet, "busy": busy})


if __name__ == "__main__":
    main()
