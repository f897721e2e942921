"""Words with several meanings: where a chapter first says one, it leads to the table that tells the meanings apart.

The table is that of the glossary (`(glossary-which)=`); a test compares its words with these.
"""

from __future__ import annotations

import html
import posixpath
import re

WORDS = ("lite", "official", "cell", "stage", "map")
TABLE = ("book/glossary", "glossary-which")
# A word is a link in running text only: not in a title, a caption, code that is shown, a formula or another link.
SKIPPED = {"a", "button", "figcaption", "figure", "pre", "script", "style", "summary", "svg"}
SKIPPED |= {f"h{level}" for level in range(1, 7)}
TEXT = {"p", "li", "td"}
_TAG = re.compile(r"(<!--.*?-->|<[^>]+>)", re.DOTALL)
_NAME = re.compile(r"</?([a-zA-Z][\w-]*)")
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def with_first_uses(body: str, page: str) -> str:
    """A page's HTML in which the first use of each word is a link to the table; page: book/part1-problem/01-traces."""
    address = posixpath.relpath(TABLE[0], posixpath.dirname(page)) + f".html#{TABLE[1]}"
    left, parts, open_tags = list(WORDS), _TAG.split(body), []
    for i, part in enumerate(parts):
        if i % 2:
            _follow(part, open_tags)
        elif left and part.strip() and _running(part, open_tags):
            parts[i] = _linked(part, left, address)
    return "".join(parts)


def _follow(tag: str, open_tags: list[str]) -> None:
    """Keep account of the elements that stand open."""
    match = _NAME.match(tag)
    if not match or tag.endswith("/>") or (name := match[1].lower()) in EMPTY:
        return
    if not tag.startswith("</"):
        open_tags.append(name)
    elif name in open_tags:
        del open_tags[len(open_tags) - 1 - open_tags[::-1].index(name) :]


def _running(text: str, open_tags: list[str]) -> bool:
    return bool(TEXT & set(open_tags)) and not SKIPPED & set(open_tags) and "\\(" not in text and "\\[" not in text


def _linked(text: str, left: list[str], address: str) -> str:
    """The text with a link at the first use of each word that is still left; these are taken from `left`."""
    found = []
    for word in list(left):
        match = re.search(rf"(?<![\w/.&-]){word}s?(?![\w/-]|\.\w)", text, re.IGNORECASE)
        if match:
            found.append(match.span())
            left.remove(word)
    for start, end in sorted(found, reverse=True):
        words = "several meanings: the glossary tells which"
        link = f'<a class="which" href="{html.escape(address)}" title="{words}">{text[start:end]}</a>'
        text = text[:start] + link + text[end:]
    return text
