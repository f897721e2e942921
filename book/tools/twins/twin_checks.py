"""What a committed notebook twin must be, so that comparing it (nbval) means something: executed, clean, checked."""

from __future__ import annotations

import json
import re
from typing import Any

from markup import walk

CHECKED = "nbval-check-output"
LEAST_CHECKED = 3
# Folders of somebody's machine; an address like https://x.org/home/… has a letter before the slash.
_PATH = re.compile(
    r"(?<![\w.~:/-])/(?:tmp|home|work|opt|root|usr|var|mnt|private|Users|content)/[\w.-]+|\b[A-Z]:\\\\?[A-Za-z]\w*"
)
_LEFTOVER = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
_PICTURE = re.compile(r"[A-Za-z0-9+/=\\n]{200,}")


def problems(notebook: Any, labels: list[str]) -> list[str]:
    """Everything that is wrong with an executed twin; `labels` are the equations of its source. Empty: nothing."""
    faults: list[str] = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code:
        faults.append("there is no code cell")
    if [position for position, cell in enumerate(code) if "parameters" in tags(cell)] != [1]:
        faults.append("the second code cell, after the set-up, and no other must have the tag parameters")
    for position, cell in enumerate(code, 1):
        if cell.execution_count != position:
            faults.append(f"code cell {position} has execution count {cell.execution_count}: {_head(cell)}")
        for output in cell.outputs:
            if output.output_type == "error":
                faults.append(f"code cell {position} ended with {output.ename}: {_head(cell)}")
            if output.output_type == "stream" and output.name == "stderr":
                faults.append(f"code cell {position} wrote to stderr: {output.text.strip()[:80]}")
    checked = [cell for cell in code if CHECKED in tags(cell) and _text(cell)]
    if len(checked) < LEAST_CHECKED:
        faults.append(f"{len(checked)} cells with the tag {CHECKED} have text output, expected {LEAST_CHECKED} or more")
    faults += [f"a cell with the tag {CHECKED} has no text output: {_head(c)}" for c in code if _vacuous(c)]
    proved = {tag for cell in checked for tag in tags(cell)}
    faults += [f"no checked cell has the tag checks-{label}" for label in labels if f"checks-{label}" not in proved]
    for cell in notebook.cells:
        text = _PICTURE.sub("", cell.source + "\n" + json.dumps(cell.get("outputs", []), ensure_ascii=False))
        faults += [f"a path of a machine, '{path}', in: {_head(cell)}" for path in sorted(set(_PATH.findall(text)))]
        faults += [f"'{word}' in: {_head(cell)}" for word in sorted(set(_LEFTOVER.findall(text)))]
    return faults


def equation_labels(source: Any) -> list[str]:
    """Labels of the equations of a chapter's source, as jupytext reads it."""
    markdown = [cell.source for cell in source.cells if cell.cell_type == "markdown"]
    return [block.label for text in markdown for block in walk(text) if block.kind == "math" and block.label]


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _vacuous(cell: Any) -> bool:
    return CHECKED in tags(cell) and not _text(cell)


def _text(cell: Any) -> str:
    """What nbval compares of a cell: printed text and the text of results, records of numbers left out."""
    texts = [o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return "".join(texts).strip()


def _head(cell: Any) -> str:
    return (cell.source.strip().split("\n") or [""])[0][:60]
