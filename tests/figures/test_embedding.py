"""The embedding map: one pair of traces for each image and state, buttons that show just one pair, honest titles."""

import pytest

from mpc_lite.figures.embedding import embedding_map
from mpc_lite.provenance import book_result


@pytest.fixture(scope="module")
def images():
    return book_result("geometry")["maps"]


def test_each_button_shows_one_pair_and_says_its_number(images):
    figure = embedding_map(images, first="after")
    shown = [(image, when) for image in images for when in ("before", "after")]
    assert len(figure.data) == 2 * len(shown)
    assert [i for i, t in enumerate(figure.data) if t.visible] == [2, 3]
    for i, ((image, when), button) in enumerate(zip(shown, figure.layout.updatemenus[0].buttons, strict=True)):
        visible, title = button.args[0]["visible"], button.args[1]["title.text"]
        assert [j for j, v in enumerate(visible) if v] == [2 * i, 2 * i + 1]
        assert image["kind"] in title and f"{image['purity'][when]:.0%}" in title


def test_points_are_those_of_the_result_by_class(images):
    figure = embedding_map(images)
    image = images[0]
    authentic = [xy for xy, label in zip(image["before"], image["labels"], strict=True) if label == 0]
    assert [list(p) for p in zip(figure.data[0].x, figure.data[0].y, strict=True)] == authentic
    assert figure.data[0].name == "authentic" and figure.data[1].name == "tampered"
    assert len(figure.data[0].x) + len(figure.data[1].x) == len(image["labels"])
    assert sum(len(t.x) for t in figure.data) <= 5000


def test_the_result_says_how_it_came_about_and_what_its_maps_are():
    result = book_result("geometry")
    assert {"command", "seed", "device", "versions", "commit"} <= set(result)
    for image in result["maps"]:
        assert image["labels"] == [0] * 300 + [1] * 300
        assert all(len(image[when]) == 600 and 0 < image["purity"][when] < 1 for when in ("before", "after"))
    assert [image["kind"] for image in result["maps"]] == ["splice", "copy-move", "removal", "null splice"]
