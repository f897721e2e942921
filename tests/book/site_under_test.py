"""The built book as its tests see it: pages, the browser, and what is allowed to be said in its console."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
SHOTS = ROOT / "_build" / "screenshots"

NOT_BUILT = "the book is not built: run python book/tools/site/build.py, then these tests look at its pages"
NO_BROWSER = (
    "no browser found: install Chromium (Debian: apt install chromium) or set MPC_LITE_BROWSER to one; "
    "then these tests open every page of the book in it"
)
# Said by the theme and the widget manager on every page, and without effect for a reader.
HARMLESS = [
    "Identifier 'THEBE_JS_URL' has already been declared",
    "strict mode: use allowUnionTypes",
    r"Cannot read properties of undefined \(reading 'Queue'\)",  # html-manager looks for MathJax 2
    r"html-manager/dist/\w+\.(woff2?|ttf)",  # icons of widgets that the book does not use
]


def pages() -> list[str]:
    """The documents of the table of contents, in order."""
    return re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())


def chapters() -> list[str]:
    return [page for page in pages() if re.search(r"/part\d", page)]


def browser() -> str | None:
    """The browser's program, or None."""
    names = ["chromium", "chromium-browser", "google-chrome", "chrome"]
    return os.environ.get("MPC_LITE_BROWSER") or next((p for p in map(shutil.which, names) if p), None)


@contextmanager
def running_browser() -> Iterator[Any]:
    """The browser as playwright drives it; what asks for it is skipped where playwright is not installed."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright, which drives the browser, is not installed"
    )
    with playwright.sync_playwright() as p:
        program = p.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield program
        program.close()


def harmless(message: str) -> bool:
    return any(re.search(pattern, message) for pattern in HARMLESS)


def title() -> str:
    return yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
