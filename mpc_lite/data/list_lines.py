"""Foreign lists of lines: which of their forms, and each line's image, mask and label. `list_formats` reads them."""

import csv
import re
import reprlib
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mpc_lite.errors import InputError, shown
from mpc_lite.files import PICTURES

_LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}  # with a point where a table had gaps in their column
NAME = re.compile(
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


def form_of_lines(data: bytes, path: Path) -> str:
    """The form that most lines fit: space, comma or names. InputError when two fit equally well."""
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


def _fits_pair(line: str, delimiter: str) -> int:
    """1 where a line so divided begins with a picture and its mask, or none; 2 where neither holds the other one."""
    with suppress(csv.Error, ValueError):  # fewer than two
        image, mask = _fields(line, delimiter)[:2]
        if _is_picture(image) and (_is_picture(mask) or mask.strip() in ("", "None")):
            return 2 - any(each in image + mask for each in ",;" if each != delimiter)
    return 0


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


def pair_entry(number: int, where: str, image: object, mask: object, authentic: tuple[str, ...]) -> Entry:
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


def line_entries(data: bytes, path: Path, format: str, masks: bool) -> list[Entry]:
    """The entries of a list in one of the forms of lines; masks: as in `list_formats.entries`."""
    rows, labels = [], {}
    delimiter, texts = None, data.decode("utf-8-sig", "replace").splitlines()
    if format == "comma":  # names may hold the other one
        delimiter = max(
            ",;", key=lambda each: (sum(_fits_pair(text, each) for text in texts), data.count(each.encode()))
        )
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
        n = len(NAME.findall(line)) if format == "names" else sum(map(_is_picture, fields))
        if n > 3 and not more_lines:
            entry = Entry(number, where, "", None, 0, f"'{shown(line)}' names several images; write a line for each")
        elif format == "names" or not (masks or "".join(fields[1:]).strip()):  # a spreadsheet's empty columns
            entry = Entry(number, where, name := fields[0].strip(), None, 0, None if name else "no image")
        elif len(fields) < 2 or (format == "space" and len(fields) > 3):
            form = "image,mask" if format == "comma" else "image mask label, with no space inside a path"
            entry = Entry(number, where, "", None, 0, f"'{shown(line)}' has {len(fields)} fields, expected {form}")
        else:
            entry = pair_entry(number, where, fields[0], fields[1], ("None",))
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
