"""FaceForensics++: frames of videos with exchanged or re-enacted faces. OUR OWN sample of 1 000, not the paper's.

    python data_scripts/ffpp.py FaceForensics++ --out sets

MPC tests on 1 000 frames and does not say on which. This script draws 1 000 videos with seed 0, one frame of each: the
numbers of such a run stand beside the paper's, they do not repeat them. Frames must have been extracted from the
videos and from the masks' videos before, with the owners' extract_compressed_videos.py, for one compression. Frames
whose mask is black (no face in sight) are authentic and not drawn.
"""

import sys
from collections import defaultdict
from pathlib import Path

from checked import read_tampered
from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, stem
from draw import shuffled, tail
from make import main
from mpc_lite.errors import InputError, some

SIZE, SEED = 1000, 0
NONE = "no frame of the masks' video for it"
RULE = MaskRule("above 127 (common knowledge, unverified)")
METHODS = ("deepfakes", "face2face", "faceswap", "neuraltextures")  # those whose masks were published
COMPRESSIONS = ("c23", "raw", "c0", "c40")  # the first that is there; the paper does not say which it took


def pairs(tree: Tree) -> list[Pair]:
    masks = defaultdict(list)
    for path in tree.files("manipulated_sequences/*/masks/images/*"):
        masks[key(path)].append(path)
    with_masks = {method for method, *_ in masks}
    videos, without = defaultdict(list), defaultdict(set)
    for compression in COMPRESSIONS:
        for path in tree.files(f"manipulated_sequences/*/{compression}/images/*"):
            method, video, _ = key(path)
            if method in with_masks:
                videos[method, video].append(path)
            elif method in METHODS:
                without[path.parts[-5]].add(video)
        if videos:
            break
    sample = [
        Pair(None, problem=f"{method}: none of its masks' frames, so none of its {len(names)} videos is drawn")
        for method, names in without.items()
        if videos
    ]
    bad = len(sample)
    for video in shuffled(videos, SEED, "/".join):
        if len(sample) == SIZE + bad:
            break
        for frame in shuffled(videos[video], SEED, lambda path: tail(path, 5)):
            found = masks.get(key(frame), [])
            if len(found) != 1:
                problem = f"{len(found)} masks for it: {some(p.name for p in found)}" if found else NONE
                sample.append(Pair(frame, problem=problem))
                break
            if not black(found[0]):
                sample.append(Pair(frame, found[0]))
                break
    return sample


def key(path: Path) -> tuple[str, str, str]:
    """(method, video, frame) of manipulated_sequences/METHOD/c23/images/VIDEO/FRAME.png."""
    return path.parts[-5].casefold(), path.parent.name.casefold(), stem(path)


def black(mask: Path) -> bool:
    try:
        return not read_tampered(mask, RULE).any()
    except InputError:
        return False  # is drawn, and listed as a bad pair


FFPP = DataSet(
    name="ffpp",
    source="FF++",
    title="FaceForensics++ (our own sample of 1 000 frames)",
    owner="A. Rössler et al. (Technical University of Munich, University Federico II of Naples)",
    page="https://github.com/ondyari/FaceForensics",
    terms="non-commercial research and education; to be applied for with the owners' form; not to be passed on",
    evidence=UNVERIFIED,
    seen="the owners' documentation; no file of it",
    layout="manipulated_sequences/METHOD/c23/images/VIDEO/*.png and, of the same names, "
    "manipulated_sequences/METHOD/masks/images/VIDEO/*.png (METHOD: Deepfakes, Face2Face, FaceSwap, NeuralTextures)",
    mask=RULE,
    counts={"tampered": {SIZE: "MPC's number, but not its frames: those are not published"}},
    paper=1000,
    pairs=pairs,
    remark=f"A draw of our own: one frame of each of {SIZE} videos, seed {SEED}, by names; not the paper's sample.",
)

if __name__ == "__main__":
    sys.exit(main(FFPP))
