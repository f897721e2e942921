"""What the references of the book point at: titles, numbers, citations; collected from all sources beforehand.

Numbers are those of the built pages (numfig, one level): figures, labelled equations, listings, tables and exercises
are counted apart, CHAPTER.1, CHAPTER.2, …; the chapter is the number that its file name begins with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import yaml
from markup import Block, MarkupError, walk

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
CHAPTER = re.compile(r"^(\d\d)-[\w-]+$")
NAMES = {"figure": "Figure", "listing": "Listing", "table": "Table", "exercise": "Exercise", "chapter": "Section"}


@dataclass
class Mark:
    """What stands at a label: kind (figure, equation, listing, table, exercise, solution, chapter, section, place)."""

    kind: str
    number: str = ""
    title: str = ""  # MyST, as written
    page: str = ""  # from the root, without suffix: book/part2-method/06-contrastive-loss


@dataclass
class Book:
    """Everything that a reference can name."""

    root: Path = ROOT
    marks: dict[str, Mark] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)  # page -> its title
    bibliography: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # key -> authors, year, address
    repository: str = ""
    version: str = ""
    unreadable: dict[str, MarkupError] = field(default_factory=dict)  # page -> what is wrong with it
    numbered: dict[str, list[tuple[str, Mark]]] = field(default_factory=dict)  # page -> its numbered things, in order

    def link(self, text: str, file: str) -> str:
        """`text`, linked to a file of the repository where its address is known."""
        return f"[{text}]({self.repository}/blob/v{self.version}/{file})" if self.repository else text


def project(root: Path = ROOT) -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def repository(facts: dict[str, Any]) -> str:
    """The public address of the repository, or an empty text while there is none."""
    return facts.get("urls", {}).get("Repository", "").removesuffix("/").removesuffix(".git")


def chapters(root: Path = ROOT) -> list[Path]:
    """The sources of all chapters, in order: those in _toc.yml, or book/part*/NN-*.md as long as there is none."""
    files = sorted((p for p in (root / "book").glob("part*/*.md") if CHAPTER.match(p.stem)), key=lambda p: p.stem)
    toc = root / "_toc.yml"
    if not toc.is_file():
        return files
    listed = [root / f"{name}.md" for name in _files(yaml.safe_load(toc.read_text(encoding="utf-8")))]
    return [path for path in listed if CHAPTER.match(path.stem)]


def _files(toc: Any) -> Iterable[str]:
    """All `file:` entries of a table of contents, in order."""
    if isinstance(toc, list):
        for item in toc:
            yield from _files(item)
    elif isinstance(toc, dict):
        if "file" in toc:
            yield re.sub(r"\.(md|ipynb)$", "", toc["file"])
        for key, value in toc.items():
            if key != "file":
                yield from _files(value)


def page_name(source: Path, root: Path = ROOT) -> str:
    return source.resolve().relative_to(root.resolve()).with_suffix("").as_posix()


def read_book(extra: Iterable[Path] = (), root: Path = ROOT) -> Book:
    """Collect what the pages and the bibliography offer; pages that cannot be read are kept in Book.unreadable.

    Args:
        extra: sources of chapters that _toc.yml does not list (yet).
    """
    facts = project(root)
    book = Book(root, repository=repository(facts), version=facts["version"])
    numbered = list(dict.fromkeys([*chapters(root), *extra]))
    others = [p for p in sorted((root / "book").rglob("*.md")) if "_build" not in p.parts and p not in numbered]
    for source in [*numbered, *others]:
        page = page_name(source, root)
        if not source.is_file():
            book.unreadable[page] = MarkupError("listed in _toc.yml, but not there")
            continue
        text = source.read_text(encoding="utf-8")
        try:
            read_page(book, page, text, chapter=_number(source) if source in numbered else "")
        except MarkupError as error:
            book.unreadable[page] = error
    bibliography = root / "book" / "references.bib"
    if bibliography.is_file():
        book.bibliography = read_bibliography(bibliography)
    return book


def _number(source: Path) -> str:
    match = CHAPTER.match(source.stem)
    if not match:
        raise MarkupError(f"{source.name}: a chapter is called NN-slug.md")
    return str(int(match[1]))


def read_page(book: Book, page: str, text: str, chapter: str = "") -> None:
    """Add the labels, titles and numbers of one page; `chapter` is empty for pages whose parts have no numbers."""
    if not chapter:  # front and back matter may use any markup: only its labels before headings and its title count
        _read_plain(book, page, text)
        return
    counts: Counter[str] = Counter()
    book.numbered[page] = []

    def add(kind: str, label: str, title: str = "", number: str | None = None) -> None:
        if number is None:
            counts[kind] += 1
            number = f"{chapter}.{counts[kind]}"
        mark = Mark(kind, number, title, page)
        book.numbered[page].append((label, mark))
        if label:
            _put(book, label, mark)

    for cell in jupytext.reads(text, "md:myst").cells:
        if cell.cell_type == "code":
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if figure.get("caption"):
                add("figure", figure.get("name", ""), figure["caption"])
            continue
        blocks = list(walk(cell.source))
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.kind == "math" and block.label:
                add("equation", block.label)
            elif block.kind == "target":
                heading = _heading(following)
                kind = ("chapter" if heading[0] == 1 else "section") if heading else "place"
                _put(book, block.label, Mark(kind, chapter, heading[1] if heading else "", page))
            elif block.kind == "directive":
                _add_directive(block, add)
        book.titles.setdefault(page, _title(cell.source))


def _add_directive(block: Block, add: Any) -> None:
    if block.name == "literalinclude" and block.options.get("caption"):
        add("listing", block.options.get("name", ""), block.options["caption"])
    elif block.name == "list-table" and block.argument:
        add("table", block.options.get("name", ""), block.argument)
    elif block.name == "exercise-start":
        add("exercise", block.options.get("label", ""), block.argument)
    elif block.name == "solution-start":
        add("solution", block.options.get("label", ""), block.argument, number="")


def _read_plain(book: Book, page: str, text: str) -> None:
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    for match in re.finditer(r"^\(([^()\s]+)\)=[ ]*\n+(?:(#{1,6})[ ]+(.+))?", text, re.MULTILINE):
        kind = "section" if match[2] else "place"
        _put(book, match[1], Mark(kind, "", (match[3] or "").strip(), page))
    book.titles[page] = _title(text)


def _put(book: Book, label: str, mark: Mark) -> None:
    if label in book.marks:
        raise MarkupError(f"label '{label}' stands twice: in {book.marks[label].page} and in {mark.page}", label)
    book.marks[label] = mark


def _heading(block: Block | None) -> tuple[int, str] | None:
    if block is None or block.kind != "text":
        return None
    match = re.match(r"\s*(#{1,6})[ ]+(.+)", block.body or block.raw)
    return (len(match[1]), match[2].strip()) if match else None


def _title(text: str) -> str:
    match = re.search(r"^#[ ]+(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def read_bibliography(path: Path) -> dict[str, tuple[str, str, str]]:
    """key -> (authors as cited, year, address: DOI, else URL, else arXiv, else empty)."""
    from pybtex.database import parse_file

    bibliography = {}
    for key, entry in parse_file(str(path), bib_format="bibtex").entries.items():
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [" ".join(str(part) for part in (*p.rich_prelast_names, *p.rich_last_names)) for p in people]
        who = names[0] if names else key
        who += " et al." if len(names) > 2 else f" and {names[1]}" if len(names) == 2 else ""
        fields = entry.fields
        address = fields.get("url", "")
        if fields.get("eprint") and not address:
            address = f"https://arxiv.org/abs/{fields['eprint']}"
        if fields.get("doi"):
            address = f"https://doi.org/{fields['doi']}"
        bibliography[key] = (who, fields.get("year", "n.d."), address.replace("\\", ""))
    return bibliography
