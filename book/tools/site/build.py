"""Build the book: vendored scripts, the page with the model in it, then Jupyter Book with warnings as errors.

    python book/tools/site/build.py            # pages in _build/html, index.html first

Executed chapters are kept in _build/.jupyter_cache. Jupyter Book itself looks only at a chapter's text; here the cache
is cleared whenever the package, its weights, a chapter, a result or a requirement changed. With MPC_LITE_BOOK_CACHE set
to a folder, the executed chapters of one such state are kept there, so that another clone need not execute them again.
Chapters that nbval has just executed are taken from MPC_LITE_EXECUTED (`executed.py`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import executed
import try_it
import vendor

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "_build" / ".jupyter_cache"
WATCHED = ["mpc_lite/**/*", "book/part*/*.md", "book/*.md", "book/results/*.json", "pyproject.toml", "requirements.txt"]


def state() -> str:
    """A name for everything that the chapters' outputs depend on."""
    digest = hashlib.sha256(platform.python_version().encode())
    for pattern in WATCHED:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def main() -> int:
    now, stamp = state(), CACHE.with_name("state")
    store = Path(os.environ["MPC_LITE_BOOK_CACHE"]) if os.environ.get("MPC_LITE_BOOK_CACHE") else None
    if not stamp.is_file() or stamp.read_text() != now:
        shutil.rmtree(CACHE, ignore_errors=True)
        for folder in ("html", ".doctrees"):  # pages that Sphinx has read once it would not execute again
            shutil.rmtree(ROOT / "_build" / folder, ignore_errors=True)
        if store is not None and (store / now).is_dir():
            shutil.copytree(store / now, CACHE)
    CACHE.parent.mkdir(exist_ok=True)
    stamp.write_text(now)
    if kept := os.environ.get("MPC_LITE_EXECUTED"):
        print(f"{len(executed.into_cache(Path(kept), CACHE))} chapters were executed by the comparison of notebooks")
    vendor.main()
    try_it.main([])
    # One thread: the last digits of a sum must not depend on how many there are, nor the time on who else computes.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    program = str(Path(sys.executable).with_name("jupyter-book"))
    call = [program, "build", ".", "-W", "-n", "--keep-going"]
    code = subprocess.run(call, cwd=ROOT, env=environment).returncode
    if code == 0 and store is not None and not (store / now).is_dir():
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(CACHE, store / now)
    return code


if __name__ == "__main__":
    sys.exit(main())
