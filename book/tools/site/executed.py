"""Chapters as nbval executed them, kept for the build: what was compared need not be computed again for the pages.

    MPC_LITE_EXECUTED=FOLDER python -m pytest -p book.tools.site.executed --nbval-lax book/part*/*.ipynb

leaves in FOLDER a file for each chapter all of whose cells passed. `build.py`, with the same variable, puts them into
the cache of Jupyter Book; a chapter whose code is another by then, or which has a widget, is executed there as ever.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat import from_dict

_WIDGET = "application/vnd.jupyter.widget-view+json"  # its state travels in messages that nbval does not read
_cells, _failed = defaultdict(list), set()  # of each notebook, in this process


def pytest_runtest_makereport(item, call):
    if not hasattr(item, "test_outputs"):  # no cell of a notebook
        return
    if call.excinfo:
        _failed.add(item.path)
    elif call.when == "call":
        _cells[item.path].append({"source": item.cell.source, "outputs": item.test_outputs, "seconds": call.duration})


def pytest_runtest_teardown(item, nextitem):
    folder, path = os.environ.get("MPC_LITE_EXECUTED"), item.path
    if folder and path in _cells and (nextitem is None or nextitem.path != path):
        cells = _cells.pop(path)
        if path not in _failed:
            name = "-".join(path.with_suffix("").parts[-2:])
            Path(folder, f"{name}.json").write_text(json.dumps({"twin": str(path), "cells": cells}))


def into_cache(folder: Path, cache: Path) -> list[Path]:
    """Put the chapters that are kept in `folder` into the cache of Jupyter Book; returns those that were."""
    taken, store = [], get_cache(cache)
    for file in sorted(folder.glob("*.json")):
        kept = json.loads(file.read_text())
        chapter = Path(kept["twin"]).with_suffix(".md")
        notebook = read_myst_markdown_notebook(chapter.read_text(encoding="utf-8"), path=chapter)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        cells = kept["cells"][1:]  # the twin's own first cell sets up Colab
        if [cell.source.strip() for cell in code] != [cell["source"].strip() for cell in cells]:
            continue
        if any(_WIDGET in output.get("data", {}) for cell in cells for output in cell["outputs"]):
            continue
        for count, (cell, done) in enumerate(zip(code, cells, strict=True), start=1):
            cell.execution_count, cell.outputs = count, [from_dict(output) for output in done["outputs"]]
        seconds = sum(cell["seconds"] for cell in kept["cells"])
        bundle = CacheBundleIn(notebook, str(chapter), data={"execution_seconds": seconds})
        store.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        taken.append(chapter)
    return taken
