"""Code of the package and tables, as the plain Markdown of a notebook shows them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labels import Book
from markup import Block, MarkupError, spans


def listing(block: Block, folder: Path, book: Book, head: str) -> str:
    """A literalinclude: `head`, file and lines, then the source of the object. `folder` is that of the chapter."""
    file, wanted = (folder / block.argument).resolve(), block.options.get("pyobject")
    if not file.is_file() or not wanted:
        raise MarkupError(f"literalinclude: found '{block.argument}', '{wanted}'; needs a file and pyobject", block.raw)
    text = file.read_text(encoding="utf-8")
    first, last = object_lines(text, wanted, block.argument)
    path = file.relative_to(book.root.resolve()).as_posix()
    where = f"lines {first}–{last}"
    if path not in head or book.repository:
        where = f"{book.link(f'`{path}`', path)}, {where}"
    head = f"{head} ({where})" if head else f"{where[0].upper()}{where[1:]}:"
    code = "\n".join(text.split("\n")[first - 1 : last])
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", code))])
    return f"{head}\n\n{fence}{block.options.get('language', 'python')}\n{code}\n{fence}"


def object_lines(text: str, name: str, file: str = "") -> tuple[int, int]:
    """First (decorators included) and last line of a function or class; `name` may be dotted."""
    body: Any = ast.parse(text).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for part in name.split("."):
        node = next((n for n in body if isinstance(n, kinds) and n.name == part), None)
        if node is None:
            raise MarkupError(f"{file} has no function or class '{name}'", name)
        body = node.body
    return min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno


def table(block: Block, inline: Callable[[str], str]) -> str:
    """A list-table as a Markdown table; its cells are single paragraphs, made plain by `inline`."""
    rows: list[list[str]] = []
    for line in block.body.split("\n"):
        if new_row := re.match(r"^[*-] +[*-](?: +(.*))?$", line):
            rows.append([new_row[1] or ""])
        elif (new_cell := re.match(r"^ +[*-](?: +(.*))?$", line)) and rows:
            rows[-1].append(new_cell[1] or "")
        elif line.strip():
            if not rows:
                raise MarkupError("a list-table begins with '* - first cell'", block.raw)
            rows[-1][-1] += " " + line.strip()
    if not rows or len({len(row) for row in rows}) != 1:
        raise MarkupError(f"list-table: rows of {[len(row) for row in rows]} cells, expected equal ones", block.raw)
    cells = [[_cell(inline(cell.strip())) for cell in row] for row in rows]
    header = cells.pop(0) if int(block.options.get("header-rows") or 0) else [""] * len(cells[0])
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *cells])


def _cell(text: str) -> str:
    """A bar would end the cell: in a formula it becomes \\vert, elsewhere it is escaped."""
    cell = ""
    for kind, _, piece in spans(text):
        if kind == "math":
            cell += piece.replace("\\|", "\\Vert ").replace("|", "\\vert ")
        else:
            cell += re.sub(r"(?<!\\)\|", r"\\|", piece)
    return cell
