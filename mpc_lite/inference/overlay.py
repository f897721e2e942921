"""A photograph with its score map over it, such that the map is read on a photograph of any colour."""

from __future__ import annotations

import cv2
import numpy as np

THRESHOLD = 0.5  # where the contour runs unless another is asked for: the mask's
STRENGTH = 0.6  # of the map's colours over the grey photograph
LEAST_WIDTH = 240  # pixels: the legend has to stand below a thumbnail too
_BAND = 128  # rows blended at a time
_INK, _PAPER = 0, 255


def overlay(image: np.ndarray, score_map: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """`painted`, with a legend below: (H,W,3) uint8 RGB, (H,W) in [0,1] -> (H + h, max(W, 240), 3) uint8 RGB."""
    height, width = score_map.shape
    wide = max(width, LEAST_WIDTH)
    # As large as the photo asks for, as far as its labels have room: a strip of 200 × 30 000 pixels has little.
    strip = legend(wide, max(1, min(round(max(height, width) / 1500), wide // LEAST_WIDTH)), threshold)
    result = np.full((height + len(strip), strip.shape[1], 3), _PAPER, np.uint8)
    _paint(result[:height, :width], image, score_map, threshold)
    result[height:] = strip
    return result


def painted(image: np.ndarray, score_map: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """image (H,W,3) uint8 RGB, score_map (H,W) in [0,1] -> the photo under its map with the mask's contour, same size.

    The photo turns grey and the map alone has colours, from black-blue (0) to light yellow (1), in an order that is
    seen without colour too: over equal ground a higher score is never darker than a lower one. The contour is a black
    line inside the mask and a white one beside it: of the two, one stands out by 4.58 : 1 or more from any colour. (In
    WCAG's contrast a ground of luminance L has (L + 0.05) : 0.05 to black and 1.05 : (L + 0.05) to white; their product
    is 21.) It follows the mask's edge, not the border of the photo.
    """
    result = np.empty((*score_map.shape, 3), np.uint8)
    _paint(result, image, score_map, threshold)
    return result


def _paint(picture: np.ndarray, image: np.ndarray, score_map: np.ndarray, threshold: float) -> None:
    """`painted` into a picture's own pixels, (H,W,3) uint8: large ones have no room for a second."""
    reach = max(1, round(max(score_map.shape) / 700))
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1,) * 2)
    for top in range(0, len(picture), _BAND):
        rows = slice(top, top + _BAND)
        grey = cv2.cvtColor(np.ascontiguousarray(image[rows]), cv2.COLOR_RGB2GRAY)
        picture[rows] = blend(grey, score_map[rows])
        # Where the mask ends: black on its last pixels, white on the first ones beyond. Both look `reach` rows around.
        first = max(0, top - reach)
        inside = (score_map[first : top + _BAND + reach] > threshold).view(np.uint8)
        own = slice(top - first, top - first + len(grey))
        picture[rows][(cv2.dilate(inside, square) > inside)[own]] = _PAPER
        picture[rows][(cv2.erode(inside, square) < inside)[own]] = _INK


def blend(grey: np.ndarray, score_map: np.ndarray) -> np.ndarray:
    """grey (h,w) uint8 below the colours of scores (h,w) in [0,1] -> (h,w,3) uint8 RGB."""
    level = np.round(np.clip(score_map, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(colours, STRENGTH, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), 1 - STRENGTH, 0)


def legend(width: int, scale: int = 1, threshold: float = THRESHOLD) -> np.ndarray:
    """(h,width,3) uint8 RGB: the colour of every score (left to right) over black to white ground (top to bottom).

    scale: of letters and edges; they need `LEAST_WIDTH` pixels of width each time.
    """
    ramp, text, edge = 14 * scale, 16 * scale, 6 * scale
    scores = np.linspace(0, 1, width - 2 * edge, dtype=np.float32)
    ground = np.linspace(0, 255, ramp).round().astype(np.uint8)
    strip = np.full((2 * edge + ramp + text, width, 3), _PAPER, np.uint8)
    strip[edge : edge + ramp, edge:-edge] = blend(
        np.repeat(ground[:, None], len(scores), axis=1), np.repeat(scores[None], ramp, axis=0)
    )
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * scale
    taken: list[tuple[int, int]] = []  # columns of the labels there are: the contour's goes before those of the ends
    for score, label in ((threshold, f"{threshold:g}: contour"), (0.0, "0"), (1.0, "1: tampered")):
        wide = cv2.getTextSize(label, font, size, scale)[0][0]
        at = edge + score * (len(scores) - 1)
        left = int(np.clip(at - wide / 2, edge, width - edge - wide))
        if any(left <= right and first <= left + wide for first, right in taken):
            continue
        taken.append((left, left + wide))
        cv2.line(strip, (round(at), edge + ramp), (round(at), edge + ramp + 3 * scale), (_INK,) * 3, scale)
        base = (left, edge + ramp + text)
        cv2.putText(strip, label, base, font, size, (_INK,) * 3, scale, cv2.LINE_AA)
    return strip
