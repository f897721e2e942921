"""Three faults, each put into a copy of the package, must each make the chapters' checked cells fail.

    python tests/book/seeded_faults.py

A comparison of notebooks that cannot fail is worth nothing. Chapter 6 is compared, as everywhere, with nbval; first
with the copy as it is, which must pass, then with each fault. Exits with 0 when all three were caught.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = Path("book/part2-method/06-contrastive-loss.ipynb")
CHECKS = '    check_temperature(temperature, learns=implementation == "dense")\n    if reduction not in'
INFONCE, VIEWS = "contrast/infonce.py", "contrast/views.py"
# name -> (file, text that stands there once, what takes its place)
FAULTS = {
    "temperature doubled": (INFONCE, CHECKS, CHECKS.replace("\n", "\n    temperature = 2 * temperature\n", 1)),
    "self-term not dropped": (INFONCE, " - a.square().sum(2)) / others", ") / others"),
    "classes swapped": (VIEWS, "for target in (0, 1))\n        return", "for target in (1, 0))\n        return"),
}


def put(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise SystemExit(f"the fault's place stands {text.count(old)} times in the source, expected once: {old!r}")
    return text.replace(old, new)


def failing_cells(package: Path) -> int:
    """Checked cells of the chapter that fail with this copy of the package; raises when nothing was compared."""
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_WAIT_POLICY": "PASSIVE"}
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    call += ["--nbval-sanitize-with", str(ROOT / "book/tools/twins/nbval_sanitise.cfg"), str(package / CHAPTER)]
    done = subprocess.run(call, cwd=package, env=environment, capture_output=True, text=True)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout.splitlines()[-1])}
    if not counts.get("passed"):
        raise SystemExit(f"nbval compared nothing:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return counts.get("failed", 0) + counts.get("error", 0)


def main() -> int:
    caught = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        ignore = shutil.ignore_patterns("__pycache__", "assets")
        for name in ("mpc_lite", "book"):
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        for name, (file, old, new) in {"no fault": ("contrast/loss.py", "", ""), **FAULTS}.items():
            path = copy / "mpc_lite" / file
            whole = path.read_text()
            path.write_text(put(whole, old, new) if old else whole)
            n = failing_cells(copy)
            path.write_text(whole)
            print(f"{name:22} {n:2} cells fail", flush=True)
            caught.append(n == 0 if name == "no fault" else n > 0)
    return 0 if all(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
