"""The full network at the paper's size, for two steps of each stage on this machine's CPU: does it fit, does it resume?

    python book/results/protocol1-check.py book/results/protocol1-check.json

Runs `protocol1`, profile `check`, on $MPC_LITE_DATA/forged.csv in processes of their own, so that the peak memory of
each is the operating system's figure: stage 1, killed with SIGKILL as soon as its first checkpoint is there; stage 1
resumed to its end; stage 2; and the notebook, which finds both stages finished and scores `ROWS` images of each set.
Nothing follows from the scores: two steps from random numbers teach nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from mpc_lite.data.manifest import read_manifest, write_manifest
from mpc_lite.files import expand, write_atomic
from mpc_lite.provenance import record
from mpc_lite.reproduce.run import prepare
from mpc_lite.training.progress import read_log

ROWS = 6  # of each source and label


def few(folder: Path) -> Path:
    """A manifest of a few test images of each kind: all 228 would take longer than the training."""
    counts, rows = Counter(), []
    for sample in read_manifest(expand("$MPC_LITE_DATA/forged.csv"), split="test"):
        counts[sample.source, sample.label] += 1
        if counts[sample.source, sample.label] <= ROWS:
            rows.append(sample)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "few.csv", rows)
    return folder / "few.csv"


def process(*words: str, until: Path | None = None) -> dict:
    """Run `mpc-lite` with these words; {seconds, peak_gib, exit}. `until`: kill it as soon as this file is there."""
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "mpc_lite.cli", *words])
    while until is not None and child.poll() is None and not until.exists():
        time.sleep(0.05)
    if until is not None and child.poll() is None:
        os.kill(child.pid, signal.SIGKILL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds, peak = time.monotonic() - started, used.ru_maxrss / 2**20  # KiB on Linux
    print(" ".join(words[:1]), f"exit {child.returncode}, {seconds:.0f} s, peak {peak:.2f} GiB", flush=True)
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2), "exit": child.returncode}


def main(target: Path) -> None:
    manifest = few(Path("runs/protocol1/check-few")).resolve()
    chosen = {"evaluate.manifests": [str(manifest)]}
    run = prepare("protocol1", "check", parameters=chosen)
    shutil.rmtree(run.out, ignore_errors=True)
    pairs = ["-p", f"evaluate.manifests=[{manifest}]"]
    train = ["--recipe", "protocol1", "--profile", "check", "--out", str(run.out), *pairs]
    parts = {
        "stage 1, killed after its first step": process("pretrain", *train, until=run.out / "pretrain.state"),
        "stage 1, resumed": process("pretrain", *train, "--resume"),
        "stage 2": process("finetune", *train, "--resume"),
        "evaluation": process("reproduce", "protocol1", "--profile", "check", *pairs, "--resume"),
    }
    exits = [part["exit"] for part in parts.values()]
    if exits != [-signal.SIGKILL, 0, 0, 0]:
        sys.exit(f"exit codes {exits}; expected {[-int(signal.SIGKILL), 0, 0, 0]}")
    scored = json.loads((run.out / "results.json").read_text())
    result = {
        "schema": 1,
        "command": f"python book/results/protocol1-check.py book/results/{target.name}",
        "recipe": {"name": "protocol1", "profile": "check", "variant": run.recipe.choice["variant"], "seed": 0},
        "network": run.recipe.model.size,
        "size": run.recipe.data.size,
        "micro_batch": run.recipe.pretrain.batch,
        "accumulate": run.recipe.pretrain.accumulate,
        **record(device=f"cpu, {os.cpu_count()} cores"),
        "parts": parts,
        "log": [entry for entry in read_log(run.out / "log.jsonl")],
        "images": {source: scores["n"] for source, scores in scored["sets"].items()},
        "rows": f"up to {ROWS} of each source and label of the test split of forged.csv",
    }
    write_atomic(target, (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
