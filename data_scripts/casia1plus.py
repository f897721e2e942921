"""CASIA v1+: the forgeries of CASIA v1 with Corel's authentic photographs, because CASIA v1's `Au` overlaps CASIA v2.

python data_scripts/casia1plus.py "CASIA 1.0 dataset" "CASIA 1.0 groundtruth" Au_corel --out sets
"""

import dataclasses
import sys

from casia1 import CASIA1, tampered
from common import SEEN, Tree, authentic
from make import main


def pairs(tree: Tree):
    yield from tampered(tree)
    yield from authentic(tree.files("Au_corel"))


CASIA1PLUS = dataclasses.replace(
    CASIA1,
    name="casia1plus",
    source="CASIAv1+",
    title="CASIA v1+: CASIA 1.0 forgeries, Corel photographs",
    owner=f"{CASIA1.owner}; choice of the Corel photographs: authors of MVSS-Net",
    page=f"{CASIA1.page}; Au_corel: https://github.com/dong03/MVSS-Net",
    evidence=SEEN,
    seen=f"{CASIA1.seen}; Au_corel from TruFor's lists, its files not seen",
    layout=CASIA1.layout.replace("Au/*.jpg", "Au_corel/*.jpg"),
    counts=CASIA1.counts | {"authentic": {800: "TruFor's lists, MVSS-Net"}},
    paper=None,
    pairs=pairs,
    remark="--download fetches the masks only.",
)

if __name__ == "__main__":
    sys.exit(main(CASIA1PLUS))
