"""Scribbles: true to the mask, few, and the same for the same mask and seed."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.errors import InputError
from mpc_lite.neighbours.pclmix.scribbles import scribbles


def disc(side=96, radius=20):
    y, x = np.mgrid[:side, :side]
    return ((y - 40) ** 2 + (x - 60) ** 2 < radius**2).astype(np.uint8)


def test_a_function_of_mask_and_seed():
    mask, before = disc(), disc()
    first = scribbles(mask, 3)
    assert np.array_equal(first, scribbles(mask.astype(np.int64), 3)) and np.array_equal(mask, before)
    assert not np.array_equal(first, scribbles(mask, 4)) and not np.array_equal(first, scribbles(mask, (3, 1)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.05, 1), st.integers(1, 6), st.integers(0, 9))
def test_no_stroke_says_anything_false(seed, strokes, length, width, margin):
    rng = np.random.default_rng(seed)
    mask = (cv2.resize(rng.random((6, 5)), (50, 61)) > 0.6).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.02] = 255
    found = scribbles(mask, seed, strokes, length, width, margin)
    assert found.dtype == np.uint8 and found.shape == mask.shape
    for label in (0, 1):
        assert (mask[found == label] == label).all() and (found == label).any() == (mask == label).any()
    assert (found[mask == 255] == 255).all()


def test_strokes_are_few_long_and_keep_away_from_the_border():
    mask = disc()
    found = scribbles(mask, 0, strokes=1, length=0.5, width=3, margin=6)
    share = (found != 255).mean()
    assert 0.01 < share < 0.06  # two strokes of 48 by 3 pixels on 96 x 96 are 3 %
    away = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[found == 1]
    assert away.min() > 6 - 1.5 - 0.8  # half a stroke, and what rounding takes
    longer = scribbles(mask, 0, strokes=1, length=1.0)
    assert (longer == 0).sum() > 1.5 * (found == 0).sum()


def test_one_class_one_pixel_or_nothing():
    assert set(np.unique(scribbles(np.zeros((40, 30)), 0).tolist())) == {0, 255}
    assert (scribbles(np.full((9, 9), 255), 0) == 255).all()  # nothing known, nothing drawn
    point = np.zeros((30, 30), int)
    point[12, 7] = 1
    assert np.argwhere(scribbles(point, 0) == 1).tolist() == [[12, 7]]


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        (np.zeros((2, 3, 3)), {}),
        (np.full((4, 4), 128), {}),
        (disc(), {"strokes": 0}),
        (disc(), {"length": 1.5}),
        (disc(), {"width": 0}),
        (disc(), {"margin": -1}),
    ],
)
def test_bad_input(mask, options):
    with pytest.raises(InputError, match="expected"):
        scribbles(mask, 0, **options)
