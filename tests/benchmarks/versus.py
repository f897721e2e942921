"""This checkout against another one: python FILE OTHER [--work NAME,…] [--script FILE.py] [--rounds 5] [--json OUT]

OTHER: a folder that holds `mpc_lite`: a worktree, or what a copy of a commit was installed into. Every run is a process
of its own with PYTHONPATH switched; other, this, other, this, after a round of both that does not count. Reported are
the medians, how many times faster this one is, and the range of single rounds; and whether both found the same. Set
neither OMP_WAIT_POLICY nor OMP_NUM_THREADS where commands are compared: which policy they choose is part of them.

--work     pieces of `workloads.py`: stage-1 stage-2 stage-1-two stage-2-two evaluate robustness
           localizer onnx forgery manifest predict quickstart; by default all but the last, which takes minutes a run
--script   a benchmark of this folder instead, with the arguments after `--`; its seconds and its bytes are compared
--json     what the file holds of other pieces of work stays in it, with the command and the commit that made it
--busy N   N processes keep cores busy meanwhile, as a neighbour would
--quick    small sizes and no first round, to see that it runs
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from growth import generated, make_list
from side_by_side import ratio, write
from workloads import ROWS, SCALES, WORK

from mpc_lite.provenance import commit

HERE = Path(__file__).resolve().parent
THIS = HERE.parents[1]
MEASURES = ("seconds", "seconds_per_megapixel", "peak", "beyond_inputs", "beyond_map")  # in a benchmark's results


def call(checkout: Path, arguments: list[str], folder: Path) -> str:
    """What `workloads.py` prints in a fresh process that imports the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(HERE / "workloads.py"), *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed in {checkout}:\n{done.stderr[-3000:]}")
    return done.stdout


def work(checkout: Path, name: str, folder: Path, scale: str) -> dict[str, Any]:
    found = json.loads(call(checkout, [name, str(folder), scale], folder).splitlines()[-1])
    if Path(found["package"]).resolve().parent != checkout:
        raise SystemExit(f"the package came from {found['package']}, expected it in {checkout}")
    return found


def script(checkout: Path, file: str, arguments: list[str], folder: Path) -> dict[str, Any]:
    """The measures of a benchmark by their place in its results."""
    target = folder / "out.json"
    call(checkout, [str(HERE / Path(file).name), *arguments, "--json", str(target)], folder)
    return {"measures": measures(json.loads(target.read_text())), "result": None}


def measures(content: Any, place: str = "") -> dict[str, float]:
    """{"one_term.ways.fused.seconds": 0.5, …}: the numbers of a result that are seconds or bytes of something."""
    found: dict[str, float] = {}
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    else:
        return found
    for key, value in items:
        here = f"{place}.{key}".lstrip(".")
        if key in MEASURES and isinstance(value, int | float) and value > 0:
            found[here] = float(value)
        else:
            found |= measures(value, here)
    return found


def compare(run: Any, checkouts: dict[str, Path], rounds: int, warm_up: int) -> dict[str, Any]:
    """run: a function of a checkout -> {measures, result}. Rounds in turn, after `warm_up` that do not count."""
    taken: dict[str, list[dict]] = {name: [] for name in checkouts}
    for turn in range(warm_up + rounds):
        for name, checkout in checkouts.items():
            found = run(checkout)
            if turn >= warm_up:
                taken[name].append(found)
    shared = [key for key in taken["this"][0]["measures"] if key in taken["other"][0]["measures"]]
    table = {}
    for key in shared:
        values = {name: [found["measures"][key] for found in each] for name, each in taken.items()}
        medians = {name: statistics.median(each) for name, each in values.items()}
        table[key] = {**medians, "times_faster": ratio(values["other"], values["this"]), "rounds": values}
    results = {name: each[-1]["result"] for name, each in taken.items()}
    return {"measures": table, "same_result": results["other"] == results["this"], "results": results}


@contextmanager
def neighbours(count: int):
    """So many processes that never rest, as other users of a machine would be."""
    busy = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.terminate()


def _spin() -> None:
    while True:
        pass


def lines(name: str, found: dict[str, Any]) -> list[str]:
    made = []
    for key, row in found["measures"].items():
        t = row["times_faster"]
        span = f"{t['median']:.2f} times faster ({t['low']:.2f} to {t['high']:.2f})"
        made.append(f"{name:12} {key:40} {row['other']:.4g} -> {row['this']:.4g}   {span}")
    if found["results"]["this"] is not None:
        made.append(f"{name:12} {'the same result' if found['same_result'] else 'another result'}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--work", default=",".join(name for name in WORK if name != "quickstart"))
    parser.add_argument("--script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    words = sys.argv[1:]
    own = words.index("--") if "--" in words else len(words)  # what follows is the script's
    given = parser.parse_args(words[:own])
    checkouts = {"other": given.other.resolve(), "this": THIS}
    scale, names = ("small" if given.quick else "full"), given.work.split(",")
    if unknown := [name for name in names if name not in WORK]:
        parser.error(f"no piece of work is called {', '.join(unknown)}; there are {', '.join(WORK)}")
    if not (checkouts["other"] / "mpc_lite").is_dir():
        parser.error(f"{given.other} holds no folder mpc_lite")
    about = {"scale": scale, "rounds": given.rounds, "busy": given.busy, "commit": commit()}
    told = {str(given.other): "OTHER", str(given.json): "OUT"}  # no machine's folders
    about["command"] = " ".join(["python tests/benchmarks/versus.py", *(told.get(word, word) for word in words)])
    known = json.loads(given.json.read_text())["work"] if given.json and given.json.is_file() else {}
    results: dict[str, Any] = {"command": about["command"], "work": known}
    folder = Path(tempfile.mkdtemp())
    try:
        if not given.script and {"evaluate", "robustness"} & set(names):
            generated(folder / "images", SCALES[scale]["images"])
        if not given.script and "manifest" in names:
            make_list(folder / "list", ROWS[scale])
        with neighbours(given.busy):
            for name in [given.script] if given.script else names:

                def run(checkout: Path, name=name) -> dict[str, Any]:
                    if given.script:
                        return script(checkout, name, words[own + 1 :], folder)
                    return work(checkout, name, folder, scale)

                found = compare(run, checkouts, given.rounds, warm_up=0 if given.quick else 1)
                results["work"][name] = {**about, **found}
                print("\n".join(lines(name, found)), flush=True)
                if given.json:
                    write(given.json, results)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
