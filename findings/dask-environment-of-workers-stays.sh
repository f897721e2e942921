#!/usr/bin/env bash
# dask.distributed on variables that workers shall have before they start: the program that starts them has them from then on, too.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dask==2026.8.0 distributed==2026.8.0

cat > "$folder/case.py" <<'PYTHON'
import os
import subprocess
import sys

import dask
import distributed
from distributed import Client, LocalCluster

NAME = "PYTHONSAFEPATH"  # one that decides what a process imports: it has to be there before the worker begins


def child():
    """What a process that is started here afterwards is given."""
    code = f"import os; print(os.environ.get({NAME!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    os.environ.pop(NAME, None)
    print(f"Python {sys.version.split()[0]}, dask {dask.__version__}, distributed {distributed.__version__}")
    print("Guess: what distributed.nanny.pre-spawn-environ names is set in the workers' processes; the program that starts")
    print("       them keeps its own environment, at the latest once the cluster is closed and the setting undone.")
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {NAME: "1"}}):
        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
            (worker,) = client.run(os.environ.get, NAME).values()
            during = os.environ.get(NAME)
    seen = {"worker": worker, "program, meanwhile": during, "program, afterwards": os.environ.get(NAME), "its child": child()}
    print(f"\nSeen, the value of {NAME}")
    for who, value in seen.items():
        print(f"  {who:20} {value}")
    if seen != {"worker": "1", "program, meanwhile": "1", "program, afterwards": "1", "its child": "1"}:
        sys.exit(f"changed: {seen}")
    print("\nAs when this was written: the program has the workers' variables to its end, and so has all that it starts.")
PYTHON
"$folder/venv/bin/python" "$folder/case.py"
