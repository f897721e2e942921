"""From a chapter's source to its twin: cells, ids, metadata, and the outputs of an executed notebook without traces."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any

import jupytext
from bootstrap import METADATA, bootstrap_source
from flatten import Page as Twin
from flatten import flatten, inline
from labels import project
from markup import MarkupError
from nbformat import NotebookNode, from_dict, v4

_RECORD = "application/papermill.record/text/plain"
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_WIDGETS = "application/vnd.jupyter.widget-state+json"

__all__ = ["Twin", "outline", "twin_of", "unexecuted"]


def twin_of(text: str, page: Twin, executed: Any = None) -> NotebookNode:
    """The twin of a chapter, with the outputs of `executed`, whose code cells must be those of the source.

    Raises MarkupError; references that lead nowhere are noted in page.problems.
    """
    source, cells = jupytext.reads(text, "md:myst"), []
    page.numbers = None if executed is None else told_numbers(executed)
    for cell in source.cells:
        if cell.cell_type == "markdown":
            if plain := flatten(cell.source, page):
                cells.append(v4.new_markdown_cell(plain))
        elif cell.cell_type == "code":
            if not any(c.cell_type == "code" for c in cells):
                cells.append(_code(bootstrap_source(project(page.book.root)), METADATA))
            cells.append(_code(cell.source, cell.metadata))
            if caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
                number = page.next_number("figure")
                cells.append(v4.new_markdown_cell(f"**Figure {number}.** {inline(caption.strip(), page)}"))
        else:
            raise MarkupError(f"a {cell.cell_type} cell; chapters have text and code", cell.source)
    return _notebook(cells, executed)


def unexecuted(text: str) -> NotebookNode:
    """The twin of a notebook for the runner: as written, in plain Markdown, without outputs. Raises MarkupError."""
    cells = []
    for cell in jupytext.reads(text, "md:myst").cells:
        if cell.cell_type == "code":
            cells.append(_code(cell.source, cell.metadata))
        else:
            cells.append(v4.new_markdown_cell(cell.source))
    return _notebook(cells)


def _code(source: str, metadata: Any) -> NotebookNode:
    return v4.new_code_cell(source, metadata=json.loads(json.dumps(metadata)))


def _notebook(cells: list[NotebookNode], executed: Any = None) -> NotebookNode:
    """Cells with ids that depend on their text alone, and the outputs of an executed notebook."""
    counts: Counter[str] = Counter()
    for cell in cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        counts[name] += 1
        cell["id"] = name if counts[name] == 1 else f"{name}-{counts[name]}"
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    if executed is not None:
        code = [cell for cell in cells if cell.cell_type == "code"]
        others = [cell for cell in executed.cells if cell.cell_type == "code"]
        for cell, other in zip(code, others, strict=False):
            cell.outputs, cell.execution_count = other.outputs, other.execution_count
        if widgets := executed.metadata.get("widgets"):
            metadata["widgets"] = widgets
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return _settled(notebook)


def _settled(notebook: NotebookNode) -> NotebookNode:
    """Outputs as they would come from any run: streams whole, widgets named in order instead of at random."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        whole: list[Any] = []
        for output in cell.outputs:
            joined = whole and output.output_type == "stream" and whole[-1].get("name") == output.name
            if joined:
                whole[-1]["text"] += output.text
            else:
                whole.append(output)
        cell.outputs = whole
    known = notebook.metadata.get("widgets", {}).get(_WIDGETS, {}).get("state", {})
    text = json.dumps(notebook)
    for position, model in enumerate(_in_order(text, known)):
        text = text.replace(model, f"@widget {position}@")  # first all away from the old names, which may be alike
    named = re.sub(r"@widget (\d+)@", lambda at: hashlib.sha256(at[0].encode()).hexdigest()[:32], text)
    return from_dict(json.loads(named))


def _in_order(notebook: str, models: dict[str, Any]) -> list[str]:
    """The names of widget models in an order that does not depend on them: shown ones, what they hold, the others."""
    texts = {name: json.dumps(model, sort_keys=True) for name, model in models.items()}
    order: list[str] = []

    def visit(name: str) -> None:
        if name in models and name not in order:
            order.append(name)
            for held in re.findall(r"IPY_MODEL_([0-9a-f]{32})", texts[name]):
                visit(held)

    for name in re.findall(r'"model_id": "([0-9a-f]{32})"', notebook):
        visit(name)

    def anonymous(name: str) -> str:
        masked = texts[name]
        for other in re.findall(r"[0-9a-f]{32}", masked):
            masked = masked.replace(other, str(order.index(other)) if other in order else "?")
        return masked

    for name in sorted((name for name in models if name not in order), key=anonymous):
        visit(name)
    return order


def told_numbers(executed: Any) -> dict[str, str]:
    """{name: text/plain} of the numbers that the cells told (mpc_lite.notebook)."""
    numbers = {}
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name and _RECORD in output.get("data", {}):
                numbers[name] = output["data"][_RECORD]
    return numbers


def outline(notebook: Any) -> list[str]:
    """A notebook without its outputs, as lines that a person can compare."""
    lines = [json.dumps({k: v for k, v in notebook.metadata.items() if k != "widgets"}, sort_keys=True)]
    for cell in notebook.cells:
        lines += [f"--- {cell.cell_type} {cell.get('id')} {json.dumps(cell.metadata, sort_keys=True)}"]
        lines += cell.source.split("\n")
    return lines
