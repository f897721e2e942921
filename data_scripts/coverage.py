"""COVERAGE: 100 copy-moves with their originals; nine of its masks do not have their image's size.

    python data_scripts/coverage.py COVERAGE --out sets

Masks 55, 56 and 95 fit when they are resized. The other six (41 48 57 58 59 61) are crops: where a crop lies is found
by laying it over the difference between the tampered image and its original. If no place, or more than one, explains
the difference, the pair is listed as bad.
"""

import dataclasses
import re
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from checked import fitted, read_tampered
from common import SEEN, DataSet, MaskRule, Pair, Reader, Tree, authentic, match, stem
from make import main
from mpc_lite.errors import InputError
from mpc_lite.images import read_image, read_mask_values

RESIZED = ("55", "56", "95")
CROPPED = ("41", "48", "57", "58", "59", "61")
CHANGED = 16  # a pixel differs from the original when a channel does by more than this
OVERLAP = 0.5  # intersection over union with the difference that a crop must reach
TIE, NEAR = 0.98, 2  # places that explain this share of the best one's pixels must lie within so many pixels of it


def locate(mask: np.ndarray, changed: np.ndarray) -> tuple[int, int, float]:
    """Where a crop of a mask, (h,w) 0/1, lies in the image whose changed pixels are (H,W) 0/1: x, y, IoU there.

    The crop may exceed the image in height or width; then it sticks out on both sides at most. Raises InputError if its
    best place explains the change badly (IoU below 0.5) or if places apart from each other explain it alike.
    """
    (h, w), (height, width) = mask.shape, changed.shape
    out_y, out_x = max(0, h - height), max(0, w - width)
    field = cv2.copyMakeBorder(changed, out_y, out_y, out_x, out_x, cv2.BORDER_CONSTANT, value=0)
    common = np.rint(cv2.matchTemplate(field.astype(np.float32), mask.astype(np.float32), cv2.TM_CCORR))
    best = common.max()
    y, x = np.unravel_index(common.argmax(), common.shape)
    overlap = float(best / max(mask.sum() + changed.sum() - best, 1))
    if overlap < OVERLAP:
        raise InputError(
            f"{w}×{h}, image {width}×{height}: a crop that could not be located (its best place covers the difference "
            f"to the original with IoU {overlap:.2f}, expected {OVERLAP} at least)"
        )
    ties = np.argwhere(common >= TIE * best)
    if np.abs(ties - (y, x)).max() > NEAR:
        raise InputError(
            f"{w}×{h}, image {width}×{height}: a crop that could not be located ({len(ties)} places explain the "
            "difference to the original alike)"
        )
    return int(x) - out_x, int(y) - out_y, overlap


def resized(mask_file: Path) -> Reader:
    """Reads a mask of another size by nearest resize."""

    def read(pixels, rule):
        return fitted(read_tampered(mask_file, rule), pixels.shape[:2])

    return read


def placed(mask_file: Path, original: Path | None) -> Reader:
    """Reads a mask that is a crop and puts it where the tampered image differs from its original."""

    def read(pixels, rule):
        mask = read_tampered(mask_file, rule)
        (h, w), (height, width) = mask.shape, pixels.shape[:2]
        if original is None:
            raise InputError(f"{w}×{h}, image {width}×{height}: a crop that could not be located (no original)")
        before = read_image(original)
        if before.shape != pixels.shape:
            sizes = f"{before.shape[1]}×{before.shape[0]}"
            raise InputError(f"{w}×{h}, image {width}×{height}: a crop that could not be located (original {sizes})")
        changed = (cv2.absdiff(pixels, before).max(axis=2) > CHANGED).astype(np.uint8)
        x, y, overlap = locate(mask, cv2.medianBlur(changed, 5))
        whole = np.zeros((height, width), np.uint8)
        top, left = max(0, y), max(0, x)
        part = mask[top - y : height - y, left - x : width - x]
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        return whole, f"mask {w}×{h} is a crop, located at x={x}, y={y} (IoU {overlap:.2f} with the difference)"

    return read


def pairs(tree: Tree):
    """`image/<n>t.tif` with `mask/<n>forged.tif`, `image/<n>.tif` being its original."""
    images = tree.files("image")
    of_number = defaultdict(list)
    for path in images:
        if re.fullmatch(r"\d+", stem(path)):
            of_number[stem(path)].append(path)
    originals = {number: paths[0] for number, paths in of_number.items() if len(paths) == 1}
    tampered = [path for path in images if re.fullmatch(r"\d+t", stem(path))]
    masks = tree.files("mask", name="*forged.*")
    for pair in match(tampered, masks, mask_key=lambda path: stem(path).removesuffix("forged") + "t"):
        yield _mended(pair, originals)
    yield from authentic(originals.values())
    for number, paths in of_number.items():
        if len(paths) > 1:
            yield from (Pair(path, label=0, problem=f"{len(paths)} originals are called {number}") for path in paths)


def _mended(pair: Pair, originals: dict[str, Path]) -> Pair:
    """The nine known pairs get a reader of their own, if their mask has indeed another size (mended copies exist)."""
    number = stem(pair.image).removesuffix("t") if pair.image and pair.mask else ""
    if number not in RESIZED + CROPPED or _fits(pair):
        return pair
    if number in RESIZED:
        return dataclasses.replace(pair, read=resized(pair.mask))
    return dataclasses.replace(pair, read=placed(pair.mask, originals.get(number)))


def _fits(pair: Pair) -> bool:
    try:
        return read_image(pair.image).shape[:2] == read_mask_values(pair.mask).shape[:2]
    except InputError:
        return True  # the check of the pair says why it cannot be read


COVERAGE = DataSet(
    name="coverage",
    source="Coverage",
    title="COVERAGE: Copy-Move Forgery Database with Similar but Genuine Objects",
    owner="B. Wen, Y. Zhu, R. Subramanian, T.-T. Ng, X. Shen, S. Winkler",
    page="https://github.com/wenbihan/coverage",
    terms="subject to copyright, non-commercial research only; credit Wen et al. 2016; not to be passed on",
    evidence=SEEN,
    seen="the complete set; the rule for masks also from photoholmes. The placing of the six crops was tried on "
    "generated images only",
    layout="image/<n>.tif, image/<n>t.tif, mask/<n>forged.tif (copy and paste masks are not used)",
    mask=MaskRule("mask/<n>forged.tif above 125", threshold=125),
    counts={"tampered": {100: "its owners and all papers"}, "authentic": {100: "its owners"}},
    paper=100,
    pairs=pairs,
    remark="Protocol 2 splits it 75 to 25 by PSCC-Net's list of the 25: from_list.py makes both manifests.",
)

if __name__ == "__main__":
    sys.exit(main(COVERAGE))
