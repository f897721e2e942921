"""Images: what the values of a photograph and of a mask mean, whatever file they come in."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mpc_lite.decoders import FAINT, decode_file, open_image, orientation
from mpc_lite.errors import InputError, listed_if_too_large, unreadable
from mpc_lite.files import open_file
from mpc_lite.headers import MOST_PAGES, Tag, picture_follows, tiff_frame, tiff_pages

IGNORE = 255  # in a mask: neither tampered (1) nor authentic (0)
TAMPERED_ABOVE = 127  # of 255: the grey level of a mask, or the share of tampered pixels under one cell of a map

_LEAST_HIGH = 0x4000  # the maximum of a 16-bit photograph that is no file of 14 bits or fewer in a 16-bit container
_OVERSHOOT = 1.05  # filters leave floats a little beyond their range
_NEAR = 32  # of 255: so far from black or white a mask's level counts as such, a colour as grey, a veil as nothing
_LABELS = 8  # at most, 0, 1, 2, … of a map of labels in which 255 marks what does not count
_APART = 4  # levels of 255 between black and a label; the noise of WebP and AVIF fills regions 1 to 2 levels off
_FLAT = 8  # levels between neighbours; soft edges and JPEG blocks at edges are steeper
_BAND = 128  # rows worked on at a time, at most
_COUNTED = 2**20  # pixels whose levels are counted at a time, or whose colours a message counts
# How files begin that may hold several pictures; HEIF beside them.
_SEVERAL = (b"\x89PNG", b"GIF8", b"RIFF", b"P4", b"P5", b"P6")


@listed_if_too_large
def read_image(path: str | Path, orient: bool = True) -> np.ndarray:
    """A photo as (H,W,3) uint8 RGB, turned the way its orientation mark says when `orient` (8-bit TIFFs always are).

    Grey, 1-bit, palette, CMYK, 16-bit and float files are converted: 16-bit files whose values are all within 0–255 are
    taken as they are, of others the high byte stays, as do of 9 to 15 bits the highest eight (of a PPM in colour it is
    the nearest of 8 bits), and fewer than 8 bits of a JPEG 2000 are the highest; floats up to 1 are scaled by 255,
    larger ones must be 0–255 (5 % beyond is cut off).
    Transparent pixels are laid over white, as a viewer shows them, unless next to nothing is visible. Of several frames
    the first full one counts, of a HEIC the primary; colour profiles are ignored. Up to `files.pixel_limit` pixels.
    Raises InputError, with the path and the reason, for anything that is not a complete image, for raw and preview
    files, for 16-bit and float files that use less than a quarter of their range but for one value in 10 000, and where
    memory does not suffice.
    """
    values, alpha = _upright(path, orient)
    if values.dtype == np.uint16:
        high = int(values.max())
        if high > 255:
            _check_range(values, _LEAST_HIGH, 65535, path)
        as_bytes = np.empty(values.shape, np.uint8)  # without a copy of 16 bits between
        values = np.right_shift(values, 0 if high <= 255 else 8, out=as_bytes, casting="unsafe")
    elif values.dtype == np.float32:
        if 1 / 510 <= float(values.max()) <= _OVERSHOOT:
            _check_range(values, _LEAST_HIGH / 0x10000, 1, path)
        values = _bytes(values, path)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return values if alpha is None or alpha.max() < FAINT else _laid_over(values, alpha, 255)


@listed_if_too_large
def read_mask_file(path: str | Path) -> np.ndarray:
    """A mask file as (H,W) uint8, 1 tampered, 0 authentic.

    Of one value on 0, whichever it is, or one colour on black, that value is tampered; one value everywhere must be 0,
    1 or white; of other grey values those above half of the range (127; 32767 of 16-bit masks with values above 255)
    are, which takes soft edges and JPEG noise as they are meant. Transparency counts as `read_mask_values` says. Raises
    InputError as `read_image` does, for several pages, and for masks whose meaning is not plain: several colours,
    several grey levels (two even regions below half are two, 4 or more apart), nothing below or above half.
    """
    values = read_mask_values(path)
    if values.ndim == 3:
        spread = max(int(np.ptp(values[rows], axis=2).max()) for rows in _bands(values))
        # A colour as faint as JPEG's noise is one where there is nothing else: a label in the red channel, say.
        if spread > _NEAR or (spread and values.max() <= _NEAR):
            return _one_colour(values, path)
        values = _grey(values)
    half, top = (TAMPERED_ABOVE, 255) if values.dtype == np.uint8 else (0x7FFF, 0xFFFF)
    levels = np.flatnonzero(counts := _counts(values))
    low, high = int(levels[0]), int(levels[-1])
    near = _NEAR * (top // 255)
    if low == high:
        if low not in (0, 1, top):
            raise _unclear(path, f"all its pixels are {low}")
        return np.full(values.shape, low > 0, np.uint8)
    if len(levels) == 2 and low == 0:
        return (values > 0).astype(np.uint8)
    if high <= half or half < low < top - (near if len(levels) > 2 else (_APART - 1) * near // _NEAR):
        raise _unclear(path, f"its grey values are {_listed(levels)}")
    n = len(levels) - 1
    labelled = high == top and 2 <= n <= _LABELS and levels[n - 1] == n - 1  # 0, 1, …, n - 1, and 255
    if labelled and np.count_nonzero((values > 0) & (values < n)) > values.size // 100:  # more than JPEG's noise
        raise _unclear(path, f"its grey values are {_listed(levels)}, as of labels with {top} for 'ignore'")
    if len(levels) > 2:
        often = levels if len(levels) <= 8 else np.flatnonzero(counts * 100 >= values.size)
        greys = f"its grey values are {_listed(often)}"
        if len(labels := _labels(values, levels, near, top)):
            raise _unclear(path, f"{greys}, and {_listed(labels)} fill regions of their own")
        square = np.ones((3, 3), np.uint8)
        flat = cv2.dilate(values, square) - cv2.erode(values, square) <= _FLAT * (top // 255)
        flat &= (values > near) & (values < top - near)
        # A third level alone is a label ("unsure", a border), however thin; soft edges have more of them.
        if len(levels) == 3 and low + _APART * near // _NEAR <= levels[1] <= top - _APART * near // _NEAR:
            raise _unclear(path, greys)
        if (n := np.count_nonzero(flat)) > 4 + flat.size // 5000:
            raise _unclear(path, f"{greys}, and {n} pixels of {values[flat].min()} to {values[flat].max()} are no edge")
    return (values > half).astype(np.uint8)


@listed_if_too_large
def read_mask_values(path: str | Path) -> np.ndarray:
    """The values of a mask file, (H,W) or (H,W,3), uint8 or, with values above 255, uint16; floats up to 1 times 255.

    Transparency that hides all alike, or only what is black, is ignored. Where all pixels have one colour, opaque ones
    are tampered: white paint on nothing. InputError where transparent pixels have another colour than black, or the
    paint is black: leaving transparency out and respecting it would give different masks; and for several pages.
    """
    values, alpha = _upright(path)
    check_one_page(path)
    if values.dtype == np.float32:
        values = _bytes(values, path)
    elif values.dtype == np.uint16 and values.max() <= 255:
        values = values.astype(np.uint8)
    return values if alpha is None else _without_transparency(values, alpha, path)


@np.errstate(all="ignore")  # of a damaged file, numbers that no smaller type holds: what became of them is looked at
def _upright(path: str | Path, orient: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    """A file's values as uint8, uint16 or float32, and its opacity where it has one, turned as its tag says."""
    values, alpha, turn = decoded = decode_file(path)
    alpha = None if decoded.opaque else alpha
    if values.dtype.kind == "f":
        values = np.asarray(values, np.float32)
    elif values.dtype not in (np.uint8, np.uint16):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 0xFFFF:
            raise unreadable(path, f"integers from {low} to {high}, expected 0–65535")
        if values.dtype == np.int16 and high > 255:  # white is 32767 there
            raise unreadable(path, "signed integers of 16 bits; save unsigned ones, or 8 bits")
        values = values.astype(np.uint16)
    turn = turn if orient else 1
    return turned(values, turn), None if alpha is None else turned(alpha, turn)


def check_one_page(path: str | Path) -> None:
    """InputError for several pages or frames of a readable file, or two values a pixel, by headers alone; of a TIFF
    those pages count that are as large as the one that is read and not marked as reduced versions."""
    with open_file(path) as file:
        head = file.read(16)
        n, tags = tiff_pages(file, head), tiff_frame(file, head)[1]
    if tags.get(Tag.SAMPLES) == 2 and not tags.get(Tag.BESIDE):  # grey, and nobody says what the other is
        raise InputError(f"{path}: two values a pixel, expected one; save one that joins them")
    if head.startswith(_SEVERAL) or head[4:8] == b"ftyp":
        with open_image(path) as image:
            n = getattr(image, "n_frames", 1) + (image.format == "PPM" and picture_follows(image))
    if n > 1:
        more = " or more" if n == MOST_PAGES else ""
        raise InputError(f"{path}: {n}{more} pages, expected one; save one that joins them")


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Pixels (H,W) or (H,W,3) as stored -> as an EXIF orientation, 1–8, shows them."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    # After the transposition, 3, 4, 6 … are flips of the rows, of the columns, or of both.
    pixels = pixels[::-1] if turn in (3, 4, 7, 8) else pixels
    pixels = pixels[:, ::-1] if turn in (2, 3, 6, 7) else pixels
    return np.ascontiguousarray(pixels)


def _without_transparency(values: np.ndarray, alpha: np.ndarray, path: str | Path) -> np.ndarray:
    colour = values[0, 0]
    if all((values[rows] == colour).all() for rows in _bands(values)):
        if not np.any(colour) and alpha.min() < alpha.max():
            raise _unclear(path, "it is black everywhere, and only its transparency has a shape")
        return _laid_over(values, alpha, 0) if alpha.min() < alpha.max() else values
    if any(values[rows][alpha[rows] < 128].any() for rows in _bands(values)):
        raise _unclear(path, "transparency hides pixels that are not black")
    return values


def _grey(values: np.ndarray) -> np.ndarray:
    """(H,W,3) whose channels are nearly equal -> their luma (H,W), of the same type."""
    result = np.empty(values.shape[:2], values.dtype)
    for rows in _bands(values):
        result[rows] = np.round(values[rows] @ np.float32([0.299, 0.587, 0.114]))
    return result


def _labels(values: np.ndarray, levels: np.ndarray, near: int, top: int) -> np.ndarray:
    """The levels of even regions, of 13 × 13 pixels or so, black among them, where one below white is a label.

    JPEG's noise has no such regions but what black became, that of WebP and AVIF is smaller or fainter than a label has
    to be; between black and white no lossy format and no soft edge leaves any, of 9 × 9 pixels already.
    """
    square = np.ones((9, 9), np.uint8)
    even = (cv2.dilate(values, square) == cv2.erode(values, square)) & (values < top - near)
    counts, wide = _counts(values, even), cv2.erode(even.view(np.uint8), square[:5, :5]) > 0
    regions = np.flatnonzero(counts >= np.where(np.arange(len(counts)) > near, 1, 5 * 5))
    dark = np.flatnonzero(_counts(values, wide)) >= regions.min(initial=near) + _APART * near // _NEAR
    many = len(regions) > max(1, np.count_nonzero(levels <= near) // 2)
    return regions if many or dark.any() or (regions > near).any() else regions[:0]


def _one_colour(values: np.ndarray, path: str | Path) -> np.ndarray:
    """(H,W,3) of black and one colour -> (H,W), 1 where the colour is."""
    painted = values.any(axis=2)
    colour = values.reshape(-1, 3)[painted.argmax()]
    if painted.all() or not all(((values[r] == colour).all(2) == painted[r]).all() for r in _bands(values)):
        step = 1 + painted.size // _COUNTED
        colours, counts = np.unique(values.reshape(-1, 3)[::step], axis=0, return_counts=True)
        often = colours[np.argsort(-counts, kind="stable")[:5]]
        digits = 2 * values.dtype.itemsize
        names = ", ".join("#" + "".join(f"{int(channel):0{digits}x}" for channel in each) for each in often)
        raise _unclear(path, f"its colours are {names}" + (f" and {len(colours) - 5} more" if len(colours) > 5 else ""))
    return painted.astype(np.uint8)


def _listed(levels: np.ndarray) -> str:
    return ", ".join(map(str, levels)) if len(levels) <= 8 else f"{levels[0]} to {levels[-1]}, {len(levels)} of them"


def _unclear(path: str | Path, reason: str) -> InputError:
    return InputError(
        f"{path}: its meaning as a mask is not plain ({reason}); expected 0 and 255, 0 and 1, or one colour on black. "
        "Save it with white for tampered and black for authentic"
    )


def _counts(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """How often each level comes, in all pixels or in some: a part at a time, since NumPy makes 64 bits of a pixel."""
    values, size, counts = values.ravel(), int(values.max()) + 1, 0
    for part in (slice(start, start + _COUNTED) for start in range(0, values.size, _COUNTED)):
        some = values[part] if where is None else values[part][where.ravel()[part]]
        counts += np.bincount(some, minlength=size)
    return counts


def _bands(values: np.ndarray) -> list[slice]:
    rows = max(1, min(_BAND, _COUNTED // values.shape[1]))
    return [slice(top, top + rows) for top in range(0, len(values), rows)]


def _bytes(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Floats of 0–1 or 0–255 as uint8."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise unreadable(path, "it holds NaN or infinite values, expected 0–1 or 0–255")
    top = 1 if high <= _OVERSHOOT else 255
    if 0 < high < 1 / 510:
        raise unreadable(path, f"its values run from {low:g} to {high:g}, next to nothing of 0–1; are bytes exchanged?")
    # Between 1.05 and 16 nobody can tell a dark photograph of 0–255 from a bright one of another range.
    if not (low >= (1 - _OVERSHOOT) * top and high <= _OVERSHOOT * top and (top == 1 or high >= 16)):
        raise unreadable(path, f"its values run from {low:g} to {high:g}, expected 0–1 or 0–255")
    result = np.empty(values.shape, np.uint8)
    for rows in _bands(values):
        result[rows] = np.clip(np.round(values[rows] * (255 // top)), 0, 255)
    return result


def _check_range(values: np.ndarray, least: float, top: int, path: str | Path) -> None:
    """InputError where fewer than one value in 10 000 reaches `least`: a sensor's hot pixels brighten no photograph."""
    bright = sum(np.count_nonzero(values[rows] >= least) for rows in _bands(values))
    if bright * 10_000 < values.size:
        use = f"{values.min():g}–{values.max():g}" + (
            f", but only {bright} of them {least:g} or more," if bright else ""
        )
        raise unreadable(path, f"its {values.dtype} values use {use} of 0–{top}: stretch them, or save 8 bits")


def _laid_over(values: np.ndarray, alpha: np.ndarray, background: int) -> np.ndarray:
    """Pixels over a grey background, in proportion to their opacity: in their own memory, band by band."""
    scale = background * (257 if values.dtype == np.uint16 else 1)
    for rows in _bands(values):
        opacity = np.float32(alpha[rows]) / 255
        opacity = opacity[..., None] if values.ndim == 3 else opacity
        values[rows] = np.round(values[rows] * opacity + scale * (1 - opacity))
    return values


def turn_of(path: str | Path) -> int:
    """The EXIF or TIFF orientation of a picture, 1 (as stored) to 8; 1 for files that cannot be read."""
    try:
        with open_image(path) as image:
            return orientation(image)
    except InputError:
        return 1


def encode_jpeg(image: np.ndarray, quality: int, subsampling: int) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
        return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB"))
