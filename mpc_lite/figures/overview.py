"""The method on one picture, examples of a detector at work, and the logo: what the book's front page shows.

The overview is an SVG text of 360 units across, so that on a phone a unit is about a pixel; its ground is white in
every theme, as that of all figures.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image

from mpc_lite.contrast.views import label_pyramid
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREY, ORANGE
from mpc_lite.images import encode_jpeg
from mpc_lite.inference.overlay import overlay, painted
from mpc_lite.network.hrformer import STRIDES

WIDTH, HEIGHT = 360, 640
INK, PAPER, LINE = "#222", "#fff", "#999"
_GAP = 12  # pixels between the two pictures of an example
_ARROW = f'<path d="M0 0 L8 4 L0 8 Z" fill="{GREY}"/>'


def overview(image: np.ndarray, mask: np.ndarray, score_map: np.ndarray, source: str, alt: str) -> str:
    """An SVG text: photograph → maps → pools → contrast → head → score map.

    Args:
        image: (H,W,3) uint8 RGB. mask: (H,W), 1 = tampered; its label pyramid colours the cells of the maps.
        score_map: (H,W) in [0,1], drawn over the photograph as `mpc-lite predict` does. source: see `check_licence`.
        alt: what a reader who does not see it is told.
    Raises:
        InputError: a source whose pictures may not be published.
    """
    check_licence([source])
    body = [_photograph(image), _maps(mask), _pools(), _circle(), _head(mask), _result(image, score_map)]
    arrows = [
        _arrow("M112 92 H136"),
        _arrow("M250 160 V192"),
        _arrow("M196 296 H216"),
        _arrow("M180 404 V436"),
        _arrow("M196 540 H222"),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="12.5" fill="{INK}">\n'
        f"<title>{html.escape(alt)}</title>\n"
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto">{_ARROW}</marker></defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{PAPER}"/>'
    )
    return "\n".join([head, *body, *arrows, "</svg>\n"])


def logo(dark: bool) -> str:
    """An SVG text: five by five pixels, of which a few, of another colour, do not sit where they should."""
    home, foreign = ("#56B4E9", "#E69F00") if dark else (BLUE, ORANGE)
    cells = []
    for row, column in np.ndindex(5, 5):
        moved = (row, column) in ((1, 2), (1, 3), (2, 2), (2, 3), (3, 3))
        x, y = 12 * column + 4 + 3 * moved, 12 * row + 4 - 2 * moved
        cells.append(f'<rect x="{x}" y="{y}" width="10" height="10" rx="2" fill="{foreign if moved else home}"/>')
    return "\n".join(['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 66 66">', *cells, "</svg>\n"])


def example(image: np.ndarray, mask: np.ndarray, score_map: np.ndarray, source: str) -> np.ndarray:
    """Photograph with the border of the truth, if any, beside its map as `inference.overlay` draws it.

    image (H,W,3) uint8 RGB, mask and score_map (H,W) -> (H + legend, 2 W + gap, 3) uint8 RGB. Raises InputError for a
    source whose pictures may not be published.
    """
    check_licence([source])
    right = overlay(image, score_map)
    left = np.full((len(right), image.shape[1] + _GAP, 3), 255, np.uint8)
    left[: len(image), : image.shape[1]] = bordered(image, mask)
    return np.hstack([left, right])


def bordered(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of (H,W,3) uint8 with the border of the regions of (H,W) that are 1: white within black."""
    result = np.ascontiguousarray(image.copy())
    outlines, _ = cv2.findContours((mask == 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.drawContours(result, outlines, -1, colour, width)
    return result


# -------------------------------------------------------------------------------------------------------- the panels


def _photograph(image: np.ndarray) -> str:
    return _text(8, 22, "1 Photograph", bold=True) + _jpeg(image, 8, 32, 104) + _text(8, 154, "pixels, nothing else")


def _maps(mask: np.ndarray) -> str:
    """Four squares whose cells have the class that the label pyramid gives them."""
    parts, left = [_text(140, 22, "2 Maps", bold=True)], 140
    for labels, side in zip(_pyramid(mask), (84, 58, 38, 24), strict=True):
        parts.append(_cells(labels, left, 136 - side, side))
        left += side + 4
    return "".join(parts) + _text(140, 42, "four levels, a vector in each cell")


def _pools() -> str:
    """Stage 1's frame and, in its left half, one anchor and the three sets of pixels that it meets."""
    parts = [
        f'<rect x="8" y="196" width="344" height="206" rx="6" fill="none" stroke="{LINE}"/>',
        _text(18, 216, "Stage 1", bold=True) + _text(66, 216, "trains the maps; the mask tells the class"),
        _text(18, 242, "3 Pools", bold=True) + _authentic(82, 238, anchor=True) + _text(95, 242, "an anchor meets"),
    ]
    names = ("the same map", "coarser maps", "a second pass")
    for row, name in enumerate(names):
        y = 264 + 44 * row
        parts += [_text(18, y, name), _dots(24, y + 15, 7, tampered=(1, 4, 5))]
    return "".join(parts)


def _circle() -> str:
    """Unit vectors on a circle: authentic ones drawn together, tampered ones pushed away from them."""
    x, y, r = 284, 308, 50
    parts = [
        _text(220, 242, "4 Contrast", bold=True),
        f'<circle cx="{x}" cy="{y}" r="{r}" fill="none" stroke="{LINE}"/>',
    ]
    for angle in (20, 48, 62, 92):
        parts.append(_authentic(*_on(x, y, r, angle), anchor=angle == 62))
    for angle in (168, 205, 236, 300):
        parts.append(_tampered(*_on(x, y, r, angle)))
    for start, end in ((92, 72), (20, 40)):  # together
        parts.append(_bow(x, y, r - 11, start, end, BLUE))
    for start, end in ((150, 178), (318, 290)):  # away
        parts.append(_bow(x, y, r + 11, start, end, ORANGE))
    legend = _authentic(24, 390) + _text(33, 394, "authentic") + _tampered(98, 390) + _text(107, 394, "tampered")
    return "".join(parts) + legend + _text(190, 394, "blue together, orange away")


def _head(mask: np.ndarray) -> str:
    """Stage 2's frame and, in its left half, the four maps brought to one size and read by the head."""
    parts = [
        f'<rect x="8" y="440" width="344" height="192" rx="6" fill="none" stroke="{LINE}"/>',
        _text(18, 460, "Stage 2", bold=True) + _text(66, 460, "trains a small head on the maps"),
        _text(18, 486, "5 Head", bold=True),
    ]
    for at, labels in reversed(list(enumerate(_pyramid(mask)))):
        parts.append(_cells(labels, 20 + 9 * at, 502 + 9 * (3 - at), 48))
    parts += [
        _arrow("M98 540 H116"),
        f'<rect x="118" y="520" width="74" height="40" rx="4" fill="#eee" stroke="{LINE}"/>',
        _text(155, 545, "1×1 conv.", middle=True),
        _text(18, 604, "one number for each pixel"),
    ]
    return "".join(parts)


def _result(image: np.ndarray, score_map: np.ndarray) -> str:
    title = _text(228, 486, "6 Score map", bold=True)
    return title + _jpeg(painted(image, score_map), 228, 496, 112) + _text(228, 624, "yellow: tampered")


# --------------------------------------------------------------------------------------------------------- the parts


def _pyramid(mask: np.ndarray) -> list[np.ndarray]:
    """The classes of the cells of the four maps, (h,w) uint8 each, by the rule that training uses."""
    maps = [torch.empty(1, 0, len(mask) // stride, mask.shape[1] // stride) for stride in STRIDES]
    return [x[0].numpy() for x in label_pyramid(torch.from_numpy(mask)[None], maps)]


def _text(x: float, y: float, words: str, bold: bool = False, middle: bool = False) -> str:
    weight, anchor = ' font-weight="bold"' if bold else "", ' text-anchor="middle"' if middle else ""
    return f'<text x="{x}" y="{y}"{weight}{anchor}>{html.escape(words)}</text>'


def _arrow(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#tip)"/>'


def _authentic(x: float, y: float, anchor: bool = False) -> str:
    ring = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7.5" fill="none" stroke="{INK}" stroke-width="1.5"/>' if anchor else ""
    )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{BLUE}"/>{ring}'


def _tampered(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y - 5.5:.1f} l5.5 9.5 h-11 Z" fill="{ORANGE}"/>'


def _dots(x: float, y: float, n: int, tampered: Sequence[int]) -> str:
    """A pool as a row of n cells."""
    return "".join(_tampered(x + 22 * k, y) if k in tampered else _authentic(x + 22 * k, y) for k in range(n))


def _on(x: float, y: float, r: float, degrees: float) -> tuple[float, float]:
    return x + r * np.cos(np.radians(degrees)), y - r * np.sin(np.radians(degrees))


def _bow(x: float, y: float, r: float, start: float, end: float, colour: str) -> str:
    """A piece of a circle round (x, y) with a head at its end."""
    (x0, y0), (x1, y1) = _on(x, y, r, start), _on(x, y, r, end)
    turn = np.radians(end + (90 if end > start else -90))
    tip = [(x1 + 6 * np.cos(turn + a), y1 - 6 * np.sin(turn + a)) for a in (0, 2.3, -2.3)]
    head = " ".join(f"{a:.1f},{b:.1f}" for a, b in tip)
    path = f"M{x0:.1f} {y0:.1f} A{r} {r} 0 0 {int(end < start)} {x1:.1f} {y1:.1f}"
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/><polygon points="{head}" fill="{colour}"/>'
    )


def _cells(labels: np.ndarray, x: float, y: float, side: float) -> str:
    """A map as a square whose cells are blue (authentic) or orange (tampered)."""
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (BLUE, ORANGE)], np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(colours[labels]).save(file, "PNG")
        picture = _picture("png", file.getvalue(), x, y, side, ' style="image-rendering:pixelated"')
    return picture + f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="none" stroke="{PAPER}"/>'


def _jpeg(image: np.ndarray, x: float, y: float, side: float) -> str:
    return _picture("jpeg", encode_jpeg(image, 88, 0), x, y, side)


def _picture(kind: str, data: bytes, x: float, y: float, side: float, more: str = "") -> str:
    code = base64.b64encode(data).decode()
    return f'<image href="data:image/{kind};base64,{code}" x="{x}" y="{y}" width="{side}" height="{side}"{more}/>'
