"""IMD2020: 2 010 manipulated pictures found on the net, with masks made by hand, and their originals.

python data_scripts/imd2020.py IMD2020 --out sets
"""

import sys
from pathlib import Path

from common import SEEN, DataSet, MaskRule, Tree, authentic, match, stem
from make import main


def in_post(path: Path) -> str:
    """Names repeat between posts, so the folder is part of the key; `<name>_mask.png` belongs to `<name>.jpg`."""
    return f"{path.parent.name.casefold()}/{stem(path).removesuffix('_mask')}"


def pairs(tree: Tree):
    masks, originals = tree.files(name="*_mask.*"), tree.files(name="*_orig.*")
    if not masks and not originals:
        return  # some other folder of pictures
    others = {*masks, *originals}
    yield from match([path for path in tree.files() if path not in others], masks, in_post, in_post)
    yield from authentic(originals)


IMD2020 = DataSet(
    name="imd2020",
    source="IMD",
    title="IMD2020, real-life manipulated images",
    owner="UTIA, Czech Academy of Sciences (A. Novozámský, B. Mahdian, S. Saic)",
    page="http://staff.utia.cas.cz/novozada/db/",
    terms="research only; credit Novozámský et al. 2020; not to be passed on",
    evidence=SEEN,
    seen="45 pairs; the layout also from CAT-Net's loader",
    layout="a folder for each post: <post>/<name>.{jpg,png}, <post>/<name>_mask.png, <post>/<post>_orig.jpg",
    mask=MaskRule("above 0", threshold=0),
    counts={
        "tampered": {2010: "MPC, CAT-Net, its owners"},
        "authentic": {414: "common knowledge, unverified"},
    },
    paper=2010,
    pairs=pairs,
    remark="z14/00030_fake.jpg is known for a mask of another size (IML-Dataset-Corrections has one that fits).",
)

if __name__ == "__main__":
    sys.exit(main(IMD2020))
