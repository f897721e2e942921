"""Mistakes that a user can mend, told in one message: files that are refused, strangers' names, nothing between."""

from __future__ import annotations

import difflib
import os
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TextIO

# Beside control characters: those that turn the reading direction, which exchange what a name seems to end with, the
# separators of lines and paragraphs, and half characters of names that are not UTF-8.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Seen by nobody, so that two names look alike; among them the letters of tags, and blanks that are called letters.
_NOTHING = frozenset("\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060\u3164\ufeff\uffa0")
_NOTHING |= {chr(n) for first, last in ((0x2061, 0x2064), (0x206A, 0x206F), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F))
             for n in range(first, last + 1)}  # fmt: skip
_LONGEST = 60  # of a wrong word
_decoding = threading.Lock()
_inside: list[None] = []  # one for each that decodes in `quiet`
_before = ExitStack()  # what to put back when the last has gone
NO_MEMORY = "the memory does not suffice for this image; use a larger machine, or leave it out"
_WORDLESS = re.compile(
    "decoder error|unknown raw mode|conversion from|broken data stream|create decoder"
)  # Pillow's, for programmers


class InputError(ValueError):
    """A mistake its user can mend; the message says what was found, what was expected and what to do."""


class ProcessDied(InputError):
    """A process that this one works with has died; told by all who notice it, for it may be that only one does."""


class UnfitImage(InputError):
    """One image that cannot be scored, through no fault of what was to score it: the others go on."""


class TooLarge(InputError, MemoryError):
    """One image that the memory does not suffice for: others may be smaller, and alone it may yet be read."""


class OtherRun(InputError):
    """Weights in a run's folder are of another run, or of another moment of it, than the note beside them."""


class OtherFiles(InputError):
    """A file that a run is given is not the one it was given when it ran."""


def mistakes(kind: type[InputError] = InputError) -> dict[str, type[InputError]]:
    """InputError and all its kinds by their names, which are all that a notebook keeps of what was raised in it. They
    stand in this module, so that who has it knows them all."""
    below = [mistakes(each) for each in kind.__subclasses__()]
    return {kind.__name__: kind} | {name: each for kinds in below for name, each in kinds.items()}


def refused(error: OSError) -> str:
    """The sentence on a disk or a folder that refuses what is to be written."""
    where = f" ({shown(error.filename, 200)})" if error.filename else ""
    return f"{error.strerror}{where}; choose another folder, or free some space"


def unreadable(path: str | Path, reason: object) -> InputError:
    """The sentence on a picture file that cannot be read; a reason that is an InputError says it already."""
    if isinstance(reason, InputError):
        return reason
    if out_of_memory(reason):
        return TooLarge(f"{path}: {NO_MEMORY}")
    if _WORDLESS.search(str(reason)):
        reason = "damaged, or of a kind that is not read here"
    return InputError(f"{path}: cannot be read as an image ({reason}); replace the file or leave it out")


def out_of_memory(error: object) -> bool:
    """One image was too large; the others may not be. torch, OpenCV, Pillow and systems have words of their own."""
    words = ("allocate memory", "out of memory", "Insufficient memory")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def listed_if_too_large(read: Callable[..., Any]) -> Callable[..., Any]:
    """`read(path, …)`, with an InputError where the memory does not suffice: one picture does not end the others."""

    @wraps(read)
    def reader(path, *arguments, **options):
        try:
            return read(path, *arguments, **options)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise unreadable(path, error) from None

    return reader


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


def to_nowhere(stream: TextIO) -> None:
    """From here on a standard stream that took no more takes anything, and shows nothing. What lies in its buffer would
    be tried again at the end, in Python's own words and with its own exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def quiet() -> Iterator[None]:
    """What decoders print or warn of (a damaged tag, a profile they doubt) is no news between our lines; and Pillow
    keeps to its own rules, whatever the program that we are part of has set: a cut file is no picture.

    These are off in the whole process, from the first thread that decodes to the last (`warnings.catch_warnings` in
    threads that overlap can leave them off for good)."""
    import cv2  # slow to begin, and most mistakes are no picture's
    from PIL import Image, ImageFile

    logs = getattr(cv2.utils, "logging", cv2)  # where OpenCV has it: since 4.13, and before
    with _decoding:
        if not _inside:
            _before.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _before.callback(logs.setLogLevel, logs.getLogLevel())
            logs.setLogLevel(0)
            for module, name in ((ImageFile, "LOAD_TRUNCATED_IMAGES"), (Image, "MAX_IMAGE_PIXELS")):
                _before.callback(setattr, module, name, getattr(module, name))
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _inside.append(None)
    try:
        yield
    finally:
        with _decoding:
            _inside.pop()
            if not _inside:
                _before.close()
