"""CASIA v2: 5 123 forgeries with masks by N. T. Pham and 7 491 authentic photographs; the training set of protocol 1.

python data_scripts/casia2.py CASIA2 casia2groundtruth-master --out sets
"""

import sys

from casia_names import own, renamed, tampered_id
from common import SEEN, DataSet, MaskRule, Tree, authentic, match, without_end
from make import main

TAMPERED = (".jpg", ".jpeg", ".tif", ".tiff")


def pairs(tree: Tree):
    """`Tp` with `<stem>_gt.png`, one of which is misnamed `_gt3.png`; the renaming sheet if it is there; then `Au`."""
    images = tree.files("Tp", name="Tp_*", suffixes=TAMPERED)
    # The masks' repository shows some pairs again in a folder of samples.
    masks = [path for path in tree.files(name="Tp_*_gt*.png") if path.parent.name.casefold() != "samples"]
    yield from match(images, masks, renamed(tree), without_end("_gt", "_gt3"), otherwise=tampered_id)
    yield from authentic(own(tree.files("Au", suffixes=(*TAMPERED, ".bmp")), digits=5))


CASIA2 = DataSet(
    name="casia2",
    source="CASIAv2",
    title="CASIA Tampered Image Detection Evaluation Database 2.0",
    owner="Institute of Automation, Chinese Academy of Sciences (J. Dong, W. Wang, T. Tan); masks: N. T. Pham",
    page="https://github.com/namtpham/casia2groundtruth (masks, and links to copies of the images)",
    terms="research only; credit both publications (Dong et al. 2013, Pham et al. 2019); not to be passed on",
    evidence=SEEN,
    seen="47 images; the layout from the loaders of CAT-Net and TruFor; the sheet's columns from scripts that read it",
    layout="Au/*.{jpg,bmp}, Tp/*.{jpg,tif}, the masks as <stem>_gt.png in any folder, and their repository's "
    "Notes/fileNamesCorrection.xlsx",
    mask=MaskRule("above 0", threshold=0),
    counts={
        "tampered": {5123: "MPC, CAT-Net, and the images themselves"},
        "authentic": {7491: "the images themselves (7 091 + 400 in TruFor's training and validation lists)"},
    },
    paper=None,
    pairs=pairs,
    remark="17 masks differ from their images in size or are turned; they are listed as bad. Masks that fit are said "
    "to be in https://github.com/SunnyHaze/CASIA2.0-Corrected-Groundtruth: give that folder instead of the first one.",
)

if __name__ == "__main__":
    sys.exit(main(CASIA2))
