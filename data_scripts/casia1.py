"""CASIA v1: 920 splices and copy-moves of 384×256 with masks by N. T. Pham, and 800 authentic photographs.

python data_scripts/casia1.py "CASIA 1.0 dataset" "CASIA 1.0 groundtruth" --out sets
"""

import sys

from casia_names import own, renamed, tampered_id
from common import SEEN, DataSet, Download, MaskRule, Pair, Tree, authentic, match, without_end
from make import main
from mpc_lite.cli.terminal import put

GROUND_TRUTH = "https://github.com/namtpham/casia1groundtruth"
MASKS = Download(
    # The commit is named, so that the address always gives the same file.
    "https://github.com/namtpham/casia1groundtruth/raw/a940339bf9c5b8f4f7becebca3bf696851267a27/"
    "CASIA%201.0%20groundtruth.zip",
    "casia1groundtruth.zip",
)


def tampered(tree: Tree) -> list[Pair]:
    """`Tp/CM`, `Tp/Sp` (also seen: `Modified Tp/Tp/Sp`, `Tp` alone), with `<stem>_gt.png` wherever it lies.

    Copies hold `Original Tp` too, with forgeries of the same kinds (`CM`, `Sp`); beside others these are left out.
    """
    folders = ("CM", "Sp", "Tp")
    images = [path for each in folders for path in tree.files(each, name="Sp_*", suffixes=(".jpg", ".jpeg"))]
    original = {path for path in images if any(part.casefold() == "original tp" for part in path.parts)}
    others = {path.parent.name.casefold() for path in images if path not in original}
    if twice := {path for path in original if path.parent.name.casefold() in others or "tp" in others}:
        put(f"note: {len(twice)} images of Original Tp are left out, for those of other folders")
        images = [path for path in images if path not in twice]
    masks = tree.files(name="Sp_*_gt.png")
    return match(images, masks, renamed(tree), without_end("_gt"), otherwise=tampered_id)


def pairs(tree: Tree):
    yield from tampered(tree)
    yield from authentic(own(tree.files("Au", suffixes=(".jpg", ".jpeg")), digits=4))


CASIA1 = DataSet(
    name="casia1",
    source="CASIAv1",
    title="CASIA Tampered Image Detection Evaluation Database 1.0",
    owner="Institute of Automation, Chinese Academy of Sciences (J. Dong, W. Wang, T. Tan); masks: N. T. Pham",
    page=f"{GROUND_TRUTH} (masks; the owners' own server is gone, that page links to copies of the images)",
    terms="research only; credit both publications (Dong et al. 2013, Pham et al. 2019); not to be passed on",
    evidence=SEEN,
    seen="36 images with masks; the layout from the loaders of photoholmes, CAT-Net and TruFor",
    layout="Au/*.jpg, Tp/CM/*.jpg and Tp/Sp/*.jpg (also Modified Tp/), and the masks as CM/<stem>_gt.png, "
    "Sp/<stem>_gt.png; with the masks' renaming sheet (FileNameCorrection.xlsx) if it is there",
    mask=MaskRule("above 0 (some loaders: above 127)", threshold=0),
    counts={
        "tampered": {
            920: "MPC, MVSS-Net, and every image that has a mask",
            921: "TruFor, PSCC-Net: with Sp_D_NRN_A_cha0011_sec0011_0542, which has none",
            923: "photoholmes",
        },
        "authentic": {800: "its owners"},
    },
    paper=920,
    pairs=pairs,
    downloads=(MASKS,),
    remark="--download fetches the masks only. Au overlaps CASIA v2; casia1plus.py takes Corel photographs instead.",
)

if __name__ == "__main__":
    sys.exit(main(CASIA1))
