"""The names of CASIA's tampered images: the masks' renaming sheets, and the number that each forgery carries."""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from common import Tree, stem, text_of
from mpc_lite.cli.terminal import put
from mpc_lite.errors import InputError, printable, shown, some
from mpc_lite.files import open_file

_IMAGE_NAME = re.compile(r"[TS]p_(?:(?![TS]p_)\w)+\.(?:jpe?g|tiff?|bmp|png)", re.IGNORECASE)
_DAMAGED = (OSError, zipfile.BadZipFile, ElementTree.ParseError, zlib.error, EOFError, RuntimeError, ValueError)
_DAMAGED += (LookupError,)  # an encoding that nobody knows
LINE = 10_000  # letters of a row of a sheet
_PAGES, _CELLS = 8, 500_000  # of a part, a cell or a row each; CASIA has some ten thousand names
_LARGEST = 16 << 20  # bytes of a part of an .xlsx file once unfolded; the sheets have some hundred kilobytes
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def tampered_id(path: Path) -> str:
    """The number of a forgery: `0281` of `Sp_D_CND_A_pla0005_pla0023_0281.jpg` and of its mask, `…_0281_gt.png`.

    Some masks differ from their image in other parts of the name. The code before the sources ("A") is part of the key,
    because CASIA v1 numbers its textures anew for each code.
    """
    parts = re.sub(r"_gt\d*$", "", stem(path)).split("_")
    return f"number {parts[-1]} ({parts[3]})" if len(parts) > 3 else path.name


def own(authentic: list[Path], digits: int) -> list[Path]:
    """Authentic images without those of the other CASIA, which lies beside this one in copies of both: v1 numbers them
    with four digits (`Au_ani_0001`), v2 with five. What is left out is told."""
    other = {path for path in authentic if re.fullmatch(rf"au_[a-z]{{3}}_\d{{{9 - digits}}}", stem(path))}
    if other:
        put(f"note: {len(other)} images of Au are left out: numbers of {9 - digits} digits are the other CASIA's")
    return [path for path in authentic if path not in other]


def renamed(tree: Tree) -> Callable[[Path], str]:
    """The key of images by the name that their mask has: what a renaming sheet in the folders says, else their own.

    The sheet is `fileNamesCorrection.xlsx` of the masks' repository, or a text or CSV file of that name; a row is one
    that names two images, the old one first; it may name them again, as in a command that renames the one to the other.
    """
    new_names: dict[str, set[str]] = {}
    for sheet in tree.files(name="*name*correction*", suffixes=(".xlsx", ".csv", ".txt")):
        long = rows = other = 0
        for line in _lines(sheet):
            if len(line) > LINE:
                long += 1
                continue
            names = _IMAGE_NAME.findall(line)
            old, *new = dict.fromkeys(Path(name).stem.casefold() for name in names) or [""]
            if len(names) > 1 and len(new) < 2:  # of one name twice, an image keeps its own
                rows += 1
                new_names.setdefault(old, set()).add(*new or [old])
            elif names:
                other += 1
        if long:
            put(printable(f"note: {sheet}: rows of more than {LINE} letters are left out, {long} of them"))
        if other:
            put(printable(f"note: {sheet}: rows that do not name two images are left out, {other} of them"))
        elif not rows:  # in UTF-16, say, or with its pages in another place
            advice = "save it as an .xlsx workbook, or as CSV in UTF-8"
            put(printable(f"note: {sheet}: no row with two names of images was found; {advice}"))
    new_name = {old: new for old, (new, *others) in new_names.items() if not others}
    if unclear := new_names.keys() - new_name.keys():
        put(f"note: images with several new names in the sheets keep their own: {some(sorted(unclear))}")
    return lambda path: new_name.get(stem(path), stem(path))


def _lines(sheet: Path) -> Iterator[str]:
    """The rows of a sheet, each as one text; what is longer than LINE is cut off after it."""
    if sheet.suffix.lower() != ".xlsx":
        yield from text_of(sheet, f"{sheet}:", "replace").splitlines()
        return
    try:
        with open_file(sheet) as file, zipfile.ZipFile(file) as book:
            names = book.namelist()
            if twice := [name for name, n in Counter(names).items() if n > 1]:
                raise ValueError(f"{shown(twice[0])} is in it {names.count(twice[0])} times")
            shared = list(_rows(book, "xl/sharedStrings.xml", "si", [])) if "xl/sharedStrings.xml" in names else []
            pages = sorted(name for name in names if name.startswith("xl/worksheets/sheet"))
            if len(pages) > _PAGES:
                raise ValueError(f"{len(pages)} pages, expected up to {_PAGES}")
            for page in pages:
                yield from _rows(book, page, "row", shared)
    except _DAMAGED as error:
        raise InputError(f"{sheet}: not a readable .xlsx file ({error}); replace it or take it out") from None


def _rows(book: zipfile.ZipFile, name: str, kind: str, shared: list[str]) -> Iterator[str]:
    """The texts of a part of an .xlsx file, which is a zip archive and may unfold a thousandfold, bit by bit."""
    if (size := book.getinfo(name).file_size) > _LARGEST:
        raise ValueError(f"{name} unfolds to {size >> 20} MB, expected up to {_LARGEST >> 20}")
    target = _Rows(name, kind, shared)
    parser = ElementTree.XMLParser(target=target)
    parser.feed(book.read(name))  # whole: of a long attribute in pieces the parser begins anew with each of them
    parser.close()
    yield from target.rows


class _Rows:
    """Takes the parts of an XML text as they come and keeps no more than the rows' texts: a tree of them would need a
    hundred times the memory of the file."""

    def __init__(self, name: str, kind: str, shared: list[str]) -> None:
        """kind: the element that a row is; shared: the strings that cells name by their numbers."""
        self.name, self.kind, self.shared = name, _SHEET + kind, shared
        self.rows: list[str] = []
        self.cells: list[str] = []
        self.length = self.number = 0  # letters of the row; cells and rows of the part
        self.value: list[str] | None = None  # where a value or a text is open
        self.by_number = False

    def doctype(self, *_: object) -> None:
        raise ValueError(f"{self.name} declares entities, as no sheet does")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in (self.kind, f"{_SHEET}c"):
            self.number += 1
            if self.number > _CELLS:
                raise ValueError(f"{self.name} has more than {_CELLS} cells, expected a list of names")
            self.by_number = attributes.get("t") == "s"
            if tag == self.kind:
                self.cells, self.length = [], 0
            elif self.cells:
                self._add(" ")
        elif tag in (f"{_SHEET}v", f"{_SHEET}t"):
            self.value = []

    def data(self, text: str) -> None:
        if self.value is not None and len(self.value) <= LINE:  # of pieces; none is empty
            self.value.append(text[: LINE + 1])

    def end(self, tag: str) -> None:
        if tag == self.kind:
            self.rows.append("".join(self.cells)[: LINE + 1])
            self.cells = []
        elif self.value is not None and tag in (f"{_SHEET}v", f"{_SHEET}t"):
            value, self.value = "".join(self.value), None
            if self.by_number and tag == f"{_SHEET}v":
                known = value.isdecimal() and len(value) < 9 and int(value) < len(self.shared)
                value = self.shared[int(value)] if known else ""
            self._add(value)

    def _add(self, text: str) -> None:
        if self.length <= LINE and text:
            self.cells.append(text)
            self.length += len(text)
