"""Lists: the formats in which the field's repositories hand around pairs of image and mask, read into samples.

The formats, who writes them, an entry, and what marks an authentic image::

    json     IMDL-BenCo, IML-ViT                  ["image", "mask"] in one JSON list    mask "Negative"
    folders  IMDL-BenCo, IML-ViT; MPC, FOCAL      Tp/NAME.* and Gt/NAME.*               (none)
                                                  (or tamper/ and gt/)
    npy      MPC, FOCAL, ForMa, LoMa              a row of an (N,2) array of texts      an empty mask
    space    MVSS-Net; PSCC-Net, without label    image mask label                      mask None, label 0
    comma    CAT-Net, TruFor, SAFIRE              image,mask[,...], or semicolons       mask None
    names    PSCC-Net                             image (a manifest tells the mask)     -

Fields may be quoted as in CSV. The third of `comma` is a label where it is 0 or 1 in most lines that have one; then the
others are bad. Else it is left out, with a warning unless it names a file. Images and masks are always paired by the
list or by name, never by the order of a folder; a mask's name may have one of the endings `pairs.ENDINGS` more than its
image's. A list cannot say how its masks are to be read: a manifest's rule holds (`manifest.read_mask`: above 127 is
tampered). Masks that need another one (DSO-1 and NIST16 are inverted) are prepared by the set's script in
`data_scripts/`; then `pick` splits its manifest. TruFor's list of the VIPP forgeries writes `None` also where a mask is
missing: compare the numbers of labels.
"""

import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from mpc_lite.data.list_formats import entries
from mpc_lite.data.manifest import Sample, not_found
from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import absent, place

_SHOWN = 10  # problems that an error tells in full; of the others it gives the numbers


def read_list(
    path: str | Path, root: str | Path | None = None, source: str | None = None, format: str | None = None
) -> list[Sample]:
    """The samples of a foreign list, in its order.

    Paths are relative to `root`, by default to the list's folder (`folders`: to the folder itself). `source` names the
    data set, by default as the list is named. `format` is one of those above; without it the content decides. Files
    must exist, but are not opened. Raises InputError for a list that cannot be read or fits two formats, and for bad
    entries (missing file, same image twice, label against mask), which it names, every one, by number.
    """
    good, bad = sort_entries(path, root, source, format)
    if bad:
        lines = [problem for _, problem in bad[:_SHOWN]]
        if len(bad) > _SHOWN:
            lines.append(f"and further ones, numbers {_spans(number for number, _ in bad[_SHOWN:])}")
        raise InputError(
            f"{path}: {len(bad)} of {len(good) + len(bad)} entries cannot be used; correct them, or give as root the "
            "folder from which the paths start:\n" + "\n".join(lines)
        )
    return good


def sort_entries(
    path: str | Path, root: str | Path | None = None, source: str | None = None, format: str | None = None
) -> tuple[list[Sample], list[tuple[int, str]]]:
    """The list's samples, and (number, message) of every entry that cannot be used. Arguments as for `read_list`."""
    path, listed = place(path), entries(path, format)
    source = source or path.resolve().stem
    root = place(root) if root is not None else path if path.is_dir() else path.parent
    if not os.path.isdir(root):
        what = absent(root, "is not a folder")
        raise InputError(f"{shown(root, 200)} {what}; expected the one where the paths of {path.name} start")
    good, bad, first_entries, notes = [], [], {}, []
    for entry in listed:
        image, mask, problem = place(entry.image, root), None, entry.problem
        notes += [entry.note] if entry.note else []
        if not problem and not os.path.isfile(image):
            problem = not_found("image", entry.image, image, root)
        if not problem and entry.mask is not None:
            mask = place(entry.mask, root)
            if not os.path.isfile(mask):
                problem = not_found("mask", entry.mask, mask, root)
            elif os.path.normpath(mask) == os.path.normpath(image):
                problem = f"{shown(entry.image, 200)} is its own mask"
        if not problem:
            earlier = first_entries.setdefault(os.path.normpath(image), (entry, mask))
            if earlier[0] is not entry:
                other = "" if earlier[1] == mask else ", with another mask"
                problem = f"{shown(entry.image, 200)} is in {earlier[0].where} already{other}"
        if problem:
            bad.append((entry.number, f"{entry.where}: {problem}"))
        else:
            good.append(Sample(image, mask, entry.label, source, row=entry.number))
    if notes:
        warnings.warn(
            f"{shown(path, 200)}: {len(notes)} masks are called otherwise than their images: {some(notes, 3)}",
            stacklevel=2,
        )
    return good, bad


def pick(
    samples: list[Sample], path: str | Path, format: str | None = None
) -> tuple[list[Sample], list[tuple[int, str]]]:
    """The samples whose images a list names, in its order, and (number, message) of each entry that finds none or many.

    Only the list's images count, not its masks. An image is found by its file name; among several of that name, by the
    folders the list gives with it. So a split list made for raw files serves for a manifest whose masks are prepared.
    The only one of its name is not meant where the entry says another folder (`Folders`).
    """
    listed = [
        (each, Path("" if each.problem else _composed(each.image.replace("\\", "/"))).parts)
        for each in entries(path, format, masks=False)
    ]
    images = [tuple(map(_composed, sample.image.parts)) for sample in samples]
    masks = {_composed(sample.mask.name) for sample in samples if sample.mask}
    folders, alike = Folders(images, [parts for _, parts in listed]), Alike(images)
    chosen, bad, first_entries = [], [], {}
    for entry, parts in listed:
        problem = entry.problem
        if not problem:
            matches, _ = alike.closest(parts)
            sample = samples[matches[0]] if matches else None
            if parts and alike.number(parts[-1]) == 1 and folders.differ(parts, images[matches[0]]):
                folder = shown(sample.image.parent.name)
                problem = f"{shown(entry.image, 200)}: the one image of this name is in {folder}, another folder"
            elif entry.mask and is_image(entry.mask, parts, alike, masks):
                names = f"{shown(entry.image)} and {shown(entry.mask)}"
                problem = f"names two images of the manifest, {names}; write a line for each"
            elif len(matches) != 1:
                n = len(matches) or "no"
                problem = f"{shown(entry.image, 200)}: {n} images of the manifest have this name, expected one"
            elif (earlier := first_entries.setdefault(id(sample), entry)) is not entry:
                problem = f"{shown(entry.image, 200)} is in {earlier.where} already"
            else:
                chosen.append(sample)
        if problem:
            bad.append((entry.number, f"{entry.where}: {problem}"))
    return chosen, bad


Parts = tuple[str, ...]  # of a path


class Folders:
    """What folders a list's entries may mean: those below the images' common one; and the last folders, where the list
    and the images agree in any."""

    def __init__(self, images: Sequence[Parts], entries: Iterable[Parts]):
        above = [parts[:-1] for parts in images]
        levels = enumerate(zip(*above, strict=False))
        self.depth = next((i for i, level in levels if len(set(level)) > 1), min(map(len, above), default=0))
        self.known = {folder for parts in above for folder in parts[self.depth :]}
        ends = {parts[-2:] for parts in images}
        self.agree = any(len(parts) > 1 and parts[-2:] in ends for parts in entries)

    def differ(self, entry: Parts, image: Parts) -> bool:
        """Does an entry give another folder than that of the only image of its name, and not just another layout?"""
        n = common_tail(entry[:-1], image[:-1])
        if n == min(len(entry), len(image)) - 1:
            return False
        # One has a level that the other lacks, as Tp/a.jpg and Tp/CM/a.jpg, or the two in another order.
        if entry[-2 - n] in image[self.depth : -1] or image[-2 - n] in entry[:-1]:
            return False
        return entry[-2 - n] in self.known or (n == 0 and self.agree)


class Alike:
    """Which images of one name an entry is closest to. Each is filed under every end of its path where others have its
    name, so that thousands of frames of one name cost no more than others."""

    def __init__(self, images: Sequence[Parts]):
        self._of_name: dict[str, list[int]] = defaultdict(list)
        self._images, self._ends = images, {}
        for i, parts in enumerate(images):
            self._of_name[parts[-1]].append(i)

    def number(self, name: str) -> int:
        """Of images that have this name."""
        return len(self._of_name.get(name, ()))

    def closest(self, entry: Parts) -> tuple[list[int], int]:
        """Those of the entry's name whose path agrees with it in as many parts as any, from the last one on, by their
        places among the images; and in how many."""
        candidates = self._of_name.get(entry[-1], []) if entry else []
        if len(candidates) < 2:
            return candidates, common_tail(entry, self._images[candidates[0]]) if candidates else 0
        if (ends := self._ends.get(entry[-1])) is None:
            ends = self._ends[entry[-1]] = defaultdict(list)
            for i in candidates:
                for start in range(len(self._images[i])):
                    ends[self._images[i][start:]].append(i)
        return next((ends[entry[start:]], len(entry) - start) for start in range(len(entry)) if entry[start:] in ends)


def common_tail(a: Parts, b: Parts) -> int:
    """In how many parts, from the last one on, two paths agree."""
    return next(
        (n for n, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=False)) if x != y), min(len(a), len(b))
    )


def is_image(second: str, first: Parts, alike: Alike, masks: Container[str]) -> bool:
    """Is what stands behind an entry's image no mask of it but another image? Its folder tells, where the list has one;
    a bare name, where no mask is called so."""
    parts = Path(_composed(second.replace("\\", "/"))).parts
    if not parts or parts == first:
        return False
    agree = alike.closest(parts)[1]
    return agree > 1 if len(parts) > 1 else agree == 1 and parts[-1] not in masks and parts[-1] != first[-1]


def _composed(name: str) -> str:
    """A name whose accents are written in one way, whichever way the disk or the list has them."""
    return unicodedata.normalize("NFC", name)


def _spans(numbers: Iterable[int]) -> str:
    """Numbers as people write them: 3, 5–9."""
    runs = [list(run) for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])]
    return some(f"{run[0][1]}" if len(run) == 1 else f"{run[0][1]}–{run[-1][1]}" for run in runs)
