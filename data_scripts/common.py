"""What the file of a set is made of: the set as data (`DataSet`), its mask rule, and the pairing of images and masks.

A set's file declares a `DataSet` whose `pairs` function looks into the unpacked folders through a `Tree` and says which
mask belongs to which image, by name or by a list, never by sort order. Opening the files, checking, converting masks,
counting and writing is `make.py`'s work.
"""

from __future__ import annotations

import fnmatch
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from converted import is_converted, is_packed
from mpc_lite.cli.terminal import put
from mpc_lite.data.pairs import stem  # the key that most sets pair by
from mpc_lite.errors import InputError, printable, some
from mpc_lite.files import PICTURES, folders_below, open_file
from mpc_lite.run_folder import of_the_system

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
LISTED = 64 << 20  # bytes of a list or a sheet that comes with a set; the largest have some ten million
SEEN, UNVERIFIED = "seen", "from documentation, unverified"


@dataclass(frozen=True)
class MaskRule:
    """Which values of a mask file mean tampered: those above `threshold` of `channel`, or, `inverted`, the others.

    Files whose maximum is at most 1 count as 0/255 files. `fit` allows masks of another size than their image, which
    are then resized to it (nearest), each one recorded.
    """

    words: str = "above 127"  # as the set's source puts it; printed and recorded
    threshold: int = 127
    channel: Literal["luma", "red", "green", "blue"] = "luma"
    inverted: bool = False
    fit: bool = False
    chosen: bool = False  # the threshold is the user's: it alone decides, also where it is the package's own

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values of a mask file, (H,W,3) uint8, to (H,W) uint8: 1 tampered, 0 authentic."""
        channels = ("red", "green", "blue")
        if self.channel == "luma":
            values = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
        else:
            values = values[..., channels.index(self.channel)]
        if values.max() <= 1:
            values = values * 255
        above = values > self.threshold
        return (~above if self.inverted else above).astype(np.uint8)


# Reads one pair's mask in a way of its own: (image pixels, rule) -> (mask (H,W) 0/1, a note for the record or "").
Reader = Callable[[np.ndarray, MaskRule], tuple[np.ndarray, str]]


@dataclass(frozen=True)
class Pair:
    """An image with its mask (None for authentic images), or, with `problem`, a bad pair that is listed and left out.

    `source` and `rule` replace the set's own for this pair; `read` replaces the reading of the mask (it may raise
    InputError, which makes the pair a bad one); `note` is recorded beside the image's name.
    """

    image: Path | None
    mask: Path | None = None
    label: int = 1
    split: str | None = None
    source: str | None = None
    problem: str = ""
    note: str = ""
    read: Reader | None = None
    rule: MaskRule | None = None


@dataclass(frozen=True)
class Download:
    """A file whose owner lets everybody fetch it, at a stable public address."""

    url: str
    file: str  # its name beside the manifest
    sha256: str | None = None  # when it is known beforehand; otherwise recorded on first use


@dataclass(frozen=True)
class DataSet:
    """A public data set as data. `counts` are those that circulate, by "tampered", "authentic" or a pair's source."""

    name: str  # of the manifest
    source: str  # the paper's name of it, the manifest's column
    title: str
    owner: str
    page: str
    terms: str
    evidence: Literal["seen", "from documentation, unverified"]  # how its layout is known
    seen: str  # what exactly was seen or read
    layout: str  # what the folder must contain; printed when it does not
    mask: MaskRule
    counts: dict[str, dict[int, str]]  # number of images -> who counts so
    paper: int | None  # images in the paper's test set; None: not one of its test sets
    pairs: Callable[[Tree], Iterable[Pair]]
    downloads: tuple[Download, ...] = ()  # none: the user downloads from the page
    remark: str = ""  # what else its user should know; printed and recorded


@dataclass
class Tree:
    """The files beneath the folders that the user gave, found by the ends of their paths, whatever lies above them.

    Links to folders are followed (`folders_below`); a file that lies beneath anyway is called by its own path, not by
    that of a link to it. Below the folders given, those with converted masks of any run are left out, and nothing else
    is: a set may lie where the manifests are written.
    """

    roots: Sequence[Path]
    notes: list[str] = field(init=False)  # what the user should know of links and folders
    _entries: list[tuple[tuple[str, ...], Path]] = field(init=False, repr=False)  # folded parts of the folder, file
    _names: dict[Path, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.roots = [Path(root).resolve() for root in self.roots]
        folders = [(n, here, names) for n, root in enumerate(self.roots) for here, names in folders_below(root)]
        real = {here: here.resolve() for _, here, _ in folders}
        seen, skipped, found = set(), set(), []
        for n, here, names in sorted(folders, key=lambda each: each[1] != real[each[1]]):  # links last, of all roots
            root, there = self.roots[n], real[here]
            lies = (there,) if here == there else (there, *there.parents)
            if here != root and ((n, here.parent) in skipped or any(map(is_converted, lies))):
                skipped.add((n, here))
            elif there not in seen:  # folders given may overlap
                seen.add(there)
                parts = [(1, part) for part in here.relative_to(root).parts]
                found += [(n, (*parts, (0, name)), here / name) for name in names if not of_the_system(name)]
        self._names, self._entries = {}, []
        for n, parts, path in sorted(found):  # at each level the files first, then the folders
            self._names[path] = path.relative_to(self.roots[n]).as_posix()
            self._entries.append((tuple(p.casefold() for p in (self.roots[n].name, *(p for _, p in parts[:-1]))), path))
        self.notes = [
            f"{name} is a link that leads nowhere, so nothing of it is looked at"
            for path, name in self._names.items()
            if not path.suffix and not os.path.exists(path)
        ]
        lying = {str(here).casefold() for here in real}
        if packed := [name for path, name in self._names.items() if is_packed(path, lying)]:
            self.notes.append(
                f"{some(packed, 4)}: not looked into; unpack what is of the set and not unpacked yet, or give it too"
            )

    def files(self, folder: str = "**", name: str = "*", suffixes: Sequence[str] = IMAGES) -> list[Path]:
        """Files in the order of their paths, upper and lower case being the same.

        folder: the last parts of the folder's path, each a pattern, such as "Tp/CM" or "reference/*/mask"; a final
        "**" takes the folders below as well. name: a pattern for the file's name. suffixes: () takes any.
        """
        wanted = [part.casefold() for part in folder.split("/")]
        return [
            path
            for parts, path in self._entries
            if (not suffixes or path.suffix.lower() in suffixes)
            and fnmatch.fnmatchcase(path.name.casefold(), name.casefold())
            and _ends(parts, wanted)
        ]

    def unused(self, pairs: Iterable[Pair]) -> list[str]:
        """Pictures of an ending that no pair of their folder has: what the pairing, by the original's, passed over."""
        used = {(file.parent, file.suffix.lower()) for pair in pairs for file in (pair.image, pair.mask) if file}
        left = defaultdict(list)
        for _, path in self._entries:
            if path.suffix.lower() in PICTURES and (path.parent, path.suffix.lower()) not in used:
                left[path.parent, path.suffix.lower()].append(path)
        return [f"{len(each)} {ending} in {Path(self.name(each[0])).parent}" for (_, ending), each in left.items()]

    def name(self, path: Path | None) -> str:
        """How records call a file: its path below the folder that was given, never the machine's path."""
        return "" if path is None else self._names.get(path, path.name)


def _ends(parts: tuple[str, ...], wanted: list[str]) -> bool:
    if wanted[-1] == "**":
        stem, ends = wanted[:-1], range(len(wanted) - 1, len(parts) + 1)
    else:
        stem, ends = wanted, (len(parts),)
    n = len(stem)
    return any(n <= end and all(map(fnmatch.fnmatchcase, parts[end - n : end], stem)) for end in ends)


def text_of(path: Path, what: str, errors: str = "strict") -> str:
    """The text, UTF-8, of a list that comes with a set. InputError, which calls it `what`, for none and for no list."""
    try:
        with open_file(path) as file:
            data = file.read(LISTED + 1)
        if len(data) <= LISTED:
            return data.decode("utf-8-sig", errors)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what} cannot be read ({reason}); save it as text in UTF-8, or take it out") from None
    raise InputError(f"{what} is longer than {LISTED >> 20} MB, expected a list of names; replace it or take it out")


def without_end(*ends: str) -> Callable[[Path], str]:
    """The key of masks that are called as their image plus an ending: `a_gt.png` of `a.jpg` with ends `_gt`."""

    def key(path: Path) -> str:
        name = stem(path)
        return next((name[: -len(end)] for end in ends if name.endswith(end)), name)

    return key


def authentic(images: Iterable[Path], split: str | None = None, source: str | None = None) -> Iterator[Pair]:
    """Images without a tampered pixel."""
    return (Pair(image, label=0, split=split, source=source) for image in images)


def beside(tree: Tree, files: Iterable[Path], tampered: Iterable[Pair]) -> list[Path]:
    """Those of some files that lie nearest to the forgeries of their set, by folders below those given: several sets
    may lie in one folder, and call theirs alike. What is left out is told."""
    files, near = list(files), set()
    folders = {file.parent: Path(tree.name(file)).parent for file in files}
    for image in {pair.image.parent: pair.image for pair in tampered if pair.image and not pair.problem}.values():
        other = Path(tree.name(image)).parent
        shared = {folder: _shared(below, other) for folder, below in folders.items()}
        if not any(shared.values()):  # of several folders given
            shared = {folder: _shared(folder, image.parent) for folder in folders}
        most = max(shared.values(), default=0)
        near |= {folder for folder, n in shared.items() if n == most}
    far = {*folders} - near if near else set()
    if far:
        listed = some(sorted(map(str, far)), 4)
        put(printable(f"note: {listed}: further from the forgeries, so of another set, and left out"))
    return [file for file in files if file.parent not in far]


def _shared(folder: Path, other: Path) -> int:
    """How many folders lie above both."""
    return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], zip(folder.parts, other.parts, strict=False)))


def match(
    images: Iterable[Path],
    masks: Iterable[Path],
    image_key: Callable[[Path], str] = stem,
    mask_key: Callable[[Path], str] = stem,
    otherwise: Callable[[Path], str] | None = None,
    **facts,
) -> list[Pair]:
    """Tampered images with the masks of the same key, in the images' order; whatever is left over is a bad pair.

    A key that two images, or two masks, share is ambiguous: all of them are bad pairs. `otherwise` is a second key for
    what the first leaves over, used where it is unique on both sides, and noted. `facts` go into each pair.
    """
    images, masks = list(images), list(masks)
    of_image, of_mask = _by(images, image_key), _by(masks, mask_key)
    mask_of: dict[Path, Path] = {
        of_image[key][0]: of_mask[key][0]
        for key in of_image
        if len(of_image[key]) == 1 and len(of_mask.get(key, ())) == 1
    }
    notes: dict[Path, str] = {}
    if otherwise:
        lone_images = _by([p for p in images if p not in mask_of and len(of_image[image_key(p)]) == 1], otherwise)
        used = set(mask_of.values())
        lone_masks = _by([p for p in masks if p not in used and len(of_mask[mask_key(p)]) == 1], otherwise)
        for key, (first, *more) in lone_images.items():
            if not more and len(lone_masks.get(key, ())) == 1:
                mask_of[first] = lone_masks[key][0]
                notes[first] = f"paired by {key} with {mask_of[first].name}"

    pairs = []
    for image in images:
        key = image_key(image)
        if image in mask_of:
            pairs.append(Pair(image, mask_of[image], note=notes.get(image, ""), **facts))
        elif len(of_image[key]) > 1:
            pairs.append(Pair(image, problem=f"{len(of_image[key])} images are called {key}", **facts))
        elif len(of_mask.get(key, ())) > 1:
            several = some(mask.name for mask in of_mask[key])
            pairs.append(Pair(image, problem=f"{len(of_mask[key])} masks for it: {several}", **facts))
        else:
            pairs.append(Pair(image, problem="no mask", **facts))
    used = set(mask_of.values())
    claimed = {key for key in of_image if len(of_image[key]) > 1 or len(of_mask.get(key, ())) > 1}
    left = [mask for mask in masks if mask not in used and mask_key(mask) not in claimed]
    return pairs + [Pair(None, mask, problem="mask without image", **facts) for mask in left]


def _by(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return dict(groups)
