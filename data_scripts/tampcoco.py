"""tampCOCO: CAT-Net's 600 000 training forgeries from MS COCO: splices, copy-moves, and their like with blended edges.

    python data_scripts/tampcoco.py tampCOCO --out sets

One manifest with a source for each part that MPC trains on, tampCOCO-sp, -cm and -bcm; and, where its files are there,
another one for tampCOCO-bcmc, which MPC leaves out. A mask is called as its image with every .jpg turned into .png
(`1.jpg_2.jpg_RS0.90.jpg`, `1.png_2.png_RS0.90.png`). CAT-Net's own lists (`sp_images/…,sp_masks/…`) are read by
from_list.py. Every image is opened: a night's work for the whole set.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path

from common import UNVERIFIED, DataSet, MaskRule, Tree, match
from make import main

PARTS = ("sp", "cm", "bcm")  # splices, copy-moves, copy-moves with blended edges; bcmc: the last ones, compressed


def png_name(path: Path) -> str:
    return path.name.casefold().replace(".jpg", ".png").removesuffix(".png")


def pairs(tree: Tree, parts: tuple[str, ...] = PARTS):
    for part in parts:
        yield from match(
            tree.files(f"{part}_images"), tree.files(f"{part}_masks"), png_name, png_name, source=f"tampCOCO-{part}"
        )


TAMPCOCO = DataSet(
    name="tampcoco",
    source="tampCOCO",
    title="tampCOCO",
    owner="M.-J. Kwon et al. (KAIST), CAT-Net",
    page="https://github.com/mjkwon2021/CAT-Net",
    terms="research only, as its page says; made from MS COCO, whose photographers' terms hold",
    evidence=UNVERIFIED,
    seen="CAT-Net's lists and loader, which name the files; no file of it",
    layout="tampCOCO/{sp,cm,bcm}_images/*.jpg and tampCOCO/{sp,cm,bcm}_masks/*.png; the same for bcmc",
    mask=MaskRule("above 0", threshold=0),
    counts={
        "tampCOCO-sp": {199_999: "MPC, CAT-Net"},
        "tampCOCO-cm": {199_429: "MPC, CAT-Net"},
        "tampCOCO-bcm": {199_443: "MPC, CAT-Net"},
    },
    paper=None,
    pairs=pairs,
)

TAMPCOCO_BCMC = dataclasses.replace(
    TAMPCOCO,
    name="tampcoco_bcmc",
    source="tampCOCO-bcmc",
    title="tampCOCO, compressed part",
    counts={},
    pairs=partial(pairs, parts=("bcmc",)),
)

if __name__ == "__main__":
    sys.exit(main(TAMPCOCO, TAMPCOCO_BCMC))
