"""The names of CASIA's tampered images: the masks' renaming sheets, and the number that each forgery carries."""

import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from common import Tree, stem
from mpc_lite.errors import InputError

_IMAGE_NAME = re.compile(r"[TS]p_\w+\.(?:jpe?g|tiff?|bmp|png)", re.IGNORECASE)
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
LINE = 10_000  # letters of a row of a sheet; the search for names would take the square of its length
_PAGES = 8
_LARGEST = 16 << 20  # bytes of a part of an .xlsx file once unfolded; the sheets have some hundred kilobytes
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def tampered_id(path: Path) -> str:
    """The number of a forgery: `0281` of `Sp_D_CND_A_pla0005_pla0023_0281.jpg` and of its mask, `…_0281_gt.png`.

    Some masks differ from their image in other parts of the name. The code before the sources ("A") is part of the key,
    because CASIA v1 numbers its textures anew for each code.
    """
    parts = re.sub(r"_gt\d*$", "", stem(path)).split("_")
    return f"number {parts[-1]} ({parts[3]})" if len(parts) > 3 else path.name


def renamed(tree: Tree) -> Callable[[Path], str]:
    """The key of images by the name that their mask has: what a renaming sheet in the folders says, else their own.

    The sheet is `fileNamesCorrection.xlsx` of the masks' repository, or a text or CSV file of that name; a row is one
    that holds two names of images, the old and the new one.
    """
    new_name: dict[str, str] = {}
    for sheet in tree.files(name="*name*correction*", suffixes=(".xlsx", ".csv", ".txt")):
        for names in map(_IMAGE_NAME.findall, (line for line in _lines(sheet) if len(line) <= LINE)):
            if len(names) == 2:
                new_name[Path(names[0]).stem.casefold()] = Path(names[1]).stem.casefold()
    return lambda path: new_name.get(stem(path), stem(path))


def _lines(sheet: Path) -> list[str]:
    """The rows of a sheet, each as one text."""
    if sheet.suffix.lower() != ".xlsx":
        with open(sheet, encoding="utf-8-sig", errors="replace") as file:
            return file.read(_LARGEST).splitlines()
    try:
        with zipfile.ZipFile(sheet) as book:
            shared = []
            if "xl/sharedStrings.xml" in book.namelist():
                strings = ElementTree.fromstring(_part(book, "xl/sharedStrings.xml"))
                shared = ["".join(t.text or "" for t in item.iter(f"{_SHEET}t")) for item in strings]
            pages = sorted(name for name in book.namelist() if name.startswith("xl/worksheets/sheet"))[:_PAGES]
            rows = [row for page in pages for row in ElementTree.fromstring(_part(book, page)).iter(f"{_SHEET}row")]
    except (
        OSError,
        zipfile.BadZipFile,
        ElementTree.ParseError,
        zlib.error,
        EOFError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(f"{sheet}: not a readable .xlsx file ({error}); replace it or take it out") from None
    return [" ".join(_text(cell, shared) for cell in row.iter(f"{_SHEET}c")) for row in rows]


def _part(book: zipfile.ZipFile, name: str) -> bytes:
    """A part of an .xlsx file, which is a zip archive and may unfold a thousandfold."""
    if (size := book.getinfo(name).file_size) > _LARGEST:
        raise ValueError(f"{name} unfolds to {size >> 20} MB, expected up to {_LARGEST >> 20}")
    return book.read(name)


def _text(cell: ElementTree.Element, shared: list[str]) -> str:
    value = cell.findtext(f"{_SHEET}v") or ""
    if cell.get("t") == "s":
        return shared[int(value)] if value.isdecimal() and len(value) < 9 and int(value) < len(shared) else ""
    return value or "".join(t.text or "" for t in cell.iter(f"{_SHEET}t"))
