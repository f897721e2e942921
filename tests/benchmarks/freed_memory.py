"""What it saves to keep freed memory in the process (`devices.keep_freed_memory`): python FILE [--quick] [--json OUT].

A step of each stage of `lite`, and `Localizer` on a photograph, with one thread; with and without, in turn, each in a
process of its own, because the switch cannot be taken back. Processor seconds, page faults, and the process's peak.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from levers import step
from side_by_side import ratio, report

from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.devices import keep_freed_memory
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.pretrain import Pretraining

QUICK = "--quick" in sys.argv
PAIRS, ROUNDS, PHOTO = (1, 1, (96, 96)) if QUICK else (5, 5, (1000, 1500))


def tiles():
    localizer = Localizer.from_pretrained("lite2", device="cpu")
    photo = np.random.default_rng(0).integers(0, 256, (*PHOTO, 3), dtype=np.uint8)
    return lambda: localizer(photo)


WORK = {
    "step of stage 1": lambda: step(Pretraining, 12),
    "step of stage 2": lambda: step(Finetuning, 16),
    "photograph of 1.5 megapixels": tiles,
}


def alone(work: str, keep: bool) -> dict:
    """Of this process, which was started for it."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        raise SystemExit("this C library has no such switch, or MALLOC_… is set: there is nothing to compare")
    run = WORK[work]()
    run()
    seconds, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    used = resource.getrusage(resource.RUSAGE_SELF)
    faults = (used.ru_minflt - before) / ROUNDS
    return {"seconds": statistics.median(seconds), "faults": faults, "peak": 1024 * used.ru_maxrss}


def main() -> None:
    results: dict = {"threads_used": 1, "work": {}}
    lines = []
    for work in WORK:
        rounds: dict[str, list[dict]] = {"handed back": [], "kept": []}
        for _ in range(PAIRS):
            for way, each in rounds.items():
                words = [sys.executable, __file__, "--alone", work, way, *(["--quick"] if QUICK else [])]
                each.append(json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout))
        row = {way: {key: statistics.median(x[key] for x in each) for key in each[0]} for way, each in rounds.items()}
        seconds = {way: [x["seconds"] for x in each] for way, each in rounds.items()}
        row["times_faster"] = t = ratio(seconds["handed back"], seconds["kept"])
        results["work"][work] = row
        peaks = " and ".join(f"{row[way]['peak'] / 1e6:.0f}" for way in rounds)
        lines.append(f"{work:30} {t['median']:.2f} ({t['low']:.2f}–{t['high']:.2f}) times faster, peak {peaks} MB")
        print(lines[-1], flush=True)
    report(lines, results)


if __name__ == "__main__":
    if "--alone" in sys.argv:
        place = sys.argv.index("--alone")
        print(json.dumps(alone(sys.argv[place + 1], sys.argv[place + 2] == "kept")))
    else:
        main()
