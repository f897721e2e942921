"""Mistakes that a user can mend, told in one message: files that are refused, strangers' names, nothing between."""

from __future__ import annotations

import difflib
import io
import os
import re
import struct
import sys
import threading
import unicodedata
import warnings
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Beside control characters: those that turn the reading direction, which exchange what a name seems to end with, the
# separators of lines and paragraphs, and half characters of names that are not UTF-8.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NOTHING = frozenset("\u00ad\u200b\u2060\ufeff")  # seen by nobody, so that two names look alike
_LONGEST = 60  # of a wrong word
_stderr = threading.Lock()  # of two threads that exchange it at once, one would put back the other's nothing
_decoding = threading.Lock()
_inside: list[None] = []  # one for each that decodes in `quiet`
_before = ExitStack()  # what to put back when the last has gone
RAW_PICTURE = "a raw or preview file; develop it to PNG or TIFF"
_VIDEO = "a video; save the frame in question as PNG"
_PLAIN, HEAD = "save it as PNG or TIFF", 512  # and bytes at the beginning that tell what a file is
_STARTS = {  # what a file is and what to do -> bytes at its beginning
    "a Git LFS pointer, not the picture it stands for; fetch that with 'git lfs pull'": (b"version https://git-lfs",),
    "PostScript, which is a program and is not run; " + _PLAIN: (b"%!", b"\xc5\xd0\xd3\xc6"),
    "PDF, a document; save the picture in it as PNG or TIFF": (b"%PDF",),
    "a Photoshop file with layers; export it losslessly as PNG or TIFF": (b"8BPS",),
    "OpenEXR; " + _PLAIN + " with 8 or 16 bits": (b"v/1\x01",),
    "AppleDouble, which macOS puts beside files it copies; use the one without '._' in its name": (b"\0\5\x16\7",),
    "a BigTIFF with the high byte first; save it as plain TIFF": (b"MM\0+",),
    "a ZIP archive; unpack it": (b"PK\3\4",),
    "compressed by gzip; unpack it": (b"\x1f\x8b",),
    "a NumPy array; " + _PLAIN: (b"\x93NUMPY",),
    RAW_PICTURE: (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"),
    _VIDEO: (b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"FLV\1"),
}
NO_MEMORY = "the memory does not suffice for this image; use a larger machine, or leave it out"
# Tags of TIFF; of _SUBFILE 1 marks a reduced version, and 4 a mask; of the older tag 2 does the former. Pages are
# counted up to a number.
_TURN, _SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, MOST_PAGES = 274, 254, 255, 256, 257, 64
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}  # kinds of whole numbers of TIFF
_HEIC = ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")


class InputError(ValueError):
    """A mistake its user can mend; the message says what was found, what was expected and what to do."""


class UnfitImage(InputError):
    """One image that cannot be scored, through no fault of what was to score it: the others go on."""


class TooLarge(InputError, MemoryError):
    """One image that the memory does not suffice for: others may be smaller, and alone it may yet be read."""


def unreadable(path: str | Path, reason: object) -> InputError:
    """The sentence on a picture file that cannot be read; a reason that is an InputError says it already."""
    if isinstance(reason, InputError):
        return reason
    if out_of_memory(reason):
        return TooLarge(f"{path}: {NO_MEMORY}")
    return InputError(f"{path}: cannot be read as an image ({reason}); replace the file or leave it out")


def out_of_memory(error: object) -> bool:
    """One image was too large; the others may not be. torch, OpenCV, Pillow and systems have words of their own."""
    words = ("allocate memory", "out of memory", "Insufficient memory")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def refuse_by_name(path: Path, head: bytes, formats: Iterable[str]) -> None:
    """InputError for the kinds of files that people take for pictures, each with its own sentence.

    head: the first `HEAD` bytes. formats: those of Pillow that are read.
    """
    if what := next((what for what, starts in _STARTS.items() if head.startswith(starts)), None):
        raise unreadable(path, what)
    brand = head[8:12].decode("latin-1")
    if head[4:8] == b"ftyp":
        if brand in _HEIC and "HEIF" not in formats:
            raise unreadable(path, "HEIC; install the extra (pip install 'mpc-lite[heic]') or export it losslessly")
        if brand in ("avif", "avis") and "AVIF" not in formats:
            raise unreadable(path, "AVIF; install Pillow 11.3 or later, or export it losslessly")
        if brand not in (*_HEIC, "avif", "avis"):
            raise unreadable(path, RAW_PICTURE if brand == "crx " else _VIDEO)
    if head[4:8] in (b"moov", b"mdat", b"wide") or (head.startswith(b"RIFF") and brand == "AVI "):
        raise unreadable(path, _VIDEO)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        raise unreadable(path, "a web page, perhaps an error message of a download; fetch the picture itself")
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype svg")) and b"<svg" in text):
        raise unreadable(path, "SVG, a drawing without pixels; save it as PNG")


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
    if (bits := max([0, *(sample[0] & 127 for sample in samples)]) + 1) <= 8:
        return 0
    other_colours = re.search(rb"colr\x01..(?!\0\0\0[\x10\x11])", head, re.DOTALL)  # 16 is sRGB, 17 grey
    if bits > 16 or max(samples)[0] > 127 or len(set(samples)) > 1 or len(samples) == 2 or other_colours:
        raise ValueError(f"JPEG 2000 with {bits} bits that are no unsigned grey, RGB or RGBA; save it as PNG")
    return bits


def tiff_frame(file: BinaryIO, header: bytes, wanted: Container[int]) -> tuple[int | None, dict]:
    """(number, tags) of the first page that is not marked as a reduced version or a mask; None if all pages are.

    tags: of those wanted the first whole number of each, the greater where one tag stands there twice: libtiff takes
    the first of them, Pillow the last. "turns": where in the file the orientation stands; "next": where the next page
    does, in bytes.
    """
    first, passed = {}, []
    if header[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        return 0, first
    order, big = "<" if header[:1] == b"I" else ">", header[2:3] == b"+"
    count, digits, place, entry, wide = ("Q", 8, "Q", 20, 8) if big else ("H", 2, "I", 12, 4)
    with suppress(Exception):  # a damaged directory: the decoder says what is wrong with the file
        (position,) = struct.unpack_from(order + place, header, wide)
        while position and position not in passed and len(passed) < 64:
            file.seek(position)
            (entries,) = struct.unpack(order + count, file.read(digits).ljust(digits, b"\0"))
            tags = {"turns": [], "next": (data := file.read(min(entries, 65535) * entry + wide))[entries * entry :]}
            for at in range(0, len(data) // entry * entry, entry):
                tag, kind, values, far = struct.unpack_from(order + "HH" + 2 * place, data, at)
                if (tag in wanted or tag in (_SUBFILE, _OLD_SUBFILE)) and kind in _WHOLE and values:
                    size, here = struct.calcsize(order + _WHOLE[kind]), position + digits + at + entry - wide
                    file.seek(here if size * values <= wide else min(far, 2**40))
                    (number,) = struct.unpack(order + _WHOLE[kind], file.read(size).ljust(size, b"\0"))
                    tags[tag] = max(number, tags.get(tag, number))
                    tags["turns"].extend([here] * (tag == _TURN))
            if not (tags.get(_SUBFILE, 0) & 5 or tags.get(_OLD_SUBFILE) == 2):
                return len(passed), tags
            first, passed = first or tags, [*passed, position]
            (position,) = struct.unpack(order + place, tags["next"])
    return (None if first else 0), first


def tiff_pages(file: BinaryIO, header: bytes) -> int:
    """How many pages, up to `MOST_PAGES`, are as large as that of `tiff_frame`, it among them; 1 for other files."""
    tags = (_WIDTH, _HEIGHT)
    frame, page = tiff_frame(file, header, tags)
    wide = 8 if header[2:3] == b"+" else 4  # bytes of a place, and where in the header the first stands
    n, size, seen = 1, (page.get(_WIDTH), page.get(_HEIGHT)), {header[wide : 2 * wide]}
    while frame is not None and n < MOST_PAGES and any(following := page.get("next", b"")) and following not in seen:
        seen.add(following)
        frame, page = tiff_frame(file, header[:wide] + following, tags)
        n += frame is not None and size == (page.get(_WIDTH), page.get(_HEIGHT))
    return n


def nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word[:_LONGEST], words, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def some(names: Iterable[object], most: int = 10) -> str:
    """Names for a message: `a, b, c and 240 more`, none of them longer than a line."""
    names = list(names)
    texts = [text if len(text) <= 100 else text[:99] + "…" for text in map(printable, names[:most])]
    return ", ".join(texts) + (f" and {len(names) - most} more" if len(names) > most else "")


def shortened(value: object, length: int = _LONGEST) -> str:
    """A value as a message shows it: its text, cut off where a stranger's file gave thousands of letters or digits."""
    try:
        text = str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def printable(text: object) -> str:
    r"""A name as a terminal may show it, on one line: control, escape and bidi characters as \x1b, \u202e and so on.

    Characters without width and meaning, such as a second byte order mark, count as control characters.
    File names, and cells of manifests, are other people's: printed as they are they could clear the screen, forge lines
    or exchange a name's ending. All other characters of any script stay.
    """
    text = str(text)
    if text.isprintable() and text.isascii():
        return text
    unsafe = {c for c in set(text) if c in _TURNING or c in _NOTHING or unicodedata.category(c) in _UNSAFE}
    return text.translate({ord(c): c.encode("unicode_escape").decode() for c in unsafe})


def shown(name: object, length: int = _LONGEST) -> str:
    """A stranger's name in a message: `printable`, and not longer than a line."""
    return shortened(printable(name), length)


def printable_lines(text: object) -> str:
    """`printable`, with line breaks kept: for our own messages of several lines, whose names were escaped before."""
    return "\n".join(map(printable, str(text).split("\n")))


_format_warning = warnings.formatwarning


def any_letter_prints() -> None:
    r"""From here on, letters that the terminal's encoding lacks are written as \u65e5, and end no command.

    Warnings, in whose texts are names of files, are `printable` too, and our own are notes, without a line of code.
    """

    def line_of(message: Warning | str, category: type[Warning], file: str, *number: int, **line: str | None) -> str:
        if category is UserWarning and Path(file).is_relative_to(Path(__file__).parent):
            return f"note: {printable(message)}\n"
        return _format_warning(printable(message), category, file, *number, **line)

    warnings.formatwarning = line_of
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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


@contextmanager
def quiet() -> Iterator[None]:
    """What decoders print or warn of (a damaged tag, a profile they doubt) is no news between our lines.

    Both are switched off for the whole process, also while several threads decode: by the first to come, until the last
    has gone. (`warnings.catch_warnings` in threads that overlap can leave them off for good.)
    """
    import cv2  # slow to begin, and most mistakes are no picture's

    logs = getattr(cv2.utils, "logging", cv2)  # where OpenCV has it: since 4.13, and before
    with _decoding:
        if not _inside:
            _before.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _before.callback(logs.setLogLevel, logs.getLogLevel())
            logs.setLogLevel(0)
        _inside.append(None)
    try:
        yield
    finally:
        with _decoding:
            _inside.pop()
            if not _inside:
                _before.close()
