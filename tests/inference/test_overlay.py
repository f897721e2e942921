"""Map and contour are seen on a photograph of any colour: contrast is measured, as WCAG defines it."""

import itertools

import cv2
import numpy as np
import pytest

from mpc_lite.inference.overlay import LEAST_WIDTH, legend, overlay, painted

COLOURS = {
    "red": (220, 20, 30),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "blue": (20, 40, 200),
    "grey": (119, 119, 119),  # the ground from which black and white stand out equally
    "orange": (230, 120, 20),  # the map's own colours
    "yellow": (252, 255, 164),
}


def luminance(rgb):
    """Relative luminance (…) in [0,1] of sRGB values (…,3) uint8."""
    linear = np.asarray(rgb) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(a, b):
    high, low = np.maximum(luminance(a), luminance(b)), np.minimum(luminance(a), luminance(b))
    return (high + 0.05) / (low + 0.05)


def plain(colour, shape=(120, 256)):
    return np.broadcast_to(np.uint8(COLOURS[colour]), (*shape, 3))


def disc(shape=(120, 256), inside=0.9, outside=0.1):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    near = (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 < 40**2
    return np.where(near, np.float32(inside), np.float32(outside))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("inside, outside", [(0.9, 0.1), (0.52, 0.48), (1, 0)])
def test_the_contour_stands_out_on_both_sides(colour, inside, outside):
    """Of the two lines one is 3 : 1 or more from the picture on either side, and they are 21 : 1 from each other."""
    scores = disc(inside=inside, outside=outside)
    picture = painted(plain(colour), scores)
    row = picture[60]  # through the middle: outside, white, black, inside
    edges = np.flatnonzero(np.diff(scores[60] > 0.5))
    assert len(edges) == 2
    for last, step in ((edges[0], 1), (edges[1] + 1, -1)):  # the last pixel outside, and the way inwards
        white, black = row[last], row[last + step]
        assert contrast(white, black) == pytest.approx(21)
        for ground in (row[last - step], row[last + 2 * step]):
            assert max(contrast(white, ground), contrast(black, ground)) >= 4.5


@pytest.mark.parametrize("colour", COLOURS)
def test_a_higher_score_is_never_darker_and_the_ends_are_far_apart(colour):
    scores = np.tile(np.linspace(0, 0.5, 256, dtype=np.float32), (8, 1))  # up to where the contour would begin
    rising = luminance(painted(plain(colour, scores.shape), scores)[0])
    assert (np.diff(rising) > -1e-3).all() and rising[-1] > rising[0]
    low, high = (painted(plain(colour), np.full((120, 256), s, np.float32))[60, 128] for s in (0, 1))
    assert contrast(high, low) >= 4.5


@pytest.mark.parametrize("score", [0.0, 0.3, 0.5])
def test_the_maps_colour_does_not_depend_on_the_photographs_hue(score):
    """A red and a blue photograph of one brightness look alike below the map."""
    scores = np.full((16, 16), score, np.float32)
    red, blue = (np.full((16, 16, 3), c, np.uint8) for c in ([150, 0, 0], [0, 36, 209]))
    difference = painted(red, scores).astype(int) - painted(blue, scores)
    assert np.abs(difference).max() <= 2


def test_a_contour_has_both_lines_where_the_mask_ends_and_none_at_the_border():
    scores = np.zeros((40, 60), np.float32)
    scores[:, 30:] = 1
    picture = painted(np.full((40, 60, 3), 119, np.uint8), scores)
    assert (picture[:, 29] == 255).all() and (picture[:, 30] == 0).all()
    assert not (picture[:, -1] == 0).all(axis=-1).any()
    for flat in (0, 1):
        plain_picture = painted(np.full((9, 9, 3), 119, np.uint8), np.full((9, 9), flat, np.float32))
        assert len(np.unique(plain_picture.reshape(-1, 3), axis=0)) == 1
    large = np.zeros((20, 4200), np.float32)
    large[:, 2100:] = 1
    assert (painted(np.zeros((20, 4200, 3), np.uint8), large)[10, 2094:2100] == 255).all()  # wider on a large photo


def test_bands_of_a_tall_photo_join():
    rng = np.random.default_rng(0)
    image, scores = rng.integers(0, 256, (300, 20, 3), dtype=np.uint8), np.full((300, 20), 0.3, np.float32)
    np.testing.assert_array_equal(painted(image, scores)[120:140], painted(image[120:140], scores[120:140]))


@pytest.mark.parametrize("shape", [(1, 1), (40, 70), (300, 500), (3000, 100), (33000, 40), (31500, 3), (3, 31500)])
def test_the_legend_stands_below_every_photo(shape):
    image, scores = np.full((*shape, 3), 200, np.uint8), np.full(shape, 0.2, np.float32)
    picture = overlay(image, scores)
    height, width = shape
    assert picture.dtype == np.uint8 and picture.shape[1] == max(width, LEAST_WIDTH) and picture.shape[0] > height
    np.testing.assert_array_equal(picture[:height, :width], painted(image, scores))
    assert (picture[height + 4 :] < 100).any(), "no ink below the photo"


def test_the_legend_shows_each_score_as_the_photo_does():
    strip = legend(412)  # 400 pixels of scores
    scores = np.linspace(0, 1, 400, dtype=np.float32)
    for column in (0, 100, 199, 399):
        for row, grey in ((6, 0), (19, 255)):
            shown = painted(np.full((4, 4, 3), grey, np.uint8), np.full((4, 4), scores[column], np.float32))[0, 0]
            np.testing.assert_array_equal(strip[row, 6 + column], shown)


@pytest.mark.parametrize("threshold", [0.02, 0.35, 0.5, 0.7, 0.99])
@pytest.mark.parametrize(
    "shape", [(9, LEAST_WIDTH), (9, 2000), (31500, 9), (9000, LEAST_WIDTH), (9000, 3 * LEAST_WIDTH)]
)
def test_the_legend_names_the_threshold_and_its_labels_keep_apart(threshold, shape, monkeypatch):
    labels = {}

    def write(strip, label, place, font, size, ink, thick, kind):
        labels[label] = place[0], place[0] + cv2.getTextSize(label, font, size, thick)[0][0]

    monkeypatch.setattr(cv2, "putText", write)
    strip = overlay(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32), threshold)[shape[0] :]
    width, scale = strip.shape[1], len(strip) // 42
    spans = sorted(labels.values())
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))
    assert spans[0][0] >= 0 and spans[-1][1] <= width
    first, last = labels[f"{threshold:g}: contour"]
    edge = 6 * scale
    assert first <= edge + threshold * (width - 2 * edge - 1) <= last + edge  # below its tick
    if width == 2000 and threshold == 0.5:  # on a narrow legend the letters decide, which differ between releases
        assert set(labels) == {"0.5: contour", "0", "1: tampered"}
