"""Make the notebook that stands beside each chapter: `python book/tools/twins/make_twins.py [SOURCE.md …]`.

The chapter (MyST) becomes a notebook, is executed with its default parameters in the chapter's folder, and is written
as .ipynb with plain Markdown (`flatten`) and the set-up cell for Colab (`bootstrap`). Without a SOURCE: all chapters
and the notebooks of book/reproduce, which stay unexecuted.

--text   keep the outputs of the twin that is there, make everything else anew (after a change of prose or package)
--check  compare the twins that are there with their sources without executing anything; exit code 1 with the difference
--draft  references that lead nowhere yet are shown as ⟨label⟩ instead of stopping the work
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from labels import ROOT, Book, chapters, page_name, read_book
from markup import MarkupError
from notebooks import Twin, outline, twin_of, unexecuted
from papermill import PapermillExecutionError
from twin_checks import equation_labels, problems

from mpc_lite.errors import InputError


def sources(root: Path = ROOT) -> list[Path]:
    """All sources that have a twin."""
    return [*chapters(root), *sorted((root / "book" / "reproduce").glob("*.md"))]


def is_run(source: Path) -> bool:
    """Whether the source is a notebook for the runner (book/reproduce), whose twin stays unexecuted."""
    return source.parent.name == "reproduce"


def expected(source: Path, book: Book, outputs: Any = None, draft: bool = False) -> Any:
    """The twin that a source asks for, with the outputs and told numbers of the notebook `outputs` if given.

    Raises InputError with every problem of the source, each with its line.
    """
    page = page_name(source, book.root)
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    if error := book.unreadable.get(page):
        raise InputError(f"{source.name}:{line_of(text, error.where)}: {error}")
    if is_run(source):
        return unexecuted(text)
    twin = Twin(source, book, page)
    try:
        notebook = twin_of(text, twin, outputs)
    except MarkupError as error:
        raise InputError(f"{source.name}:{line_of(text, error.where)}: {error}") from error
    if twin.problems and not draft:
        lines = [f"{source.name}:{line_of(text, where)}: {message}" for message, where in twin.problems]
        raise InputError("\n".join(dict.fromkeys(lines)) + "\n(--draft makes the twin nevertheless)")
    return notebook


def line_of(text: str, piece: str) -> int:
    position = text.find(piece.split("\n")[0]) if piece else -1
    return text.count("\n", 0, position) + 1 if position >= 0 else 1


def execute(notebook: Any, folder: Path) -> Any:
    """Execute a notebook with papermill in a kernel of this Python whose working folder is `folder`."""
    from mpc_lite.reproduce.kernel import execute as run

    with tempfile.TemporaryDirectory() as work, _quiet(folder):
        before, after = Path(work) / "before.ipynb", Path(work) / "after.ipynb"
        nbformat.write(notebook, before)
        run(before, after, {}, Path(work) / "stop", print)
        return nbformat.read(after, as_version=4)


@contextlib.contextmanager
def _quiet(folder: Path):
    """Work in `folder`; kernels show no progress bars and sum in one thread, so that digits agree."""
    settings = {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    here, before = Path.cwd(), {name: os.environ.get(name) for name in settings}
    os.chdir(folder)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.chdir(here)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def make(source: Path, book: Book, text_only: bool = False, draft: bool = False) -> list[str]:
    """Write one twin; returns what is wrong with it (twin_checks), which is written all the same."""
    target = source.with_suffix(".ipynb")
    if is_run(source):
        write(target, expected(source, book))
        return []
    plain = expected(source, book, draft=draft)
    if text_only:
        outputs = read_twin(source)
        if not same_code(plain, outputs):
            raise InputError(f"{target.name}: its code is not that of {source.name}; execute it, without --text")
    else:
        started = time.monotonic()
        outputs = execute(plain, source.parent)
        print(f"{source.name}: executed in {time.monotonic() - started:.0f} s")
    notebook = expected(source, book, outputs, draft)
    write(target, notebook)
    return problems(notebook, equation_labels(jupytext.reads(source.read_text(encoding="utf-8"), "md:myst")))


def same_code(one: Any, other: Any) -> bool:
    """Whether two notebooks have the same code cells, the set-up cell (which prints nothing here) left out."""

    def code(notebook: Any) -> list[str]:
        cells = [c for c in notebook.cells if c.cell_type == "code"]
        return [c.source for c in cells if "bootstrap" not in c.metadata.get("tags", [])]

    return code(one) == code(other)


def read_twin(source: Path) -> Any:
    """The twin that stands beside a source. Raises InputError without one."""
    twin = source.with_suffix(".ipynb")
    if not twin.is_file():
        raise InputError(f"{source.name}: no {twin.name} beside it; make it with make_twins.py {source.name}")
    return nbformat.read(twin, as_version=4)


def drift(source: Path, book: Book) -> str:
    """How the twin that stands beside a source differs from the one it asks for; empty: not at all."""
    twin = read_twin(source)
    wanted = expected(source, book, twin)
    lines = difflib.unified_diff(
        outline(twin), outline(wanted), f"{source.stem}.ipynb (committed)", f"{source.name} (asks for)", "", "", 2, ""
    )
    difference = "\n".join(lines)
    name = source.relative_to(book.root).as_posix() if source.is_relative_to(book.root) else source.name
    mend = f"\nmend with: python book/tools/twins/make_twins.py {name} (with --text where only text or listings differ)"
    return difference and difference + mend


def write(path: Path, notebook: Any) -> None:
    """Write a notebook atomically, in the form that git shows best."""
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".twin-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, 0o644)
    os.replace(name, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--draft", action="store_true")
    options = parser.parse_args(arguments)
    chosen = [path.resolve() for path in options.source] or sources()
    book = read_book(path for path in chosen if not is_run(path))
    for page, error in book.unreadable.items():
        if page not in [page_name(path) for path in chosen]:
            print(f"note: {page}.md is left out: {error}", file=sys.stderr)
    failed = False
    for source in chosen:
        try:
            if options.check:
                wrong = drift(source, book)
            else:
                wrong = "\n".join(f"{source.name}: {p}" for p in make(source, book, options.text, options.draft))
        except (InputError, PapermillExecutionError) as error:
            wrong = str(error)
        print(wrong or f"{source.name}: {'up to date' if options.check else 'written'}", flush=True)
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
