"""Regions and pastes of real-camera forgeries: where a picture is changed, and how the edge is hidden.

A model may learn that a pasted outline is smooth, or that it cuts through things. So most regions follow the donor's
own edges: watershed superpixels whose colour is like that of a seed, taken until the area is met. And most pastes are
softened: feathered, matched in colour, or solved for equal gradients (Pérez, Gangnet and Blake, 2003).
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from mpc_lite.forgeries.synth import region, softened
from mpc_lite.images import TAMPERED_ABOVE

CELL = 8  # distance of the watershed's seeds, pixels of the picture at half its size


def object_region(image: np.ndarray, rng: np.random.Generator, area: tuple[float, float]) -> np.ndarray:
    """A region along the edges of `image` (S,S,3) uint8: (S,S) uint8 0/1, about `area` of it (log-uniform).

    Superpixels are ranked by their distance in colour and place from a random one; those that hang together with it
    count. The area is met up to one superpixel, or less is taken where the parts do not hang together.
    """
    size = image.shape[0]
    half = size // 2
    small = np.ascontiguousarray(cv2.resize(image, (half, half), interpolation=cv2.INTER_AREA))
    labels, count = _superpixels(small, rng)
    flat = labels.ravel()
    sizes = np.maximum(np.bincount(flat, minlength=count), 1)
    rows, columns = np.divmod(np.arange(half * half), half)
    values = [*small.reshape(-1, 3).T, rows, columns]
    features = np.stack([np.bincount(flat, weights=v, minlength=count) / sizes for v in values], 1)
    features[:, :3] /= features[:, :3].std() + 4
    features[:, 3:] /= half * rng.uniform(0.12, 0.4)
    centre = rng.uniform(0.2, 0.8, 2) * half
    seed = int(labels[int(centre[0]), int(centre[1])])
    order = np.argsort(((features - features[seed]) ** 2).sum(1), kind="stable")
    wanted = np.exp(rng.uniform(*np.log(area))) * half * half
    taken = order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), wanted)))]
    chosen = np.zeros(count, np.uint8)
    chosen[taken] = 1
    inside = chosen[labels]
    _, parts = cv2.connectedComponents(inside, connectivity=4)
    inside = (parts == parts[int(centre[0]), int(centre[1])]).astype(np.uint8)
    soft = cv2.resize(softened(inside, 0.8), (size, size), interpolation=cv2.INTER_LINEAR)
    mask = (soft > 0.5).astype(np.uint8)
    return mask if mask.any() else plain_region(size, rng, area)


def _superpixels(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Labels (H,W) int64 from 0 and their number: a watershed from jittered seeds on a grid."""
    height, width = image.shape[:2]
    rows, columns = (grid.ravel() for grid in np.mgrid[CELL // 2 : height : CELL, CELL // 2 : width : CELL])
    jitter = rng.integers(-CELL // 2 + 1, CELL // 2, (2, len(rows)))
    seeds = np.zeros((height, width), np.int32)
    seeds[np.clip(rows + jitter[0], 1, height - 2), np.clip(columns + jitter[1], 1, width - 2)] = 1 + np.arange(
        len(rows)
    )
    labels = cv2.watershed(image, seeds)
    # Lines between basins (-1), and the frame that OpenCV leaves unlabelled, belong to the basin beside them.
    grown = cv2.dilate(np.maximum(labels, 0).astype(np.float32), np.ones((3, 3), np.uint8))
    labels = np.where(labels > 0, labels, grown.astype(np.int32))
    return np.maximum(labels - 1, 0).astype(np.int64), len(rows)


def draw_region(donor: np.ndarray, rng: np.random.Generator, area: tuple[float, float], follow: bool) -> np.ndarray:
    """(S,S) uint8 0/1: along the donor's edges, or an ellipse, polygon or blob."""
    return object_region(donor, rng, area) if follow else plain_region(donor.shape[0], rng, area)


def plain_region(size: int, rng: np.random.Generator, area: tuple[float, float]) -> np.ndarray:
    """`synth.region`, drawn at half the size and enlarged with a smooth outline: (size,size) uint8 0/1."""
    small = region(rng, (size + 1) // 2, area) * np.uint8(255)
    return (cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC) > TAMPERED_ABOVE).astype(np.uint8)


def paste(
    host: np.ndarray, donor: np.ndarray, mask: np.ndarray, blend: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Show `donor` (S,S,3) under `mask` (S,S) in `host`; returns the picture and the mask of what was pasted.

    ``hard`` copies the pixels; ``feathered`` mixes over 0.5–2 pixels (the mask stays the region of more than half);
    ``matched`` first brings mean and contrast of the region near those of what it covers, then feathers;
    ``poisson`` keeps the donor's gradients and the host's values at the border (cv2.seamlessClone).
    """
    if blend == "poisson":
        return _poisson(host, donor, mask, rng)
    if blend == "hard":
        return np.where(mask[..., None] == 1, donor, host), mask
    strength, spread = float(rng.uniform(0.5, 1)), float(rng.uniform(0.5, 2.0))
    out, (top, bottom, left, right) = host.copy(), bounding_box(mask)
    # Beyond four standard deviations nothing is mixed, so the rest of the picture need not be touched.
    near = np.s_[max(0, top - 8) : bottom + 8, max(0, left - 8) : right + 8]
    host, donor, weight = host[near], donor[near], mask[near]
    if blend == "matched":
        donor = _matched(host, donor, weight, strength)
    weight = softened(weight, spread)[..., None]
    out[near] = np.round(weight * donor + (1 - weight) * host).astype(np.uint8)
    return out, mask


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First row, row after the last, first column, column after the last of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _matched(host: np.ndarray, donor: np.ndarray, mask: np.ndarray, strength: float) -> np.ndarray:
    inside = mask.astype(bool)
    (mean, spread), (own, own_spread) = (
        (x.mean(0, dtype=np.float32), x.std(0, dtype=np.float32)) for x in (host[inside], donor[inside])
    )
    gain = 1 + strength * (np.clip(spread / (own_spread + 1), 0.6, 1.6) - 1)
    return np.clip(np.round((donor - own) * gain + own + strength * (mean - own)), 0, 255).astype(np.uint8)


def _poisson(
    host: np.ndarray, donor: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """seamlessClone centres the mask's bounding box on a point, and needs a frame around it that stays."""
    mask = mask.copy()
    mask[:2] = mask[-2:] = 0
    mask[:, :2] = mask[:, -2:] = 0
    if mask.sum() < 64:
        return np.where(mask[..., None] == 1, donor, host), mask
    top, bottom, left, right = bounding_box(mask)
    centre = (left + (right - left) // 2, top + (bottom - top) // 2)
    how = cv2.MIXED_CLONE if rng.random() < 0.25 else cv2.NORMAL_CLONE
    solved = cv2.seamlessClone(donor, host, mask * np.uint8(255), centre, how)
    return np.where(mask[..., None] == 1, solved, host), mask


def moved(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, scale: tuple[float, float] = (0.75, 1.33)
) -> np.ndarray:
    """Another place of `image` brought under `mask`: shifted, half of the time resized, half of the time mirrored.

    The piece is the region's bounding box, or what becomes it when resized; Pillow's bicubic filter resizes it.
    """
    size = image.shape[0]
    top, bottom, left, right = bounding_box(mask)
    height, width = bottom - top, right - left
    factor = float(np.exp(rng.uniform(*np.log(scale)))) if rng.random() < 0.5 else 1.0
    tall, wide = (min(size, max(4, round(extent / factor))) for extent in (height, width))
    options = rng.integers(0, [size - tall + 1, size - wide + 1], (8, 2))
    # Of eight places the one farthest from the region: a piece on top of itself would change nothing.
    away = np.abs(options - [top, left]).max(1)
    above, beside = options[int(np.argmax(away))]
    piece = image[above : above + tall, beside : beside + wide]
    if (tall, wide) != (height, width):
        piece = np.asarray(Image.fromarray(piece).resize((width, height), Image.Resampling.BICUBIC))
    if rng.random() < 0.5 or away.max() < 4:
        piece = piece[:, ::-1]
    out = image.copy()
    out[top : top + height, left : left + width] = piece
    return out


def removed(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The region filled from around it by OpenCV's inpainting (Telea 2004, or Navier-Stokes, Bertalmio et al. 2001)."""
    how = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
    return cv2.inpaint(image, cv2.dilate(mask, np.ones((3, 3), np.uint8)), 3, how)
