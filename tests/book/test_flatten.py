"""MyST as chapters write it, and the plain Markdown that a notebook shows; what nobody knows must raise."""

from pathlib import Path

import pytest
from flatten import Page, flatten
from labels import Book, read_bibliography, read_page
from markup import MarkupError

PAGE = "book/part2-method/06-loss"
LOSS = '''import functools


@functools.cache
def loss(x):
    """Says ``` once."""
    return x


class A:
    def b(self):
        return 1
'''
OTHER = """
(ch-other)=
# Other *things*

(sec-other)=
## A part

$$x$$ (eq-other)
"""


@pytest.fixture
def show(tmp_path):
    """flatten() of a text as if it were a chapter; the page is kept as show.page."""
    (tmp_path / "mpc_lite" / "contrast").mkdir(parents=True)
    (tmp_path / "mpc_lite" / "contrast" / "loss.py").write_text(LOSS)
    (tmp_path / "book" / "part2-method").mkdir(parents=True)
    bib = tmp_path / "book" / "references.bib"
    bib.write_text(
        "@misc{three, author={Lou, A and B, C and D, E}, year={2025}, doi={10.1/x_y}}\n"
        "@misc{two, author={van den Oord, A and Doll{\\'a}r, P}, year={2018}, url={https://a.org/b}}\n"
        "@misc{one, author={{The Team}}, year={2020}, eprint={1234.5}}\n"
    )

    def run(text, numbers=None, repository=""):
        book = Book(tmp_path, repository=repository, version="1.2.3", bibliography=read_bibliography(bib))
        read_page(book, "book/part1-a/02-other", OTHER, "2")
        read_page(book, "book/deviations", "---\na: 1\n---\n# The ledger\n\n```{toctree}\n```\n")
        read_page(book, PAGE, text, "6")
        run.page = Page(tmp_path / f"{PAGE}.md", book, PAGE, numbers)
        return flatten(text, run.page)

    return run


def test_plain_markdown_stays_as_it_is(show):
    text = "# T\n\nA *b* `c` $d$, [e](https://e.org), 5 \\$ and \\{x}.\n\n- f\n  - g\n\n1. h"
    text += "\n\n| i | j |\n|---|---|\n| 1 | 2 |"
    text += "\n\n```python\n# (not-a-label)=\nx = '{ref}`a`'\n```\n\n> quoted\n\n`` a ` {ref} ``"
    assert show(text) == text


BOXES = {
    ":::{note}\nA.\n:::": "> **Note.**\n>\n> A.",
    ":::{warning}\nA.\n\nB.\n:::": "> **Warning.**\n>\n> A.\n>\n> B.",
    "```{tip}\nA.\n```": "> **Tip.**\n>\n> A.",
    ":::{margin} Shapes\n`B`.\n:::": "> **Note: Shapes.**\n>\n> `B`.",
    ":::{margin}\n`B`.\n:::": "> **Note.**\n>\n> `B`.",
    ":::{admonition} Why?\n:class: warning\n- a\n  - b\n:::": "> **Why?**\n>\n> - a\n>   - b",
    ":::{admonition} T\n---\nclass: tip\n---\nA.\n:::": "> **T.**\n>\n> A.",
    "::::{note}\n:::{tip}\nA.\n:::\n::::": "> **Note.**\n>\n> > **Tip.**\n> >\n> > A.",
    ":::{note}\n$$\na\n$$ (eq-a)\n:::": "> **Note.**\n>\n> $$\n> a\n> \\tag{6.1}\n> $$",
    "- a\n\n  ```{note}\n  B.\n  ```\n\n- c": "- a\n\n  > **Note.**\n  >\n  > B.\n\n- c",
}


@pytest.mark.parametrize("text", BOXES)
def test_boxes_become_quotes(show, text):
    assert show(text) == BOXES[text]


def test_formulas_are_numbered_in_order(show):
    text = "$$\na\n\\\\ b\n$$ (eq-a)\n\n$$c$$\n\n$$ d $$ (eq-d)\n\nBy {eq}`eq-d`, {eq}`eq-a` and {eq}`eq-other`."
    expected = "$$\na\n\\\\ b\n\\tag{6.1}\n$$\n\n$$\nc\n$$\n\n$$\nd\n\\tag{6.2}\n$$\n\nBy (6.2), (6.1) and (2.1)."
    assert show(text) == expected


ROLES = {
    "{ref}`ch-other`": "Other *things*",
    "{ref}`sec-other`": "A part",
    "{ref}`there <sec-other>`": "there",
    "{doc}`/book/deviations`": "The ledger",
    "{doc}`../deviations`": "The ledger",
    "{doc}`it\nall </book/deviations>`": "it all",
    "{numref}`ch-other`": "Section 2",
    "{term}`anchor`": "anchor",
    "{term}`anchors <anchor>`": "anchors",
    "{py:func}`mpc_lite.contrast.loss.loss`": "`mpc_lite.contrast.loss.loss`",
    "{py:func}`~mpc_lite.contrast.loss.loss`": "`loss`",
    "{py:class}`the loss <mpc_lite.contrast.loss.A>`": "`the loss`",
    "{cite:t}`three`": "[Lou et al. (2025)](https://doi.org/10.1/x_y)",
    "{cite:p}`two, one`": "([van den Oord and Dollár, 2018](https://a.org/b); [The Team, 2020](https://arxiv.org/abs/1234.5))",
    "**{eq}`eq-other`**": "**(2.1)**",
    "`{eq}` and $x_{a}$ `b`": "`{eq}` and $x_{a}$ `b`",
}


@pytest.mark.parametrize("text", ROLES)
def test_roles(show, text):
    assert show(f"So {text}.") == f"So {ROLES[text]}." and show.page.problems == []


def test_links_where_the_address_is_known(show):
    at = "https://x.org/a/b/blob/v1.2.3"
    text = "{ref}`ch-other`, {doc}`/book/deviations`\n\n(sec-here)=\n## Here\n\n{ref}`sec-here`"
    linked = (
        f"[Other *things*]({at}/book/part1-a/02-other.ipynb), [The ledger]({at}/book/deviations.md)\n\n## Here\n\nHere"
    )
    assert show(text, repository="https://x.org/a/b") == linked


def test_numbers_are_formatted_as_on_the_page(show):
    told = {"f1": "0.63349", "n": "166", "word": "'most'"}
    text = "{glue:text}`f1:.2f`, {glue:text}`f1:.1%`, {glue:text}`n:d`, {glue:text}`n`, {glue:text}`word`"
    assert show(text, told) == "0.63, 63.3%, 166, 166, most"
    for wrong in ("{glue:text}`f2:.2f`", "{glue:text}`word:.2f`"):
        show(wrong, told)
        assert len(show.page.problems) == 1


def test_listings_show_the_code_itself(show):
    block = (
        "```{{literalinclude}} ../../mpc_lite/contrast/loss.py\n:pyobject: {}\n:language: python\n:lineno-match:\n{}```"
    )
    text = block.format("loss", ":caption: The loss (`loss.py`)\n:name: lst-l\n") + "\n\nSee {numref}`lst-l`."
    head = "**Listing 6.1.** The loss (`loss.py`). (`mpc_lite/contrast/loss.py`, lines 4–7)"
    code = '@functools.cache\ndef loss(x):\n    """Says ``` once."""\n    return x'
    assert show(text) == f"{head}\n\n````python\n{code}\n````\n\nSee Listing 6.1."
    method = "    def b(self):\n        return 1"
    assert show(block.format("A.b", "")) == f"`mpc_lite/contrast/loss.py`, lines 11–12:\n\n```python\n{method}\n```"
    with pytest.raises(MarkupError, match="no function or class 'gone'"):
        show(block.format("gone", ""))


def test_tables(show):
    rows = "* - a\n  - $|b|$\n* - `c|d`\n  - e\n    f"
    text = f"```{{list-table}} All of it\n:header-rows: 1\n:name: tab-a\n{rows}\n```\n{{numref}}`tab-a`"
    table = "| a | $\\vert b\\vert $ |\n| --- | --- |\n| `c\\|d` | e f |"
    assert show(text) == f"**Table 6.1.** All of it.\n\n{table}\n\nTable 6.1"
    with pytest.raises(MarkupError, match="expected equal"):
        show("```{list-table}\n* - a\n  - b\n* - c\n```")


def test_exercises(show):
    start = "```{exercise-start} Warm it (check)\n:label: ex-a\n```\nDo {eq}`eq-other`.\n```{exercise-end}\n```\n"
    solution = (
        "```{solution-start} ex-a\n:label: sol-a\n:class: dropdown\n```\nDone.\n```{solution-end}\n```\n{ref}`ex-a`"
    )
    shown = "**Exercise 6.1: Warm it (check).**\n\nDo (2.1).\n\n**Solution of exercise 6.1.**\n\nDone.\n\nExercise 6.1"
    assert show(start + solution) == shown


def test_labels_and_comments_are_not_shown(show):
    assert show("% a note\n(sec-a)=\n## A\n\nB.") == "## A\n\nB."


MISSING = ["{ref}`gone`", "{numref}`gone`", "{eq}`gone`", "{eq}`ch-other`", "{doc}`/book/gone`", "{cite:p}`gone`"]
MISSING += ["{numref}`sec-other`", "```{solution-start} gone\n```\nA.\n```{solution-end}\n```"]


@pytest.mark.parametrize("text", MISSING)
def test_a_reference_that_leads_nowhere_is_noted(show, text):
    shown = show(text)
    assert len(show.page.problems) == 1 and "⟨" in shown


UNKNOWN = {
    ":::{dropdown} A\nB\n:::": "unknown directive 'dropdown'",
    "```{code-cell}\n1\n```": "unknown directive 'code-cell'",
    "```{glue:figure} a\n```": "unknown directive 'glue:figure'",
    ":::{note}\n:collapse: yes\nA\n:::": "unknown option collapse",
    "```{literalinclude} x.py\n:lines: 1-2\n```": "unknown option lines",
    "```{literalinclude} x.py\n:pyobject: a\n```": "needs a file",
    ":::{note}\nA": "never closed",
    "$$\na": "never closed",
    "$$ a $$ and more": "never closed",
    ":::\nA\n:::": "names no directive",
    "A {math}`b`.": "unknown role 'math'",
    "A {py:gone}`b`.": "unknown role 'py:gone'",
    "A {ref} `b`.": "a role that cannot be read",
    "A {ref}`b": "a role that cannot be read",
    "A $b {ref}`c` d$.": "a role inside",
    "- ```{note}\n  A\n  ```": "never closed",
    "A $$b$$ c.": "a line of its own",
    "\\begin{align}\na\n\\end{align}": "bare LaTeX",
    "A[^1].": "a footnote",
    "A {{ b }}.": "a substitution",
    "[](#a)": "use {ref}",
    "[a](deviations.md)": "a relative link",
    "![a](b.png)": "a picture",
    "A\n: b": "a definition list",
    "> ```{note}\n> A\n> ```": "inside a quote",
    "> :::{note}\n> A\n> :::": "inside a quote",
    ":::{admonition}\nA\n:::": "needs a title",
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_is_not_known_raises(show, text):
    with pytest.raises(MarkupError, match=UNKNOWN[text].replace("{", r"\{")):
        show(text)


def test_a_label_that_stands_twice_raises(show):
    with pytest.raises(MarkupError, match="stands twice"):
        show("(ch-other)=\n# A")


def test_every_real_citation_has_authors_a_year_and_an_address():
    found = read_bibliography(Path(__file__).parents[2] / "book" / "references.bib")
    bad = {key: cited for key, cited in found.items() if not all(cited) or not cited[1].isdigit() or "{" in str(cited)}
    assert len(found) > 40 and {key for key in bad if bad[key][2]} == set(), bad
