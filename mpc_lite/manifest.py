"""Manifests: the one CSV format for lists of images and masks, and the one way to read both.

A manifest has the columns `image,mask,label,source[,split]`; paths are relative to the manifest's own folder, `mask`
may be empty where `label` is 0, other columns are kept and ignored. Rows are counted as a spreadsheet shows them: the
header is row 1, the first image row 2.
"""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mpc_lite.config import InputError

REQUIRED = ("image", "mask", "label", "source")
COLUMNS = (*REQUIRED, "split")

# Pillow warns from 89 megapixels and refuses from 179: phones take 200. 2**28 is 16384×16384; a file that claims more
# is refused before its pixels are decoded, so a small hostile file cannot fill the memory.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, MAX_PIXELS)

_ORIENTATION = 0x0112  # EXIF tag
_BAND = 512  # rows converted at a time, so that no second full-size copy of the photo is needed
_DEEP = ("I", "F")  # prefixes of Pillow's modes of more than 8 bits: I;16, I;16B, I, F


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
    path = Path(path)
    samples, problems = [], []
    for sample, problem in _rows(path):
        if problem:
            problems.append(problem)
        else:
            samples.append(sample)
    if problems:
        others = f"; {len(problems) - 1} other rows are bad too" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{others}; {_mend(path)}")
    if split is None:
        return samples
    found = sorted({s.split for s in samples if s.split is not None})
    chosen = [s for s in samples if s.split == split]
    if not chosen:
        names = ", ".join(found) if found else "none (no column 'split', or it is empty)"
        raise InputError(f"{path.name}: no row has the split '{split}'; splits found: {names}")
    return chosen


def write_manifest(path: str | Path, samples: Iterable[Sample]) -> None:
    """Write samples as a manifest; image and mask paths become relative to its folder, extra columns are kept.

    Raises InputError when the file cannot be written.
    """
    path, samples = Path(path), list(samples)
    extras = list(dict.fromkeys(name for s in samples for name in s.extra))
    columns = [*REQUIRED, *(["split"] if any(s.split is not None for s in samples) else []), *extras]
    folder = path.resolve().parent

    def relative(file: Path | None) -> str:
        return "" if file is None else Path(os.path.relpath(Path(file).resolve(), folder)).as_posix()

    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for s in samples:
                known = {"image": relative(s.image), "mask": relative(s.mask), "label": s.label, "source": s.source}
                writer.writerow({**s.extra, **known, "split": s.split or ""})
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose a folder you may write to") from None


def check(path: str | Path) -> list[str]:
    """One line per bad row of a manifest, an empty list when all is well; opens every image and mask, stops at none.

    Bad is: a missing, truncated or non-image file; a mask of another size than its image; label 1 without a tampered
    pixel; label 0 with one; the same image twice. Raises InputError only for a file that is not a manifest at all.
    """
    path = Path(path)
    problems, first_row = [], {}
    for sample, problem in _rows(path):
        if sample is not None:
            key = sample.image.resolve()
            if not problem and key in first_row:
                problem = f"{sample.where}: {sample.image.name} is in row {first_row[key]} already"
            first_row.setdefault(key, sample.row)
        if not problem:
            try:
                read_mask(sample, size=read_image(sample.image).shape[:2])
            except InputError as error:
                problem = str(error).removesuffix("; " + _mend(path))
                if not problem.startswith(sample.where):
                    problem = f"{sample.where}: {problem}"
        if problem:
            problems.append(problem)
    return problems


def _mend(path: Path) -> str:
    return f"fix or drop the row ('mpc-lite check {path.name}' lists all such rows)"


def _rows(path: Path) -> Iterator[tuple[Sample | None, str | None]]:
    """(sample, None) for a good row, (sample or None, problem) for a bad one; files are only looked up, not opened."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = list(csv.reader(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a manifest with the columns {','.join(COLUMNS)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV file in UTF-8 ({error})") from None
    header = [name.strip() for name in table[0]] if table else []
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"{path.name}: column {', '.join(missing)} is missing; found {','.join(header) or 'an empty file'}; "
            f"expected {','.join(REQUIRED)}[,split], separated by commas"
        )
    if len(set(header)) != len(header):
        raise InputError(f"{path.name}: a column name occurs twice in {','.join(header)}; rename or drop one")
    rows = [(number, cells) for number, cells in enumerate(table[1:], start=2) if any(cells)]
    if not rows:
        raise InputError(f"{path.name}: the manifest has a header but no rows; expected at least one image")

    for number, cells in rows:
        where = f"row {number} of {path.name}"
        if len(cells) != len(header):
            yield None, f"{where}: {len(cells)} fields, expected {len(header)} ({','.join(header)})"
            continue
        cell = dict(zip(header, (text.strip() for text in cells), strict=True))
        if cell["label"] not in ("0", "1"):
            yield None, f"{where}: label '{cell['label']}', expected 1 (tampered) or 0 (authentic)"
            continue
        sample = Sample(
            image=path.parent / cell["image"],
            mask=path.parent / cell["mask"] if cell["mask"] else None,
            label=int(cell["label"]),
            source=cell["source"],
            split=cell.get("split") or None,
            row=number,
            manifest=path.name,
            extra={name: text for name, text in cell.items() if name not in COLUMNS},
        )
        if not cell["image"]:
            yield sample, f"{where}: no image"
        elif not cell["source"]:
            yield sample, f"{where}: no source, expected the name of the data set"
        elif not sample.image.is_file():
            yield sample, f"{where}: image {cell['image']} does not exist in {path.parent}"
        elif sample.mask is None and sample.label == 1:
            yield sample, f"{where}: label 1 (tampered) without a mask; only authentic images (label 0) go without"
        elif sample.mask is not None and not sample.mask.is_file():
            yield sample, f"{where}: mask {cell['mask']} does not exist in {path.parent}"
        else:
            yield sample, None


# -------------------------------------------------------------------------------------------------------- the pixels


def read_image(path: str | Path, orient: bool = True) -> np.ndarray:
    """A photo as (H,W,3) uint8 RGB, turned the way its EXIF tag says when `orient` (TIFF files always are).

    Grey, 1-bit, palette, CMYK, 16-bit and float files are converted: of 16 bits the high byte stays; floats up to 1 are
    scaled by 255, larger ones must be 0–255. Transparent pixels are laid over white, as a viewer shows them. Of several
    frames the first counts; colour profiles are ignored. Up to 2**28 pixels (200-megapixel photos pass).
    Raises InputError, with the path and the reason, for anything that is not a complete image.
    """
    pixels = _read_pixels(Path(path), orient)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    else:
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 255):  # also false for NaN
            raise _unreadable(path, f"its values run from {low:g} to {high:g}, expected 0–1 or 0–255")
        pixels = np.round(pixels * (255 if high <= 1 else 1)).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_mask(sample: Sample | str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask as (H,W) uint8, 1 tampered, 0 authentic: file values > 127 are tampered, or 1 if the file's maximum is 1.

    Colour masks count by their luma, 16-bit masks with values above 255 by their high byte, transparent pixels as
    authentic. A sample without a mask gives zeros of `size` = (H,W), by default its image's size. Raises InputError for
    an unreadable file, for a mask of another size than `size`, and for a sample whose mask contradicts its label.
    """
    path = sample.mask if isinstance(sample, Sample) else Path(sample)
    if path is None:
        return np.zeros(read_image(sample.image).shape[:2] if size is None else size, np.uint8)
    where, mend = str(path), "give a mask of the image's size"
    if isinstance(sample, Sample) and sample.manifest:
        where, mend = sample.where, _mend(Path(sample.manifest))

    values = _read_pixels(path, orient=True, background=0)
    if values.ndim == 3:
        deep = values.dtype != np.uint8
        values = values @ np.float32([0.299, 0.587, 0.114]) if deep else cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
    highest = values.max()
    threshold = 0.5 if highest <= 1 else 127 if highest <= 255 else 0x7FFF
    mask = (values > threshold).astype(np.uint8)

    if size is not None and mask.shape != tuple(size):
        (h, w), (height, width) = mask.shape, size
        turned = " (the image's EXIF tag turns it; save both upright)" if (w, h) == (height, width) else ""
        raise InputError(f"{where}: mask {w}×{h}, image {width}×{height}{turned}; {mend}")
    if isinstance(sample, Sample) and bool(mask.any()) != bool(sample.label):
        found = "no tampered pixel" if sample.label else f"{int(mask.sum())} tampered pixels"
        raise InputError(f"{where}: label {sample.label}, but the mask {path.name} has {found}; {mend}")
    return mask


def _unreadable(path: str | Path, reason: object) -> InputError:
    return InputError(f"{path}: cannot be read as an image ({reason}); replace the file or leave it out")


def _read_pixels(path: Path, orient: bool, background: int = 255) -> np.ndarray:
    """(H,W,3) uint8 for files of up to 8 bits; for deeper ones their own values, (H,W) or (H,W,3) uint16 or float32."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} pixels, at most {MAX_PIXELS} are read")
            image.load()
            pixels = _pixels_of(image, background)
            turn = _orientation(image) if orient else 1
    except UnidentifiedImageError:
        return _read_with_opencv(path, background)
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders meet broken files with many kinds of errors (struct, zlib, SyntaxError, …)
        raise _unreadable(path, error) from None
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    # After the transposition, 3, 4, 6 … are flips of the rows, of the columns, or of both.
    pixels = pixels[::-1] if turn in (3, 4, 7, 8) else pixels
    pixels = pixels[:, ::-1] if turn in (2, 3, 6, 7) else pixels
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8. A damaged EXIF block counts as none: the pixels are good, and viewers show them so."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1


def _pixels_of(image: Image.Image, background: int) -> np.ndarray:
    """Convert a loaded Pillow image band by band."""
    deep = image.mode.startswith(_DEEP)
    if image.mode == "I":  # 32-bit integers, or 16-bit ones in older versions of Pillow
        low, high = image.getextrema()
        if low < 0 or high > 0xFFFF:
            raise ValueError(f"integers from {low} to {high}, expected 0–65535")
    dtype = np.float32 if image.mode == "F" else np.uint16
    shape = (image.height, image.width)
    pixels = np.empty(shape, dtype) if deep else np.empty((*shape, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        if band.has_transparency_data:
            band = band.convert("RGBA")
            below = Image.new("RGBA", band.size, (background, background, background, 255))
            band = Image.alpha_composite(below, band)
        pixels[top : top + _BAND] = np.asarray(band if deep else band.convert("RGB"))
    return pixels


def _read_with_opencv(path: Path, background: int) -> np.ndarray:
    """The formats Pillow does not know: colour TIFF of 16 bits or floats, EXR, HDR."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # says little but where in OpenCV it arose
        image = None
    if image is None:
        raise _unreadable(path, "no format that Pillow or OpenCV knows" if path.stat().st_size else "the file is empty")
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise _unreadable(path, f"values of type {image.dtype}, expected 8 or 16 bits or 32-bit floats")
    if image.ndim == 2:
        return image if image.dtype != np.uint8 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        top = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1.0)
        alpha = image[..., 3:].astype(np.float32) / top
        blend = image[..., :3] * alpha + background / 255 * top * (1 - alpha)
        image = (blend if image.dtype == np.float32 else np.round(blend)).astype(image.dtype)
    return np.ascontiguousarray(image[..., 2::-1])
