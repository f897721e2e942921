"""The first use of a word with several meanings leads to the glossary's table, in running text and once a page."""

import re
import sys

import pytest
from bs4 import BeautifulSoup

from tests.book.site_under_test import HTML, NOT_BUILT, ROOT, chapters

sys.path.insert(0, str(ROOT / "book" / "tools" / "site"))

import first_uses

PAGE = "book/part2-method/06-contrastive-loss"
ADDRESS = "../glossary.html#glossary-which"


def links(body):
    soup = BeautifulSoup(body, "html.parser")
    return [(a.text, a["href"], a.parent.name) for a in soup.select("a.which")]


def test_each_word_once_and_only_in_running_text():
    body = """<h1>A map of stage 1</h1><summary><p>a cell</p></summary><p>The mapping of <a href="x">a map</a>, then
    <code><span class="pre">lite</span></code> and the <em>maps</em> of stage 2.</p><pre>map</pre><figcaption>
    <p>An official cell</p></figcaption>
    <ul><li><p>an official map<br>of the lite-stage1 cell.</p></li></ul>"""
    changed = first_uses.with_first_uses(body, PAGE)
    assert links(changed) == [
        ("lite", ADDRESS, "span"), ("maps", ADDRESS, "em"), ("stage", ADDRESS, "p"), ("official", ADDRESS, "p"),
        ("cell", ADDRESS, "p"),
    ]  # fmt: skip
    assert re.sub(r'<a class="which"[^>]*>(.*?)</a>', r"\1", changed) == body


@pytest.mark.parametrize(
    "text", ["lite-stage1 and mpc_lite", "book/lite.json, paper-map", "lite.safetensors", "\\(map\\) cells of it"]
)
def test_names_of_files_and_formulas_are_left_alone(text):
    assert links(first_uses.with_first_uses(f"<p>{text}</p>", PAGE)) == []


def test_the_words_are_those_of_the_table():
    table = (ROOT / "book" / "glossary.md").read_text().split("(glossary-which)=")[1].split("## All words")[0]
    assert tuple(re.findall(r"^\| \*(\w+)\* \|", table, re.M)) == first_uses.WORDS


@pytest.mark.skipif(not (HTML / "index.html").is_file(), reason=NOT_BUILT)
@pytest.mark.parametrize("chapter", chapters())
def test_the_built_chapter_has_them(chapter):
    soup = BeautifulSoup((HTML / f"{chapter}.html").read_text(), "html.parser").select_one("article.bd-article")
    found = [a.text.lower().removesuffix("s") for a in soup.select("a.which")]
    assert found and len(found) == len(set(found)) and set(found) <= set(first_uses.WORDS)
