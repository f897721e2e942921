"""The 16 OSN sets: CASIA v1, Columbia, DSO-1 and NIST16 as four social networks gave them back (Wu et al. 2022).

    python data_scripts/osn.py OSN-dataset sets --out sets

Some copies bring masks of their own (`Columbia_Facebook/Columbia_GT/<stem>_gt.png`); for the others the masks come,
by the stem, from the manifests of the original sets, which casia1.py, columbia.py, dso1.py and nist16.py write: give
their folder as well, or set MPC_LITE_SETS to it. Networks resize photographs: masks follow, nearest, each one recorded.
Writes osn_columbia_facebook.csv (source "Columbia, Facebook") and so on; sets that are not there are left out.
"""

import dataclasses
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, match, stem, without_end
from make import main
from mpc_lite.data.manifest import read_manifest
from mpc_lite.files import place

NETWORKS = ("Facebook", "Weibo", "Wechat", "Whatsapp")
# The paper's name: names of the folder in the copies, the manifest with the original's masks, images in the original.
ORIGINALS = {
    "CASIAv1": (("CASIAv1", "Casia", "CASIA1"), "casia1.csv", 920),
    "Columbia": (("Columbia",), "columbia.csv", 160),
    "DSO": (("DSO", "DSO-1", "DSO1"), "dso1.csv", 100),
    "NIST": (("NIST", "NIST16"), "nist16.csv", 564),
}
OWN = MaskRule("the copy's own masks: above 0, as photoholmes reads them", threshold=0, fit=True)
ORIGINAL = MaskRule("the original set's masks, as its manifest has them", fit=True)


def pairs(tree: Tree, original: str, network: str) -> list[Pair]:
    names, manifest, _ = ORIGINALS[original]
    images, own = [], []
    for name in names:
        folder = f"{name}_{network}"
        for below in ("", "/CM", "/Sp"):
            images += tree.files(folder + below)
        own += tree.files(f"{folder}/*_GT") + tree.files(f"{folder}/*_GT/*")
    if not images:
        return []
    if own:
        matches = match(images, own, mask_key=without_end("_gt"))
        return [dataclasses.replace(pair, rule=OWN) for pair in matches]
    masks = original_masks(tree, manifest)
    if not masks:
        return [
            Pair(image, problem=f"no masks of its own, and no {manifest} with tampered originals") for image in images
        ]
    times = Counter(map(stem, images))
    all_pairs = []
    for image in images:
        mask, problem = masks.get(stem(image)), ""
        if times[stem(image)] > 1:
            problem = f"{times[stem(image)]} images are called {stem(image)}"
        elif mask is None:
            problem = f"no tampered image of this name in {manifest}"
        all_pairs.append(Pair(image, mask, problem=problem))
    return all_pairs


def original_masks(tree: Tree, manifest: str) -> dict[str, Path]:
    """The masks in the original set's manifest, by the stem of their image."""
    folders = [*tree.roots, place(os.environ.get("MPC_LITE_SETS") or "sets")]
    path = next((folder / manifest for folder in folders if (folder / manifest).is_file()), None)
    return {stem(s.image): s.mask for s in read_manifest(path) if s.label == 1} if path else {}


OSN = tuple(
    DataSet(
        name=f"osn_{original.casefold()}_{network.casefold()}",
        source=f"{original}, {network}",
        title=f"{original} as {network} gives it back",
        owner="H. Wu, J. Zhou et al. (University of Macau); the images: the original set's owners",
        page="https://github.com/HighwayWu/ImageForensicsOSN",
        terms="research only, and the terms of the original set",
        evidence=UNVERIFIED,
        seen="the names in ForMa's generator of lists and in the loader of photoholmes; no file of it",
        layout="folders SET_NETWORK (CASIAv1, Columbia, DSO, NIST; Facebook, Weibo, Wechat, Whatsapp) with "
        "*.jpg, or CM/ and Sp/; masks in SET_NETWORK/*_GT/<stem>_gt.png, or the folder with the originals' manifests",
        mask=ORIGINAL,
        counts={"tampered": {number: "the original set in MPC"}},
        paper=number,
        pairs=partial(pairs, original=original, network=network),
    )
    for original, (_, _, number) in ORIGINALS.items()
    for network in NETWORKS
)

if __name__ == "__main__":
    sys.exit(main(*OSN))
