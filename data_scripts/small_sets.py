"""Three small copy-move sets, which the paper does not use: CoMoFoD, GRIP and CVIP.

    python data_scripts/small_sets.py CoMoFoD_small_v2 --out sets

Each becomes a manifest of its own; of a folder that holds several, each one.
"""

import re
import sys
from pathlib import Path

from common import SEEN, UNVERIFIED, DataSet, MaskRule, Pair, Tree, authentic, match, stem, without_end
from make import main


def comofod(tree: Tree):
    """`NNN_F` forged, `NNN_B` its mask, `NNN_O` original; the versions compressed or blurred (`NNN_F_JC1`) are left."""
    plain = {kind: [p for p in tree.files(name=f"???_{kind}.png") if p.stem[:3].isdigit()] for kind in "FBO"}
    if plain["F"]:
        yield from match(plain["F"], plain["B"], without_end("_f"), without_end("_b"))
        yield from authentic(plain["O"])
    else:
        yield from match(tree.files("CoMoFoD*/forged"), tree.files("CoMoFoD*/mask"), number, number)
        yield from authentic(tree.files("CoMoFoD*/orig"))


def number(path: Path) -> str:
    digits = re.match(r"\d+", path.stem)
    return digits[0] if digits else stem(path)


def grip(tree: Tree) -> list[Pair]:
    return match(tree.files(name="*_copy.png"), tree.files(name="*_gt.png"), without_end("_copy"), without_end("_gt"))


def cvip(tree: Tree) -> list[Pair]:
    files = tree.files("D[0-3]/**", suffixes=(".bmp",))
    masks = [path for path in files if stem(path).endswith(("_gt", "_mask"))]
    images = [path for path in files if path not in masks and not stem(path).endswith("_o")]
    return match(images, masks, in_folder, lambda path: in_folder(path, without_end("_gt", "_mask")))


def in_folder(path: Path, key=stem) -> str:
    return f"{path.parent.name.casefold()}/{key(path)}"


COMOFOD = DataSet(
    name="comofod",
    source="CoMoFoD",
    title="CoMoFoD, small images",
    owner="Video Communications Laboratory, University of Zagreb (D. Tralic et al.)",
    page="https://www.vcl.fer.hr/comofod",
    terms="research only; cite Tralic et al., ELMAR 2013",
    evidence=SEEN,
    seen="some of its files, and CAT-Net's lists, which name all",
    layout="001_F.png, 001_B.png, 001_O.png to 200, or CoMoFoD*/forged, /mask and /orig with the same numbers",
    mask=MaskRule("above 127"),
    counts={"tampered": {200: "its owners"}},
    paper=None,
    pairs=comofod,
)
GRIP = DataSet(
    name="grip",
    source="GRIP",
    title="GRIP copy-move",
    owner="GRIP, University of Naples Federico II (D. Cozzolino, G. Poggi, L. Verdoliva)",
    page="https://www.grip.unina.it",
    terms="research only, as its readme says; cite Cozzolino et al., TIFS 2015",
    evidence=SEEN,
    seen="some of its files, and CAT-Net's list, which names 80",
    layout="forged_images/*_copy.png with *_gt.png beside them",
    mask=MaskRule("above 128", threshold=128),
    counts={"tampered": {80: "its owners"}},
    paper=None,
    pairs=grip,
)
CVIP = DataSet(
    name="cvip",
    source="CVIP",
    title="CVIP copy-move (D0 to D3)",
    owner="Computer Vision and Image Processing group, University of Palermo (E. Ardizzone et al.)",
    page="the owners' site; see Ardizzone, Bruno, Mazzola, TIFS 2015, doi:10.1109/TIFS.2015.2445742",
    terms="research only; cite that article",
    evidence=UNVERIFIED,
    seen="14 images of D0 with masks, stored under other names; the endings of the masks' names from documentation",
    layout="D0/, D1/, D2/ (and D3/, originals) with <name>.bmp and <name>_gt.bmp or <name>_mask.bmp",
    mask=MaskRule("above 127; the pasted copy only, in the images seen"),
    counts={"tampered": {1020: "its owners, all files together"}},
    paper=None,
    pairs=cvip,
)

if __name__ == "__main__":
    sys.exit(main(COMOFOD, GRIP, CVIP))
