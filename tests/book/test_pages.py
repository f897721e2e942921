"""The built pages as files: nothing from other hosts, every picture in words, every link answered."""

import functools
import json
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import BeautifulSoup

from tests.book.site_under_test import HTML, NOT_BUILT, ROOT, chapters, pages

pytestmark = pytest.mark.skipif(not (HTML / "index.html").is_file(), reason=NOT_BUILT)
MAX_BYTES = 1_500_000
LARGE = {"book/part6-use/21-try-it": 2_500_000}  # its examples are photographs, each with maps in several states
RAW = re.compile(r"\{(ref|numref|eq|doc|term|cite:?\w?|glue:?\w*|py:\w+)\}`|^:::|\bTODO\b|\bFIXME\b")


def read(page: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / f"{page}.html").read_text(), "html.parser")


@functools.cache
def ids_of(path: Path) -> frozenset[str]:
    return frozenset(x["id"] for x in BeautifulSoup(path.read_text(), "html.parser").find_all(id=True))


def article(soup: BeautifulSoup):
    return soup.select_one("article.bd-article")


def said(alt: str | None) -> bool:
    """An alt text that says something; without one, Sphinx puts the file's name there."""
    return alt is not None and len(alt.split()) >= 4 and not alt.startswith("_images") and not alt.endswith(".png")


def requests_elsewhere(soup: BeautifulSoup) -> list[str]:
    """Whatever a browser would fetch from another host when it opens the page."""
    found = []
    for tag, attribute in [("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")]:
        found += [x[attribute] for x in soup.find_all(tag) if x.get(attribute, "").startswith(("http", "//"))]
    for link in soup.find_all("link"):
        if not {"canonical", "next", "prev", "search", "index"} & set(link.get("rel", [])):
            found += [link["href"]] if link.get("href", "").startswith(("http", "//")) else []
    return found + [x for style in soup.find_all("style") for x in re.findall(r"url\(['\"]?(?:https?:)?//", style.text)]


def test_the_lint_sees_what_it_looks_for():
    bad = BeautifulSoup(
        '<script src="https://cdn.x/y.js"></script><link rel="stylesheet" href="//cdn.x/y.css"><img src="a.png">'
        "<style>a{background:url(https://x/y.png)}</style>",
        "html.parser",
    )
    assert len(requests_elsewhere(bad)) == 3
    assert not said(None) and not said("") and not said("_images/9f3a.png") and not said("a picture")
    assert said("the residual is flat outside and rough inside the region")
    assert RAW.search("see {numref}`fig-x`") and not RAW.search("see Fig. 2")


@pytest.mark.parametrize("page", pages())
def test_page(page):
    soup = read(page)
    assert (HTML / f"{page}.html").stat().st_size <= LARGE.get(page, MAX_BYTES)
    assert requests_elsewhere(soup) == []
    body = article(soup)
    assert [str(x)[:200] for x in body.find_all("img") if not said(x.get("alt"))] == []
    text = "\n".join(x for x in body.find_all(string=True) if not x.find_parent(["script", "code", "pre"]))
    assert RAW.findall(text) == []
    inline = [x.text for x in body.find_all("code") if not x.find_parent("pre")]
    assert [x for x in inline if "{glue:" in x and page != "book/api"] == []  # there a docstring says how to quote
    assert "Traceback (most recent call last)" not in body.text and not body.select(".output.stderr")
    for figure in body.select("figure[id^=fig-]"):
        assert figure.find("figcaption").text.strip(), figure["id"]
    # sphinx-exercise gives all its boxes the same two inner ids; nothing points at them.
    ids = [x["id"] for x in body.find_all(id=True) if x["id"] not in ("exercise-content", "solution-content")]
    assert sorted(ids) == sorted(set(ids)), "an id stands twice on the page"


@pytest.mark.parametrize("page", pages())
def test_links_and_anchors_resolve(page):
    here, broken = HTML / f"{page}.html", []
    for link in article(read(page)).find_all("a", href=True):
        address, anchor = urldefrag(link["href"])
        if re.match(r"[a-z]+:", address):
            continue
        target = (here.parent / unquote(address)).resolve() if address else here
        page_has = not anchor or target.suffix != ".html" or (target.is_file() and unquote(anchor) in ids_of(target))
        broken += [] if target.is_file() and page_has else [link["href"]]
    assert broken == []


@pytest.mark.parametrize("page", chapters())
def test_numbers_in_the_notebook_are_those_of_the_page(page):
    """The notebook is numbered by a tool of ours, the page by Sphinx; both must say the same Figure 2.3."""
    body = article(read(page))
    on_page = {
        "Figure": body.select("figure .caption-number"),
        "Listing": body.select(".code-block-caption .caption-number"),
        "Exercise": body.select(".exercise .caption-number"),
        "tag": body.select("div.math .eqno"),
    }
    cells = json.loads((ROOT / f"{page}.ipynb").read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    in_twin = {
        "Figure": re.findall(r"^\*\*Figure (\d+\.\d+)\.?\*\*", text, re.M),
        "Listing": re.findall(r"^\*\*Listing (\d+\.\d+)\.?\*\*", text, re.M),
        "Exercise": re.findall(r"^\*\*Exercise (\d+\.\d+)", text, re.M),
        "tag": re.findall(r"\\tag\{(\d+\.\d+)\}", text),
    }
    for kind, numbers in on_page.items():
        found = [re.search(r"\d+\.\d+", x.text)[0] for x in numbers]
        assert found == in_twin[kind], kind
    assert in_twin["Figure"], "a chapter without a figure"


@pytest.mark.parametrize("page", chapters())
def test_every_interactive_figure_of_the_notebook_is_on_the_page(page):
    text = Path(ROOT / f"{page}.ipynb").read_text()
    declared = set(re.findall(r'id=\\"plotly-([\w-]+)\\"', text))
    assert {x["id"].removeprefix("plotly-") for x in read(page).select("[id^=plotly-]")} == declared
    assert len(read(page).select("script[type='application/vnd.jupyter.widget-view+json']")) == text.count(
        '"application/vnd.jupyter.widget-view+json": {'
    )


@pytest.mark.parametrize("page", chapters())
def test_the_notebook_is_offered_below_the_title(page):
    (line,) = article(read(page)).select("h1 + .notebook-links")
    copy = (HTML / page).parent / line.find("a", download=True)["href"]
    assert copy.read_bytes() == (ROOT / f"{page}.ipynb").read_bytes()


def test_the_first_page_is_the_book():
    assert "book/index.html" in (HTML / "index.html").read_text()
