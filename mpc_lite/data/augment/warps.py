"""The released augmentation, one operation a function: what moves pixels, in the picture and its mask alike.

Every function takes a picture (H,W,3) uint8 and its mask (H,W) uint8 (0, 1, 255) and returns new ones. Pictures are
interpolated linearly, masks take the nearest pixel, so no new value appears in a mask. Borders are mirrored without
the edge pixel: a forged region that is mirrored is forged in the mask too. The facts are those of albumentations
1.3.1, which the released code pins; the code is ours. Where ours differs, the function says so.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from mpc_lite.forgeries.resample import affine, remap

Pair = tuple[np.ndarray, np.ndarray]

MIRRORED = cv2.BORDER_REFLECT_101


def scale(image: np.ndarray, mask: np.ndarray, factor: float) -> Pair:
    """Sides times factor, fractions of a pixel cut off (but never below one pixel: ours); no filter before it."""
    height, width = (max(1, int(side * factor)) for side in mask.shape)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return small, cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)


def pad(image: np.ndarray, mask: np.ndarray, size: int) -> Pair:
    """Mirrored outwards until each side has at least `size` pixels; the odd pixel goes to the bottom and the right.

    A picture smaller than half of `size` is mirrored several times.
    """
    missing = [max(0, size - side) for side in mask.shape]
    (top, left), (bottom, right) = ([m // 2 for m in missing], [m - m // 2 for m in missing])
    if not any(missing):
        return image, mask
    return tuple(cv2.copyMakeBorder(p, top, bottom, left, right, MIRRORED) for p in (image, mask))


def turn(image: np.ndarray, mask: np.ndarray, kind: str, quarters: int = 1) -> Pair:
    """One of the symmetries of a rectangle.

    Args:
        kind: mirror (left and right change places), flip (top and bottom), transpose (rows and columns), or rotate by
            `quarters` quarter turns against the clock, of which 0 leaves the picture as it is.
    """
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mirror": np.fliplr,
        "flip": np.flipud,
        "rotate": lambda picture: np.rot90(picture, quarters),
        "transpose": lambda picture: picture.swapaxes(0, 1),
    }
    return np.ascontiguousarray(changes[kind](image)), np.ascontiguousarray(changes[kind](mask))


def affine_matrix(height: int, width: int, shifts: np.ndarray) -> np.ndarray:
    """The affine map of the elastic transform: three corners of a square move by `shifts`, the rest follows.

    Args:
        shifts: (3,2) pixels (x, y), of the corners c + s, c + (s, −s) and c − s; s is a third of the shorter side.
    Returns:
        (2,3) float64. The centre c is (H // 2, W // 2) *read as (x, y)*, as in albumentations: in a picture that is not
        square the corners lie about the wrong centre, and far from them the shifts grow.
    """
    s = min(height, width) // 3
    corners = np.float32([height // 2, width // 2]) + np.float32([[s, s], [s, -s], [-s, -s]])
    return cv2.getAffineTransform(corners, corners + np.float32(shifts))


def elastic(
    image: np.ndarray, mask: np.ndarray, shifts: np.ndarray, noise: np.ndarray, alpha: float = 120, sigma: float = 6
) -> Pair:
    """An affine map by `affine_matrix`, then a smooth random field: out(x, y) = in(x + dx, y + dy).

    Args:
        shifts: (3,2) pixels; the released code leaves them at U(−50, 50), whatever the size of the picture.
        noise: (2,H,W) float32, U(−1, 1): dx and dy are alpha times the noise after a Gaussian of `sigma` pixels. At 120
            and 6 they have a standard deviation of 3.3 pixels: the affine map is the stronger part by far.
    Source: Simard, Steinkraus and Platt (2003), as in albumentations' ElasticTransform.
    """
    height, width = mask.shape
    matrix = affine_matrix(height, width, shifts)
    reach = 2 * int(4 * sigma + 0.5) + 1
    # In float64: sums of float32 would be rounded otherwise on processors with and without AVX2.
    blurred = (cv2.GaussianBlur(n.astype(float), (reach, reach), sigma, borderType=cv2.BORDER_REFLECT) for n in noise)
    field = [(alpha * n).astype(np.float32) for n in blurred]
    x, y = np.arange(width, dtype=np.float32) + field[0], np.arange(height, dtype=np.float32)[:, None] + field[1]

    moved = affine(image, matrix), affine(mask, matrix, linear=False)
    return remap(moved[0], x, y), remap(moved[1], x, y, linear=False)


def grid_line(length: int, stretches: np.ndarray) -> np.ndarray:
    """Where the pixels of a stretched axis come from: (length,) float32 positions.

    The axis is cut into len(stretches) − 1 cells of equal whole length and a remainder; cell k reads `stretches[k]`
    times its length, evenly spaced with both of its ends, and the remainder reads up to `length`. Ours differs below 25
    pixels only, where albumentations leaves pixels of a long remainder at 0.
    """
    cells = len(stretches) - 1
    step = length // cells
    ends = np.concatenate([[0.0], np.cumsum(step * np.asarray(stretches[:cells])), [length]])
    counts = [step] * cells + [length - step * cells]
    return np.concatenate([np.linspace(ends[k], ends[k + 1], n) for k, n in enumerate(counts)]).astype(np.float32)


def grid_distortion(image: np.ndarray, mask: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> Pair:
    """A grid whose columns and rows are stretched or squeezed by `grid_line`.

    Args:
        columns, rows: (6,) factors of five cells and the remainder, whose own is not used; the released code leaves
            them at U(0.7, 1.3).
    """
    height, width = mask.shape
    x, y = np.meshgrid(grid_line(width, columns), grid_line(height, rows))
    return remap(image, x, y), remap(mask, x, y, linear=False)
