"""The formats of foreign lists, from bytes or folders to entries; `lists` makes samples of them."""

import csv
import json
import os
import re
import reprlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpc_lite.data.pairs import SAME, match_names
from mpc_lite.errors import InputError, shortened, shown, some
from mpc_lite.files import PICTURES, absent, open_file, pictures_in, place

FORMATS = ("json", "folders", "npy", "space", "comma", "names")
_FOLDERS = (("tp", "gt"), ("tamper", "gt"))  # of tampered images and of their masks, in any case of letters
_LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}  # with a point where a table had gaps in their column
_EXPECTED = (
    'a JSON list of pairs, a folder with Tp/ and Gt/, an .npy file of shape (N,2), or lines "image mask label" or '
    '"image,mask"'
)
_NAME = re.compile(
    rf"(?:{'|'.join(map(re.escape, sorted(PICTURES, key=len, reverse=True)))})(?=[\s,;|\"']|$)", re.IGNORECASE
)


class Entry(NamedTuple):
    """One entry of a list as it stands there. `mask` is None for an authentic image; `problem` tells a bad entry."""

    number: int  # of the line, or of the entry where there are no lines; from 1
    where: str  # how messages name it: "line 7 of casia.txt"
    image: str
    mask: str | None
    label: int
    problem: str | None = None
    note: str = ""  # of a pair whose names differ


def entries(path: str | Path, format: str | None = None, masks: bool = True) -> Iterator[Entry]:
    """The entries of a list as they stand there; no file is looked up (but for `folders`). Arguments as `read_list`.

    With `masks=False` entries without a mask are fine: lists of names. InputError for what is no list, and no entries.
    """
    path = place(path)
    if format is not None and format not in FORMATS:
        raise InputError(f"list format '{format}' is not known; expected one of: {', '.join(FORMATS)}")
    if not os.path.exists(path):  # False, not an error, for what no system takes as a path
        raise InputError(f"{shown(path, 200)}: {absent(path, 'no such file or folder')}; expected {_EXPECTED}")
    if path.is_dir() != (format == "folders") and format is not None:
        raise InputError(f"{path} is a {'folder' if path.is_dir() else 'file'}, which format '{format}' is not")
    if path.is_dir():
        rows = _folders(path)
    else:
        try:
            with open_file(path) as file:
                data = file.read()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
        format = format or _guess(data, path)
        if format == "npy":
            rows = _array(data, path)
        else:
            rows = _json(data, path) if format == "json" else _lines(data, path, format, masks)
    if not rows:
        raise InputError(f"{path.name}: the list is empty; expected {_EXPECTED}")
    if format == "names" and masks:
        if (n := len(_NAME.findall(rows[0].image))) > 1:
            raise InputError(
                f"{path.name}: '{shown(rows[0].image)}' names {n} files in no known form; expected {_EXPECTED}"
            )
        raise InputError(
            f"{path.name} names images only, without masks; pick its images from a manifest that pairs them "
            "(data_scripts/from_list.py LIST --of MANIFEST)"
        )
    return iter(rows)


def _guess(data: bytes, path: Path) -> str:
    """The format that most lines fit; InputError when two fit equally well."""
    if data.startswith((b"\x93NUMPY", b"\x80", b"PK\x03\x04")):  # an array; a pickle or .npz, which _array refuses
        return "npy"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return "json"
    if b"\0" in data:
        raise InputError(f"{path.name}: neither text nor an array; expected {_EXPECTED}")
    lines = [text for text in data.decode("utf-8-sig", "replace").splitlines() if text.strip()]
    space, comma = sum(map(_fits_space, lines)), sum(map(_fits_comma, lines))
    if space == comma > 0:
        raise InputError(
            f"{path.name}: its lines (the first: {shown(lines[0])!r}) can be read as 'space' (image mask label) and as "
            "'comma' (image,mask); say which by format"
        )
    return "names" if space == comma else "space" if space > comma else "comma"


def _fits_space(line: str) -> bool:
    try:
        fields = _fields(line, None)
    except csv.Error:
        return False
    if any(field.endswith(",") for field in fields):
        return False
    with_label = len(fields) == 3 and fields[2] in _LABELS
    return with_label or (len(fields) == 2 and "." in fields[0] and ("." in fields[1] or fields[1] == "None"))


def _fits_comma(line: str) -> bool:
    for delimiter in ",;":
        with suppress(csv.Error):
            if delimiter in line and ('"' not in line or len(_fields(line, delimiter)) > 1):
                return True
    return False


def _fields(line: str, delimiter: str | None) -> list[str]:
    """A line's fields, quoted ones as CSV has them; delimiter None: any number of blanks. csv.Error for open quotes."""
    if delimiter is None and "\t" in line:
        apart, pictures = [field.strip(' "') for field in line.split("\t")], sum(map(_is_picture, line.split()))
        if all(_is_picture(field) or " " not in field for field in apart) and pictures == sum(map(_is_picture, apart)):
            filled = [field for field in apart if field]  # some line up by several tabs
            label = len(filled) == 2 and (filled[1] in _LABELS or "." not in filled[1]) and filled[1] != "None"
            return apart if label else filled
    if delimiter is None and '"' not in line:
        return line.split()
    reader = csv.reader([line.replace("\t", " ")], delimiter=delimiter or " ", skipinitialspace=True, strict=True)
    return [field for field in next(reader, []) if field or delimiter]


def _pair(number: int, where: str, image: object, mask: object, authentic: tuple[str, ...]) -> Entry:
    """An entry of two texts, checked; `authentic` are the masks that stand for none."""
    if not isinstance(image, str) or not isinstance(mask, str):
        pair = f"{shown(reprlib.repr(image))} and {shown(reprlib.repr(mask))}"
        return Entry(number, where, "", None, 0, f"{pair}, expected two texts: image and mask")
    image, mask = image.strip(), mask.strip()
    if not image:
        return Entry(number, where, "", None, 0, "no image")
    if mask in authentic:
        return Entry(number, where, image, None, 0)
    if not mask:
        return Entry(number, where, image, None, 0, f"no mask; an authentic image has '{authentic[0]}' in its place")
    return Entry(number, where, image, mask, 1)


def _is_picture(field: str) -> bool:
    return field.strip().lower().endswith(PICTURES)


def _short(value: object) -> str:
    """What stands in a list where two texts should, however deep or long it is."""
    try:
        return shown(json.dumps(value, ensure_ascii=False))
    except (RecursionError, ValueError):
        return shown(reprlib.repr(value))


def _lines(data: bytes, path: Path, format: str, masks: bool) -> list[Entry]:
    rows, labels = [], {}
    delimiter = (";" if data.count(b";") > data.count(b",") else ",") if format == "comma" else None
    more_lines = data.strip().count(b"\n") > 0
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        where = f"line {number} of {path.name}"
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            rows.append(Entry(number, where, "", None, 0, "not text in UTF-8; save the list in this encoding"))
            continue
        if not line.strip(f"{delimiter} \t" if delimiter else None):  # of a spreadsheet's empty row commas are left
            continue
        try:
            fields = _fields(line, delimiter) if format != "names" else _fields(line, ",") if line[0] == '"' else [line]
        except csv.Error as error:
            problem = f"{line[:100]!r} is not quoted as a CSV file is ({error}); expected a name or image,mask"
            rows.append(Entry(number, where, "", None, 0, problem))
            continue
        if not rows and [field.strip(' "').lower() for field in re.split(r"[,;\t]", line)[:2]] == ["image", "mask"]:
            raise InputError(
                f"{path.name} begins with the header of a manifest; save it with commas, and give it as one"
            )
        # Lines may name more files of an image; a whole list in one line would be read as its first entry.
        n = len(_NAME.findall(line)) if format == "names" else sum(map(_is_picture, fields))
        if n > 3 and not more_lines:
            entry = Entry(number, where, "", None, 0, f"'{shown(line)}' names several images; write a line for each")
        elif format == "names" or not (masks or "".join(fields[1:]).strip()):  # a spreadsheet's empty columns
            entry = Entry(number, where, name := fields[0].strip(), None, 0, None if name else "no image")
        elif len(fields) < 2 or (format == "space" and len(fields) > 3):
            form = "image,mask" if format == "comma" else "image mask label, with no space inside a path"
            entry = Entry(number, where, "", None, 0, f"'{shown(line)}' has {len(fields)} fields, expected {form}")
        else:
            entry = _pair(number, where, fields[0], fields[1], ("None",))
            if len(fields) > 2 and (label := fields[2].strip()):
                labels[len(rows)] = label
        rows.append(entry)
    # With commas it may be another file, or anything; a first line may be a header.
    known = [label in _LABELS for row, label in labels.items() if row or label in _LABELS]
    if format == "space" or 2 * sum(known) > len(known):
        for i, label in labels.items():
            rows[i] = rows[i] if rows[i].problem else _labelled(rows[i], label)
    elif masks and (words := [label for label in labels.values() if "." not in label and label != "None"]):
        warnings.warn(
            f"{path.name}: third fields such as '{shown(words[-1], 60)}' are not read, since most are no label (1 "
            "tampered, 0 authentic); every entry with a mask counts as tampered",
            stacklevel=4,
        )
    return rows


def _labelled(entry: Entry, text: str) -> Entry:
    label = _LABELS.get(text)
    if label is None:
        return entry._replace(label=0, problem=f"label '{shown(text)}', expected 1 (tampered) or 0 (authentic)")
    problem = "label 1 (tampered), but no mask" if label and entry.mask is None else None
    return entry._replace(label=label, problem=problem)


def _json(data: bytes, path: Path) -> list[Entry]:
    try:
        pairs = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else shortened(error, 200)
        raise InputError(f"{path.name}: not JSON, though it begins like it ({reason}); expected {_EXPECTED}") from None
    if not isinstance(pairs, list):
        raise InputError(f'{path.name}: a JSON {type(pairs).__name__}, expected a list of pairs ["image", "mask"]')
    rows = []
    for number, pair in enumerate(pairs, start=1):
        where = f"entry {number} of {path.name}"
        if not isinstance(pair, list) or len(pair) != 2:
            rows.append(Entry(number, where, "", None, 0, f'{_short(pair)}, expected a pair ["image", "mask"]'))
        elif isinstance(pair[0], str) and pair[0].endswith("Dataset"):
            raise InputError(
                f"{path.name} lists data sets ({shown(pair[0])}, …), not images; read the lists it names one by one"
            )
        else:
            rows.append(_pair(number, where, *pair, authentic=("Negative",)))
    return rows


def _array(data: bytes, path: Path) -> list[Entry]:
    safely = (
        "numpy would have to run code from the file to read it. If you trust its origin, save it anew as text: "
        f"python -c \"import numpy as n; n.save('safe.npy', n.load('{path.name}', allow_pickle=True).astype(str))\""
    )
    if data.startswith(b"PK"):
        raise InputError(
            f"{path.name} is an .npz, an .xlsx or another zip archive; expected one .npy array of shape (N,2), taken "
            "out of it, or the sheet saved as CSV"
        )
    if data.startswith(b"\x80") or b"'|O'" in data[:4096].split(b"\n")[0]:
        raise InputError(f"{path.name} holds Python objects; {safely}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what numpy thinks of a header that it then refuses
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, kind = array.shape, array.dtype.kind
    except Exception as error:  # a header is a Python literal, whose damage shows in a dozen ways
        reason = shown(error, 200)
        raise InputError(f"{path.name}: not a whole .npy array ({reason}); expected {_EXPECTED}") from None
    if array.dtype.itemsize == 0:  # texts without letters take no bytes: any number of them fits into a header
        raise InputError(f"{path.name}: shape {shape} of empty texts, expected (N,2) texts: image and mask")
    if kind not in "US" or len(shape) != 2 or shape[1] != 2:
        raise InputError(f"{path.name}: shape {shape} of {array.dtype}, expected (N,2) texts: image and mask")
    if kind == "U" and array.size:  # numpy would make texts of numbers that are no letters, which break what reads them
        codes = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).view(np.uint32)
        if codes.max() > sys.maxunicode:
            raise InputError(f"{path.name}: holds numbers that are no letters; it is damaged, save the list anew")
    try:
        rows = array.tolist() if kind == "U" else np.char.decode(array, "utf-8").tolist()
    except ValueError as error:
        raise InputError(f"{path.name}: its texts are not UTF-8 ({error}); save the list in this encoding") from None
    return [_pair(n, f"entry {n} of {path.name}", *row, authentic=("", "None")) for n, row in enumerate(rows, start=1)]


def _folders(path: Path) -> list[Entry]:
    inside = {entry.name.lower(): entry.name for entry in sorted(path.iterdir()) if entry.is_dir()}
    names = next(((inside[a], inside[b]) for a, b in _FOLDERS if a in inside and b in inside), None)
    if names is None:
        raise InputError(f"{path}: found the folders {some(inside.values()) or '(none)'}, expected Tp and Gt")
    rows = []
    for match in match_names(*(_files(path / name) for name in names), places=names):
        where = f"{names[0]}/{match.image}" if match.image else f"{names[1]}/{match.mask}"
        mask = f"{names[1]}/{match.mask}" if match.mask else None
        note = f"{match.image} with {match.mask}" if match.how not in ("", SAME) else ""
        rows.append(Entry(len(rows) + 1, where, where, mask, 1, match.problem or None, note))
    for name in names:  # those of CASIA are sorted by kind: Tp/CM, Tp/D
        if below := [file for file in pictures_in(path / name) if file.parent != path / name]:
            where = below[0].parent.relative_to(path).as_posix()
            problem = f"{len(below)} pictures lie in folders below {name}, of which nothing is read; give these folders"
            rows.append(Entry(len(rows) + 1, where, where, None, 0, problem))
    return rows


def _files(folder: Path) -> list[str]:
    """The names of a folder's files; what systems put there does not count."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    return [name for name in names if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini")]
