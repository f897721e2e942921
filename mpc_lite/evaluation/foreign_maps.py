"""Score maps of any other detector, one file per image: the same protocols, intervals and baselines for all.

A map is found by its image's name, whole or without its ending, alone or with one of `ENDINGS`: `a.jpg` is scored by
`a.png`, `a.jpg.npz`, `a_pred.png`, …; where none is spelt so, letters' case and the form of accents do not count, as
for masks (`pairs.stem`). Integers, of 8 or 16 bits, mean 0 to their greatest value (255, 65535; 4095 in TIFFs of 12
bits), arrays of floats hold scores in [0,1]. A map of another size is brought to its image's, bilinearly. A map that
may be that of several images is none of theirs, unless one of them has a map with its whole name.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from mpc_lite.data.manifest import Sample, why_turned
from mpc_lite.data.pairs import stem
from mpc_lite.decoders import decode_file
from mpc_lite.errors import InputError, quiet, shown, some
from mpc_lite.evaluation.notes import unsure
from mpc_lite.files import RAISED, folders_below, open_file, pixel_limit, place
from mpc_lite.images import check_one_page, read_mask_values, turn_of, turned
from mpc_lite.inference.score_map import quantise

ENDINGS = ("pred", "prob", "map", "score", "heatmap", "mask", "output")  # after _ or -, as the field's tools write them
FILES = (".png", ".tif", ".tiff", ".bmp", ".npy", ".npz")
KEY = "map"  # of an .npz file; TruFor's files hold `map`, `conf` and `score`
_END = re.compile(rf"[_-]({'|'.join(ENDINGS)})$", re.IGNORECASE)


class ForeignMaps:
    """The maps of a folder. Of those read so far, resized: how many had another size than their image; highest: their
    greatest score."""

    def __init__(self, folder: str | Path, key: str | None = None, samples: Iterable[Sample] = ()):
        """key: the array of an .npz file that holds more than one; `map` without it. samples: all that will be read, so
        that no map is taken for two of them.

        Raises InputError for a folder that holds no map.
        """
        self.folder, self.key, self.resized, self.highest = place(folder), key, 0, 0.0
        self._closed: list[str] = []
        self._truth: set[Path] = set()  # maps read that are an image or its mask
        self._unsure: set[Path] = set()  # images whose tag turns them by what their maps' sides do not show
        self._files: dict[str, list[Path]] = defaultdict(list)
        self._alike: dict[str, list[Path]] = defaultdict(list)  # by names as `stem` folds them
        below = [file for here, names in folders_below(self.folder) for file in (here, *map(here.joinpath, names))]
        for file in sorted(below[1:]):
            if file.suffix.lower() in FILES and not file.name.startswith("."):
                try:
                    open_file(file).close()
                except OSError:  # a folder, a pipe, a link to nothing: met now, not after the work
                    self._closed.append(file.name)
                    continue
                # a_map.png may be the map of a.jpg or of a_map.jpg.
                for name in {file.stem, _END.sub("", file.stem)}:
                    self._files[name].append(file)
                for key in {stem(file), _END.sub("", stem(file))}:
                    self._alike[key].append(file)
        if not self._files:
            expected = f"expected files {', '.join(FILES)}, named as their images"
            raise InputError("; ".join([f"{folder}: no folder with maps", expected, *self.notes()]))
        images = {sample.image for sample in samples}
        self._spelt = {file for image in images for file in self._exactly(image)}
        self._images: dict[Path, set[Path]] = defaultdict(set)
        for image in images:
            for file in self._of(image):
                self._images[file].add(image)

    def _exactly(self, image: Path) -> list[Path]:
        return next((self._files[name] for name in (image.name, image.stem) if name in self._files), [])

    def _of(self, image: Path) -> list[Path]:
        """The maps that may be an image's: with its whole name, or else without its ending. Where no name is spelt so,
        those that differ in case or accents alone and are not spelt as another image is."""
        if files := self._exactly(image):
            return files
        keys = (stem(f"{image.name}.png"), stem(image))
        alike = next((self._alike[key] for key in keys if key in self._alike), [])
        return [file for file in alike if file not in self._spelt]

    def read(self, sample: Sample, size: tuple[int, int]) -> np.ndarray:
        """Levels (H,W) uint16 of a sample's map, at its image's `size` (H,W).

        Raises InputError without a map, with several, for one that may be another sample's too, for one that lies on
        its side, and for a file that holds no map in [0,1].
        """
        files = self._of(sample.image)
        if len(files) != 1:
            wanted = f"a map of {sample.image.name}, such as {sample.image.stem}.png or {sample.image.name}.npz"
            here = some(file.relative_to(self.folder) for file in files) or "none"
            raise InputError(f"{sample.where}: expected {wanted} in {self.folder.name}; found {here}")
        file = files[0]
        if len(claims := self._images.get(file, ())) > 1:
            advice = f"name each map as the whole of its image's name, such as {sample.image.name}.png"
            if len({image.name for image in claims}) < len(claims):
                advice = "score images of one name with manifests and folders of maps of their own"
            raise InputError(f"{sample.where}: {file.name} may be the map of {_apart(claims)}; {advice}")
        if any(own and os.path.exists(own) and os.path.samefile(file, own) for own in (sample.mask, sample.image)):
            self._truth.add(file)
        try:
            score_map = _scores(file, self.key, size)
            self.highest = max(self.highest, float(score_map.max()))
            self._check_sides(sample, file, score_map.shape, size)
            if score_map.shape != size:
                self.resized += 1
                score_map = cv2.resize(score_map, size[::-1], interpolation=cv2.INTER_LINEAR)
            return quantise(score_map)
        except InputError as error:
            text = str(error)
            raise InputError(text if file.name in text else f"{file.name}: {text}") from None

    def _check_sides(self, sample: Sample, file: Path, shape: tuple[int, int], size: tuple[int, int]) -> None:
        """InputError for a map whose sides are in the image's proportion only when they are exchanged."""
        (h, w), (height, width) = shape, size
        upright, lying = _in_proportion(shape, size), _in_proportion(shape, size[::-1])
        if lying and not upright:
            why = why_turned(sample, file, "map")
            raise InputError(f"map {w}×{h}, image {width}×{height}{why}; give a map of the image's size")
        turn = turn_of(sample.image)
        if turn in (2, 3, 4) or (turn in (5, 6, 7, 8) and not (upright and not lying)):
            self._unsure.add(sample.image)

    def notes(self) -> list[str]:
        """What a reader of the scores should know: files left out, and images whose maps may be turned."""
        notes = []
        if self._closed:
            n = len(self._closed)
            notes.append(f"{n} files of {self.folder.name} cannot be opened and were left out: {some(self._closed)}")
        if self._truth:
            n = len(self._truth)
            notes.append(
                f"{n} maps are the masks or images themselves, no detector's: {some(f.name for f in self._truth)}"
            )
        if 0 < self.highest < 0.5:  # as zeros and ones are, 0 and 255 or 0 to 1000 of 16 bits, and some detectors
            notes.append(
                f"no map has a score above {self.highest:.2g}, so that 0.5 marks nothing; whole numbers count up to "
                "the greatest of their type: save zeros and ones as booleans or 0 and 255, others as floats of 0 to 1"
            )
        if self._unsure:
            notes.append(unsure("maps", sorted(image.name for image in self._unsure)))
        return notes

    def digest(self) -> str:
        """sha256 of the maps' names and bytes, to say what a table was made from."""
        total = hashlib.sha256()
        for file in sorted({file for files in self._files.values() for file in files}):
            total.update(str(file.relative_to(self.folder)).encode(errors="replace"))
            content = hashlib.sha256()
            try:
                with open_file(file) as opened:
                    for block in iter(lambda: opened.read(1 << 20), b""):
                        content.update(block)
            except OSError as error:
                raise InputError(f"{file}: cannot be read ({error.strerror}); take it out of the folder") from None
            total.update(content.digest())
        return total.hexdigest()


def _apart(images: Iterable[Path]) -> str:
    """Images by their names; where these are equal, with as many folders as tell them apart."""
    images = sorted(images)
    n = next(n for n in range(1, 4096) if len({image.parts[-n:] for image in images}) == len(images))
    return some(f"{image.name} ({'/'.join(image.parts[-n:-1])})" if n > 1 else image.name for image in images)


def _in_proportion(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Has a map (h,w) the sides of an image (H,W), or those of it made larger or smaller, to a pixel?"""
    (h, w), (height, width) = shape, size
    return shape == size or abs(h * width - w * height) <= max(size)


def _scores(file: Path, key: str | None, size: tuple[int, int]) -> np.ndarray:
    """The map of a file, (H,W) float32; in [0,1] where it holds integers. size: its image's."""
    if file.suffix.lower() in (".npy", ".npz"):
        values = _array(file, key)
        if 0 in values.shape:
            raise InputError(f"{file.name}: shape {values.shape}, which holds no value; expected one grey map (H,W)")
        values = _plane(values, size)
    else:
        values = _picture(file)
        if values.ndim == 3 and (values == values[..., :1]).all():
            values = values[..., 0]
    if values.ndim != 2:
        raise InputError(
            f"{file.name}: shape {values.shape}, expected one grey map (H,W); a coloured picture is no map"
        )
    if values.dtype == bool:
        return values.astype(np.float32)
    # Of longer ones nobody can tell whether 255 or 4294967295 is a score of 1.
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        scores = values.astype(np.float32)
        scores /= np.iinfo(values.dtype).max
        return scores
    if values.dtype.kind != "f":
        raise InputError(f"{file.name}: values of type {values.dtype}, expected floats in [0,1], uint8 or uint16")
    return values.astype(np.float32, copy=False)


def _picture(file: Path) -> np.ndarray:
    """The values of a picture. Where something shows through, they are read as a mask's are (`read_mask_values`)."""
    values, _, turn = decoded = decode_file(file)
    check_one_page(file)
    if decoded.opaque:
        return turned(values, turn)
    if values.dtype != np.uint8:
        raise InputError(f"{file.name}: {values.dtype} with transparency; save the map as grey without")
    try:
        return read_mask_values(file)
    except MemoryError:
        raise
    except InputError:
        advice = "save the map as grey without transparency"
        raise InputError(f"{file.name}: with its transparency and without it is two different maps; {advice}") from None


def _plane(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array without an axis of equal colours, its last, and without axes of one beyond two: those that leave the
    image's sides, or where none do, the only ones there are. Any other array stays as it is."""
    colours = values.ndim > 2 and values.shape[-1] in (3, 4)
    grey = colours and (values[..., :1] == values[..., 1:3]).all()
    for each in (values, values[..., 0]) if grey else (values,):
        ones = [axis for axis, side in enumerate(each.shape) if side == 1]
        ways = [np.squeeze(each, axes) for axes in combinations(ones, max(0, each.ndim - 2))]
        fitting = [way for way in ways if way.shape == size]
        if fitting or (each.ndim >= 2 and len({way.shape for way in ways}) == 1 and not (colours and each is values)):
            return (fitting or ways)[0]
    return values


def _array(file: Path, key: str | None) -> np.ndarray:
    try:
        open_file(file).close()  # no pipe, no device
        limit = pixel_limit(file.stat().st_size)
        # Mapped, so that a header which promises more than the file holds costs nothing; an archive tells its sizes.
        with quiet():  # what NumPy warns of in a header that it then refuses
            loaded = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix.lower() == ".npy" else None)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            with loaded:
                array = _member(loaded.zip, file.name, key, limit)
    except InputError:
        raise
    except Exception as error:  # damaged, locked or foreign archives: zlib, LZMA, RuntimeError, NotImplementedError, …
        reason = shown(error, 100) or type(error).__name__
        if "Python objects" in reason or "Object arrays" in reason:
            reason = "it holds Python objects, as of a dictionary; save the map alone, an array of numbers"
        elif (
            "pickle" in reason or "malformed" in reason
        ):  # NumPy's guess of what it does not know, and advice to run it
            reason = "no .npy or .npz file that holds numbers"
        raise InputError(f"{file.name}: cannot be read as an array ({reason})") from None
    if array.size > limit:
        raise InputError(f"{file.name}: {array.size} values, more than the {limit} that may be read")
    return array


def _member(archive: zipfile.ZipFile, name: str, key: str | None, limit: int) -> np.ndarray:
    """An array of an .npz file: a member whose name ends in .npy. Others are no arrays, and none is unpacked."""
    sizes = {m.filename[:-4]: m.file_size for m in archive.infolist() if m.filename.endswith(".npy")}
    key = key or (next(iter(sizes)) if len(sizes) == 1 else KEY)
    if key not in sizes:
        others = f"choose one with --key: {some(sizes)}" if sizes else "it holds no member that ends in .npy"
        raise InputError(f"{name}: no array '{shown(key)}'; {others}")
    # What is no float32 is copied to it: eight bytes a value are twelve, and no array of a short file may take 1 GiB.
    if sizes[key] > (most := 8 * limit * 2 // 3) + 4096:
        raise InputError(
            f"{name}: array '{shown(key)}' has {sizes[key]} bytes, of a file like this at most {most} are read; save "
            f"it as float32, or if you trust it, set {RAISED} to a larger number of values"
        )
    with archive.open(f"{key}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
