"""Real-camera forgeries: real photographs, cut into one another, through the lives that pictures have.

`forge_real` takes a piece of a photograph through a life (`mpc_lite.forgeries.lives`), puts into it a piece of another
one (splice), of itself (copy-move) or what inpainting makes up (removal), and takes the whole through the rest of the
life. Authentic pictures go the same way without the forgery, so nothing but the forgery tells the classes apart. All of
it is a pure function of (split, seed, index); ranges are those of ``real.yaml``.

A *null splice* is the control: host and donor come from one camera with the same tables (or from one photograph, where
the list names no camera), on the same grid and through the same life. Nothing but content and paste is to be found.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
import yaml

from mpc_lite.forgeries.lives import Life, choose, cut, draw_life, draw_whole, finish, live
from mpc_lite.forgeries.photographs import TURN, Photographs
from mpc_lite.forgeries.regions import draw_region, moved, paste, removed
from mpc_lite.forgeries.resample import without_ipp
from mpc_lite.forgeries.synth import Forgery

_STREAM = 13  # beside (split, seed, index): keeps these random numbers apart from those of simulated cameras
ATTEMPTS = 8  # at a forgery whose mask shows a change
LEAST_CHANGED = 0.5  # share of the mask's pixels that the forgery must change
GRID = 8  # pixels that a piece has in excess, so that its grid can be shifted


@lru_cache(maxsize=1)
def real_ranges() -> dict:
    """The ranges of each split, as committed: {"train": {…}, "validation": {…}, "test": {…}}."""
    return yaml.safe_load((resources.files("mpc_lite.forgeries") / "real.yaml").read_text(encoding="utf-8"))


@without_ipp()
def forge_real(
    split: str,
    seed: int,
    index: int,
    photographs: Photographs,
    size: int = 128,
    authentic_share: float = 0.5,
    kind: str | None = None,
    null: bool = False,
) -> Forgery:
    """Make real-camera forgery number `index` of the stream `seed`: a pure function of its arguments.

    Args:
        split: train, validation or test; names the ranges. photographs: that split's.
        size: height and width, pixels. kind: splice, copy_move, removal or authentic; None draws it. null: a splice
            without a trace.
    Returns:
        A `Forgery` whose `cameras` are the sources of host and donor.
    """
    key = [zlib.crc32(split.encode()), seed, index, _STREAM]
    rng = np.random.default_rng(key)
    random_kind = "authentic" if rng.random() < authentic_share else choose(rng, real_ranges()[split]["kinds"])
    kind = "splice" if null else (kind or random_kind)  # before the attempts, so that none of them changes the shares
    for attempt in range(ATTEMPTS):
        forgery, shown = _attempt(real_ranges()[split], index, photographs, size, kind, null, [*key, attempt])
        if shown:
            break
    return forgery


def _attempt(
    ranges: dict,
    index: int,
    photographs: Photographs,
    size: int,
    kind: str,
    null: bool,
    key: list[int],
) -> tuple[Forgery, bool]:
    """A forgery, and whether its mask shows what changed: a white wall on a white wall changes nothing."""
    rng = np.random.default_rng(key)
    whole = draw_whole(rng, ranges, photographs.tables, size)
    turn = index // TURN
    k = j = photographs.draw(rng)
    life = draw_life(rng, ranges, photographs.tables)
    if kind == "splice":
        alike = rng.random() < ranges["like_share"]
        j = photographs.sibling(k, rng) if null else photographs.other(k, rng, alike)
    windows = [photographs.window(i, turn, whole.size + GRID) for i in (k, j)]
    short = min(extent for window in windows for extent in window.shape[:2])
    # A picture that is made smaller at the end must not have been enlarged before.
    side = min(whole.size, max(size, short - GRID))
    if null:  # a scale that both have pixels for, and both on their file's grid
        least = (side + GRID) / short
        life = replace(life, scale=max(life.scale, least), aligned=True)

    def piece(window: np.ndarray, life: Life) -> np.ndarray:
        return live(cut(window, life, side + GRID, tuple(rng.random(2))), life, side, rng)

    host = piece(windows[0], life)
    mask, used, shown = np.zeros((side, side), np.uint8), (photographs.items[k].source,), True
    if kind != "authentic":
        area = ranges["removal_area" if kind == "removal" else "area"]
        follow = choose(rng, ranges["shapes"]) == "object"
        blend = "feathered" if kind == "removal" else choose(rng, ranges["blends"])
        donor = None
        if kind == "splice":
            donor = piece(windows[1], life if null else draw_life(rng, ranges, photographs.tables))
            used += (photographs.items[j].source,)
        elif kind == "copy_move" and rng.random() < ranges["elsewhere_share"]:
            shift = tuple(int(x) for x in rng.integers(0, GRID, 2))
            donor = piece(windows[0], replace(life, aligned=False, shift=shift))
        mask = draw_region(host if donor is None else donor, rng, area, follow)
        if donor is None:
            donor = moved(host, mask, rng) if kind == "copy_move" else removed(host, mask, rng)
        if k != j and any(_is_grey(window) for window in windows):  # colour would be all there is to see
            host, donor = _grey(host), _grey(donor)
        forged, mask = paste(host, donor, mask, blend, rng)
        inside = mask.astype(bool)
        shown = inside.any() and (forged[inside] != host[inside]).any(1).mean() > LEAST_CHANGED
        host = forged
    image, mask, data = finish(host, mask, whole, size, rng)
    return Forgery(np.ascontiguousarray(image), mask, kind, used, data), bool(
        shown and (mask.any() or kind == "authentic")
    )


def _is_grey(window: np.ndarray) -> bool:
    """Of every fourth pixel; the photograph, not its life: noise may have given a grey one colour."""
    some = window[::4, ::4]
    return bool((some[..., :1] == some[..., 1:]).all())


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
