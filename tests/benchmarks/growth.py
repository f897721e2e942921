"""How time and memory grow with the data: python FILE [--rows N,…] [--checked N,…] [--images N,…] [--json OUT].

reading    a manifest of N rows: `read_manifest`, then the training set of it, then the order of an epoch
check      `check`, which opens every image and mask, of as many rows as --checked says
evaluate   N images of 128 pixels under the protocol mpc, network `lite`, baselines beside it
start      a list as long as protocol 3's (843 991 entries of 606 004 rows) until its first batch is there

Rows are files of 16 pixels on disk, hard links to a few: what is measured are the rows. Each size runs in a process of
its own. Memory: what the process holds at its peak beyond what it held before, and what it keeps. The exponent is that
of a line through logarithms; 1 is proportional. --quick: sizes that say nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from side_by_side import peak_bytes, report

ROWS, CHECKED, IMAGES = (10_000, 100_000, 1_000_000), (1_000, 10_000), (200, 600, 2_000)
QUICK = {"rows": (200, 400), "checked": (50, 100), "images": (4, 8), "start": 1000}
LINKS = 10_000  # to one file; some file systems allow 65 000
# Protocol 3: three parts of tampCOCO, and two sets that an epoch repeats.
SOURCES = {"sp": 199_999, "cm": 199_429, "bcm": 199_443, "CASIAv2": 5123, "IMD": 2010}
REPEATS = {"CASIAv2": 40, "IMD": 20}


def make_list(folder: Path, rows: int, sources: dict[str, int] | None = None) -> Path:
    """A manifest of so many tampered rows, each with an image and a mask of its own name. sources: rows of each, in
    proportion; all of one by default."""
    for kind in ("files", "images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    draw, count = np.random.default_rng(0), max(2, -(-rows // LINKS))
    for i in range(count):
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"files/{i}.png")
        Image.fromarray(np.triu(np.full((16, 16), 255, np.uint8), i % 9 - 4)).save(folder / f"files/{i}_m.png")
    names = list(sources or {"grown": 1})
    weights = np.array(list((sources or {"grown": 1}).values()))
    ends = np.cumsum(weights) / weights.sum() * rows
    of_row = np.searchsorted(ends, np.arange(rows), side="right").clip(max=len(names) - 1)
    with open(folder / "list.csv", "w", encoding="utf-8") as file:
        file.write("image,mask,label,source,split\n")
        for row in range(rows):
            os.link(folder / f"files/{row % count}.png", folder / f"images/{row:07d}.png")
            os.link(folder / f"files/{row % count}_m.png", folder / f"masks/{row:07d}.png")
            file.write(f"images/{row:07d}.png,masks/{row:07d}.png,1,{names[of_row[row]]},\n")
    return folder / "list.csv"


def timed(name: str, do: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """{NAME: seconds, "NAME, processor": those that a processor worked for it}, which neighbours lengthen less."""
    start, worked = time.perf_counter(), time.process_time()
    result = do()
    found = {name: time.perf_counter() - start, f"{name}, processor": time.process_time() - worked}
    return found, result


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --------------------------------------------------------------------------------- one size each, in a fresh process


def reading(file: Path) -> dict[str, float]:
    from mpc_lite.data.epoch import epoch_order
    from mpc_lite.data.manifest import read_manifest

    read, rows = timed("read", lambda: read_manifest(file))
    count = len(rows)
    del rows
    order, _ = timed("order", lambda: epoch_order(0, 0, count))
    return {"rows": count, **read, **order, **_training_set(file)}


def _training_set(file: Path) -> dict[str, float]:
    from mpc_lite.data.stream import datasets
    from mpc_lite.recipes.load import load_recipe

    recipe, kept, times = load_recipe("quickstart", "smoke", {"data.manifest": str(file)}), [], []
    before = resident()

    def make() -> None:
        seconds, sets = timed("training set", lambda: datasets(recipe))
        times.append(seconds)
        kept.append(sets)

    peak = peak_bytes(make)
    return {**times[0], "peak_bytes": peak, "kept_bytes": resident() - before}


def checking(file: Path) -> dict[str, float]:
    from mpc_lite.data.manifest import check, read_manifest

    rows = len(read_manifest(file))
    seconds, problems = timed("check", lambda: check(file))
    if problems:
        raise SystemExit(f"rows that should be good are not: {problems[0]}")
    return {"rows": rows, **seconds}


def starting(file: Path) -> dict[str, float]:
    """From the recipe to the first batch, as the loop gets there; entries as protocol 3 repeats them."""
    from mpc_lite.data.loader import loader
    from mpc_lite.data.stream import Positions, datasets
    from mpc_lite.recipes.load import load_recipe

    values = {"data.manifest": str(file), "data.repeats": REPEATS, "data.tampered_only": True, "data.workers": 1}
    values["data.validation_fraction"] = 0.001

    def start() -> int:
        train, _, _ = datasets(load_recipe("quickstart", "smoke", values))
        next(iter(loader(train, Positions(0, 4, 4), 1)))
        return train.epoch

    seconds, entries = timed("start", start)
    return {"entries": entries, **seconds}


def evaluating(folder: Path, images: int) -> dict[str, float]:
    from mpc_lite.data.manifest import read_manifest
    from mpc_lite.evaluation.evaluate import evaluate
    from mpc_lite.inference.localizer import Localizer

    rows, network = read_manifest(folder / "manifest.csv"), Localizer.from_pretrained("lite", device="cpu")
    evaluate(network, rows[:1])
    seconds, table = timed("evaluate", lambda: evaluate(network, (rows * -(-images // len(rows)))[:images]))
    return {"images": images, **seconds, "f1": table["average"]["f1"]}


# ----------------------------------------------------------------------------------------------------------- all sizes


def alone(work: Callable, *arguments: Any) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def exponent(sizes: list[float], values: list[float]) -> float | None:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(sizes) > 1 else None


def sized(work: Callable, sizes: tuple[int, ...], folder: Path) -> list[dict[str, float]]:
    found = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            found.append(alone(work, make_list(Path(name), rows)))
        print(" ".join(f"{key} {value:,.4g}" for key, value in found[-1].items()), flush=True)
    return found


def grown(found: list[dict[str, float]], of: str, *keys: str) -> dict[str, float | None]:
    every = [name for key in keys for name in (key, f"{key}, processor")]
    return {key: exponent([x[of] for x in found], [x[key] for x in found]) for key in every}


def generated(folder: Path, images: int, seed: int = 3) -> Path:
    """A folder of test images as `mpc-lite synth` writes them; those of a seed are equal in every checkout that calls
    this one's command."""
    call = [sys.executable, "-c", "import sys; from mpc_lite.cli import main; sys.exit(main(sys.argv[1:]))"]
    call += ["synth", "--out", str(folder), "--n", str(images), "--seed", str(seed), "--size", "128"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    # Elsewhere, for Python looks for the package in the folder that it starts in before all others.
    subprocess.run(call, check=True, capture_output=True, env=environment, cwd=folder.parent)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(x) for x in text.split(",") if x)

    parser.add_argument("--rows", type=numbers, default=ROWS)
    parser.add_argument("--checked", type=numbers, default=CHECKED)
    parser.add_argument("--images", type=numbers, default=IMAGES)
    parser.add_argument("--start", type=int, default=sum(SOURCES.values()), help="rows of the long list; 0: none")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    for key, value in QUICK.items() if given.quick else ():
        setattr(given, key, value)
    results: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp())
    try:
        if given.rows:
            results["reading"] = sized(reading, given.rows, folder)
            results["reading, exponents"] = grown(results["reading"], "rows", "read", "training set")
            largest = results["reading"][-1]
            results["bytes a row"] = {key: largest[key] / largest["rows"] for key in ("peak_bytes", "kept_bytes")}
        if given.checked:
            results["check"] = sized(checking, given.checked, folder)
            results["check, exponents"] = grown(results["check"], "rows", "check")
        if given.images:
            images = generated(folder / "evaluate", 16 if given.quick else 40)
            results["evaluate"] = [alone(partial(evaluating, images), n) for n in given.images]
            results["evaluate, exponents"] = grown(results["evaluate"], "images", "evaluate")
        if given.start:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                results["start"] = alone(starting, make_list(Path(name), given.start, SOURCES))
    finally:
        shutil.rmtree(folder)
    lines = [f"{name}: {found}" for name, found in results.items() if not isinstance(found, list)]
    report(lines, results)


if __name__ == "__main__":
    main()
