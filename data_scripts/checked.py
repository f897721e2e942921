"""The checking of pairs, one image at a time: read the image, apply the mask rule, convert the mask if need be."""

from __future__ import annotations

import filecmp
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from common import MaskRule, Pair, Tree
from converted import Converted
from mpc_lite.data.lists import Alike, Folders, is_image
from mpc_lite.data.manifest import Sample, check_name
from mpc_lite.data.pairs import stem
from mpc_lite.errors import InputError, out_of_memory, unreadable
from mpc_lite.images import TAMPERED_ABOVE, read_image, read_mask_file, read_mask_values

SLACK = 0.05  # of the proportion of a mask's sides: as much may differ from its image's without looking turned


@dataclass(frozen=True)
class SplitList:
    """A split and the images that a list names for it: file names, or paths whose ends count."""

    name: str
    entries: Sequence[str]
    beside: Sequence[tuple[str, str]] = ()  # (name, what stands behind it in its line: the mask, or another image)


class Checked:
    """Pairs as they come out of the check: `samples` and `good` (in step), or `bad`, each with its reason."""

    def __init__(
        self,
        tree: Tree,
        rule: MaskRule,
        folder: Converted,
        source: str,
        splits: Sequence[SplitList] = (),
        pairs: Sequence[Pair] = (),
    ) -> None:
        """folder: for converted masks. source: the samples' where a pair has none. pairs: all, to know equal names."""
        self.tree, self.rule, self.folder, self.source = tree, rule, folder, source
        self.samples: list[Sample] = []
        self.good: list[Pair] = []
        self.bad: list[dict[str, str]] = []
        self.notes: list[dict[str, str]] = []
        self.shares: list[float] = []  # of tampered pixels, one per mask
        self.as_given = self.converted = 0
        self._seen: set[Path] = set()
        self._authentic: dict[tuple[str, int], list[Path]] = defaultdict(list)  # by name and bytes
        self._listed: dict[str, list[tuple[str, str]]] = defaultdict(list)  # stem -> (entry, split)
        for split in splits:
            for entry in dict.fromkeys(split.entries):
                self._listed[stem(entry)].append((entry, split.name))
        self._met: set[tuple[str, str]] = set()
        # Of images of one name, those that an entry means: where its folders agree with most of theirs, from the end.
        # The only one of its name is not meant where the entry says another folder.
        self._meant: dict[tuple[str, str], list[Path]] = {}
        self._named: dict[tuple[str, Path], list[tuple[str, str]]] = defaultdict(list)  # (stem, folder) -> as _listed
        images = [pair.image for pair in pairs if pair.image] if splits else []
        self._files = {(image.parent, _spelt(image.name)) for image in images}
        parts = [_parts(image) for image in images]
        alike = Alike(parts)
        spelt = Alike([tuple(map(_spelt, image.parts)) for image in images])
        masks = {_spelt(pair.mask.name) for pair in pairs if pair.mask}
        for split in splits:
            of_their_own = set(split.entries)
            for first, second in split.beside:
                line = tuple(map(_spelt, PurePosixPath(first).parts))
                if second not in of_their_own and is_image(_spelt(second), line, spelt, masks):
                    problem = f"the list of split {split.name} names it behind another image; write a line for each"
                    self.bad.append({"image": second, "mask": "", "problem": problem})
        for split in {split for entries in self._listed.values() for _, split in entries}:
            named = {
                (entry, split): _parts(entry)
                for name, entries in self._listed.items()
                for entry, of in entries
                if of == split and alike.number(name)
            }
            folders = Folders(parts, named.values())
            for entry, its in named.items():
                closest, n = alike.closest(its)
                lone = alike.number(its[-1]) == 1
                meant = not folders.differ(its, parts[closest[0]]) if lone else n > 1
                self._meant[entry] = [images[i] for i in closest] if meant else []
                if len(folders_of := {image.parent for image in self._meant[entry]}) == 1:
                    self._named[its[-1], folders_of.pop()].append(entry)

    def add(self, pair: Pair) -> None:
        """Check one pair; what is wrong with it goes into `bad`, nothing is raised."""
        try:
            split = self._split(pair)
            if pair.problem:
                raise InputError(pair.problem)
            for file in filter(None, (pair.image, pair.mask)):
                check_name(self.tree.name(file))
            mask, note = self._mask(pair)
        except (InputError, MemoryError, cv2.error) as error:
            if not isinstance(error, InputError) and not out_of_memory(error):
                raise
            problem = str(unreadable(pair.image, error))  # an InputError's own words
            names = {"image": self.tree.name(pair.image), "mask": self.tree.name(pair.mask)}
            self.bad.append({**names, "problem": self._without_paths(problem, pair)})
            return
        self.good.append(pair)
        self.samples.append(Sample(pair.image, mask, pair.label, pair.source or self.source, split))
        if note := "; ".join(filter(None, (pair.note, note))):
            self.notes.append({"image": self.tree.name(pair.image), "note": note})

    def end(self) -> None:
        """After the last pair: the entries of split lists that no image answered are bad ones, too."""
        for entries in self._listed.values():
            for entry, split in entries:
                if (entry, split) not in self._met:
                    problem = f"the list of split {split} names it, but no image answers to that"
                    meant = self._meant.get((entry, split))
                    if meant is not None and len(folders := {image.parent for image in meant}) > 1:
                        problem = f"the list of split {split} names it, as images in {len(folders)} folders are called"
                        problem += "; give more of its folders"
                    elif meant == []:
                        problem = f"the list of split {split} names it, but images of its name are in other folders"
                    self.bad.append({"image": entry, "mask": "", "problem": problem})

    def _mask(self, pair: Pair) -> tuple[Path | None, str]:
        """The file of the mask, converted if the package would not read it as the rule does; and a note."""
        if pair.image.resolve() in self._seen:
            raise InputError("the image comes twice")
        self._seen.add(pair.image.resolve())
        pixels = read_image(pair.image)
        if pair.label == 0:
            alike = self._authentic[_spelt(pair.image.name), pair.image.stat().st_size]
            for other in alike:  # a folder beside its own archive, which is unpacked too
                if filecmp.cmp(other, pair.image, shallow=False):
                    raise InputError(f"the image comes twice, the other time as {self.tree.name(other)}")
            alike.append(pair.image)
            return None, ""
        if pair.mask is None:
            raise InputError("no mask")
        rule, note = pair.rule or self.rule, ""
        try:
            if pair.read:
                mask, note = pair.read(pixels, rule)
            else:
                mask = read_tampered(pair.mask, rule)
        except InputError as error:
            raise InputError(f"mask: {error}") from None
        (height, width), (h, w) = pixels.shape[:2], mask.shape
        if (h, w) != (height, width):
            if not rule.fit:
                turned = " (turned)" if (w, h) == (height, width) else ""
                raise InputError(f"size mismatch: image {width}×{height}, mask {w}×{h}{turned}")
            mask, note = fitted(mask, (height, width))
        if not mask.any():
            raise InputError("empty mask: no tampered pixel by the set's rule")
        self.shares.append(float(mask.mean()))
        if not pair.read and _reads_as(mask, pair.mask):
            self.as_given += 1
            return pair.mask, note
        self.converted += 1
        return self.folder.write(mask, self.tree.name(pair.image)), note

    def _split(self, pair: Pair) -> str | None:
        """The pair's own split, or that of the list which names its image; the folder decides where names are equal."""
        if pair.image is None:
            return pair.split
        folder, name = pair.image.parent, _spelt(pair.image.name)
        entries = [
            each  # and no other image there is called as the list says, ending and all
            for each in self._named.get((stem(pair.image), folder), [])
            if (spelt := _spelt(PurePosixPath(each[0]).name)) == name or (folder, spelt) not in self._files
        ]
        self._met.update(entries)
        splits = sorted({split for _, split in entries} | ({pair.split} if pair.split else set()))
        if len(splits) > 1:
            raise InputError(f"the image is in several splits: {', '.join(splits)}")
        return splits[0] if splits else None

    def _without_paths(self, text: str, pair: Pair) -> str:
        """Records hold no path of the machine."""
        for file in filter(None, (pair.image, pair.mask)):
            text = text.replace(f"{file}: ", "").replace(str(file), file.name)
        for root in self.tree.roots:
            text = text.replace(f"{root}/", "")
        return text


def _spelt(name: str) -> str:
    """A name in one case and one form of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _parts(path: str | Path) -> tuple[str, ...]:
    """Folders and stem, in one case and one form of accents: a list may have others, and another ending."""
    *folders, name = PurePosixPath(path).parts
    return (*map(_spelt, folders), stem(name))


def read_tampered(path: Path, rule: MaskRule) -> np.ndarray:
    """A mask file by its set's rule, (H,W) uint8, 1 tampered.

    Where the set's own rule says no more than "above 127" (or the others), the package's reading holds, which refuses
    masks whose meaning is not plain. Raises InputError for those, and for a file that is not a complete image.
    """
    if rule.channel == "luma" and rule.threshold == TAMPERED_ABOVE and not rule.chosen:
        mask = read_mask_file(path)
        return 1 - mask if rule.inverted else mask
    values = read_mask_values(path)
    if values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    return rule(np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values)


def fitted(mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """A mask of another size than its image (H,W), resized to it, and a note. InputError for one that lies on its side:
    of exchanged sides, or high where the image is wide and the other way round."""
    (height, width), (h, w) = size, mask.shape
    apart = abs(w * height - h * width) > SLACK * h * width
    if (w, h) == (height, width) or (apart and (w - h) * (width - height) < 0):
        raise InputError(f"size mismatch: image {width}×{height}, mask {w}×{h} (turned)")
    return (
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST),
        f"mask {w}×{h} resized to {width}×{height}, nearest",
    )


def _reads_as(mask: np.ndarray, file: Path) -> bool:
    """Does the package, which knows no rule of the set, read the file as this mask?"""
    try:
        return np.array_equal(mask, read_mask_file(file))
    except InputError:
        return False
