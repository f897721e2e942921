"""The figures of chapter 21, by their data."""

import numpy as np
import pytest

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import try_it
from mpc_lite.inference.calibration import Calibration
from mpc_lite.inference.overlay import painted


def photo(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_a_row_shows_the_photo_and_what_predict_draws():
    images, maps = [photo(0), photo(1)], [np.full((24, 32), s, np.float32) for s in (0.2, 0.7)]
    axes = try_it.looked_at(images, maps, ["a", "b"], ["generated-splice", "dead_leaves"]).axes
    pictures = [np.asarray(a.images[0].get_array()) for a in axes]
    assert len(axes) == 5 and [a.get_title(loc="left") for a in axes[:4]] == ["a", "", "b", ""]
    np.testing.assert_array_equal(pictures[0], images[0])
    np.testing.assert_array_equal(pictures[3], painted(images[1], maps[1]))


@pytest.mark.parametrize("sources, words", [(["casia2"], "may not be published"), ([], "expected as many of each")])
def test_pictures_that_may_not_be_shown_or_do_not_pair(sources, words):
    with pytest.raises(InputError, match=words):
        try_it.looked_at([photo()], [np.zeros((24, 32), np.float32)], ["a"], sources)


def test_the_staircase_counts_the_authentic_scores_as_high():
    known = Calibration((0.1, 0.2, 0.5, 0.7), "by hand", "tiles", 192, 96)
    axes = try_it.ranks(known, {"mine": 0.5, "other": 0.9}).axes[0]
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(x, [0, 0.1, 0.2, 0.5, 0.7, 1])
    np.testing.assert_allclose(y, [1, 1, 0.8, 0.6, 0.4, 0.2])  # up to and with each score
    assert axes.lines[0].get_drawstyle() == "steps-pre"
    marks = [(line.get_label(), *line.get_xydata()[0]) for line in axes.lines[1:3]]
    assert marks == [("mine", 0.5, pytest.approx(0.6)), ("other", 0.9, pytest.approx(0.2))]
    assert [text.get_text() for text in axes.texts] == ["look here", "unsure", "cannot tell"]


def test_a_click_is_marked_where_it_was_and_its_map_spans_the_photo():
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 4:12] = 1
    similarities = [np.full((6, 8), 0.5), np.full((6, 8), -0.5)]
    figure = try_it.clicks(photo(), mask, {"in": (8, 9), "out": (20, 30)}, similarities, "generated-splice")
    _, inside, outside = figure.axes[:3]
    assert tuple(inside.lines[0].get_xydata()[0]) == (9, 8) and tuple(outside.lines[0].get_xydata()[0]) == (30, 20)
    assert list(inside.images[0].get_extent()) == [0, 32, 24, 0] and inside.images[0].norm.vmin == -1
    with pytest.raises(InputError, match="may not be published"):
        try_it.clicks(photo(), mask, {}, [], "casia2")
