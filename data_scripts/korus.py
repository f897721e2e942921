"""Korus: the Realistic Tampering Dataset, 220 forgeries made by hand, of four cameras, and their 220 originals.

    python data_scripts/korus.py data-images.zip --out sets

Both levels of its maps count as tampered, as its readme advises for standard evaluation: white (changed content) and
grey (collateral damage). `--threshold 200` takes white alone.
"""

import sys

from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, authentic, match
from make import main

CAMERAS = ("Canon_60D", "Nikon_D90", "Nikon_D7000", "Sony_A57")


def pairs(tree: Tree) -> list[Pair]:
    """Camera by camera: file names may repeat among them."""
    all_pairs = []
    for camera in CAMERAS:
        all_pairs += match(tree.files(f"{camera}/tampered-realistic"), tree.files(f"{camera}/ground-truth"))
        all_pairs += authentic(tree.files(f"{camera}/pristine"))
    return all_pairs


KORUS = DataSet(
    name="korus",
    source="Korus",
    title="Realistic Tampering Dataset 2.0",
    owner="P. Korus (AGH University of Science and Technology, Shenzhen University), J. Huang",
    page="http://pkorus.pl/downloads/dataset-realistic-tampering",
    terms="educational and research purposes only; cite Korus and Huang, TIFS 2017 and WIFS 2016",
    evidence=UNVERIFIED,
    seen="the owner's readme, and the loader of photoholmes; no file of it",
    layout="a folder for each camera (" + ", ".join(CAMERAS) + ") with tampered-realistic/*.TIF, pristine/*.TIF and "
    "ground-truth/*.PNG of the same names",
    mask=MaskRule("three levels; grey and white are tampered: above 10, as photoholmes has it", threshold=10),
    counts={"tampered": {220: "its owner, MPC"}, "authentic": {220: "its owner"}},
    paper=220,
    pairs=pairs,
)

if __name__ == "__main__":
    sys.exit(main(KORUS))
