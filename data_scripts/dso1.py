"""DSO-1: 100 splices of people and 100 authentic photographs; in its masks the tampered region is black.

python data_scripts/dso1.py tifs-database --out sets
"""

import sys

from common import UNVERIFIED, DataSet, MaskRule, Tree, authentic, match
from make import main
from mpc_lite.cli.terminal import put


def pairs(tree: Tree):
    """Images and masks have equal names, `splicing-<n>.png`; the masks' folder has "mask" in its name."""
    splicing, normal = (tree.files(name=f"{each}-*") for each in ("splicing", "normal"))
    other = {path for path in splicing + normal if path.parent.name.casefold().startswith("dsi")}
    if other:  # which its owners put beside it
        put(f"note: {len(other)} images of DSI-1, another set, are left out")
    masks = {path for path in splicing if "mask" in path.parent.name.casefold()} - other
    yield from match([path for path in splicing if path not in masks | other], sorted(masks))
    yield from authentic(path for path in normal if path not in other)


DSO1 = DataSet(
    name="dso1",
    source="DSO",
    title="DSO-1",
    owner="RECOD laboratory, University of Campinas (T. Carvalho and others)",
    page="https://recodbr.wordpress.com/code-n-data/#dso1_dsi1",
    terms="research only; credit Carvalho et al. 2013; not to be passed on",
    evidence=UNVERIFIED,
    seen="no file; the layout and the inversion as the loaders of photoholmes and TruFor read them",
    layout="DSO-1/splicing-<n>.png, DSO-1/normal-<n>.png, DSO-1-Fake-Images-Masks/splicing-<n>.png",
    mask=MaskRule("inverted: black is tampered", inverted=True),
    counts={"tampered": {100: "its owners and all papers"}, "authentic": {100: "its owners"}},
    paper=100,
    pairs=pairs,
)

if __name__ == "__main__":
    sys.exit(main(DSO1))
