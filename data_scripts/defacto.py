"""DEFACTO: forgeries made automatically from MS COCO. By default OUR OWN sample of 6 000 (DEF-test).

    python data_scripts/defacto.py copymove_img copymove_annotations inpainting_img … --out sets

The paper's sample of 6 000 is not published. MVSS-Net's list DEFACTO12k-test.txt names 6 000 forgeries (and 6 000
COCO images, which no pixel score needs) and may well be it, but the paper does not say so. Where the list lies in one
of the folders given, its forgeries are taken; otherwise 6 000 are drawn with seed 0 from all that are there.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, match, stem
from draw import shuffled, tail
from make import main
from mpc_lite.data.list_formats import entries
from mpc_lite.errors import some

SIZE, SEED = 6000, 0
LIST = "DEFACTO12k-test.txt"
FORGERY = re.compile("copy|inpaint|splic|swap|morph")  # the kind in a folder's name, in every copy


def pairs(tree: Tree) -> list[Pair]:
    images = tree.files("*img/img") + tree.files("*images/img")
    masks = tree.files("*annotations/probe_mask")
    lists = tree.files(name=LIST, suffixes=())
    chosen, bad = listed(lists[0], images) if lists else drawn(images, masks)
    wanted = set(map(place, chosen))
    return match(chosen, [mask for mask in masks if place(mask) in wanted], place, place) + bad


def drawn(images: list[Path], masks: list[Path]) -> tuple[list[Path], list[Pair]]:
    """Our sample, of the images with a mask, and what lacks the other in each part; all where none has a mask."""
    named, there = set(map(place, images)), set(map(place, masks))
    with_mask = [image for image in images if place(image) in there] or images
    chosen = set(shuffled(with_mask, SEED, lambda path: tail(path, 3))[:SIZE])
    lone = defaultdict(list)
    for what, files, others in (("images without a mask", images, there), ("masks without an image", masks, named)):
        for file in files if there else ():
            if place(file) not in others:
                lone[file.parts[-3], what].append(file.name)
    bad = [
        Pair(None, problem=f"{part}: {len(names)} {what}, which nothing is drawn from: {some(names, 3)}")
        for (part, what), names in lone.items()
    ]
    return [image for image in with_mask if image in chosen], bad


def listed(path: Path, images: list[Path]) -> tuple[list[Path], list[Pair]]:
    """The forgeries that the list names, by kind and name: its authors' folders are called differently."""
    of_name = defaultdict(list)
    for image in images:
        of_name[kind(image), stem(image)].append(image)
    chosen, bad = [], []
    for entry in entries(path, "space"):
        matches = of_name[kind(Path(entry.image)), stem(Path(entry.image))] if entry.label == 1 else []
        if entry.problem:
            bad.append(Pair(None, problem=f"{entry.where}: {entry.problem}"))
        elif len(matches) == 1:
            chosen += matches
        elif entry.label == 1:
            bad.append(
                Pair(None, Path(entry.image), problem=f"{entry.where}: {len(matches) or 'no'} images are called so")
            )
    return chosen, bad


def kind(path: Path) -> str:
    """Of forgery: names repeat among the kinds."""
    word = FORGERY.search("/".join(path.parts[-3:-1]).casefold())
    return word[0] if word else ""


def place(path: Path) -> str:
    """What splicing_1_img/img/NAME.tif and splicing_1_annotations/probe_mask/NAME.jpg have in common."""
    return re.sub("[-_](img|images|annotations)$", "", path.parts[-3].casefold()) + "/" + stem(path)


DEFACTO = DataSet(
    name="defacto",
    source="DEF-test",
    title="DEFACTO (our own sample of 6 000, or MVSS-Net's list)",
    owner="G. Mahfoudi et al. (University of Technology of Troyes, SURYS)",
    page="https://defactodataset.github.io",
    terms="research, as its page says; made from MS COCO, whose photographers' terms hold",
    evidence=UNVERIFIED,
    seen="MVSS-Net's list and the loader of image-manipulation-datasets, which name the files; no file of it",
    layout="copymove_img/img/*.tif with copymove_annotations/probe_mask/*, and likewise inpainting_img, "
    "splicing_1_img to splicing_7_img (MVSS-Net's copy: Copy-Move-images/img, Copy-Move-annotations/probe_mask)",
    # Some splices and their masks differ in size, though they show the same (image-manipulation-datasets says).
    mask=MaskRule("above 127; masks of another size resized, nearest", fit=True),
    counts={"tampered": {SIZE: "MPC's number; its sample is not published"}},
    paper=6000,
    pairs=pairs,
    remark=f"Without {LIST} a draw of our own, seed {SEED}, by names: not the paper's sample.",
)

if __name__ == "__main__":
    sys.exit(main(DEFACTO))
