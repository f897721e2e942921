"""Chapters that nbval has executed reach the book's cache as they are, and only where every cell passed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache
from myst_nb.core.read import read_myst_markdown_notebook

from tests.book.site_under_test import ROOT

sys.path.insert(0, str(ROOT / "book" / "tools" / "site"))

import executed

CHAPTER = """---
kernelspec:
  name: python3
---

# A chapter

```{code-cell} ipython3
---
tags: [hide-input]
---
print("one")
```

```{code-cell} ipython3
x = 1 + 1
x
```
"""


def written(folder: Path, name: str, checked: str) -> Path:
    """A chapter and its twin, whose second cell is compared with `checked`."""
    (folder / f"{name}.md").write_text(CHAPTER)
    cells = [nbformat.v4.new_code_cell(code) for code in ("# set-up", 'print("one")', "x = 1 + 1\nx")]
    cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=checked)]
    for count, cell in enumerate(cells, start=1):
        cell.execution_count = count
    cells[1].metadata["tags"] = ["nbval-check-output"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.mark.slow
def test_what_passed_is_kept_with_its_outputs_and_what_failed_is_not(tmp_path):
    folder, kept = tmp_path / "part1-a", tmp_path / "kept"
    folder.mkdir(), kept.mkdir()
    notebooks = [str(written(folder, "01-right", "one\n")), str(written(folder, "02-wrong", "two\n"))]
    call = [sys.executable, "-m", "pytest", "-p", "book.tools.site.executed", "-n", "0", "-p", "no:cacheprovider"]
    call += ["--nbval-lax", "--nbval-current-env", *notebooks]
    environment = {**os.environ, "MPC_LITE_EXECUTED": str(kept)}
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and [file.name for file in kept.iterdir()] == ["part1-a-01-right.json"], done.stdout

    assert executed.into_cache(kept, tmp_path / "cache") == [folder / "01-right.md"]
    asked = read_myst_markdown_notebook(CHAPTER)
    _, filled = get_cache(tmp_path / "cache").merge_match_into_notebook(asked)
    first, second = (cell.outputs for cell in filled.cells if cell.cell_type == "code")
    assert first[0].text == "one\n" and second[0].data["text/plain"] == "2"


WIDGET = {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}}


@pytest.mark.parametrize(
    ("sources", "outputs"),
    [(("print(1)", "x"), []), (('print("one")', "x = 1 + 1\nx"), [WIDGET])],
    ids=["code", "widget"],
)
def test_a_chapter_that_changed_since_or_has_a_widget_is_left_to_the_build(sources, outputs, tmp_path):
    twin = written(tmp_path, "01-old", "one\n")
    cells = [{"source": source, "outputs": outputs, "seconds": 1.0} for source in ("# set-up", *sources)]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old.json").write_text(json.dumps({"twin": str(twin), "cells": cells}))
    assert executed.into_cache(tmp_path / "kept", tmp_path / "cache") == []
