"""The points on a circle in a real browser without network: what the script says is what the package computes."""

import json

import numpy as np
import pytest
import torch

from mpc_lite.contrast.infonce import mean_positive_infonce
from mpc_lite.errors import InputError
from mpc_lite.figures.chapters.contrastive_loss import draggable
from mpc_lite.figures.show import Scripted, show
from tests.book.site_under_test import NO_BROWSER, ROOT, browser, running_browser

ANCHORS, NEGATIVES = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6]]), np.array([[0, 1], [0.6, 0.8]])
TEMPERATURES = [0.05, 0.1, 0.5, 1.0]
ALT = "three anchors and two negatives on a circle"
LOOKS = [(1280, "light"), (360, "light"), (1280, "dark")]
needs_browser = pytest.mark.skipif(browser() is None, reason=NO_BROWSER)


def html():
    return show(draggable(ANCHORS, NEGATIVES, 0.5, TEMPERATURES), "loss-drag", ALT)._repr_html_()


def by_the_package(state):
    """loss, losses of the anchors, weights and forces of an arrangement, by autograd on the angles."""
    angles = [torch.tensor(state[k], dtype=torch.float64).deg2rad().requires_grad_() for k in ("anchors", "negatives")]
    a, n = (torch.stack([x.cos(), x.sin()], 1) for x in angles)
    t, count = state["temperature"], len(a)
    loss = mean_positive_infonce(a, n, t)
    forces = [-x * count * t / 2 for x in torch.autograd.grad(loss, angles)]
    positive = (a @ a.sum(0) - (a * a).sum(1)) / (count - 1)
    logits = torch.cat([positive[:, None], a @ n.T], 1) / t
    weights = logits.softmax(1)[:, 1:]
    return loss.item(), (logits.logsumexp(1) - logits[:, 0]).detach(), weights.detach(), forces


def agree(state):
    loss, each, weights, forces = by_the_package(state)
    assert state["loss"] == pytest.approx(loss, abs=1e-12)
    np.testing.assert_allclose(state["each"], each, atol=1e-12)
    np.testing.assert_allclose(state["weights"], weights, atol=1e-12)
    for mine, theirs in zip(state["forces"], forces, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


@pytest.fixture(scope="module")
def chromium():
    with running_browser() as program:
        yield program


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def tab(chromium, request, tmp_path):
    width, theme = request.param
    css = (ROOT / "book" / "assets" / "book.css").read_text()
    words = f'<!doctype html><html data-theme="{theme}"><meta charset="utf-8"><style>{css}</style>'
    (tmp_path / "page.html").write_text(f'{words}<body class="bd-content" style="margin:0;color:#eee">{html()}')
    context = chromium.new_context(viewport={"width": width, "height": 800}, offline=True)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith("file:") else wrong.append(r.url))
    page.goto((tmp_path / "page.html").as_uri())
    yield page
    assert wrong == []
    context.close()


def state_of(tab):
    return json.loads(tab.get_attribute("#scripted-loss-drag", "data-state"))


@needs_browser
def test_the_example_by_hand_a_dragged_point_the_keys_and_the_temperature(tab):
    start = state_of(tab)
    assert start["loss"] == pytest.approx(0.759, abs=2e-3)  # by hand in the chapter
    agree(start)
    assert "loss 0.759" in tab.inner_text("p")

    third = tab.locator('[aria-label="anchor 3"]')
    third.focus()
    tab.keyboard.press("ArrowLeft")
    assert state_of(tab)["anchors"][2] == pytest.approx(start["anchors"][2] - 2)
    tab.keyboard.press("Shift+ArrowUp")
    assert state_of(tab)["anchors"][2] == pytest.approx(start["anchors"][2] + 13)
    agree(state_of(tab))

    box, ring = tab.locator('[aria-label="negative 2"]').bounding_box(), tab.locator("svg").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(ring["x"] + 5, ring["y"] + ring["height"] / 2, steps=4)  # to the left of the circle: 180 degrees
    tab.mouse.up()
    moved = state_of(tab)
    assert moved["negatives"][1] == pytest.approx(180, abs=1) and moved["anchors"] != start["anchors"]
    agree(moved)
    assert tab.get_attribute('[aria-label="negative 2"]', "aria-valuenow") == "180"

    tab.locator("input").focus()
    tab.keyboard.press("ArrowLeft")
    assert state_of(tab)["temperature"] == 0.1
    agree(state_of(tab))
    tab.locator("button").click()
    assert state_of(tab) == start


@needs_browser
def test_it_fits_the_screen_and_stays_readable(tab):
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]
    card = "document.querySelector('.scripted')"
    assert tab.evaluate(f"getComputedStyle({card}).backgroundColor") == "rgb(255, 255, 255)"
    for part in ("p", "td", "th", "label", "button"):
        style = f"getComputedStyle({card}.querySelector('{part}'))"
        assert tab.evaluate(f"{style}.color") == "rgb(34, 34, 34)"
        assert tab.evaluate(f"{style}.fontSize") == "14px"  # as still and moving figures have
    assert tab.evaluate("[...document.querySelectorAll('svg [tabindex]')].every(x => x.getAttribute('aria-label'))")


def test_a_scripted_figure_is_one_script_that_its_data_cannot_end():
    page = show(Scripted("at.textContent = data.words;", {"words": "</script>"}), "loss-words", ALT)._repr_html_()
    assert page.count("</script>") == 1 and page.count("<script") == 1 and ALT in page
    assert "http" not in html().replace("http://www.w3.org/2000/svg", "")
    assert repr(show(Scripted("", {}), "loss-words", ALT)) == "Interactive figure 'loss-words'"


def test_a_temperature_that_the_slider_lacks_is_refused():
    with pytest.raises(InputError, match=r"0\.3 is not on the slider"):
        draggable(ANCHORS, NEGATIVES, 0.3, TEMPERATURES)
