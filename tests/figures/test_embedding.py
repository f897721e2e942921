"""The embedding map: one pair of traces for each image and state, buttons that show just one pair, honest titles."""

import pytest

from mpc_lite.figures.embedding import embedding_map
from mpc_lite.provenance import book_result


@pytest.fixture(scope="module")
def result():
    return book_result("embedding")


def test_each_button_shows_one_pair_and_says_its_number(result):
    figure = embedding_map(result, first="after")
    shown = [(image, when) for image in result["images"] for when in ("before", "after")]
    assert len(figure.data) == 2 * len(shown)
    assert [i for i, t in enumerate(figure.data) if t.visible] == [2, 3]
    for i, ((image, when), button) in enumerate(zip(shown, figure.layout.updatemenus[0].buttons, strict=True)):
        visible, title = button.args[0]["visible"], button.args[1]["title.text"]
        assert [j for j, v in enumerate(visible) if v] == [2 * i, 2 * i + 1]
        assert image["kind"] in title and f"{image['purity'][when]:.0%}" in title


def test_points_are_those_of_the_result_by_class(result):
    figure = embedding_map(result)
    image = result["images"][0]
    authentic = [xy for xy, label in zip(image["before"], image["labels"], strict=True) if label == 0]
    assert [list(p) for p in zip(figure.data[0].x, figure.data[0].y, strict=True)] == authentic
    assert figure.data[0].name == "authentic" and figure.data[1].name == "tampered"
    assert len(figure.data[0].x) + len(figure.data[1].x) == len(image["labels"])
    assert sum(len(t.x) for t in figure.data) <= 5000


def test_the_result_says_how_it_came_about(result):
    assert {"command", "seed", "device", "weights", "versions", "commit"} <= set(result)
    assert {kind: r["n"] for kind, r in result["many"].items()} == dict.fromkeys(result["many"], 40)
