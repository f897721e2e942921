"""Manifests: the one CSV format for lists of images and masks, row by row.

A manifest has the columns `image,mask,label,source[,split]`; paths are relative to the manifest's own folder, `mask`
may be empty where `label` is 0, other columns are kept and ignored. Rows are counted as a spreadsheet shows them: the
header is row 1, the first image row 2, where no line is empty.
"""

import csv
import filecmp
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import absent, csv_rows, place, relative, write_atomic
from mpc_lite.images import read_image, read_mask_file, turn_of

REQUIRED = ("image", "mask", "label", "source")
COLUMNS = (*REQUIRED, "split")
SPLITS = ("train", "validation", "test")  # the splits that a training knows; `evaluate --split` takes any


@dataclass(frozen=True)
class Sample:
    """One row of a manifest. `mask` may be None for authentic images; `extra` holds the columns the package ignores."""

    image: Path
    mask: Path | None
    label: int  # 1 tampered, 0 authentic
    source: str  # name of the data set the image comes from
    split: str | None = None
    row: int = 0  # as a spreadsheet shows it; 0 = not from a file
    manifest: str = field(default="", compare=False)  # name of the file, for messages
    extra: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def where(self) -> str:
        """How messages name the sample: `row 17 of casia.csv`, or the image's path when it is not from a file."""
        return f"row {self.row} of {self.manifest}" if self.manifest else str(self.image)


# ---------------------------------------------------------------------------------------------------------- the list


def read_manifest(path: str | Path, split: str | None = None) -> list[Sample]:
    """The rows of a manifest, in its order; with `split`, only the rows of that split.

    Every row is looked at and every file must exist, but no image is opened (`check` does that). Raises InputError for
    a file that is not a manifest, for the first bad row (with the number of others), and for a split without rows.
    """
    path = place(path)
    samples = list(good_rows(path))
    if split is not None:
        check_split(split, (s.split for s in samples), path.name)
    return [s for s in samples if split in (None, s.split)]


def good_rows(path: str | Path) -> Iterator[Sample]:
    """The rows of a manifest one by one, so that a long list need not be in memory; at its end the InputError that
    `read_manifest` raises for bad ones."""
    path, problems = place(path), []
    for sample, problem in manifest_rows(path):
        if problem:
            problems.append(problem)
        else:
            yield sample
    if problems:
        others = f"; {len(problems) - 1} other rows are bad too" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{others}; {_mend(path)}")


def check_split(split: str, found: Iterable[str | None], where: str) -> None:
    """Raise InputError, naming the splits that there are, unless `split` is one of the rows' splits `found`."""
    splits = sorted({name for name in found if name is not None})
    if split not in splits:
        names = some(splits) if splits else "none (no column 'split', or it is empty)"
        raise InputError(f"{where}: no row has the split '{shown(split)}'; splits found: {names}")


def write_manifest(path: str | Path, samples: Iterable[Sample]) -> None:
    """Write samples as a manifest; image and mask paths become relative to its folder, extra columns are kept.

    An earlier file is replaced by the whole new one, or stays. Raises InputError when the file cannot be written, and
    for a name that no cell can hold (`check_name` finds it before).
    """
    path, samples = Path(path), list(samples)
    extras = list(dict.fromkeys(name for s in samples for name in s.extra))
    columns = [*REQUIRED, *(["split"] if any(s.split is not None for s in samples) else []), *extras]
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{path}: cannot be written (its folder does not exist); choose a folder you may write to")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for s in samples:
        known = {"image": _cell(s.image, folder), "mask": _cell(s.mask, folder), "label": s.label}
        writer.writerow({**s.extra, **known, "source": check_name(s.source.strip()), "split": s.split or ""})
    write_atomic(path, text.getvalue().encode())


def _cell(path: Path | None, folder: Path) -> str:
    """A path as a row has it. Edges of cells lose blanks, and ~ is a home folder: a name does not begin so."""
    name = check_name(relative(path, folder))
    return f"./{name}" if name[:1].isspace() or name[:1] == "~" else name


def check_name(name: str) -> str:
    """The name, if a manifest can hold it: InputError for one that is not UTF-8, holds a line break or ends blank."""
    if name[-1:].isspace() and name[-1] not in "\r\n":
        raise InputError(f"the name '{shown(name, 200)}' ends with a blank, which a manifest's cell loses; rename it")
    if any(c in "\r\n" or "\ud800" <= c <= "\udfff" for c in name):
        raise InputError(f"the name {shown(name, 200)} is not one line of UTF-8, as a manifest's cells are; rename it")
    return name


def check(path: str | Path) -> list[str]:
    """One line per bad row of a manifest, an empty list when all is well; opens every image and mask, stops at none.

    Bad is: a missing, truncated or non-image file; a mask of another size than its image; label 1 without a tampered
    pixel; label 0 with one; the same image twice; an image that is its own mask, or whose copy is. Raises InputError
    only for a file that is not a manifest at all.
    """
    return look_through(path)[0]


def look_through(path: str | Path) -> tuple[list[str], list[str]]:
    """What `check` returns, and notes: what may be meant so, and often is a mistake.

    Noted are masks that mark more than half of their image, masks that several images share, and splits that no
    training knows.
    """
    path = place(path)
    problems, first_row, most, of_mask, unknown = [], {}, [], {}, []
    for sample, problem in manifest_rows(path):
        if sample is not None:
            if sample.split not in (None, *SPLITS):
                unknown.append(sample.split)
            # A path that no system has cannot be resolved; its row is a bad one already.
            key = sample.row if problem else sample.image.resolve()
            if not problem and key in first_row:
                problem = f"{sample.where}: {sample.image.name} is in row {first_row[key]} already"
            first_row.setdefault(key, sample.row)
        if not problem:
            try:
                mask = read_mask(sample, size=read_image(sample.image).shape[:2])
                if (share := float(mask.mean())) > 0.5:
                    most.append(f"row {sample.row} ({share:.0%})")
                if sample.mask is not None and filecmp.cmp(sample.image, sample.mask, shallow=False):
                    problem = f"{sample.where}: the mask {sample.mask.name} is a copy of its image"
                elif sample.mask is not None and mask.any():  # one black mask may serve all authentic images
                    of_mask.setdefault(sample.mask.resolve(), []).append(sample.row)
            except InputError as error:
                problem = str(error).removesuffix("; " + _mend(path))
                if not problem.startswith(sample.where):
                    problem = f"{sample.where}: {problem}"
        if problem:
            problems.append(problem)
    shared = [f"{mask.name} (rows {some(rows)})" for mask, rows in of_mask.items() if len(rows) > 1]
    notes = []
    if most:
        notes.append(
            f"{len(most)} masks mark more than half of their image as tampered; are they the other way round? "
            f"{some(most)}"
        )
    if shared:
        notes.append(f"{len(shared)} masks belong to several images, which is right for copies only: {some(shared)}")
    if unknown:
        notes.append(
            f"{len(unknown)} rows have the splits {some(sorted(set(unknown)))}, which a training refuses: it knows "
            f"{', '.join(SPLITS)} and none; evaluate takes any with --split"
        )
    return problems, notes


def _mend(path: Path) -> str:
    return f"fix or drop the row ('mpc-lite check {path.name}' lists all such rows)"


def manifest_rows(path: Path) -> Iterator[tuple[Sample | None, str | None]]:
    """(sample, None) for a good row, (sample or None, problem) for a bad one; files are only looked up, not opened."""
    path = place(path)
    rows = enumerate(csv_rows(path, f"a manifest with the columns {','.join(COLUMNS)}"), start=1)
    # Empty lines count as rows, and say nothing, before the header as below it.
    filled = (row for _, row in rows if row[1] or any(map(str.strip, row[0])))
    header, broken = next(filled, ([], ""))
    if broken:
        raise InputError(f"{path.name}: {broken}")
    header = [name.strip() for name in header]
    named = set(header)
    if header.count("") > 1:  # columns that were used once, or notes beside the table: those that hold something stay
        header = [name or f"column {n}" for n, name in enumerate(header, start=1)]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        columns = some(header, 6).replace(", ", ",") or "an empty file"
        raise InputError(
            f"{path.name}: column {', '.join(missing)} is missing; found {columns}; "
            f"expected {','.join(REQUIRED)}[,split], separated by commas"
        )
    if twice := sorted({name for name, n in Counter(header).items() if name and n > 1}):
        raise InputError(f"{path.name}: the columns {some(twice, 6)} occur twice; rename or drop one")
    # Nobody would notice that test rows are trained on because their column is called Split.
    if others := [name for name in header if name.casefold() in COLUMNS and name.casefold() not in named]:
        raise InputError(f"{path.name}: column '{others[0]}', expected '{others[0].casefold()}'; rename or drop it")
    empty, folder, (image_at, mask_at) = True, path.parent, map(header.index, ("image", "mask"))
    for number, (cells, broken) in rows:
        if not any(map(str.strip, cells)):
            continue
        empty = False
        where = f"row {number} of {path.name}"
        if broken:
            yield None, f"{where}: {broken}"
            continue
        if len(cells) != len(header):
            yield None, f"{where}: {len(cells)} fields, expected {len(header)} ({some(header, 6)})"
            continue
        cell = dict(zip(header, (text.strip() for text in cells), strict=True))
        if cell["label"] not in ("0", "1"):
            yield None, f"{where}: label '{shown(cell['label'])}', expected 1 (tampered) or 0 (authentic)"
            continue
        sample = Sample(
            image=place(cells[image_at], folder),
            mask=place(cells[mask_at], folder) if cell["mask"] else None,
            label=int(cell["label"]),
            source=cell["source"],
            split=cell.get("split") or None,
            row=number,
            manifest=path.name,
            extra={name: text for name, text in cell.items() if name not in COLUMNS and (text or name in named)},
        )
        image, mask = _file(sample.image), sample.mask and _file(sample.mask)
        if not cell["image"]:
            yield sample, f"{where}: no image"
        elif not cell["source"]:
            yield sample, f"{where}: no source, expected the name of the data set"
        elif image is None:
            yield sample, f"{where}: {not_found('image', cell['image'], sample.image, folder)}"
        elif sample.mask is None and sample.label == 1:
            yield sample, f"{where}: label 1 (tampered) without a mask; only authentic images (label 0) go without"
        elif sample.mask is not None and mask is None:
            yield sample, f"{where}: {not_found('mask', cell['mask'], sample.mask, folder)}"
        elif mask and os.path.samestat(image, mask) and sample.mask.resolve() == sample.image.resolve():
            yield sample, f"{where}: image {shown(cell['image'], 200)} is its own mask"
        else:
            yield sample, None
    if empty:
        raise InputError(f"{path.name}: the manifest has a header but no rows; expected at least one image")


def not_found(what: str, name: str, path: Path, folder: Path) -> str:
    """The sentence on a file of a row, an image or a mask, that a list in `folder` calls so."""
    closed = absent(path, "")
    return f"{what} {shown(name, 200)} {closed}" if closed else f"{what} {shown(name, 200)} does not exist in {folder}"


def _file(path: Path) -> os.stat_result | None:
    """What the system knows of a file; None where there is none, or the path is one that no system takes."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def read_mask(sample: Sample | str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask as (H,W) uint8, 1 tampered, 0 authentic: of two values or colours the one on black, else those above 127.

    `images.read_mask_file` has the whole rule, and says which masks are refused. A sample without a mask gives zeros of
    `size` = (H,W), by default its image's size. Raises InputError for an unreadable file, for a mask that is not plain
    or of another size than `size`, and for a sample whose mask contradicts its label.
    """
    path = sample.mask if isinstance(sample, Sample) else Path(sample)
    if path is None:
        return np.zeros(read_image(sample.image).shape[:2] if size is None else size, np.uint8)
    where, mend = str(path), "give a mask of the image's size"
    if isinstance(sample, Sample) and sample.manifest:
        where, mend = sample.where, _mend(Path(sample.manifest))
    mask = read_mask_file(path)
    if size is not None and mask.shape != tuple(size):
        (h, w), (height, width) = mask.shape, size
        turned = why_turned(sample, path) if (w, h) == (height, width) else ""
        raise InputError(f"{where}: mask {w}×{h}, image {width}×{height}{turned}; {mend}")
    if isinstance(sample, Sample) and bool(mask.any()) != bool(sample.label):
        content = "no tampered pixel" if sample.label else f"{int(mask.sum())} tampered pixels"
        mend = mend if sample.manifest else "correct one of them"
        raise InputError(f"{where}: label {sample.label}, but the mask {path.name} has {content}; {mend}")
    return mask


def why_turned(sample: Sample | str | Path, mask: Path, kind: str = "mask") -> str:
    """The cause of a mask, or map, turned against its image, where a tag of either says so."""
    for name, file in (("image", getattr(sample, "image", None)), (kind, mask)):
        if file is not None and turn_of(file) in (5, 6, 7, 8):  # by a quarter
            return f" (the {name}'s orientation mark turns it; save both upright)"
    return " (turned)"
