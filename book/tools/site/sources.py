"""The way from a page to the files that it names: results and the scripts that made them lie beside the pages, other
files of the repository are linked where its address is known."""

from __future__ import annotations

import html
import posixpath
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "twins"))
from labels import repository

RESULTS = "book/results"
CODE = re.compile(r'<code class="docutils literal notranslate"><span class="pre">([\w.-]+(?:/[\w.-]+)+)</span></code>')


def with_sources(body: str, page: str, root: Path, facts: dict[str, Any]) -> str:
    """A page's HTML in which a file that is named as code is a link to it.

    page: book/part1-problem/01-traces. facts: the table [project] of pyproject.toml.
    """

    def link(match: re.Match[str]) -> str:
        name, before = match[1], body[: match.start()]
        if not (root / name).is_file() or before.rfind("<a ") > before.rfind("</a>"):
            return match[0]
        if posixpath.dirname(name) == RESULTS:
            address, save = posixpath.relpath(name, posixpath.dirname(page)), " download"
        elif home := repository(facts):
            address, save = f"{home}/blob/v{facts['version']}/{name}", ""
        else:
            return match[0]
        return f'<a class="source" href="{html.escape(address)}"{save}>{match[0]}</a>'

    return CODE.sub(link, body)


def copy_results(root: Path, out: Path) -> list[Path]:
    """Put the results files and their scripts where the links of the built site look for them; the files written."""
    files = sorted(path for path in (root / RESULTS).glob("*.*") if path.suffix in (".json", ".py", ".md"))
    (out / RESULTS).mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, out / RESULTS / path.name)) for path in files]
