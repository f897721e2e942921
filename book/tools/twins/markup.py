"""The MyST that chapters may use, taken apart: blocks (`parse`), then the spans of a paragraph (`spans`).

Only what `flatten` can turn into plain Markdown is known here; everything else raises `MarkupError`, because an unknown
construct would reach the reader of the notebook as raw markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

# Directives and the options that each may have.
BOXES = ("admonition", "note", "warning", "tip", "margin")
DIRECTIVES = {
    **{name: {"class", "name"} for name in BOXES},
    "literalinclude": {"pyobject", "language", "lineno-match", "caption", "name"},
    "exercise-start": {"label", "class"},
    "exercise-end": set(),
    "solution-start": {"label", "class"},
    "solution-end": set(),
    "list-table": {"header-rows", "widths", "width", "align", "class", "name"},
}
ROLES = ("ref", "numref", "eq", "doc", "term", "glue:text", "cite:p", "cite:t")
_PYTHON_ROLES = ("func", "class", "meth", "mod", "data", "attr", "exc", "obj")

_FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<marks>`{3,}|~{3,}|:{3,})[ ]*(?P<info>.*)$")
_DIRECTIVE = re.compile(r"^\{(?P<name>[\w:+.-]+)\}[ ]*(?P<argument>.*)$")
_TARGET = re.compile(r"^\((?P<label>[^()\s]+)\)=\s*$")
_MATH_END = re.compile(r"^(?P<tex>.*?)\$\$[ ]*(?:\((?P<label>[^()\s]+)\))?[ ]*$")
_CLOSED_MATH = re.compile(r"^(?P<tex>.+?)\$\$[ ]*(?:\((?P<label>[^()\s]+)\))?[ ]*$")


class MarkupError(Exception):
    """Something that the notebook twin could not show; `where` is a piece of the source, for its line number."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where.strip().split("\n")[0]


@dataclass
class Block:
    """A piece of a page: text, code (a plain fence), math, target or directive; `raw` is its source."""

    kind: str
    raw: str
    body: str = ""
    indent: str = ""
    name: str = ""  # of a directive
    argument: str = ""
    options: dict[str, str] = field(default_factory=dict)
    label: str = ""  # of an equation or a target


def parse(text: str) -> list[Block]:
    """The blocks of a text, in order; comments are dropped. Raises MarkupError."""
    lines, blocks, prose, i = text.split("\n"), [], [], 0

    def flush() -> None:
        if "".join(prose).strip():
            blocks.append(Block("text", "\n".join(prose)))
        prose.clear()

    while i < len(lines):
        line = lines[i]
        fence, target = _FENCE.match(line), _TARGET.match(line)
        if fence and not (fence["marks"][0] == "`" and "`" in fence["info"]):
            flush()
            block, i = _fenced(lines, i, fence)
            blocks.append(block)
        elif line.lstrip().startswith("$$"):
            flush()
            block, i = _math(lines, i)
            blocks.append(block)
        elif target:
            flush()
            blocks.append(Block("target", line, label=target["label"]))
            i += 1
        elif line.startswith("%"):
            i += 1
        else:
            prose.append(line)
            i += 1
    flush()
    return blocks


def walk(text: str) -> Iterator[Block]:
    """All blocks of a text, those inside boxes included, in the order in which Sphinx counts them."""
    for block in parse(text):
        yield block
        if block.kind == "directive" and block.name in BOXES:
            yield from walk(block.body)


def _fenced(lines: list[str], start: int, fence: re.Match) -> tuple[Block, int]:
    marks, indent = fence["marks"], fence["indent"]
    closing = re.compile(rf"^\s*{re.escape(marks[0])}{{{len(marks)},}}\s*$")
    end = next((j for j in range(start + 1, len(lines)) if closing.match(lines[j])), None)
    if end is None:
        raise MarkupError(f"'{lines[start].strip()}' is never closed with {marks}", lines[start])
    inside = [line[len(indent) :] if line.startswith(indent) else line.lstrip() for line in lines[start + 1 : end]]
    raw = "\n".join(lines[start : end + 1])
    directive = _DIRECTIVE.match(fence["info"])
    if directive is None:
        if marks[0] == ":" or fence["info"].startswith("{"):
            raise MarkupError(f"'{lines[start].strip()}' names no directive", lines[start])
        return Block("code", raw, "\n".join(inside), indent), end + 1
    name = directive["name"]
    if name not in DIRECTIVES:
        known = ", ".join(sorted(DIRECTIVES))
        raise MarkupError(f"unknown directive '{name}'; the notebook twin knows {known}", lines[start])
    options, body = _options(inside, raw)
    if unknown := set(options) - DIRECTIVES[name]:
        raise MarkupError(f"directive '{name}': unknown option {', '.join(sorted(unknown))}", lines[start])
    return Block("directive", raw, body, indent, name, directive["argument"].strip(), options), end + 1


def _options(inside: list[str], raw: str) -> tuple[dict[str, str], str]:
    """Options of a directive, as `:key: value` lines or a YAML block between `---`, and the rest."""
    if inside and inside[0].strip() == "---":
        end = next((j for j in range(1, len(inside)) if inside[j].strip() == "---"), None)
        if end is None:
            raise MarkupError("the options after '---' are never closed with '---'", raw)
        read = yaml.safe_load("\n".join(inside[1:end])) or {}
        return {str(k): "" if v is None else str(v) for k, v in read.items()}, "\n".join(inside[end + 1 :])
    options: dict[str, str] = {}
    rest = list(inside)
    while rest and (option := re.match(r"^:([\w-]+):\s*(.*)$", rest[0])):
        options[option[1]] = option[2].strip()
        rest.pop(0)
    return options, "\n".join(rest)


def _math(lines: list[str], start: int) -> tuple[Block, int]:
    first = lines[start].lstrip()
    indent = lines[start][: len(lines[start]) - len(first)]
    if one := _CLOSED_MATH.match(first[2:]):
        return Block("math", lines[start], one["tex"].strip(), indent, label=one["label"] or ""), start + 1
    body = [first[2:]]
    for j in range(start + 1, len(lines)):
        if end := _MATH_END.match(lines[j]):
            tex = "\n".join([*body, end["tex"]]).strip("\n ")
            tex = "\n".join(line.removeprefix(indent) for line in tex.split("\n"))
            return Block("math", "\n".join(lines[start : j + 1]), tex, indent, label=end["label"] or ""), j + 1
        body.append(lines[j])
    raise MarkupError("a formula is never closed with '$$' (nothing may follow it but '(label)')", lines[start])


# ------------------------------------------------------------------------------------------------ inside a paragraph

_SPAN = re.compile(
    r"(?P<escape>\\[^\w\s])"
    r"|\{(?P<role>[a-zA-Z][\w:.+-]*)\}(?P<marks>`+)(?P<content>.+?)(?<!`)(?P=marks)(?!`)"
    r"|(?P<code>(?P<ticks>(?<!`)`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<math>(?<!\$)\$(?!\$)(?:\\.|[^$\\])+\$(?!\$))",
    re.DOTALL,
)
_RAW = {
    r"\{[a-zA-Z][\w:.+-]*\}`": "a role that cannot be read",
    rf"\{{(?:{'|'.join(ROLES)}|py:\w+)\}}": "a role that cannot be read",
    r"`{3}|^\s*:{3}": "a fence that cannot be read",
    r"\$\$": "a formula inside a paragraph; '$$' stands on a line of its own",
    r"\\begin\{": "bare LaTeX; formulas stand between '$$'",
    r"\[\^": "a footnote",
    r"\{\{": "a substitution",
    r"\]\(#|\]\(\)": "a link to a label; use {ref}",
    r"!\[": "a picture; pictures come from cells",
    r"<img|\{[#.]": "a picture or an attribute",
    r"\]\((?!https?://|mailto:)": "a relative link; use {doc} or {ref}",
    r"^:\s+\S": "a definition list",
    r"^\([^()\s]+\)=": "a label that does not stand alone",
}


def spans(paragraph: str) -> Iterator[tuple[str, str, str]]:
    """(kind, name, text) with kind `plain`, `code`, `math` or `role`. Raises MarkupError for anything unknown."""
    if hidden := re.search(r".*(?:`{3,}|~{3,}|:{3,}) *\{\w.*", paragraph):
        raise MarkupError(
            f"a directive inside a quote, a list item's first line or a sentence: '{hidden[0]}'", hidden[0]
        )
    position, plain = 0, []
    for span in _SPAN.finditer(paragraph):
        kind = next(k for k in ("escape", "role", "code", "math") if span[k] is not None)
        if position < span.start():
            plain.append(paragraph[position : span.start()])
            yield "plain", "", plain[-1]
        position = span.end()
        if kind == "role":
            if span["role"] not in ROLES and not _is_python(span["role"]):
                known = ", ".join(ROLES)
                raise MarkupError(f"unknown role '{span['role']}'; the notebook twin knows {known}, py:…", span[0])
            yield "role", span["role"], " ".join(span["content"].split())
        elif kind == "escape":
            yield "plain", "", span[0]
        else:
            if kind == "math" and re.search(r"\{[a-z:]+\}`", span[0]):
                raise MarkupError("a role inside $…$; is a dollar sign left open?", span[0])
            yield kind, "", span[0]
        plain.append("\0")  # keeps what stands before and after a span apart
    if position < len(paragraph):
        plain.append(paragraph[position:])
        yield "plain", "", plain[-1]
    for pattern, what in _RAW.items():
        if raw := re.search(pattern, "".join(plain), re.MULTILINE):
            raise MarkupError(f"{what}: '{_line_of(paragraph, raw[0].strip())}'", paragraph)


def _is_python(role: str) -> bool:
    return role.startswith("py:") and role[3:] in _PYTHON_ROLES


def _line_of(paragraph: str, piece: str) -> str:
    return next((line.strip() for line in paragraph.split("\n") if piece in line), piece)[:100]
