"""CocoGlide: 512 COCO images, each with one object generated anew by the diffusion model GLIDE, and their originals.

    python data_scripts/cocoglide.py CocoGlide.zip --out sets

A mask is called as the original (`dining table_114871_mask.png`), the forgery is not
(`glide_inpainting_val2017_114871_up.png`): they are paired by the number that all three share.
"""

import re
import sys
from pathlib import Path

from common import UNVERIFIED, DataSet, MaskRule, Tree, authentic, beside, match
from make import main


def number(path: Path) -> str:
    """The COCO number in the file's name."""
    digits = re.search(r"_(\d+)(?:_up|_mask)?$", path.stem)
    return str(int(digits[1])) if digits else path.stem


def pairs(tree: Tree):
    tampered = match(tree.files("fake"), tree.files("mask"), number, number)
    yield from tampered
    yield from authentic(beside(tree, tree.files("real"), tampered))


COCOGLIDE = DataSet(
    name="cocoglide",
    source="CoCoGlide",
    title="CocoGlide",
    owner="GRIP, University of Naples Federico II (F. Guillaro et al., TruFor)",
    page="https://github.com/grip-unina/TruFor",
    terms="research only, as its page says; made from MS COCO validation images, whose photographers' terms hold",
    evidence=UNVERIFIED,
    seen="TruFor's test lists, which name every file; no file of it",
    layout="fake/glide_inpainting_val2017_<number>_up.png, real/<class>_<number>.png and "
    "mask/<class>_<number>_mask.png",
    mask=MaskRule("above 127"),
    counts={"tampered": {512: "its owners, MPC"}, "authentic": {512: "its owners"}},
    paper=512,
    pairs=pairs,
)

if __name__ == "__main__":
    sys.exit(main(COCOGLIDE))
