"""What hostile files, kills and seeded faults did to the package: the figures of the book's status page.

    pytest -m 'not slow' --cov --cov-report json:coverage.json                    # the fast tier; for the last part
    python book/results/trust.py book/results/trust.json tests faults coverage    # or some of them

`tests` runs `pytest -m trust` and takes the lines that its tests record; `faults` runs tests/mutations/run.py;
`coverage` reads the file coverage.json that the first command has left. A part that is not named stays as it was, with
the versions and the commit that it was made with.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from mpc_lite.errors import InputError
from mpc_lite.files import write_atomic
from mpc_lite.provenance import record

ROOT = Path(__file__).parents[2]
MAKE_COVERAGE = "pytest -m 'not slow' --cov --cov-report json:coverage.json"


def tests() -> dict[str, Any]:
    """Numbers of tests by outcome, seconds, and what each part of the corpus came to."""
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "pytest", "-m", "trust", "-q", f"--junitxml={folder}/trust.xml"]
        subprocess.run(call, cwd=ROOT)
        suite = ElementTree.parse(f"{folder}/trust.xml").getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    lines = [entry.get("value") for entry in suite.iter("property") if entry.get("name") == "trust"]
    return {
        **count,
        "seconds": round(float(suite.get("time"))),
        "figures": dict(x.split(": ", 1) for x in sorted(lines)),
    }


def faults() -> dict[str, Any]:
    """How many one-line faults were put into the package, and how many of them a test has noticed."""
    call = [sys.executable, "tests/mutations/run.py"]
    said = subprocess.run(call, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    caught, seeded = re.search(r"^(\d+) of (\d+) faults are caught$", said, re.M).groups()
    return {"seeded": int(seeded), "caught": int(caught)}


def coverage() -> dict[str, Any]:
    """Shares of the package's lines and branches that the fast tier has run; all tests run at least as many."""
    file = ROOT / "coverage.json"
    if not file.is_file():
        raise InputError(f"{file.name} is missing; make it with: {MAKE_COVERAGE}")
    total = json.loads(file.read_text())["totals"]
    lines = {"lines": total["num_statements"], "lines_run": total["covered_lines"]}
    return {**lines, "branches": total["num_branches"], "branches_run": total["covered_branches"]}


PARTS = {"tests": tests, "faults": faults, "coverage": coverage}


def main(target: Path, *names: str) -> None:
    if not names or not set(names) <= set(PARTS):
        raise InputError(f"found {' '.join(names) or 'no part'}; expected some of {' '.join(PARTS)}")
    result = {"schema": 1, "command": f"python book/results/trust.py {target.as_posix()} {' '.join(PARTS)}"}
    if target.is_file():
        result |= json.loads(target.read_text())
    for name in names:
        result[name] = record(**PARTS[name]())
        write_atomic(target, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
