"""Chapters as Colab, GitHub and Jupyter can show them: the book's MyST turned into plain Markdown.

`flatten` does it for one Markdown cell, `notebook_cells` for a whole chapter. Whatever is not known raises or is noted
in `Page.problems`; nothing is passed on as raw markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inserts import listing, table
from labels import NAMES, Book, Mark
from markup import BOXES, Block, MarkupError, parse, spans

_TITLES = {"note": "Note", "warning": "Warning", "tip": "Tip", "margin": "Note"}
_EXPLICIT = re.compile(r"^(?P<text>.+?)\s*<(?P<target>[^<>]+)>$", re.DOTALL)


@dataclass
class Page:
    """A chapter while it is flattened; `numbers` maps names told by its cells to the text/plain of their records."""

    source: Path
    book: Book
    name: str
    numbers: Mapping[str, str] | None = None  # None: not executed yet, every name passes
    problems: list[tuple[str, str]] = field(default_factory=list)  # (message, a piece of the source)
    _upcoming: list[tuple[str, Mark]] | None = None

    def missing(self, message: str, where: str, text: str) -> str:
        """Note a reference that leads nowhere; what stands in its place is `text`."""
        self.problems.append((message, where))
        return f"⟨{text}⟩"

    def next_number(self, kind: str) -> str:
        """The number of the next figure, listing, … in the order of the page."""
        if self._upcoming is None:
            self._upcoming = list(self.book.numbered.get(self.name, []))
        position = next(i for i, (_, mark) in enumerate(self._upcoming) if mark.kind == kind)
        return self._upcoming.pop(position)[1].number


def flatten(text: str, page: Page) -> str:
    """Plain Markdown of a Markdown cell's source. Raises MarkupError for markup that it does not know."""
    pieces = (_render(block, page) for block in parse(text))
    return "\n\n".join(piece.strip("\n") for piece in pieces if piece.strip())


def _render(block: Block, page: Page) -> str:
    if block.kind == "target":
        return ""
    if block.kind == "code":
        return block.raw
    if block.kind == "text":
        paragraphs = re.split(r"\n[ \t]*\n", block.raw.strip("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n\n".join(inline(p, page) for p in paragraphs))
    if block.kind == "math":
        tag = f"\n\\tag{{{page.next_number('equation')}}}" if block.label else ""
        return _indent(f"$$\n{block.body}{tag}\n$$", block.indent)
    return _indent(_directive(block, page), block.indent)


def _indent(text: str, by: str) -> str:
    return "\n".join(by + line if line else line for line in text.split("\n"))


# ------------------------------------------------------------------------------------------------------- directives


def _directive(block: Block, page: Page) -> str:
    name = block.name
    if name in BOXES:
        return _box(block, page)
    if name == "literalinclude":
        caption = block.options.get("caption")
        head = f"**Listing {page.next_number('listing')}.** {_sentence(inline(caption, page))}" if caption else ""
        return listing(block, page.source.parent, page.book, head)
    if name == "list-table":
        title = _sentence(inline(block.argument, page))
        head = f"**Table {page.next_number('table')}.** {title}\n\n" if title else ""
        return head + table(block, lambda cell: inline(cell, page))
    if name == "exercise-start":
        title = f": {inline(block.argument, page)}" if block.argument else ""
        return f"**Exercise {page.next_number('exercise')}{title}.**" + _rest(block, page)
    if name == "solution-start":
        target = page.book.marks.get(block.argument)
        if target is None or target.kind != "exercise":
            number = page.missing(f"solution of '{block.argument}': no such exercise", block.raw, block.argument)
        else:
            number = target.number
        return f"**Solution of exercise {number}.**" + _rest(block, page)
    if block.body.strip() or block.argument:
        raise MarkupError(f"'{name}' holds nothing; its text stands between start and end", block.raw)
    return ""  # exercise-end, solution-end


def _rest(block: Block, page: Page) -> str:
    return "\n\n" + flatten(block.body, page) if block.body.strip() else ""


def _box(block: Block, page: Page) -> str:
    """A blockquote whose first line is the title in bold; a margin's begins with "Note:"."""
    if block.name == "admonition":
        if not block.argument:
            raise MarkupError("an admonition needs a title", block.raw)
        title, body = block.argument, block.body
    elif block.name == "margin":
        title, body = (f"Note: {block.argument}" if block.argument else "Note"), block.body
    else:  # what stands on the line of {note} is the beginning of its text
        title, body = _TITLES[block.name], "\n".join(filter(None, [block.argument, block.body]))
    title = inline(title, page)
    title = title if title[-1] in ".?!:" else f"{title}."
    lines = f"**{title}**\n\n{flatten(body, page)}".rstrip().split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".?!:" else f"{text}."


# ------------------------------------------------------------------------------------------------ inside a paragraph


def inline(text: str, page: Page) -> str:
    """A paragraph (or heading, table, list) with its roles replaced."""
    return "".join(_role(name, piece, page) if kind == "role" else piece for kind, name, piece in spans(text))


def _role(name: str, content: str, page: Page) -> str:
    where = f"{{{name}}}`{content}`"
    if name == "glue:text":
        return _number(content, page, where)
    if name.startswith("cite:"):
        return _cite(name, [key.strip() for key in content.split(",")], page, where)
    explicit = _EXPLICIT.match(content)
    text, target = (explicit["text"], explicit["target"].strip()) if explicit else (None, content.strip())
    if name == "term":
        return text or target
    if name.startswith("py:"):
        words = text or (target.rsplit(".", 1)[-1] if target.startswith("~") else target)
        return f"`{words.lstrip('~.')}`"
    if name == "doc":
        return _doc(text, target, page, where)
    mark = page.book.marks.get(target)
    if mark is None:
        return page.missing(f"no label '{target}' in the book", where, target)
    if name == "eq":
        if mark.kind != "equation":
            return page.missing(f"'{target}' is no equation", where, target)
        return f"({mark.number})"
    if name == "numref":
        return _numref(text, target, mark, page, where)
    if mark.kind in ("figure", "listing", "table", "exercise"):
        return text or f"{NAMES[mark.kind]} {mark.number}"
    if not (text or mark.title):
        return page.missing(f"'{target}' has no title; write {{ref}}`text <{target}>`", where, target)
    words = text or inline(mark.title, page)
    return words if mark.page == page.name else page.book.link(words, _file(mark.page, page))


def _numref(text: str | None, target: str, mark: Mark, page: Page, where: str) -> str:
    if mark.kind not in NAMES:
        return page.missing(f"'{target}' ({mark.kind}) has no number to show", where, target)
    if text is None:
        return f"{NAMES[mark.kind]} {mark.number}"
    words = text.replace("{number}", mark.number).replace("{name}", mark.title)
    return words.replace("%s", mark.number)


def _doc(text: str | None, target: str, page: Page, where: str) -> str:
    folder = Path() if target.startswith("/") else Path(page.name).parent
    parts: list[str] = []
    for part in (folder / target.lstrip("/")).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    name = "/".join(parts)
    if not page.book.titles.get(name):
        return page.missing(f"no page '{target}' with a title", where, text or target.rsplit("/", 1)[-1])
    return page.book.link(text or inline(page.book.titles[name], page), _file(name, page))


def _file(name: str, page: Page) -> str:
    """The file of a page that a reader of notebooks wants to see."""
    return f"{name}.ipynb" if name in page.book.numbered else f"{name}.md"


def _cite(role: str, keys: list[str], page: Page, where: str) -> str:
    citations = []
    for key in keys:
        if key not in page.book.bibliography:
            citations.append(page.missing(f"no '{key}' in book/references.bib", where, key))
            continue
        who, year, address = page.book.bibliography[key]
        words = f"{who} ({year})" if role == "cite:t" else f"{who}, {year}"
        citations.append(f"[{words}]({address})" if address else words)
    return ", ".join(citations) if role == "cite:t" else f"({'; '.join(citations)})"


def _number(content: str, page: Page, where: str) -> str:
    """A number told by a cell, formatted as MyST-NB's glue:text does."""
    key, _, form = content.rpartition(":") if ":" in content else (content, "", "")
    if page.numbers is None:
        return "0"
    if key not in page.numbers:
        known = ", ".join(sorted(page.numbers)) or "none"
        return page.missing(f"no cell tells the number '{key}' (told are: {known})", where, key)
    from myst_nb.core.variables import format_plain_text

    try:
        return format_plain_text(page.numbers[key], form or "s")
    except (ValueError, TypeError) as error:
        return page.missing(f"'{key}' = {page.numbers[key]} does not take the format '{form}': {error}", where, key)
