"""Every page in a real browser without network: formulas set, plots drawn, sliders that change the picture, no error.

With MPC_LITE_SCREENSHOTS=1, as in `make pages`, pictures of every page (light, dark, 360 pixels wide) go to
_build/screenshots, to be looked at; they take as long as everything else.
"""

import json
import os
import time

import pytest

from tests.book.site_under_test import (
    HTML,
    NO_BROWSER,
    NOT_BUILT,
    SHOTS,
    browser,
    chapters,
    harmless,
    pages,
    running_browser,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (HTML / "index.html").is_file(), reason=NOT_BUILT),
    pytest.mark.skipif(browser() is None, reason=NO_BROWSER),
]
LOOKS = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "360": (360, 740, "light")}
DRAWN: dict[str, int] = {}  # page -> interactive figures that moved; printed at the end of continuous integration


@pytest.fixture(scope="module")
def chromium():
    with running_browser() as program:
        yield program
    (HTML.parent / "browser.json").write_text(json.dumps(DRAWN, indent=1))


# The first line of each block of code that is wider than its box, and each name in a table that stands on two lines.
RUNS_OFF = """[
  ...[...document.querySelectorAll('article div[class^="highlight-"] pre')].filter(x => x.scrollWidth > x.clientWidth),
  ...[...document.querySelectorAll('article td code .pre')].filter(
    x => /^[\\w.]+$/.test(x.textContent) && x.getClientRects().length > 1),
].map(x => x.textContent.slice(0, 60))"""


# Titles of moving figures that lie on their legend or leave the picture, the words of both.
COVERED = """[...document.querySelectorAll('figure.plotted')].flatMap(figure => {
  const box = (x) => { const part = figure.querySelector(x); return part && part.getBoundingClientRect(); };
  const [picture, title, legend] = [box('.main-svg'), box('.gtitle'), box('.legend')];
  if (!title || !title.height) return [];
  const apart = !legend || title.bottom <= legend.top + 1 || title.top >= legend.bottom - 1
    || title.right <= legend.left || title.left >= legend.right;
  return apart && title.top >= picture.top - 1 ? [] : [`${figure.id}: ${figure.querySelector('.gtitle').textContent}`];
})"""


def open_page(chromium, page, width, height, theme):
    """The page after its scripts have settled, and what went wrong or out meanwhile."""
    context = chromium.new_context(viewport={"width": width, "height": height}, offline=True)
    context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
    tab, wrong = context.new_page(), []
    tab.on("request", lambda r: wrong.append(f"asks {r.url}") if not r.url.startswith(("file:", "data:")) else None)
    tab.on("requestfailed", lambda r: None if harmless(r.url) else wrong.append(f"misses {r.url}"))
    tab.on("pageerror", lambda e: None if harmless(str(e)) else wrong.append(str(e)))
    # A file that is missing is told above, with its name.
    skip = "Failed to load resource"
    tab.on("console", lambda m: wrong.append(m.text) if m.type == "error" and skip not in m.text else None)
    tab.goto((HTML / f"{page}.html").as_uri(), wait_until="load")
    tab.evaluate("() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
    if tab.evaluate("document.querySelectorAll('script[type=\"application/vnd.jupyter.widget-view+json\"]').length"):
        tab.wait_for_selector(".widget-slider", timeout=120_000)
    return context, tab, wrong


def changes(tab, look, before, seconds=30):
    """Whether what `look` shows becomes another than before within so many seconds."""
    end = time.monotonic() + seconds
    while look() == before:
        if time.monotonic() > end:
            return False
        tab.wait_for_timeout(50)
    return True


PICTURE = """(at) => JSON.stringify([
  at.data.map(t => t.visible), (at.layout.images || []).map(i => i.source.slice(-80)),
  (at.layout.annotations || []).map(a => a.text), at.layout.title && at.layout.title.text])"""


def handles_that_change_the_picture(tab):
    """How many handles there are to move. Every one changes what its figure shows."""
    moved = 0
    for plot in tab.query_selector_all("figure.plotted > div"):
        name = plot.get_attribute("id")
        before = plot.evaluate(PICTURE)
        plot.scroll_into_view_if_needed()
        rail, menu = plot.query_selector(".slider-rail-touch-rect"), plot.query_selector(".updatemenu-header")
        if rail:
            box = rail.bounding_box()
            tab.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
            if not changes(tab, lambda plot=plot: plot.evaluate(PICTURE), before, 3):  # it began at its end
                tab.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
        elif menu:
            menu.click()
            plot.wait_for_selector(".updatemenu-dropdown-button")
            plot.query_selector_all(".updatemenu-dropdown-button")[-1].click()
        else:
            raise AssertionError(f"{name} has nothing to move: a still picture would do")
        assert changes(tab, lambda plot=plot: plot.evaluate(PICTURE), before), name
        moved += 1
    for handle in tab.query_selector_all("article .widget-slider .noUi-handle"):
        shown = "() => [...document.querySelectorAll('.jupyter-widgets img')].map(i => i.offsetParent && i.alt)"
        before = tab.evaluate(shown)
        handle.focus()
        tab.keyboard.press("ArrowRight")
        if not changes(tab, lambda shown=shown: tab.evaluate(shown), before, 3):  # it began at its end
            tab.keyboard.press("ArrowLeft")
            assert changes(tab, lambda shown=shown: tab.evaluate(shown), before)
        moved += 1
    return moved


@pytest.mark.parametrize("page", pages())
def test_page_in_a_browser(chromium, page):
    for look, (width, height, theme) in LOOKS.items():
        context, tab, wrong = open_page(chromium, page, width, height, theme)
        formulas = tab.evaluate("document.querySelectorAll('article .math').length")
        assert tab.evaluate("document.querySelectorAll('article mjx-container').length") >= formulas
        assert tab.evaluate("document.querySelectorAll('article mjx-merror').length") == 0
        assert tab.evaluate("document.documentElement.dataset.theme") == theme
        plots = tab.evaluate("document.querySelectorAll('figure.plotted').length")
        assert (
            tab.evaluate(
                "[...document.querySelectorAll('figure.plotted')].filter(x => x.querySelector('.main-svg')).length"
            )
            == plots
        )
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page itself scrolls sideways"
        assert tab.evaluate(RUNS_OFF) == [], "code runs out of its box, or a table breaks a name"
        assert tab.evaluate(COVERED) == [], "a title that cannot be read"
        assert tab.evaluate("[...document.querySelectorAll('.scripted')].every(x => x.querySelector('svg'))")
        if os.environ.get("MPC_LITE_SCREENSHOTS"):
            tab.screenshot(path=SHOTS / f"{page.replace('/', '_')}-{look}.png", full_page=True)
        if look == "light" and page in chapters():
            DRAWN[page] = handles_that_change_the_picture(tab)
        assert wrong == [], look
        context.close()
