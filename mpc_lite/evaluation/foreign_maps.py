"""Score maps of any other detector, one file per image: the same protocols, intervals and baselines for all.

A map is found by its image's name, whole or without its ending, alone or with one of `ENDINGS`: `a.jpg` is scored by
`a.png`, `a.jpg.npz`, `a_pred.png`, … Integer files hold 0 to their greatest value (255, 65535), arrays of floats hold
scores in [0,1]. A map of another size is brought to its image's, bilinearly.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from mpc_lite.data.manifest import Sample
from mpc_lite.decoders import decode_file
from mpc_lite.errors import InputError, some
from mpc_lite.files import open_file, pixel_limit
from mpc_lite.inference.score_map import quantise

ENDINGS = ("pred", "prob", "map", "score", "heatmap", "mask", "output")  # after _ or -, as the field's tools write them
FILES = (".png", ".tif", ".tiff", ".bmp", ".npy", ".npz")
KEY = "map"  # of an .npz file; TruFor's files hold `map`, `conf` and `score`
_END = re.compile(rf"[_-]({'|'.join(ENDINGS)})$", re.IGNORECASE)


class ForeignMaps:
    """The maps of a folder. resized: how many of those read so far had another size than their image."""

    def __init__(self, folder: str | Path, key: str | None = None):
        """key: the array of an .npz file that holds more than one; `map` without it.

        Raises InputError for a folder that holds no map.
        """
        self.folder, self.key, self.resized = Path(folder), key, 0
        self._files: dict[str, list[Path]] = defaultdict(list)
        for file in sorted(self.folder.rglob("*")):
            if file.suffix.lower() in FILES and not file.name.startswith("."):
                self._files[_END.sub("", file.stem)].append(file)
        if not self._files:
            raise InputError(f"{folder}: no folder with maps; expected files {', '.join(FILES)}, named as their images")

    def read(self, sample: Sample, size: tuple[int, int]) -> np.ndarray:
        """Levels (H,W) uint16 of a sample's map, at its image's `size` (H,W).

        Raises InputError without a map, with several, and for a file that holds no map in [0,1].
        """
        names = (sample.image.name, sample.image.stem)
        files = next((self._files[name] for name in names if name in self._files), [])
        if len(files) != 1:
            wanted = f"a map of {sample.image.name}, such as {sample.image.stem}.png or {sample.image.name}.npz"
            here = some(file.relative_to(self.folder) for file in files) or "none"
            raise InputError(f"{sample.where}: expected {wanted} in {self.folder.name}; found {here}")
        try:
            score_map = _scores(files[0], self.key)
            if score_map.shape != size:
                self.resized += 1
                score_map = cv2.resize(score_map, size[::-1], interpolation=cv2.INTER_LINEAR)
            return quantise(score_map)
        except InputError as error:
            text = str(error)
            raise InputError(text if files[0].name in text else f"{files[0].name}: {text}") from None

    def digest(self) -> str:
        """sha256 of the maps' names and bytes, to say what a table was made from."""
        total = hashlib.sha256()
        for file in sorted(file for files in self._files.values() for file in files):
            total.update(str(file.relative_to(self.folder)).encode(errors="replace"))
            total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()


def _scores(file: Path, key: str | None) -> np.ndarray:
    """The map of a file, (H,W) float32; in [0,1] where it holds integers."""
    values = _array(file, key) if file.suffix.lower() in (".npy", ".npz") else decode_file(file)[0]
    values = np.squeeze(values)
    if values.ndim == 3 and values.shape[-1] in (3, 4) and (values[..., :1] == values[..., 1:3]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(
            f"{file.name}: shape {values.shape}, expected one grey map (H,W); a coloured picture is no map"
        )
    if values.dtype == bool:
        return values.astype(np.float32)
    if values.dtype.kind == "u":
        return values.astype(np.float32) / np.iinfo(values.dtype).max
    if values.dtype.kind != "f":
        raise InputError(f"{file.name}: values of type {values.dtype}, expected floats in [0,1], or unsigned integers")
    return values.astype(np.float32)


def _array(file: Path, key: str | None) -> np.ndarray:
    try:
        open_file(file).close()  # no pipe, no device
        limit = pixel_limit(file.stat().st_size)
        # Mapped, so that a header which promises more than the file holds costs nothing; an archive tells its sizes.
        loaded = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix.lower() == ".npy" else None)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            with loaded:
                name = key or (loaded.files[0] if len(loaded.files) == 1 else KEY)
                if name not in loaded.files:
                    raise InputError(f"{file.name}: no array '{name}'; choose one with --key: {some(loaded.files)}")
                sizes = {member.filename: member.file_size for member in loaded.zip.infolist()}
                if sizes.get(f"{name}.npy", 0) > 8 * limit + 4096:
                    raise InputError(f"{file.name}: array '{name}' has more than the {limit} values that may be read")
                array = loaded[name]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError, KeyError) as error:
        raise InputError(f"{file.name}: cannot be read as an array ({type(error).__name__})") from None
    if array.size > limit:
        raise InputError(f"{file.name}: {array.size} values, more than the {limit} that may be read")
    return array
