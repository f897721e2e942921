"""The way from a chapter's page to its notebook: a copy beside the page, and Colab and the repository where it has one.

The notebook is the executed twin that lies beside the chapter's source, in the built site too.
"""

from __future__ import annotations

import html
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "twins"))
from labels import CHAPTER, repository

COLAB, GITHUB = "https://colab.research.google.com/github/", "https://github.com/"


def has_notebook(page: str, root: Path) -> bool:
    """Whether a page (book/part1-problem/01-traces) is a chapter with its twin beside it."""
    return bool(CHAPTER.match(page.rpartition("/")[2])) and (root / f"{page}.ipynb").is_file()


def addresses(page: str, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """(words, address) of each way to a chapter's notebook; facts: the table [project] of pyproject.toml."""
    found, home = [("download", f"{page.rpartition('/')[2]}.ipynb")], repository(facts)
    if home:
        file = f"blob/v{facts['version']}/{page}.ipynb"
        if home.startswith(GITHUB):
            found.append(("open in Colab", f"{COLAB}{home.removeprefix(GITHUB)}/{file}"))
        found.append(("see it on GitHub" if home.startswith(GITHUB) else "see it in the repository", f"{home}/{file}"))
    return found


def with_links(body: str, page: str, facts: dict[str, Any]) -> str:
    """The page's HTML with a line below its title that leads to the notebook."""
    links = []
    for words, address in addresses(page, facts):
        save = " download" if words == "download" else ""
        links.append(f'<a href="{html.escape(address)}"{save}>{words}</a>')
    line = f'<p class="notebook-links">This chapter as a notebook: {" · ".join(links)}</p>'
    head, title, rest = body.partition("</h1>")
    return f"{head}{title}\n{line}{rest}"


def copy_notebooks(pages: list[str], root: Path, out: Path) -> list[Path]:
    """Put the twins of the chapters among `pages` beside their pages in the built site; the files written."""
    written = []
    for page in pages:
        if has_notebook(page, root):
            target = out / f"{page}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            written.append(Path(shutil.copyfile(root / f"{page}.ipynb", target)))
    return written
