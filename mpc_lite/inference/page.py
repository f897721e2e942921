"""Pages for people: one HTML file with its pictures inside, for which nothing is fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence

# Its own style sheet and pictures within the file: whatever else a text might smuggle in is not loaded.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_CSS = """
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #ffffff; --line: #c9c9c9; --soft: #595959; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --ground: #16181c; --line: #44484f; --soft: #a9adb5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
.soft { color: var(--soft); font-size: .9rem; }
th, td { padding: .3rem .4rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td.note, td.words { text-align: left; }
tr.ours { font-weight: 600; }
figure { max-width: 36rem; } figure img { display: block; width: 100%; border-radius: 6px; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; }
dt { font-weight: 600; margin-top: .5rem; } dd { margin: 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: .8rem; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
code { overflow-wrap: anywhere; }
"""


def html_page(title: str, body: Sequence[str], css: str = "") -> bytes:
    """A whole page: title as plain text, body as HTML, css beside the common style; UTF-8."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}{css}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    ).encode()
