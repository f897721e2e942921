"""The page of questions: each has its answer and a way to it, every way leads to a heading or a label that exists."""

import re
from collections import Counter
from functools import cache

import pytest
from docutils.nodes import make_id

from tests.book.site_under_test import ROOT, chapters, pages

BOOK = ROOT / "book"
ITEM = re.compile(r"^(\S.*)\n: (.*)\\\n  → (.+)$", re.M)  # a question, its answer, the links behind the arrow
HEADING = re.compile(r"(?:(\d+)\s)?\[[^\]]+\]\(([\w/-]+)\.html#([\w-]+)\)")  # the chapter's number, page, anchor
ROLE = re.compile(r"\{(ref|numref|eq)\}`(?:[^`<]*<)?([\w-]+)>?`")


def text() -> str:
    return (BOOK / "questions.md").read_text(encoding="utf-8")


def items() -> list[tuple[str, str, str]]:
    return ITEM.findall(text())


@cache
def anchors(page: str) -> Counter[str]:
    """The anchors that docutils gives to the headings of a page, whatever stands in its fences left out."""
    source = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    bare = re.sub(r"^(`{3,}|:{3,}).*?^\1$", "", source, flags=re.S | re.M)
    return Counter(make_id(title) for title in re.findall(r"^#{1,4} (.+)$", bare, re.M))


@cache
def labels() -> set[str]:
    sources = [(ROOT / f"{page}.md").read_text(encoding="utf-8") for page in pages() if page != "book/changelog"]
    marks = r"^\(([\w-]+)\)=$|^\s*:?(?:name|label): ([\w-]+)$|^\$\$ \(([\w-]+)\)$|\$\$ \((eq-[\w-]+)\)$"
    return {label for source in sources for found in re.findall(marks, source, re.M) for label in found if label}


def broken(links: str) -> list[str]:
    """What is wrong with the links behind an arrow: a page, a number or an anchor that is not, or two of one name."""
    found = []
    for number, page, anchor in HEADING.findall(links):
        file = BOOK / f"{page}.md"
        chapter = re.match(r"0?(\d+)-", file.name)
        right = file.is_file() and number == (chapter[1] if chapter else "") and anchors(page)[anchor] == 1
        found += [] if right else [f"{number} {page}#{anchor}"]
    return found + [label for _, label in ROLE.findall(links) if label not in labels()]


def test_every_question_has_a_short_answer_and_ends_with_a_link():
    body = text().split("\n## ", 1)[1]
    assert len(items()) == len(re.findall(r"^: ", body, re.M)) == body.count("→") and 70 <= len(items()) <= 100
    questions = [question for question, _, _ in items()]
    assert len(set(questions)) == len(questions) and all(question.endswith("?") for question in questions)
    for question, answer, links in items():
        assert len(answer.split()) <= 80, question
        assert HEADING.search(links) or ROLE.search(links), question


@pytest.mark.parametrize(("question", "links"), [(q, links) for q, _, links in items()], ids=lambda x: "")
def test_a_link_leads_where_it_says(question, links):
    assert broken(links) == []


def test_each_chapter_is_asked_about():
    linked = Counter(f"book/{page}" for _, _, links in items() for _, page, _ in HEADING.findall(links))
    assert [chapter for chapter in chapters() if linked[chapter] < 2] == []


def test_a_link_to_nothing_is_found():
    page = "part1-problem/02-measuring"
    assert broken(f"2 [a]({page}.html#counts-first) · {{ref}}`own-maps` · {{eq}}`eq-measuring-f1`") == []
    wrong = [f"2 [a]({page}.html#no-such-heading)", f"3 [a]({page}.html#counts-first)", f"[a]({page}.html#see-it)"]
    assert all(broken(links) for links in [*wrong, "2 [a](part1-problem/02-none.html#see-it)", "{ref}`no-such-label`"])
