"""Manifests and lists as damaged editors and strangers write them: one bad row or one message each, others read."""

import io
import json
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.lists import read_list, sort_entries
from mpc_lite.data.manifest import check, manifest_rows, read_manifest
from mpc_lite.errors import InputError
from mpc_lite.forgeries.photographs import read_photograph_list

pytestmark = pytest.mark.trust
HEADER = "image,mask,label,source\n"
GOOD = "a.png,m.png,1,set\n"


@pytest.fixture
def folder(tmp_path):
    mask = np.zeros((8, 9), np.uint8)
    mask[:4] = 255
    Image.fromarray(np.full((8, 9, 3), 90, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    return tmp_path


BAD_ROWS = {
    "NUL in a path": "a\0.png,m.png,1,set\n",
    "NUL in a mask": "a.png,m\0.png,1,set\n",
    "5000 letters": f"{'a' * 5000}.png,m.png,1,set\n",
    "5000 folders": f"{'a/' * 5000}b.png,m.png,1,set\n",
    "a mask of 5000": f"a.png,{'m' * 5000}.png,1,set\n",
    "a label of 5000 digits": f"a.png,m.png,{'1' * 5000},set\n",
    "an escape": "\x1b[2J\x1b[31m.png,m.png,1,set\n",
    "a turned name": "a\u202egnp.exe,m.png,1,set\n",
    "a line within": '"a\nall rows are good.png",m.png,1,set\n',
    "a user that is not": "~nobody-of-this-name/a.png,m.png,1,set\n",
    "a folder": ".,m.png,1,set\n",
    "many fields": ",x" * 5000 + "\n",
}


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_one_line_and_the_others_are_read(row, folder):
    path = folder / "m.csv"
    path.write_text(HEADER + row + GOOD, encoding="utf-8", newline="")
    problems = [problem for _, problem in manifest_rows(path)]
    assert problems[0] and problems[1] is None
    for text in (problems[0], *check(path)):
        assert text.isprintable() and len(text) < 600
    assert len(check(path)) == 1
    with pytest.raises(InputError, match=r"row 2 of m\.csv"):
        read_manifest(path)


OPEN_QUOTES = {
    "to the end": (
        'a.png,m.png,1,"s\n' + GOOD,
        "row 2 of m.csv: a quote .* line 2 is not closed .* lines 2 to 3 became",
    ),
    "to another quote": ('a.png,m.png,1,"s\na.png,m.png,1,"s"\n', "row 2 of m.csv: a quote .* lines 2 to 3 became"),
    "a line break, closed": (
        'a.png,m.png,1,"line\nall is well"\n',
        "row 2 of m.csv: a quote that opens in line 2 is not closed in it, so lines 2 to 3 became one row",
    ),
    "in the last line": ('"a.png",m.png,1,"s', "row 2 of m.csv: a quote that opens in line 2 is not closed in it$"),
    "of Windows": ('a.png,m.png,1,"s\r\n' + GOOD, "row 2 of m.csv: a quote .* lines 2 to 3 became one row"),
}


@pytest.mark.parametrize(("rows", "words"), OPEN_QUOTES.values(), ids=OPEN_QUOTES)
def test_a_quote_left_open_takes_no_row_in_silence(rows, words, folder):
    path = folder / "m.csv"
    path.write_text(HEADER + rows, newline="")
    (problem,) = check(path)
    assert re.search(words, problem)
    for read in (read_manifest, read_photograph_list):
        with pytest.raises(InputError, match=r"row 2 of .*a quote that opens in line 2"):
            read(path)
    path.write_text('image,mask,label,"source\n' + GOOD)
    for read in (check, read_photograph_list):
        with pytest.raises(InputError, match="a quote that opens in line 1 is not closed in it"):
            read(path)


@pytest.mark.parametrize("row", ["a.png,Canon", "a.png,Canon,set,CC0,more", "a.png,Canon,,CC0", "a.png"])
def test_a_photograph_of_more_or_fewer_cells_than_the_header_is_refused(row, folder):
    (folder / "p.csv").write_text(f"image,camera,source,licence\na.png,,set,\nm.png,Canon,set,CC0,,\n{row}\n")
    with pytest.raises(InputError, match=r"row 4 of .*(cells, expected 4|names no source)"):
        read_photograph_list(folder / "p.csv")
    (folder / "p.csv").write_text("image,camera,source,licence\na.png,,set,\nm.png,Canon,set,CC0,,\n")
    assert [photo["source"] for photo in read_photograph_list(folder / "p.csv")] == ["set", "set"]


@pytest.mark.parametrize("read", [read_manifest, check, read_photograph_list, read_list])
def test_a_pipe_is_not_waited_for(read, folder):
    os.mkfifo(folder / "m.csv")
    with pytest.raises(InputError, match="a pipe or a device, expected a file"):
        read(folder / "m.csv")


BAD_FILES = {
    "latin-1": HEADER.encode() + b"caf\xe9.png,m.png,1,set\n",
    "UTF-16": (HEADER + GOOD).encode("utf-16"),
    "one field of a megabyte": HEADER.encode() + b"a" * (1 << 20) + b",m.png,1,set\n",
    "a quote without end": HEADER.encode() + b'"' + b"a,1\n" * 100_000,
    "5000 columns": ",".join(f"c{n}" for n in range(5000)).encode() + b"\n",
    "500 columns of long names": HEADER.replace("mask", "msk").encode().strip() + (b"," + b"y" * 200) * 500 + b"\n",
    "5000 equal columns": b"image,mask,label,source" + b",x" * 5000 + b"\n",
    "an escape in the header": b"\x1b[2J,mask,label,source\n",
    "bytes": bytes(range(256)) * 40,
    "nothing": b"",
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_manifest_is_one_message(data, folder):
    path = folder / "m.csv"
    path.write_bytes(data)
    for read in (read_manifest, check, read_photograph_list):
        with pytest.raises(InputError) as refusal:
            read(path)
        assert str(refusal.value).replace(str(folder), "").isprintable() and len(str(refusal.value)) < 800


@pytest.mark.parametrize("name", ["a\0.csv", "a" * 5000, "a\udce9.csv"])
def test_a_name_that_cannot_be_is_one_message(name, folder):
    for read in (read_manifest, check, read_photograph_list, read_list):
        with pytest.raises(InputError) as refusal:
            read(folder / name)
        assert str(refusal.value).isprintable() and len(str(refusal.value)) < 600


def npy(dtype="<U5", shape=(3, 2), data=b"", header=None):
    """An .npy file whose header says what it wants."""
    text = header or repr({"descr": dtype, "fortran_order": False, "shape": shape})
    text = text.encode().ljust(64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


LISTS = {
    "JSON nested without end": b"[" * 100_000,
    "JSON nested, and whole": b"[" * 5000 + b"]" * 5000,
    "a number of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "a pair of 4000 digits": b"[[" + b"9" * 4000 + b', "m.png"]]',
    "a pair nested": b'[["a.png", ' + b"[" * 400 + b"]" * 400 + b"]]",
    "half a character": b'[["\\ud800.png", "m.png"]]',
    "NUL in JSON": b'[["a\\u0000.png", "m.png"]]',
    "5000 letters in JSON": json.dumps([["a" * 5000, "m.png"]]).encode(),
    "a JSON table": b'{"a": 1}',
    "JSON in latin-1": b'[["caf\xe9.png", "m.png"]]',
    "a line of 5000 letters": b"a" * 5000 + b".png m.png 1\n",
    "a line of 5000 fields": b"a.png m.png 1\n" + b"a " * 5000,
    "an escape in a line": b"\x1b[2J.png m.png 1\n",
    "npy of too many rows": npy(shape=(10**18, 2)),
    "npy of more rows than numbers": npy(shape=(10**30, 2)),
    "npy of rows below zero": npy(shape=(-1, 2)),
    "npy of texts without letters": npy("<U0", (10**12, 2)),
    "npy of no shape": npy(shape=None),
    "npy of letters as shape": npy(shape=("a", 2)),
    "npy of no type": npy("<Q99"),
    "npy of records": npy([("a", "<U3"), ("b", "<U3")], (2,)),
    "npy of objects": npy("|O", (2, 2)),
    "npy of a call": npy(header="__import__('os').getcwd()"),
    "npy nested": npy(header="(" * 400),
    "npy cut off": npy(data=b"abc"),
    "npy of another version": b"\x93NUMPY\x09\x00" + bytes(200),
    "npy of two bytes": b"\x93NUMPY",
    "npy of no text": npy("<U1", (1, 2), b"\xff\xff\xff\xff" * 2),
    "a pickle": b"\x80\x04N.",
    "a zip": b"PK\x03\x04" + bytes(100),
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("data", LISTS.values(), ids=LISTS)
def test_a_list_that_cannot_be_used_is_told_in_short(data, folder):
    path = folder / "list.txt"
    path.write_bytes(data)
    with pytest.raises(InputError) as refusal:
        read_list(path)
    text = str(refusal.value)
    assert all(line.isprintable() for line in text.splitlines()) and len(text) < 1500


def test_bad_entries_do_not_lose_the_others(folder):
    (folder / "list.json").write_text(
        json.dumps([["a\0.png", "m.png"], [1, [2]], ["b" * 5000, "m"], ["a.png", "m.png"]])
    )
    good, bad = sort_entries(folder / "list.json")
    assert [sample.image.name for sample in good] == ["a.png"] and [number for number, _ in bad] == [1, 2, 3]
    data = io.BytesIO()
    np.save(data, np.array([["a.png", "m.png"], ["a\x1b.png", "m.png"]]))
    (folder / "list.npy").write_bytes(data.getvalue())
    good, bad = sort_entries(folder / "list.npy")
    assert len(good) == 1 and r"a\x1b.png" in bad[0][1]


def test_a_header_of_forty_thousand_columns_takes_no_longer_than_its_length(folder):
    """Each took half a minute while every name was looked for among all."""
    names, empty = ",".join(f"c{n}" for n in range(40_000)), "," * 40_000
    (folder / "m.csv").write_text(f"image,mask,label,source,{names}\na.png,m.png,1,set{empty}\n")
    (folder / "photos.csv").write_text(f"image,source,licence,{names}\na.png,set,CC0{empty}\n")
    start = time.perf_counter()
    assert check(folder / "m.csv") == []
    assert [row["image"] for row in read_photograph_list(folder / "photos.csv")] == ["a.png"]
    assert time.perf_counter() - start < 5
