"""Decoders: which picture files are opened, by what, and which are refused by name before any decoder sees them."""

from __future__ import annotations

import logging
import math
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImagePalette, PngImagePlugin, UnidentifiedImageError
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import COLORMAP

from mpc_lite.errors import quiet, unreadable
from mpc_lite.files import MAX_PIXELS, check_size, open_file, pixel_limit, too_many_pixels
from mpc_lite.headers import (
    HEAD,
    LOG_LUV,
    RAW_PICTURE,
    Tag,
    deep_jpeg2000,
    held_bytes,
    is_raw,
    misread_bmp,
    refuse_by_name,
    refuse_tiff,
    tiff_frame,
)

Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, MAX_PIXELS)  # Pillow refuses from 179 megapixels
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # of texts and profiles; it refuses those above 1 MB
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs goes to standard error
# Pillow knows some forty formats more; one of them starts an interpreter (PostScript), others are no photographs.
Image.init()
_WANTED = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "JPEG2000", "AVIF", "PPM", "TGA", "PCX", "QOI", "HEIF")
with suppress(ImportError):  # the extra `heic`: it only decodes, so no encoder comes along
    import_module("pi_heif").register_heif_opener()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

TILE, LONGEST, FAINT = 512, 1_000_000, 32  # rows; OpenCV's side; of 255: an opacity that shows next to nothing
_SIGNED = {(8, 2): np.int8, (16, 2): np.int16, (32, 1): np.uint32}  # (bits, kind of sample): Pillow gives other types
_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF")  # of formats that are read
_stderr = threading.Lock()  # of two threads that exchange it at once, one would put back the other's nothing
# How Radiance and PF files say how large they are, after lines of facts.
_FLOAT_SIDES = re.compile(
    rb"#\?.*?\n\n[-+][XY]\s+(\d{1,9})\s+[-+][XY]\s+(\d{1,9})\s|PF\s+(\d{1,9})\s+(\d{1,9})\s", re.DOTALL
)


class Decoded(NamedTuple):
    """values: (H,W,3) uint8 of files of up to 8 bits; of deeper ones their own, (H,W) or (H,W,3) integers or floats.

    alpha: (H,W) uint8, 255 is opaque; None where nothing is transparent. turn: EXIF orientation 1–8 that both still
    have to be turned by.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    turn: int = 1

    @property
    def opaque(self) -> bool:
        """Does opacity say nothing: none, full everywhere, or everywhere so little that it cannot be meant?"""
        return self.alpha is None or bool(np.ptp(self.alpha) == 0 and not FAINT <= self.alpha[0, 0] < 255)


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """A file as a Pillow image whose pixels are not decoded yet: listed formats only, up to `files.pixel_limit`.

    It stands at the first frame that is not marked as a reduced version, of a HEIC at the primary one. InputError, with
    the path and the reason, for every other file, and for whatever a decoder says while it is open.
    """
    path = Path(path)
    try:
        # Never by path: Pillow maps some uncompressed TIFFs into memory then, and scrambles them when they are turned.
        with open_file(path) as file, quiet():
            refuse_by_name(path, head := file.read(HEAD), FORMATS)
            frame = tiff_frame(file, head[:16])[0]
            file.seek(0)
            Image.MAX_IMAGE_PIXELS = max(MAX_PIXELS, pixel_limit(0))  # until `quiet` ends
            with Image.open(file, formats=FORMATS) as image:
                if frame:  # not for 0: of a HEIC the primary picture, at which it opens, need not be the first
                    image.seek(frame)
                check_size(image.width, image.height, path, held_bytes(image))
                if max(image.size) > LONGEST:
                    raise unreadable(path, f"a side of {max(image.size)} pixels, at most {LONGEST}")
                image.info.pop("xmp", None)  # see `orientation`
                yield image
    except UnidentifiedImageError:
        begins = head.startswith(_BEGINNINGS) or head[4:8] in (b"ftyp", b"jP  ")
        what = "damaged, cut off, or of a kind that is not read here" if begins else "no format that is read here"
        raise unreadable(path, what if head else "the file is empty") from None
    except Exception as error:  # decoders meet broken files with many kinds of errors (struct, zlib, SyntaxError, …)
        if isinstance(error, Image.DecompressionBombError) and (n := re.search(r"\d+", str(error))):  # twice our limit
            raise unreadable(path, too_many_pixels(int(n[0]), 1, path.stat().st_size)) from None
        raise unreadable(path, getattr(error, "strerror", None) or error) from None


def decode_file(path: str | Path) -> Decoded:
    """The pixels of a picture file, and how to turn them; those of most TIFF files are turned already.

    Of several frames that counts at which `open_image` stands. InputError as for `open_image`.
    """
    path = Path(path)
    try:
        with open_file(path) as file, quiet():
            refuse_by_name(path, head := file.read(HEAD), FORMATS)
            frame, tags = tiff_frame(file, head[:16])
            deep_jpeg = deep_jpeg2000(file, head)
    except (OSError, ValueError) as error:  # ValueError: what no system takes as a path
        raise unreadable(path, getattr(error, "strerror", None) or error) from None
    if tags and (frame is None or is_raw(head, tags)):
        raise unreadable(path, RAW_PICTURE)
    bits, kind = deep_jpeg or tags.get(Tag.BITS, 1), tags.get(Tag.KIND, 1)
    # libtiff unpacks a whole tile, of a small picture too.
    if tile := too_many_pixels(
        *(tags.get(side, 0) for side in (Tag.TILE_WIDTH, Tag.TILE_HEIGHT)),
        path.stat().st_size,
        bits * tags.get(Tag.SAMPLES, 1) // 8,
    ):
        raise unreadable(path, f"a tile of {tile}")
    # What Pillow would cut to 8 bits or does not know, or of which, packed, it exchanges the bytes. PNG: bit depth 16
    # with colours or alpha.
    swapped = head.startswith(b"MM") and (bits, kind) not in ((12, 1), (16, 1))
    deep_tiff = (
        tags and bits > 8 and (tags.get(Tag.SAMPLES, 1) > 1 or bits > 32 or swapped) and tags.get(Tag.COLOURS, 0) != 5
    )
    refuse_tiff(path, tags, deep_tiff)
    deep_png = head.startswith(b"\x89PNG") and head[24:26] in (b"\x10\2", b"\x10\4", b"\x10\6")
    if deep_tiff or head.startswith((b"#?RADIANCE", b"#?RGBE", b"PF")):
        if frame:
            raise unreadable(path, RAW_PICTURE)
        decoded = _with_opencv(path, tags)._replace(turn=tags.get(Tag.TURN, 1))
        return decoded if tags.get(Tag.BESIDE, 2) else decoded._replace(alpha=None)
    with open_image(path) as image:
        if deep_png or deep_jpeg or misread_bmp(image, head):
            return _with_opencv(path, {}, deep_jpeg or 16)._replace(turn=orientation(image))
        if head.startswith(b"\x89PNG") and head[25] == 0 and head[24] < 8:  # Pillow scales the pixels alone
            top, clear = 2 ** head[24] - 1, image.info.get("transparency")
            image.info |= {"transparency": clear * 255 // top} if clear and clear <= top else {}
        if tags and image.mode in ("P", "PA") and max(colours := image.tag_v2[COLORMAP]) < 256:  # old writers' 8 bits
            image.palette = ImagePalette.raw("RGB;L", bytes(colours))
        if (values := _deep_ppm(path, image)) is not None:
            return Decoded(values, None)
        with silent_stderr() if tags else nullcontext():  # libtiff, within Pillow
            image.load()
        decoded = _of_pillow(image)._replace(turn=orientation(image))
        if tags.get(Tag.BESIDE) == 1 and decoded.alpha is not None and decoded.alpha.max() < FAINT:  # Pillow divides
            raise unreadable(path, "colours multiplied by next to no opacity; save it without transparency")
        if stored := _SIGNED.get((bits, kind)):
            return decoded._replace(values=decoded.values.astype(stored))
        if decoded.values.dtype == np.uint16 and bits == 16 and tags.get(Tag.COLOURS, 1) == 0:  # white is zero
            return decoded._replace(values=np.uint16(255 if decoded.values.max() < 256 else 65535) - decoded.values)
        return decoded._replace(values=_widened(decoded.values, bits))


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Nothing reaches standard error: for C libraries that write there themselves, past all that Python could catch."""
    with _stderr, open(os.devnull, "wb") as nowhere:
        standard_error = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def _tile(width: int) -> int:  # rows converted at a time, for no second copy of a picture: fewer of very long ones
    return max(1, min(TILE, 2**22 // width))


def _widened(values: np.ndarray, bits: int) -> np.ndarray:
    """Values of 9 to 15 bits as of 16, in their own memory, so that the greatest is 65535; all others as they are."""
    if values.dtype == np.uint16 and 8 < bits < 16:
        for first in range(0, len(values), tile := _tile(values.shape[1])):
            band = values[first : first + tile]
            band[:] = band << (16 - bits) | band >> (2 * bits - 16)
    return values


def _deep_ppm(path: Path, image: Image.Image) -> np.ndarray | None:
    """The values (H,W,3) of a PPM in colour of more than 8 bits, of which Pillow makes 8 bits; None of other files.

    Where one in 10 000 is above a quarter they are uint8, as Pillow rounds them. Else they are uint16 of 0–65535, as it
    gives grey ones: they may be bytes, labels, or of fewer bits than the header says. ValueError for a cut file.
    """
    coding, _, start, facts = image.tile[0] if image.format == "PPM" else ("raw", None, 0, ())
    if image.mode != "RGB" or coding == "raw" or (top := facts[-1]) < 256:
        return None
    shape = (image.height, image.width, 3)
    with open_file(path) as file:
        if path.stat().st_size - start < 2 * math.prod(shape) - (coding != "ppm"):  # in text, a digit and a space each
            raise ValueError("the file is cut")
        file.seek(start)
        if coding == "ppm":
            values = np.fromfile(file, ">u2", math.prod(shape)).reshape(shape)
        else:  # numbers in text, comments between them: as grey of 65535, which Pillow leaves as it is
            data = BytesIO(b"P2 %d %d 65535\n" % (3 * image.width, image.height) + file.read())
            with PpmImageFile(data) as grey:
                values = np.asarray(grey, np.uint16).reshape(shape)
    if (high := int(values.max())) > top and coding != "ppm":
        raise ValueError(f"a value of {high}, at most {top} by its header")
    share, tile = np.arange(65536).clip(max=top) / top, _tile(image.width)
    bright = sum(np.count_nonzero(values[at : at + tile] >= top / 4) for at in range(0, image.height, tile))
    dark = 10_000 * bright < values.size  # but for a sensor's hot pixels
    table = np.round(share * 65535).astype(np.uint16) if dark else np.round(share * 255).astype(np.uint8)
    result = np.empty(shape, table.dtype)
    for first in range(0, image.height, tile):
        result[first : first + tile] = table[values[first : first + tile]]
    return result


def _of_pillow(image: Image.Image) -> Decoded:
    """A loaded Pillow image, converted band by band."""
    deep = image.mode.startswith(("I", "F"))  # I;16, I;16B, I, F: more than 8 bits
    image = image.convert("LA") if image.mode == "La" else image  # the one way that Pillow has from it
    shape = (image.height, image.width) if deep else (image.height, image.width, 3)
    values = np.empty(shape, {"I": np.int32, "F": np.float32}.get(image.mode, np.uint16) if deep else np.uint8)
    alpha = np.empty(shape[:2], np.uint8) if image.has_transparency_data else None
    for top in range(0, image.height, tile := _tile(image.width)):
        band, rows = image.crop((0, top, image.width, min(top + tile, image.height))), slice(top, top + tile)
        if deep:
            values[rows] = np.asarray(band)
            if alpha is not None:  # of 16-bit grey one value is transparent
                alpha[rows] = np.where(values[rows] == image.info["transparency"], 0, 255)
        elif alpha is None:
            values[rows] = np.asarray(band.convert("RGB"))
        else:
            pixels = np.asarray(band.convert("RGBA"))
            values[rows], alpha[rows] = pixels[..., :3], pixels[..., 3]
    return Decoded(values, alpha)


def _with_opencv(path: Path, tags: dict, bits: int = 16) -> Decoded:
    """What Pillow does not read in full depth (deep colours, floats of 64 bits, Radiance) or right (`misread_bmp`)."""
    try:
        a_sample = 4 if tags.get(Tag.COLOURS, 0) in LOG_LUV else tags.get(Tag.BITS, 0) // 8
        check_size(tags.get(Tag.WIDTH, 0), tags.get(Tag.HEIGHT, 0), path, a_sample * tags.get(Tag.SAMPLES, 1))
        data = bytearray(path.read_bytes())
        if not tags and data.startswith((b"#?", b"PF")):  # of floats in colour; a header has comments
            if not (sides := _FLOAT_SIDES.match(data[: 1 << 16])):
                raise ValueError("its size does not stand in its first 64 KB")
            check_size(int(sides[2] or sides[3]), int(sides[1] or sides[4]), path, 12)
        for place in tags.get("turns", ()):  # 'as stored': versions of OpenCV differ in which they turn themselves
            struct.pack_into("<H" if data[:1] == b"I" else ">H", data, place, 1)
        if scale := re.match(rb"PF\s+\d+\s+\d+\s+[-+]?(\S+)", data[:512]):  # in grey files Pillow leaves it out
            data[slice(*scale.span(1))] = b"1"  # OpenCV divides by it
        with quiet(), silent_stderr():  # libpng
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, struct.error) as error:  # the former says little but where in OpenCV it arose
        if getattr(error, "code", 0) == cv2.Error.StsNoMem:
            raise unreadable(path, error) from None
        image = None
    except (ValueError, OSError) as error:
        raise unreadable(path, error) from None
    if image is None:
        raise unreadable(path, "damaged, or of a kind that neither Pillow nor OpenCV reads")
    image = _widened(image, bits)
    if image.ndim == 3:
        return Decoded(*_rgb_in_place(image))
    return Decoded(np.repeat(image[..., None], 3, axis=2) if image.dtype == np.uint8 else image, None)


def _rgb_in_place(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """OpenCV's (H,W,3) or (H,W,4) -> RGB in the same memory, and the opacity (H,W) uint8: a deep picture is large."""
    height, width, channels = image.shape
    alpha = np.empty((height, width), np.uint8) if channels == 4 else None
    # Deep colours may have an opacity of bytes.
    top = 1 if image.dtype.kind == "f" else 255 if image[..., -1].max() <= 255 else np.iinfo(image.dtype).max
    packed = image.reshape(-1)[: height * width * 3].reshape(height, width, 3)
    for first in range(0, height, tile := _tile(width)):
        band, rows = image[first : first + tile].copy(), slice(first, first + tile)  # its place is written over
        if alpha is not None:
            alpha[rows] = np.round(np.clip(np.float32(band[..., 3]) / top, 0, 1) * 255)
        packed[rows] = band[..., 2::-1]
    return packed, alpha


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8. A damaged EXIF block counts as none: the pixels are good, and viewers show them so."""
    try:
        exif = image.getexif()  # of a PNG it may stand behind the pixels
        plain = Image.new("1", (1, 1))  # without XMP: Pillow would turn by that too, browsers and OpenCV do not
        plain.info = {key: fact for key, fact in image.info.items() if key != "XML:com.adobe.xmp"}
        return (exif if hasattr(image, "tag_v2") else plain.getexif()).get(Tag.TURN, 1)
    except Exception:
        return 1
