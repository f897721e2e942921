"""Columbia: 180 uncompressed splices with edge masks and 183 authentic photographs, four cameras.

python data_scripts/columbia.py 4cam_splc 4cam_auth --out sets
"""

import sys

from common import UNVERIFIED, DataSet, MaskRule, Tree, authentic, match, without_end
from make import main

IMAGES = (".tif", ".tiff", ".bmp")


def pairs(tree: Tree):
    images = tree.files("4cam_splc", suffixes=IMAGES)
    masks = tree.files("4cam_splc/edgemask", name="*_edgemask.*")
    yield from match(images, masks, mask_key=without_end("_edgemask"))
    yield from authentic(tree.files("4cam_auth", suffixes=IMAGES))


COLUMBIA = DataSet(
    name="columbia",
    source="Columbia",
    title="Columbia Uncompressed Image Splicing Detection Evaluation Dataset",
    owner="DVMM laboratory, Columbia University (Y.-F. Hsu, S.-F. Chang)",
    page="https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
    terms="research only, as the page says; credit Hsu and Chang 2006; not to be passed on",
    evidence=UNVERIFIED,
    seen="no file; the layout and the mask rule as the loaders of photoholmes and SAFIRE read them",
    layout="4cam_splc/*.tif, 4cam_splc/edgemask/<stem>_edgemask.jpg, 4cam_auth/*.tif",
    mask=MaskRule("green channel above 120 (SAFIRE); photoholmes takes above 0", threshold=120, channel="green"),
    counts={
        "tampered": {180: "TruFor, MVSS-Net, PSCC-Net, photoholmes", 160: "MPC, FOCAL, LoMa"},
        "authentic": {183: "TruFor, photoholmes"},
    },
    paper=160,
    pairs=pairs,
    remark="Which 160 of the 180 splices the paper measured is not published. The masks are JPEG files, whose noise "
    "makes a threshold of 0 fragile: hence 120.",
)

if __name__ == "__main__":
    sys.exit(main(COLUMBIA))
