"""IFC: the training images of the first phase of the IEEE IFS-TC Image Forensics Challenge, 450 of them forged.

python data_scripts/ifc.py dataset-dist/phase-01/training --out sets
"""

import sys

from common import UNVERIFIED, DataSet, MaskRule, Tree, authentic, beside, match, without_end
from make import main


def pairs(tree: Tree):
    files = tree.files("fake")
    masks = [path for path in files if path.stem.casefold().endswith(".mask")]
    tampered = match([path for path in files if path not in masks], masks, mask_key=without_end(".mask"))
    yield from tampered
    yield from authentic(beside(tree, tree.files("pristine"), tampered))


IFC = DataSet(
    name="ifc",
    source="IFC",
    title="IEEE IFS-TC Image Forensics Challenge 2013, phase 1, training",
    owner="IEEE Information Forensics and Security Technical Committee (A. Rocha, A. Piva, J. Huang)",
    page="http://ifc.recod.ic.unicamp.br/fc.website/index.py",
    terms="research only; the challenge's rules",
    evidence=UNVERIFIED,
    seen="the way its files are named; the values of its masks from documentation",
    layout="fake/<name>.png with fake/<name>.mask.png beside it, and pristine/*.png",
    mask=MaskRule("black is tampered: at most 127 (common knowledge, unverified)", inverted=True),
    counts={"tampered": {450: "MPC"}},
    paper=450,
    pairs=pairs,
)

if __name__ == "__main__":
    sys.exit(main(IFC))
