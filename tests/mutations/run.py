"""Would the tests notice? Each fault of `faults.py`, put into a copy of the package, must make its test fail.

    python tests/mutations/run.py [WORD]      # all faults, or those whose name holds WORD; some minutes

Only the named test of a fault is run, after all of them have passed on the copy as it is. Exits with 0 when each fault
was caught. How many were stands on the book's status page (book/results/trust.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
PASSED, FAILED = 0, 1  # pytest's exit codes; others say that nothing was tested


def main(word: str = "") -> int:
    chosen = [fault for fault in FAULTS if word in fault.name]
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("mpc_lite", "tests", "data_scripts"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        code, said = run(copy, sorted({fault.test for fault in chosen}))
        if code != PASSED:
            raise SystemExit(f"the tests do not pass without a fault:\n{said[-3000:]}")
        for fault in chosen:
            caught = noticed(copy, fault)
            print(f"{'caught' if caught else 'MISSED'}  {fault.name:36} {fault.test.split('::')[1]}", flush=True)
            missed += [] if caught else [fault.name]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults are caught")
    return 1 if missed else 0


def noticed(copy: Path, fault: Fault) -> bool:
    """Does the fault's test fail? SystemExit when the fault has no place, or the test could not be run."""
    path = copy / "mpc_lite" / fault.file
    whole = path.read_text(encoding="utf-8")
    if whole.count(fault.old) != 1:
        raise SystemExit(
            f"{fault.name}: its place stands {whole.count(fault.old)} times in {fault.file}, expected once"
        )
    path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    code, said = run(copy, [fault.test])
    path.write_text(whole, encoding="utf-8")
    if code not in (PASSED, FAILED) or "ImportError" in said or "SyntaxError" in said:
        raise SystemExit(f"{fault.name}: the test could not be run:\n{said[-3000:]}")
    return code == FAILED


def run(copy: Path, tests: list[str]) -> tuple[int, str]:
    """Exit code and output of pytest on the copy, which is imported in place of an installed package."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    call = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(call, cwd=copy, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
