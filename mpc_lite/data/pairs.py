"""Which mask belongs to which image, told by their names: one rule for lists, scripts and two plain folders.

A mask is called as its image, whatever the case of letters and the form of accents (Unicode NFC or NFD), and may have
one of `ENDINGS` more: `IMG_1.jpg` goes with `img_1.png` or `IMG_1_gt.png`. The order of files never decides, and where
a name leaves a choice, nothing is paired.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mpc_lite.data.manifest import Sample, read_mask
from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import PICTURES, absent, pictures_in, place
from mpc_lite.forgeries.scenes import SET_FOLDERS, UNFINISHED

# What a mask's name may have more than its image's; letters of either case.
ENDINGS = ("_gt", "-gt", "_mask", "-mask", "_edgemask", "_groundtruth")
SAME = "the same name"
SPELLED = "case or accents apart"


def stem(name: str | Path) -> str:
    """The key that names are compared by: without suffix, whatever the case and the form of accents."""
    return unicodedata.normalize("NFC", Path(name).stem).casefold()


class Match(NamedTuple):
    """File names of an image and its mask, and `how` they were paired; or a file left over, and its `problem`."""

    image: str | None
    mask: str | None
    how: str = ""
    problem: str = ""


def match_names(
    images: Iterable[str], masks: Iterable[str], places: tuple[str, str] = ("images", "masks")
) -> list[Match]:
    """Every image name once, and the masks that no image claims, in the order of their keys.

    places: how messages call the folders of images and of masks. `how` is `SAME`, `SPELLED` or "ending _gt".
    """
    of_image, of_mask = _by_stem(images), _by_stem(masks)
    ending = {}  # key of a mask -> key of the image that it is called after; several such masks are a problem below
    alone = of_mask.keys() - of_image.keys()
    unclear = {}  # key of an image -> the image without a mask whose mask may be the one called as this image
    for key in of_image.keys() - of_mask.keys():
        # With no other mask for e, e_mask may be that of e or of the image e_mask: nobody can tell, nor of e_mask_mask.
        chain = [key]
        for image in chain:
            chain += [image + end for end in ENDINGS if image + end in of_image and image + end in of_mask]
            ending |= {image + end: image for end in ENDINGS if image + end in alone}
        if not any(key + end in alone for end in ENDINGS):
            unclear |= dict.fromkeys(chain[1:], of_image[key][0])
    for mask, key in ending.items():
        of_mask[key] = of_mask.get(key, []) + of_mask.pop(mask)
    matches = []
    for key in sorted({*of_image, *of_mask}):
        here, there = of_image.get(key, []), of_mask.get(key, [])
        if not here:
            matches += [Match(None, mask, problem=f"a mask without an image in {places[0]}") for mask in there]
        elif not there:
            alike = f"; {some(here)} have one name" if len(here) > 1 else ""
            matches += [Match(image, None, problem=f"no mask of this name in {places[1]}{alike}") for image in here]
        elif key in unclear:
            problem = f"{some(there)}: of this image, or of {unclear[key]}? Nobody can tell; rename the masks"
            matches += [Match(image, there[0], problem=problem) for image in here]
        elif len(here) > 1 or len(there) > 1:
            problem = f"{some(here)} and {some(there)} have one name, expected one of each"
            matches += [Match(image, there[0], problem=problem) for image in here]
        else:
            matches.append(Match(here[0], there[0], _how(here[0], there[0])))
    return matches


def _how(image: str, mask: str) -> str:
    if Path(image).stem == Path(mask).stem:
        return SAME
    return f"ending {stem(mask)[len(stem(image)) :]}" if stem(image) != stem(mask) else SPELLED


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[stem(name)].append(name)
    return dict(groups)


# -------------------------------------------------------------------------------------------------------- two folders


@dataclass(frozen=True)
class Pairs:
    """The pairs of two folders. left_out: one line for each file that has no partner. facts: what results say of it:
    {images, masks: names of the folders, n, authentic: how many masks are empty, paired: {how: number}}."""

    samples: list[Sample]
    left_out: list[str]
    facts: dict[str, Any]
    below: dict[str, int] = field(default_factory=dict)

    def told(self) -> str:
        """In one line, what was paired how."""
        how = ", ".join(f"{n} by {how}" for how, n in self.facts["paired"].items())
        empty = f"; empty masks, so authentic images: {self.facts['authentic']}" if self.facts["authentic"] else ""
        left = f"; files left out: {len(self.left_out)}" if self.left_out else ""
        names = some(self.below, 3)
        below = f"; not looked at: {sum(self.below.values())} pictures in folders below, {names}" if self.below else ""
        return f"{self.facts['n']} pairs of image and mask: {how}{empty}{left}{below}"


def read_pairs(images: str | Path, masks: str | Path, source: str | None = None) -> Pairs:
    """The images of one folder with their masks in another, or in the same one, paired by name (`match_names`).

    Pictures are looked for in the folders themselves; those below are counted. In one folder for both, a file is a
    mask when its name is another's plus one of `ENDINGS`. An image whose mask is empty is authentic; one without a
    mask is left out, for nothing says so. source: the name of the set, by default that of the images' folder.

    Raises InputError for a folder that is none or holds no picture, and when no image has a mask.
    """
    folders = [place(images), place(masks)]
    for folder in folders:
        if folder.resolve().name in SET_FOLDERS and os.path.exists(folder.resolve().parent / UNFINISHED):
            raise InputError(f"{folder} is of a set that synth has not finished; run synth again, or wait for its end")
    names, strange = map(list, zip(*map(_pictures, folders), strict=True))
    rule = "a mask is called as its image, or with one of"
    if folders[0].resolve() == folders[1].resolve():
        rule = "in one folder for both, a mask is called as its image with one of"
        keys = {stem(name) for name in names[0]}
        shorter = ((n, stem(n).removesuffix(e)) for n in names[0] for e in ENDINGS if stem(n).endswith(e))
        names[1] = list(dict.fromkeys(n for n, key in shorter if key in keys))
        taken = set(names[1])
        names[0] = [n for n in names[0] if n not in taken]
    calls = [folder.resolve().name for folder in folders]
    left_out = [f"{call}/{name}" for call, lines in zip(calls, strange, strict=True) for name in lines]
    samples, left_out, paired = [], list(dict.fromkeys(left_out)), Counter()  # once, in one folder for both
    for match in match_names(*names, places=(calls[0], calls[1])):
        if match.problem:
            at = calls[0] if match.image else calls[1]
            left_out.append(f"{at}/{match.image or match.mask}: {match.problem}")
            continue
        image, mask = folders[0] / match.image, folders[1] / match.mask
        paired[match.how] += 1
        samples.append(Sample(image, mask, _label(mask), source or calls[0], row=len(samples) + 1))
    if not samples:
        reason = f"{left_out[0]} (and {len(left_out) - 1} more)" if len(left_out) > 1 else "".join(left_out)
        raise InputError(f"no image of {images} has a mask in {masks}: {reason}; {rule} {' '.join(ENDINGS)} at its end")
    authentic = sum(sample.label == 0 for sample in samples)
    facts = {"images": calls[0], "masks": calls[1], "n": len(samples), "authentic": authentic, "paired": dict(paired)}
    return Pairs(samples, left_out, facts, _below(folders))


def _below(folders: list[Path]) -> dict[str, int]:
    """How many pictures lie in which folders below those given, which nothing looks at: a part of a set, perhaps."""
    given, below = {folder.resolve() for folder in folders}, {}
    for folder in dict.fromkeys(folders):
        others = given - {folder.resolve()}
        for here, n in Counter(file.parent for file in pictures_in(folder, closed=[])).items():
            there = here.resolve()
            if here != folder and not others & {there, *there.parents}:
                below[here.relative_to(folder.parent).as_posix()] = n
    return below


def _label(mask: Path) -> int:
    """0 for an empty mask, 1 otherwise; a mask that cannot be read is met, and told, when its image is scored."""
    try:
        return int(read_mask(mask).any())
    except InputError:
        return 1


def _pictures(folder: Path) -> tuple[list[str], list[str]]:
    """The pictures of a folder, and what is called as one without being a file: "NAME: what it is instead"."""
    if not os.path.isdir(folder):
        raise InputError(f"{shown(folder, 200)} {absent(folder, 'is not a folder')}; expected one with pictures")
    pictures, strange = [], []
    for name in sorted(os.listdir(folder)):
        path = Path(folder, name)
        if name.startswith(".") or path.suffix.lower() not in PICTURES:
            continue
        if os.path.isfile(path):
            pictures.append(name)
        elif not os.path.exists(path):
            strange.append(f"{name}: a link that leads to no file")
        elif not os.path.isdir(path):
            strange.append(f"{name}: a pipe or a device, expected a file")
    if not pictures:
        reason = f" but {some(strange, 3)}" if strange else ""
        raise InputError(
            f"{folder} holds no picture ({some(PICTURES, 6)}){reason}; folders below it are not looked into"
        )
    return pictures, strange
