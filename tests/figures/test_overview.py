"""The front page's figure: its steps in order, the true label pyramid in its cells, readable on a phone."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from mpc_lite.errors import InputError
from mpc_lite.figures.overview import HEIGHT, WIDTH, bordered, example, logo, overview

SVG = "{http://www.w3.org/2000/svg}"


def scene():
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[32:96, 64:] = 1
    return image, mask, np.where(mask, 0.9, 0.1).astype(np.float32)


def drawn(alt="what it shows"):
    return ElementTree.fromstring(overview(*scene(), "generated-splice", alt))


def pictures(svg):
    for node in svg.iter(f"{SVG}image"):
        yield np.asarray(Image.open(io.BytesIO(base64.b64decode(node.get("href").split(",", 1)[1]))).convert("RGB"))


def test_the_steps_stand_in_the_methods_order_and_the_alt_text_is_in_the_file():
    svg = drawn("a < b & c")
    assert svg.find(f"{SVG}title").text == "a < b & c"
    words = [text.text for text in svg.iter(f"{SVG}text")]
    steps = [word for word in words if re.match(r"\d ", word)]
    assert steps == ["1 Photograph", "2 Maps", "3 Pools", "4 Contrast", "5 Head", "6 Score map"]
    assert "Stage 1" in words and "Stage 2" in words


def test_cells_have_the_classes_of_the_label_pyramid():
    maps = [p for p in pictures(drawn()) if len(p) in (32, 16, 8, 4)]
    assert [len(p) for p in maps[:4]] == [32, 16, 8, 4] and len(maps) == 8  # as maps, and as what the head reads
    for cells in maps[:4]:
        orange = cells[..., 0] > cells[..., 2]
        n = len(cells)
        assert orange.mean() == 0.25 and orange[n // 4 : 3 * n // 4, n // 2 :].all()


def test_it_is_readable_at_360_pixels_and_nothing_leaves_the_page():
    svg = drawn()
    assert svg.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}" and WIDTH <= 360
    assert float(svg.get("font-size")) >= 12 and not [t for t in svg.iter(f"{SVG}text") if t.get("font-size")]
    widest = 7.2  # units of a bold letter of this size, on average
    for text in svg.iter(f"{SVG}text"):
        half = len(text.text) * widest / 2 if text.get("text-anchor") else 0
        assert float(text.get("x")) + (half or len(text.text) * widest * 0.85) <= WIDTH, text.text
    assert svg.find(f"{SVG}rect").get("fill") == "#fff"  # a card of its own: the same in the dark theme


def test_an_example_has_the_true_border_on_the_left_and_the_map_on_the_right():
    image, mask, score_map = scene()
    picture = example(image, mask, score_map, "generated-splice")
    assert picture.shape[1] > 2 * 128 and len(picture) > 128
    np.testing.assert_array_equal(picture[:128, :128], bordered(image, mask))
    changed = (bordered(image, mask) != image).any(-1)
    assert changed[32, 64:].all() and not changed[:28].any() and not changed[60:70, 80:120].any()
    np.testing.assert_array_equal(bordered(image, np.zeros_like(mask)), image)


def test_pictures_that_may_not_be_shown_are_refused():
    for draw in (lambda: overview(*scene(), "casia", "x"), lambda: example(*scene(), "casia")):
        with pytest.raises(InputError, match="may not be published"):
            draw()


def test_the_logo_has_two_colours_in_each_theme_and_no_colour_of_the_other():
    themes = [re.findall(r'fill="(#\w+)"', logo(dark)) for dark in (False, True)]
    assert [len(fills) for fills in themes] == [25, 25] and [len(set(fills)) for fills in themes] == [2, 2]
    assert not set(themes[0]) & set(themes[1])
