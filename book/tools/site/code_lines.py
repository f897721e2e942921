"""Code that fits the page: long lines go on below themselves, indented further, instead of leaving the box.

Code is written 120 columns wide; the page's column holds fewer, a phone a third of them. Each line becomes an element
that may break anywhere and then hangs (`.code-line` in book.css). No character is added: what is copied is the code.
"""

from __future__ import annotations

import html
import re

HANG = 4  # columns that the rest of a long line stands further to the right than its beginning
DEEPEST = 24  # columns at most, on a phone half of the box: of a table in a docstring a line may begin far right
# Blocks of code; what cells print is called "output …" instead, and keeps its columns.
BLOCK = re.compile(r'(<div class="highlight-[\w-]+ notranslate"><div class="highlight"><pre>)(.*?)(</pre>)', re.DOTALL)
_NUMBER = re.compile(r'^(?:<span></span>)?<span class="linenos">([^<]*)</span>')


def hanging(body: str) -> str:
    """A page's HTML with each line of its code in an element that knows how far to hang."""
    return BLOCK.sub(lambda block: block[1] + _lines(block[2]) + block[3], body)


def _lines(code: str) -> str:
    if 'class="hll"' in code:  # such a mark spans the end of its line
        return code
    lines = code.split("\n")
    last = lines.pop()
    return "".join(_line(line) + "\n</span>" for line in lines) + (f"{_line(last)}</span>" if last else "")


def _line(line: str) -> str:
    number = _NUMBER.match(line)
    text = html.unescape(re.sub(r"<[^>]+>", "", line[number.end() :] if number else line))
    columns = min(len(text) - len(text.lstrip(" ")) + HANG + (len(number[1]) if number else 0), DEEPEST)
    return f'<span class="code-line{" numbered" if number else ""}" style="--hang:{columns}">{line}'
