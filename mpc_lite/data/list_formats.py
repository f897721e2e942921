"""The formats of foreign lists, from bytes or folders to entries; `lists` makes samples of them."""

import json
import os
import reprlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpc_lite.data.list_lines import NAME, Entry, form_of_lines, line_entries, pair_entry
from mpc_lite.data.pairs import SAME, match_names
from mpc_lite.errors import InputError, shortened, shown, some
from mpc_lite.files import absent, open_file, pictures_in, place

FORMATS = ("json", "folders", "npy", "space", "comma", "names")
_FOLDERS = (("tp", "gt"), ("tamper", "gt"))  # of tampered images and of their masks, in any case of letters
_EXPECTED = (
    'a JSON list of pairs, a folder with Tp/ and Gt/, an .npy file of shape (N,2), or lines "image mask label" or '
    '"image,mask"'
)


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
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{path.name}: text in UTF-16; save the list in UTF-8")
        format = format or _guess(data, path)
        if format == "npy":
            rows = _array(data, path)
        else:
            rows = _json(data, path) if format == "json" else line_entries(data, path, format, masks)
    if not rows:
        raise InputError(f"{path.name}: the list is empty; expected {_EXPECTED}")
    if format == "names" and masks:
        if (n := len(NAME.findall(rows[0].image))) > 1:
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
    return form_of_lines(data, path)


def _short(value: object) -> str:
    """What stands in a list where two texts should, however deep or long it is."""
    try:
        return shown(json.dumps(value, ensure_ascii=False))
    except (RecursionError, ValueError):
        return shown(reprlib.repr(value))


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
            rows.append(pair_entry(number, where, *pair, authentic=("Negative",)))
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
    return [
        pair_entry(n, f"entry {n} of {path.name}", *row, authentic=("", "None")) for n, row in enumerate(rows, start=1)
    ]


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
