"""In-the-wild: 201 splices collected from the web by Huh et al. 2018.

python data_scripts/wild.py label_in_wild.tar.gz --out sets
"""

import sys

from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, match
from make import main


def pairs(tree: Tree) -> list[Pair]:
    images, masks = (tree.files(f"*wild*/{each}") or tree.files(each) for each in ("images", "masks"))
    return match(images, masks)


WILD = DataSet(
    name="wild",
    source="Wild",
    title="In-the-Wild Image Splice Dataset",
    owner="M. Huh, A. Liu, A. Owens, A. A. Efros (University of California, Berkeley)",
    page="https://minyoungg.github.io/selfconsistency/",
    terms="none stated that we know of: the images come from the web and belong to others; research use, not passed on",
    evidence=UNVERIFIED,
    seen="the names in loaders of public repositories; no file of it",
    layout="label_in_wild/images/*.jpg and label_in_wild/masks/*.png of the same names",
    mask=MaskRule("above 127 (common knowledge, unverified)"),
    counts={"tampered": {201: "its owners, MPC"}},
    paper=201,
    pairs=pairs,
)

if __name__ == "__main__":
    sys.exit(main(WILD))
