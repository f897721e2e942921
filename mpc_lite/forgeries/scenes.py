"""Scenes: light without the marks of a camera, from packaged photographs, dead leaves or a folder of yours.

A photograph already went through a camera. Its marks live in the finest detail, so a scene is a photograph made smaller
(by area averaging, where there are pixels enough) and taken back to linear light. Dead leaves are images of random
opaque discs with the statistics of natural scenes: edges at every scale, flat and textured parts, no camera at all.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
import zlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mpc_lite.errors import InputError, listed_if_too_large, some
from mpc_lite.files import PICTURES, absent, expand, open_file, pictures_in
from mpc_lite.forgeries.resample import without_ipp
from mpc_lite.images import read_image
from mpc_lite.provenance import predict_wrote

# Photographs inside scikit-image and scikit-learn, with the split each belongs to (licences: NOTICE).
PACKAGED = {
    "train": [
        "astronaut.png",
        "coffee.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "ihc.png",
        "grass.png",
        "china.jpg",
    ],
    "validation": ["chelsea.png", "gravel.png"],
    "test": ["flower.jpg", "retina.jpg", "brick.png"],
}
LEAVES = {"train": 96, "validation": 16, "test": 24}  # dead-leaves scenes a split
LEAVES_SIDE = 448
SHARES = {
    "train": (0.0, 0.8),
    "validation": (0.8, 0.9),
    "test": (0.9, 1.0),
}  # of a folder, by a hash of the file's name
SET_FOLDERS, SET_COLUMNS = ("images", "masks"), ("image", "mask", "label", "source", "split", "cameras")  # of synth
UNFINISHED = ".unfinished"  # a file in the folder of a set that is being written


class Scenes:
    """The scenes of one split: `view(k, side, rng)` gives (side,side,3) float32 linear light in [0,1].

    Args:
        split: train, validation or test; no two splits share a scene.
        sources: any of ``packaged`` and ``dead_leaves``, and ``photos`` for the folder.
        photos: a folder of photographs, searched to any depth; ``$NAME`` in it is read from the environment. A warning
            names the pictures in it that predict, evaluate or synth wrote, which are left out.
    Raises:
        InputError: unknown source, a folder that is missing or holds no photograph.
    """

    def __init__(self, split: str, sources: list[str], photos: str | None = None):
        if split not in SHARES:
            raise InputError(f"split '{split}' is unknown; splits are {', '.join(SHARES)}")
        unknown = set(sources) - {"packaged", "dead_leaves", "photos"}
        if unknown or not sources:
            raise InputError(f"scenes {sorted(unknown)} are unknown; choose from packaged, dead_leaves, photos")
        if ("photos" in sources) != bool(photos):
            raise InputError("'photos' among the scenes and a folder of photos go together; give both or neither")
        # Pictures of the training scenes stay unpublished: one of them carries no clear licence (NOTICE).
        self.origin = "training" if split == "train" else "generated"
        self.items: list[Path | int] = []
        self.unreadable: dict[Path, str] = {}  # photographs that could not be read so far, and why
        self.left_out = ""  # the sentence on pictures in the folder that are no photographs
        if "packaged" in sources:
            self.items += [packaged_file(name) for name in PACKAGED[split]]
        if "photos" in sources:
            files, made = photographs_in(photos)
            if made:
                self.left_out = told(made)
                warnings.warn(self.left_out, stacklevel=2)
            # A prefix of its own: pictures made from somebody's folder never pass for pictures from free photographs.
            name = expand(photos).resolve().name.encode(errors="backslashreplace").decode()  # manifests are in UTF-8
            self.origin = f"photos-{name}"
            low, high = SHARES[split]
            mine = [f for f in files if low <= hash_share(f.name) < high]
            self.shared_out = f"{len(mine)} of {len(files)} photographs in {photos} belong to the split '{split}'"
            if len(mine) < 2 and sources == ["photos"]:
                most = "" if split == "train" else ", or take the split 'train'"
                raise InputError(
                    f"{self.shared_out} ({high - low:.0%} of them, by a hash of the file's name), and a splice needs "
                    f"two; about {round(2 / (high - low))} photographs give two; add some{most}"
                )
            self.items += mine
        if "dead_leaves" in sources:
            first = zlib.crc32(split.encode())
            self.items += [first + number for number in range(LEAVES[split])]

    def __len__(self) -> int:
        return len(self.items)

    @without_ipp()
    def view(self, k: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """A random square of scene `k`: made smaller by a random factor, mirrored at random, its exposure varied.

        In place of a photograph that cannot be read stands the next one that can, with a warning.
        """
        image = self._image(k)
        short = min(image.shape[:2])
        least = side / short
        scale = rng.uniform(least, 0.7) if least < 0.7 else least
        cut = min(int(np.ceil(side / scale)), short)
        top, left = (int(rng.integers(0, extent - cut + 1)) for extent in image.shape[:2])
        piece = image[top : top + cut, left : left + cut]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        piece = cv2.resize(piece, (side, side), interpolation=how)
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        return np.minimum(np.take(_TO_LINEAR, piece) * np.float32(rng.uniform(0.6, 1.2)), 1)

    def _image(self, k: int) -> np.ndarray:
        for step in range(len(self.items)):
            item = self.items[(k + step) % len(self.items)]
            if item in self.unreadable:
                continue
            try:
                return load_scene(item)
            except InputError as error:
                self.unreadable[item] = str(error)
                warnings.warn(f"{error}; the next photograph stands in for it", stacklevel=3)
        raise InputError(
            f"none of {len(self.items)} photographs can be read; the first: {self.unreadable[self.items[0]]}"
        )


# A fixed curve takes display values back to light; dither is not needed: the sensor's noise comes on top.
_TO_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)


def photo_files(folder: str) -> list[Path]:
    """The photographs of a folder and those below it; without hidden ones and what predict and synth made."""
    return photographs_in(folder)[0]


def photographs_in(folder: str) -> tuple[list[Path], list[Path]]:
    """`photo_files`, and the pictures left out as predict, evaluate or synth wrote them: no light of a scene."""
    path = expand(folder)
    if not os.path.isdir(path):
        raise InputError(f"photos: {path} {absent(path, 'is not a folder')}")
    found = pictures_in(path)
    forged = set(of_sets(found))
    made = [file for file in found if file in forged or (file.suffix == ".png" and predict_wrote(file))]
    left_out = set(made)
    if made and len(made) == len(found):
        raise InputError(f"photos: {path} holds no photograph: {told(made)}; name what they were made from")
    if not found:
        raise InputError(f"photos: {path} holds no photograph ({some(PICTURES, 6)})")
    return [file for file in found if file not in left_out], made


def of_sets(files: list[Path]) -> list[Path]:
    """Those that are images or masks of sets which synth wrote."""
    sets = {folder for folder in {file.parent for file in files} if _of_a_set(folder)}
    return [file for file in files if file.parent in sets]


def _of_a_set(folder: Path) -> bool:
    """Are these the images or masks of a set of forgeries, as synth writes them?"""
    folder = folder.resolve()
    if folder.name not in SET_FOLDERS or (folder.parent / UNFINISHED).exists():
        return folder.name in SET_FOLDERS
    try:
        with open_file(folder.parent / "manifest.csv") as file:
            header = file.readline(1000).decode("utf-8-sig", "replace")
        # As a spreadsheet saves it, too: with semicolons, quotes, further columns.
        return set(SET_COLUMNS) <= {name.strip(' "\r\n') for name in re.split("[,;\t]", header)}
    except OSError:
        return False


def told(made: list[Path]) -> str:
    """The sentence on pictures that are left out because they were made here."""
    names = some(f"{file.parent.name}/{file.name}" for file in made)
    return f"{len(made)} pictures that predict, evaluate or synth wrote are left out: {names}"


def hash_share(name: str) -> float:
    return name_hash(name) / 2**32


def name_hash(name: str) -> int:
    """The same number for a name with composed and decomposed accents, as two systems write it; of 32 bits."""
    return zlib.crc32(os.fsencode(unicodedata.normalize("NFC", name)))  # of a name that is not UTF-8 too


def packaged_file(name: str) -> Path:
    """A photograph of `PACKAGED` in scikit-image or scikit-learn. InputError when neither has it."""
    import skimage
    import sklearn.datasets

    for module, folder in ((skimage, "data"), (sklearn.datasets, "images")):
        path = Path(module.__file__).parent / folder / name
        if path.is_file():
            return path
    raise InputError(
        f"{name} is not in the installed scikit-image or scikit-learn; expected versions are in pyproject.toml"
    )


@lru_cache(maxsize=1024)
@listed_if_too_large
def load_scene(item: Path | int) -> np.ndarray:
    """uint8 RGB; at most 1024 pixels a side, so that a whole folder fits into memory."""
    if not isinstance(item, Path):
        return dead_leaves(item)
    image = read_image(item)
    if max(image.shape[:2]) > 1024:
        photo = Image.fromarray(image)
        photo.thumbnail((1024, 1024), Image.Resampling.BOX)
        image = np.asarray(photo)
    return image


@without_ipp()
def dead_leaves(seed: int, side: int = LEAVES_SIDE) -> np.ndarray:
    """Opaque discs of power-law radius, nearest last: (side,side,3) uint8. Half of them carry a faint texture."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), rng.uniform(0, 255, 3), np.float32)
    palette = rng.uniform(0, 255, (12, 3))
    texture = cv2.resize(rng.normal(0, 14, (side // 2, side // 2)).astype(np.float32), (side, side))
    for _ in range(900):
        radius = 4 / (1 - rng.random() * (1 - (4 / 120) ** 2)) ** 0.5  # density ~ radius^-3 between 4 and 120 pixels
        centre = rng.uniform(0, side, 2)
        axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.4, 1))))
        colour = np.clip(palette[rng.integers(12)] + rng.normal(0, 12, 3), 0, 255)
        spot = ((int(centre[0]), int(centre[1])), axes, float(rng.uniform(0, 180)), 0, 360)
        cv2.ellipse(image, *spot, tuple(map(float, colour)), -1, cv2.LINE_AA)
    rough = cv2.GaussianBlur(rng.random((side, side)), (0, 0), 24)  # float64: no rounding moves a pixel past the median
    image += (texture * (rough > np.median(rough)))[..., None]
    return np.round(np.clip(image, 0, 255)).astype(np.uint8)
