"""Headers: what a picture file is by its first bytes, before a decoder sees it, and what is refused by that alone."""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mpc_lite.errors import unreadable

if TYPE_CHECKING:
    from PIL import Image

RAW_PICTURE = "a raw or preview file; develop it to PNG or TIFF"
_VIDEO = "a video; save the frame in question as PNG"
_PLAIN, HEAD = "save it as PNG or TIFF", 512  # and bytes at the beginning that tell what a file is
_STARTS = {  # what a file is and what to do -> bytes at its beginning
    "a Git LFS pointer, not the picture it stands for; fetch that with 'git lfs pull'": (b"version https://git-lfs",),
    "PostScript, which is a program and is not run; " + _PLAIN: (b"%!", b"\4%!", b"\xc5\xd0\xd3\xc6"),
    "a print job, PostScript or the like; " + _PLAIN: (b"\x1b%-12345X",),
    "PDF, a document; save the picture in it as PNG or TIFF": (b"%PDF",),
    "a Photoshop file with layers; export it losslessly as PNG or TIFF": (b"8BPS",),
    "JPEG XL; " + _PLAIN: (b"\xff\n", b"\0\0\0\x0cJXL "),
    "OpenEXR; " + _PLAIN + " with 8 or 16 bits": (b"v/1\x01",),
    "AppleDouble, which macOS puts beside files it copies; use the one without '._' in its name": (b"\0\5\x16\7",),
    "a BigTIFF with the high byte first; save it as plain TIFF": (b"MM\0+",),
    "a ZIP archive; unpack it": (b"PK\3\4",),
    "compressed by gzip; unpack it": (b"\x1f\x8b",),
    "a NumPy array; " + _PLAIN: (b"\x93NUMPY",),
    RAW_PICTURE: (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAPCCDR", b"FOVb", b"\0MRM"),
    # Matroska, MPEG, Flash, Windows Media, Ogg, MXF, RealMedia, DV, NUT, IVF, YUV, H.264 and H.265 by themselves
    _VIDEO: (
        b"\x1aE\xdf\xa3",
        b"\0\0\1\xba",
        b"\0\0\1\xb3",
        b"FLV\1",
        b"FWS",
        b"CWS",
        b"0&\xb2u\x8ef\xcf\x11",
        b"OggS",
        b"\6\x0e+4",
        b".RMF",
        b"\x1f\7\0",
        b"nut/multimedia",
        b"DKIF",
        b"YUV4MPEG2 ",
        b"\0\0\0\1\x67",
        b"\0\0\0\1\x40",
        b"\0\0\0\1\x09",
    ),
}
MOST_PAGES, _MOST_PARTS, _MOST_ENTRIES = 64, 2**20, 1000  # of a TIFF that are counted; looked at; of a page
_LAB, LOG_LUV = (8, 9, 10), (32844, 32845)  # colours of TIFF; the latter are logarithms, which OpenCV 4 writes
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}  # kinds of whole numbers of TIFF
_JPEG2000_COLOURS = (0, 12, 15, 16, 17, 18, 20, 21)  # RGB, grey, CMYK, sYCC; others are Lab and the like
_CR2 = b"\x10\0\0\0CR"  # behind the first four bytes of Canon's raw files
_RAW_COLOURS = (32803, 34892)  # of TIFF: one colour a pixel behind a filter mosaic, and a sensor's linear values
_HEIC = ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")


class Tag(IntEnum):
    """Of TIFF. SUBFILE: 1 marks a reduced version, 4 a mask; in the older tag 2 does the former. STRIPS, TILES: where
    they stand. BESIDE, of a sample beside colours: 0 unspecified, 1 opacity that is in them, 2 opacity."""

    SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COLOURS, STRIPS = 254, 255, 256, 257, 258, 262, 273
    TURN, SAMPLES, PLANES, TILE_WIDTH, TILE_HEIGHT, TILES = 274, 277, 284, 322, 323, 324
    BESIDE, KIND, DNG = 338, 339, 50706


def refuse_by_name(path: Path, head: bytes, formats: Iterable[str]) -> None:
    """InputError for the kinds of files that people take for pictures, each with its own sentence.

    head: the first `HEAD` bytes. formats: those of Pillow that are read.
    """
    begins = (head, head.lstrip(b"\xef\xbb\xbf \t\r\n"))  # editors and mailers put a mark or a line before text
    if what := next(
        (what for what, starts in _STARTS.items() if any(each.startswith(starts) for each in begins)), None
    ):
        raise unreadable(path, what)
    brand = head[8:12].decode("latin-1")
    if head[4:8] == b"ftyp":
        if brand in ("mif1", "msf1") and b"avif" in head[16 : head[3]]:  # of a short box: the kinds that it is also of
            brand = "avif"
        if brand in _HEIC and "HEIF" not in formats:
            raise unreadable(path, "HEIC; install the extra (pip install 'mpc-lite[heic]') or export it losslessly")
        if brand in ("avif", "avis") and "AVIF" not in formats:
            raise unreadable(path, "AVIF; install Pillow 11.3 or later, or export it losslessly")
        if brand not in (*_HEIC, "avif", "avis"):
            raise unreadable(path, RAW_PICTURE if brand == "crx " else _VIDEO)
    quicktime = head[4:8] in (b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot") and head[:1] != b"P"
    if quicktime or (head.startswith(b"RIFF") and brand == "AVI "):
        raise unreadable(path, _VIDEO)
    packets = head[0::188][:3], head[4::192][:3]  # of transport streams, as broadcast and as camcorders write them
    if b"GGG" in packets and not head.startswith((b"GIF8", b"BM")):
        raise unreadable(path, _VIDEO)
    if head.startswith((b"\xff\xfe<", b"\xfe\xff\0<")):
        head = head.decode("utf-16", "replace").encode()
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    markup = re.sub(rb"\A(?:\s|<\?xml.*?\?>|<!--.*?-->)+", b"", text, flags=re.DOTALL)
    if markup.startswith((b"<!doctype html", b"<html", b"<head", b"<title", b"<meta", b"<script", b"<body")):
        raise unreadable(path, "a web page, perhaps an error message of a download; fetch the picture itself")
    if markup.startswith((b"<svg", b"<!doctype svg")) or (text.startswith(b"<?xml") and b"<svg" in text):
        raise unreadable(path, "SVG, a drawing without pixels; save it as PNG")
    if re.match(rb"<[a-z!?]", markup):  # a long comment, or a part of a page
        raise unreadable(path, "markup, as of a web page or a drawing (SVG); fetch or save the picture itself as PNG")


def deep_jpeg2000(file: BinaryIO, head: bytes) -> int:
    """How many bits a sample of a JPEG 2000 has, if more than 8, which Pillow rounds so that white becomes black; or 0.

    ValueError for those that OpenCV does not read, or takes for RGB.
    """
    from PIL.Jpeg2KImagePlugin import BoxReader

    file.seek(0)
    if head[4:8] == b"jP  ":
        boxes = BoxReader(file)
        with suppress(Exception):  # a damaged box, or one of no length: that goes on to the end, and is named already
            while boxes.next_box_type() != b"jp2c":
                pass
    start = file.read(42 + 4 * 3)  # the size, and three bytes for each of up to four samples
    known = len(start) == 54 and start.startswith(b"\xff\x4f\xff\x51")
    samples = [start[at : at + 3] for at in (42, 45, 48, 51)][: start[41]] if known else []
    box = re.search(rb"colr\x01..\0\0\0(.)", head, re.DOTALL)
    colours = box[1][0] if box else 16
    if len(samples) > 2 and colours == 17:
        raise ValueError(f"JPEG 2000 of {len(samples)} values a pixel that it calls grey; save it as PNG")
    bits = max([0, *(sample[0] & 127 for sample in samples)]) + 1
    if not samples or (bits <= 8 and colours in _JPEG2000_COLOURS):
        return 0
    if bits > 16 or max(samples)[0] > 127 or len(set(samples)) > 1 or len(samples) == 2 or colours not in (16, 17):
        raise ValueError(f"JPEG 2000 with {bits} bits that are no unsigned grey, RGB or RGBA; save it as PNG")
    return bits


def tiff_frame(file: BinaryIO, header: bytes, wanted: Container[int] = frozenset(Tag)) -> tuple[int | None, dict]:
    """(number, tags) of the first page that is not marked as a reduced version or a mask; None if all pages are.

    tags: of those wanted the first whole number of each, the greater where one tag stands there twice: libtiff takes
    the first of them, Pillow the last. "turns": where in the file the orientation stands; "next": where the next page
    does, in bytes; "sparse": whether a strip or tile stands nowhere, if those are wanted. ValueError for a directory
    of more entries than any writer's.
    """
    first, passed, parts = {}, [], (Tag.STRIPS, Tag.TILES)
    if header[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        return 0, first
    order, big = "<" if header[:1] == b"I" else ">", header[2:3] == b"+"
    count, digits, place, entry, wide = ("Q", 8, "Q", 20, 8) if big else ("H", 2, "I", 12, 4)
    # Of a damaged directory the decoder says what is wrong with the file.
    with suppress(struct.error, OSError, OverflowError):
        (position,) = struct.unpack_from(order + place, header, wide)
        while position and position not in passed and len(passed) < 64:
            file.seek(position)
            (entries,) = struct.unpack(order + count, file.read(digits).ljust(digits, b"\0"))
            if entries > _MOST_ENTRIES:
                raise ValueError(f"a TIFF directory of {entries} entries, at most {_MOST_ENTRIES}")
            data = file.read(entries * entry + wide)
            tags = {"sparse": False, "turns": [], "next": data[entries * entry :]}
            for at in range(0, len(data) // entry * entry, entry):
                tag, kind, values, far = struct.unpack_from(order + "HH" + 2 * place, data, at)
                if (tag in wanted or tag in (Tag.SUBFILE, Tag.OLD_SUBFILE)) and kind in _WHOLE and values:
                    size, here = struct.calcsize(order + _WHOLE[kind]), position + digits + at + entry - wide
                    file.seek(here if size * values <= wide else min(far, 2**40))
                    n = min(values, _MOST_PARTS) if tag in parts and tag not in tags else 1
                    whole = len(held := file.read(size * n)) // size
                    numbers = struct.unpack_from(f"{order}{whole or 1}{_WHOLE[kind]}", held.ljust(size, b"\0"))
                    tags[tag] = max(numbers[0], tags.get(tag, numbers[0]))
                    tags["sparse"] = tags["sparse"] or (tag in parts and 0 in numbers[:whole])
                    tags["turns"].extend([here] * (tag == Tag.TURN))
            if not (tags.get(Tag.SUBFILE, 0) & 5 or tags.get(Tag.OLD_SUBFILE) == 2):
                return len(passed), tags
            first, passed = first or tags, [*passed, position]
            (position,) = struct.unpack(order + place, tags["next"])
    return (None if first else 0), first


def is_raw(head: bytes, tags: dict) -> bool:
    """Is a TIFF a camera's raw file, whose values are no colours yet?"""
    return tags.get(Tag.COLOURS, 0) in _RAW_COLOURS or Tag.DNG in tags or head[4:10] == _CR2


def refuse_tiff(path: Path, tags: dict, deep: bool) -> None:
    """InputError for TIFFs whose values no decoder gives as they are meant. deep: more than 8 bits, for OpenCV."""
    wanted = ((Tag.BITS, 1), (Tag.COLOURS, 2), (Tag.SAMPLES, 1), (Tag.BESIDE, 2))
    bits, colours, n, beside = (tags.get(tag, without) for tag, without in wanted)
    kind, apart = tags.get(Tag.KIND), tags.get(Tag.PLANES, 1) == 2 and n > 1
    for refused, what in (
        (tags.get("sparse"), "a TIFF with parts that are stored nowhere, empty or never written; save it whole"),
        (kind == 3 and colours == 0, "floats with white as 0; save it with black as 0"),
        (colours in (0, 1) and n > 2 and kind != 3, f"{n} values a pixel that a TIFF calls grey; save it as RGB"),
        (
            apart and n == 2 and tags.get(Tag.BESIDE) in (1, 2),
            "grey and its opacity in planes of their own; save it as PNG",
        ),
        (colours in _LAB and apart, "Lab with each channel in a plane of its own; save it as RGB"),
        (bits > 8 and colours == 5 and apart, f"{bits} bits of CMYK with each in a plane of its own; save it as RGB"),
        (deep and colours not in (0, 1, 2, *LOG_LUV), f"{bits} bits in other colours than RGB; convert it"),
        (deep and n == 2, f"{bits} bits of grey with transparency in a TIFF; save it as PNG"),
        (deep and apart, f"{bits} bits with each colour in a plane of its own; save it interleaved"),
        (deep and colours == 0, f"{bits} bits with white as 0; save it with black as 0"),
        (deep and beside == 1, f"{bits} bits with colours multiplied by their opacity; save it as PNG"),
    ):
        if refused:
            raise unreadable(path, what)


def tiff_pages(file: BinaryIO, header: bytes) -> int:
    """How many pages, up to `MOST_PAGES`, are as large as that of `tiff_frame`, it among them; 1 for other files."""
    tags = (Tag.WIDTH, Tag.HEIGHT)
    frame, page = tiff_frame(file, header, tags)
    wide = 8 if header[2:3] == b"+" else 4  # bytes of a place, and where in the header the first stands
    n, size, seen = 1, (page.get(Tag.WIDTH), page.get(Tag.HEIGHT)), {header[wide : 2 * wide]}
    with suppress(ValueError):  # where the next one should be, there is no page: the chain ends
        while frame is not None and n < MOST_PAGES and any(after := page.get("next", b"")) and after not in seen:
            seen.add(after)
            frame, page = tiff_frame(file, header[:wide] + after, tags)
            n += frame is not None and size == (page.get(Tag.WIDTH), page.get(Tag.HEIGHT))
    return n


def picture_follows(image: Image.Image) -> bool:
    """Does another picture stand behind that of a PBM, PGM or PPM? Some programs write the pages of a document so."""
    coding, _, start, facts = image.tile[0]
    deep = facts[-1] > 255 if coding == "ppm" else image.mode.startswith("I")
    bits = 1 if image.mode == "1" else 8 * len(image.getbands()) * (1 + deep)
    image.fp.seek(start + image.height * ((image.width * bits + 7) // 8))
    return re.match(rb"P[1-6]\s", image.fp.read(3)) is not None


def misread_bmp(image: Image.Image, head: bytes) -> bool:
    """Does Pillow drop the palette of a BMP, one of greys, and then unpack other bits than a pixel has?"""
    start = {"BMP": 14, "DIB": 0}.get(image.format)
    if start is None or image.mode not in ("1", "L") or image.info["compression"]:
        return False
    return head[start + (10 if head[start] == 12 else 14)] != (1 if image.mode == "1" else 8)


def held_bytes(image: Image.Image) -> int:
    """Half of the bytes that a pixel takes while it is read, which `check_size` counts, in formats with more than 16:
    four bytes a sample of JPEG 2000 and then its results, four pictures with opacity of WebP, of HEIF and AVIF two of
    16 bits a sample and their results. (Pillow does not tell how deep an AVIF is.)"""
    deep = 10 if len(image.getbands()) == 4 and image.info.get("bit_depth", 16) > 8 else 1
    return {"JPEG2000": 3 * len(image.getbands()) + 1, "WEBP": 9, "HEIF": deep, "AVIF": deep}.get(image.format, 1)
