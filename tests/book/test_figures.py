"""The figures that the chapters' notebooks hold: what a caption says of the first view is drawn there.

Pictures cannot be read by a test; figures that move can: their data lie in the notebook.
"""

import json
import re

import jupytext
import pytest

from tests.book.site_under_test import ROOT, chapters

OPENS = re.compile(r"[Oo]pens (?:at|on) ([^:;]+?)(?=[.,;:]? (?:[A-Z]|and|a|the|step|where|as)\b|[.,;:]?$|[.,;:)] )")
# A word of a caption, and whether something like it is in the first view: lines by their dash, a framed note, a fill.
DRAWN = {
    "dashed": lambda traces, layout: any(t.get("line", {}).get("dash") == "dash" for t in traces),
    "dotted": lambda traces, layout: any(t.get("line", {}).get("dash") == "dot" for t in traces),
    "the box": lambda traces, layout: any(a.get("bordercolor") for a in layout.get("annotations", [])),
    "shaded": lambda traces, layout: bool(layout.get("shapes")) or any("fill" in t for t in traces),
    "diamond": lambda traces, layout: any("diamond" in str(t.get("marker")) for t in traces),
    "triangles": lambda traces, layout: any("triangle" in str(t.get("marker")) for t in traces),
}


def captions(chapter):
    """name of a figure -> its caption, in one line."""
    found = {}
    for cell in jupytext.read(ROOT / f"{chapter}.md").cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            found[figure["name"].removeprefix("fig-")] = " ".join(figure["caption"].split())
    return found


def moving(chapter):
    """name of a figure that plotly draws -> its data and layout, as the notebook holds them."""
    text = "\n".join(
        "".join(output.get("data", {}).get("text/html", ""))
        for cell in json.loads((ROOT / f"{chapter}.ipynb").read_text())["cells"]
        for output in cell.get("outputs", [])
    )
    pattern = r'<figure id="figure-([\w-]+)" class="plotted".*?const f = (\{.*?\}); Plotly\.newPlot'
    return {name: json.loads(data) for name, data in re.findall(pattern, text, re.S)}


def opened(layout):
    """What the slider or the menu of a figure says before anybody touches it."""
    if layout.get("sliders"):
        (handle,) = layout["sliders"]
        return handle["steps"][handle.get("active", 0)]["label"]
    (menu,) = layout["updatemenus"]
    return menu["buttons"][menu.get("active", 0)]["label"]


def says(phrase, label):
    return set(re.findall(r"[\w.]+", label)) <= set(re.findall(r"[\w.]+", phrase))


def test_the_phrases_that_are_looked_for():
    for caption, label in [
        ("Sorted weights. Opens at 0.75: two Gaussians", "0.75"),
        ("The menu. Opens on the splice after stage 1; the menu switches", "splice, after"),
        ("the slider opens at 30%; ours", "30%"),
        ("Opens at (0,1).", "(0,1)"),
    ]:
        phrase = OPENS.search(caption)
        assert phrase and says(phrase[1], label), caption
    assert not says("0.5", "0.75")


@pytest.mark.parametrize("chapter", chapters())
def test_a_figure_that_moves_opens_where_its_caption_says(chapter):
    words, figures = captions(chapter), moving(chapter)
    for name, figure in figures.items():
        phrase = OPENS.search(words[name])
        assert phrase, f"{name}: the caption does not say on which state the figure opens ('Opens at …')"
        assert says(phrase[1], opened(figure["layout"])), (name, phrase[1], opened(figure["layout"]))
    assert set(figures) <= set(words)


@pytest.mark.parametrize("chapter", chapters())
def test_what_a_caption_names_is_drawn_in_the_first_view(chapter):
    words = captions(chapter)
    for name, figure in moving(chapter).items():
        first = [trace for trace in figure["data"] if trace.get("visible", True) is True]
        assert first, f"{name} opens empty"
        for word, drawn in DRAWN.items():
            if re.search(rf"\b{word}\b", words[name]):
                assert drawn(first, figure["layout"]), (
                    f"{name}: the caption names '{word}', and nothing like it is drawn"
                )


@pytest.mark.parametrize("chapter", [c for c in chapters() if "/21-" not in c])
def test_a_notebook_leaves_its_page_below_a_megabyte_and_a_half(chapter):
    """The page is the notebook's outputs and some 150 kB of text and code; test_pages weighs the built one."""
    assert (ROOT / f"{chapter}.ipynb").stat().st_size <= 1_350_000
