"""Clothing photographs, CC0: authentic images only, to make forgeries from and to count false alarms on.

python data_scripts/clothing.py --download --out sets
"""

import sys

from common import SEEN, DataSet, Download, MaskRule, Pair, Tree, authentic
from make import main

# The commit is named, so that the address always gives the same files.
COMMIT = "9556dff476f7b543d423b0f961e10a285a37b28a"
REPOSITORY = "https://github.com/alexeygrigorev/clothing-dataset"
PHOTOGRAPHS = Download(f"{REPOSITORY}/archive/{COMMIT}.zip", "clothing-dataset.zip")


def pairs(tree: Tree) -> list[Pair]:
    """`images/` of the repository; copies of the full-size pictures call it `images_original/`."""
    folders = ("*clothing*/images", "images", "images_original", "clothing")  # others call theirs images, too
    return list(authentic(next(filter(None, map(tree.files, folders)), [])))


CLOTHING = DataSet(
    name="clothing",
    source="clothing",
    title="Clothing dataset",
    owner="A. Grigorev and 32 contributors",
    page=REPOSITORY,
    terms="CC0 1.0: free for any purpose",
    evidence=SEEN,
    seen="600 of its images (about 400×533, JPEG) and the repository's list of files",
    layout="images/*.jpg",
    mask=MaskRule("none: no image is tampered"),
    counts={"authentic": {5755: "the files that the repository's history lists under images/"}},
    paper=None,
    pairs=pairs,
    downloads=(PHOTOGRAPHS,),
)

if __name__ == "__main__":
    sys.exit(main(CLOTHING))
