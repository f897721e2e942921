"""MISD: images spliced from several others, with a mask for each spliced object, and authentic photographs.

    python data_scripts/misd.py Dataset --out sets

The masks of one image are united. MPC tests on 227 of its 300 splices and does not say on which.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from checked import read_tampered
from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, authentic, beside, match, stem
from make import main
from mpc_lite.errors import InputError

FOLDER = "Ground Truth Masks"


def united(masks: list[Path]):
    """Reads several mask files as one: tampered where any of them says so."""

    def read(_, rule: MaskRule) -> tuple[np.ndarray, str]:
        parts = [read_tampered(mask, rule) for mask in masks]
        if len({part.shape for part in parts}) > 1:
            sizes = ", ".join(f"{part.shape[1]}×{part.shape[0]}" for part in parts)
            raise InputError(f"its {len(parts)} masks have different sizes: {sizes}")
        return np.maximum.reduce(parts), f"union of {len(parts)} masks"

    return read


def tampered(tree: Tree):
    """`Ground Truth Masks/NAME/masks/*` belong to `Sp/NAME.*`; copies with one mask an image have `masks/NAME.*`."""
    of_image, images = defaultdict(list), tree.files("Sp")
    times, spelt = Counter(map(stem, images)), FOLDER.replace(" ", "?")  # with blanks, or with what copies have there
    below = set(tree.files(f"{spelt}/*/masks"))
    for mask in tree.files("*/masks"):
        if (name := stem(f"{mask.parent.parent.name}.png")) in times or mask in below:
            of_image[name].append(mask)
    if not of_image:
        yield from match(images, tree.files("masks") + tree.files(spelt))
    else:
        for image in images:
            masks, n = of_image.get(stem(image), []), times[stem(image)]
            if masks and n == 1:
                yield Pair(image, masks[0], read=united(masks))
            else:
                yield Pair(image, problem=f"{n} images are called {stem(image)}" if n > 1 else "no mask")
        left = (mask for name, masks in of_image.items() if name not in times for mask in masks)
        yield from (Pair(None, mask, problem="mask without image") for mask in left)


def pairs(tree: Tree):
    spliced = list(tampered(tree))
    yield from spliced
    yield from authentic(beside(tree, tree.files("Au"), spliced))


MISD = DataSet(
    name="misd",
    source="MISD",
    title="Multiple Image Splicing Dataset",
    owner="K. D. Kadam, S. Ahirrao, K. Kotecha (Symbiosis International University, Pune)",
    page="https://doi.org/10.5281/zenodo.5525829",
    terms="as stated on its page; its photographs were taken from CASIA: research only, not passed on",
    evidence=UNVERIFIED,
    seen="a copy of the owners' readme, which describes the folders; no file of it",
    layout=f"Sp/*.png, Au/*.jpg, and {FOLDER}/<name of the splice>/masks/* with a mask for each object",
    mask=MaskRule("above 127 (common knowledge, unverified), the masks of one image united"),
    counts={
        "tampered": {300: "its owners", 227: "MPC; its selection is not published"},
        "authentic": {618: "its owners"},
    },
    paper=227,
    pairs=pairs,
    remark="300 splices instead of the paper's 227 are to be expected: scores on them are not the paper's test.",
)

if __name__ == "__main__":
    sys.exit(main(MISD))
