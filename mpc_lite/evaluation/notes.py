"""What is counted as it stands and yet often is a mistake: notes on the rows of a list, which change no number."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mpc_lite.data.manifest import Sample
from mpc_lite.decoders import open_image, orientation
from mpc_lite.errors import InputError, some
from mpc_lite.images import turn_of


def notes_on(samples: Iterable[Sample]) -> list[str]:
    """One line each for images in several rows, masks that are a copy of their image, and what `turned_note` says.

    The first two are what `mpc-lite check` calls bad rows; a list may hold them, and they count in each row.
    """
    samples = list(samples)
    first: dict[str, Sample] = {}
    again, copies = [], []
    for sample in samples:
        where = sample.where if sample.manifest else sample.image.name
        if earlier := first.get(file := _file(sample.image)):
            place = f"row {earlier.row}" if earlier.row else "the list"
            again.append(f"{where}: {sample.image.name} is in {place} already")
        first.setdefault(file, sample)
        if sample.mask is not None and _equal(sample):
            copies.append(f"{where}: the mask {sample.mask.name} is a copy of its image")
    notes = [f"{len(again)} rows repeat an image, which counts in each: {some(again)}"] if again else []
    notes += [f"{len(copies)} masks are copies of their images: {some(copies)}"] if copies else []
    return [*notes, *turned_note(samples)]


def turned_note(samples: Iterable[Sample]) -> list[str]:
    """A line, if there are such, on images that a tag turns or mirrors beside masks without the tag, where the sides do
    not show whether the mask is that of the upright picture."""
    names = sorted(sample.image.name for sample in samples if sample.mask is not None and _unsure(sample))
    return [unsure("masks", names)] if names else []


def unsure(what: str, names: list[str]) -> str:
    """The note on images whose masks, or maps, may be of the picture as it is stored."""
    return (
        f"{len(names)} images have an orientation mark that turns or mirrors them; their {what} were taken for {what} "
        f"of the upright picture, which their sides do not show: {some(names)}"
    )


def inverted_note(shares: Sequence[float]) -> list[str]:
    """A line where most of the masks, of which these shares are tampered, mark more than half of their image."""
    most = sum(share > 0.5 for share in shares)
    if 2 * most <= len(shares):
        return []
    return [f"{most} of {len(shares)} masks mark more than half of their image; are they the other way round?"]


def _file(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # what no system takes as a path; told where the row is scored
        return str(path)


def _unsure(sample: Sample) -> bool:
    turn = turn_of(sample.image)
    if turn not in (2, 3, 4, 5, 6, 7, 8) or turn == turn_of(sample.mask):
        return False
    try:
        with open_image(sample.image) as image:  # a quarter shows in all but a square
            return orientation(image) in (2, 3, 4) or image.width == image.height
    except InputError:
        return False


def _equal(sample: Sample) -> bool:
    try:
        return filecmp.cmp(sample.image, sample.mask, shallow=False)
    except (OSError, ValueError):  # told where the row is scored
        return False
