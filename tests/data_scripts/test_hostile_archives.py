"""Archives whose headers lie. What is refused is described here by small, harmless files with a lowered limit."""

import csv
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

import archives
import fetch
from archives import unpack
from common import Tree
from mpc_lite.errors import InputError, printable

pytestmark = pytest.mark.trust


def test_the_same_name_twice_is_refused_in_both_formats(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for text in ("one", "two"):
            archive.writestr("Tp/a.txt", text)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name in ("Tp/a.txt", "./Tp//a.txt"):
            archive.addfile(tarfile.TarInfo(name))
    for file in ("set.zip", "set.tar"):
        with pytest.raises(InputError, match=r"a\.txt twice, and only one would stay"):
            unpack(tmp_path / file)


@pytest.mark.parametrize("large", [False, True])
def test_a_zip_that_counts_other_members_than_it_lists_is_refused(large, tmp_path, monkeypatch):
    if large:  # another end record, as of more than 65 535 members
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}.txt", name)
        archive.comment = b"a comment" * 1000
    data = bytearray((tmp_path / "set.zip").read_bytes())
    assert (b"PK\6\6" in data) == large
    assert len(list(unpack(tmp_path / "set.zip")[0].glob("*.txt"))) == 2
    data[data.rindex(b"PK\6\6") + 32 if large else data.rindex(b"PK\5\6") + 10] = 7
    (tmp_path / "other.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"other\.zip: counts 7 members at its end and lists 2, so it is damaged"):
        unpack(tmp_path / "other.zip")
    assert not (tmp_path / "other.zip.unpacked").exists()


def test_a_zip_of_more_members_than_its_record_can_count_is_unpacked(tmp_path, monkeypatch):
    """Programs that know no larger record write the last 16 bits: 2 of 65 538."""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/", "")
        archive.writestr("b/", "")
    listed = zipfile.ZipFile.infolist
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: listed(self) + listed(self)[:1] * 65_536)
    assert {path.name for path in unpack(tmp_path / "set.zip")[0].iterdir()} == {"a", "b", archives.RECORD}


def test_folders_named_twice_are_fine(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("Tp/", "")
        archive.writestr("Tp/", "")
        archive.writestr("Tp/a.txt", "a")
    assert (unpack(tmp_path / "set.zip")[0] / "Tp" / "a.txt").is_file()


def test_members_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 3)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.txt", "")
    with pytest.raises(InputError, match="more than 3 members"):
        unpack(tmp_path / "set.zip")


def test_folders_one_in_another_without_end_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("d/" * 1500 + "a.txt", "")
    with pytest.raises(InputError, match=r"set\.zip: holds d/d.*1500 folders deep, at most 100; do not"):
        unpack(tmp_path / "set.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_a_member_may_not_speak_to_the_terminal(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("../\x1b[2Jgone", "")
    with pytest.raises(InputError, match="leads out") as refusal:
        unpack(tmp_path / "set.zip")
    assert "\x1b" not in str(refusal.value) and r"\x1b[2Jgone" in str(refusal.value)


def test_a_sheet_that_unfolds_without_end_is_refused(load, tmp_path, monkeypatch):
    names = load("casia_names")
    monkeypatch.setattr(names, "_LARGEST", 1000)
    sheet = tmp_path / "fileNamesCorrection.xlsx"
    for part in ("xl/sharedStrings.xml", "xl/worksheets/sheet1.xml"):
        with zipfile.ZipFile(sheet, "w", zipfile.ZIP_DEFLATED) as book:
            book.writestr(part, f"<a>{' ' * 2000}</a>")
        with pytest.raises(InputError, match=f"{part} unfolds"):
            list(names._lines(sheet))


SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(path, *pages, shared=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        if shared:
            book.writestr("xl/sharedStrings.xml", f"<sst {SHEET}>{shared}</sst>")
        for number, rows in enumerate(pages, start=1):
            body = f"<worksheet {SHEET}><sheetData>{rows}</sheetData></worksheet>"
            book.writestr(f"xl/worksheets/sheet{number}.xml", body)
    return path


READING = (
    "import sys; sys.path.append(sys.argv[1]); from casia_names import _lines; from pathlib import Path;"
    "from tests.trust.reader import memory;"
    "before = memory(); n = sum(1 for _ in _lines(Path(sys.argv[2]))); print(n, memory() - before)"
)


@pytest.mark.parametrize(
    ("rows", "shared", "number"),
    [
        (f"<row>{'<c/>' * 100}</row>" * 4_000, "", 16_000),
        (f"<row>{'<c/>' * 400_000}</row>", "", 4),
        (("<row>" + '<c t="s"><v>0</v></c>' * 1_000 + "</row>") * 200, f"<si><t>{'a' * 2_000_000}</t></si>", 800),
    ],
)
def test_a_sheet_takes_little_memory_whatever_its_cells(rows, shared, number, tmp_path):
    sheet = workbook(tmp_path / "fileNamesCorrection.xlsx", *[rows] * 4, shared=shared)
    assert sheet.stat().st_size < 200_000
    call = [sys.executable, "-c", READING, str(Path(fetch.__file__).parent), str(sheet)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout.split()[0]) == number and float(done.stdout.split()[1]) < 40


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        (["<row/>" * 1001], "has more than 1000 cells"),
        ([f"<row>{'<c/>' * 1001}</row>"], "has more than 1000 cells"),
        (["<row/>"] * 9, "9 pages, expected up to 8"),
    ],
)
def test_what_no_list_of_names_holds_is_refused(pages, words, load, tmp_path, monkeypatch):
    names = load("casia_names")
    monkeypatch.setattr(names, "_CELLS", 1000)
    with pytest.raises(InputError, match=words):
        list(names._lines(workbook(tmp_path / "fileNamesCorrection.xlsx", *pages)))


def test_a_long_attribute_of_a_sheet_is_read_once(load, tmp_path):
    """Fed piece by piece, it is read anew with each piece: 16 MB took as long as a hundred sheets."""
    sheets = [
        workbook(tmp_path / f"{n}.xlsx", f"<row a='{'x' * n}'><c><v>Tp_1.jpg</v></c></row>") for n in (1 << 20, 8 << 20)
    ]
    times = []
    for sheet in sheets:
        started = time.process_time()
        assert list(load("casia_names")._lines(sheet)) == ["Tp_1.jpg"]
        times.append(time.process_time() - started)
    assert times[1] < 24 * times[0] + 0.5  # eight times as long; it was 64 times


def test_sheets_that_no_program_writes_are_refused_in_words(load, tmp_path):
    with zipfile.ZipFile(tmp_path / "code.xlsx", "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", '<?xml version="1.0" encoding="no-such"?><a/>')
    with pytest.raises(InputError, match=r"code\.xlsx: not a readable \.xlsx file \(unknown encoding: no-such\)"):
        list(load("casia_names")._lines(tmp_path / "code.xlsx"))
    with zipfile.ZipFile(tmp_path / "twice.xlsx", "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {SHEET}/>")
        with pytest.warns(UserWarning, match="Duplicate name"):
            book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {SHEET}/>")
    with pytest.raises(InputError, match=r"\(xl/worksheets/sheet1\.xml is in it 2 times\)"):
        list(load("casia_names")._lines(tmp_path / "twice.xlsx"))


def test_a_member_that_claims_less_than_nothing_is_refused(tmp_path):
    """In a number of 256 digits a size may be negative, and the member then came out empty."""
    member = tarfile.TarInfo("a.jpg")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (256**12 - 1).to_bytes(12, "big")  # -1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(10240 - 512))
    with pytest.raises(InputError, match=r"a\.tar: holds a\.jpg, which claims -1 bytes"):
        unpack(tmp_path / "a.tar")


def test_the_cells_of_a_sheet_are_read_in_all_forms(load, tmp_path):
    rows = (
        '<row><c t="s"><v>0</v></c><c/><c t="inlineStr"><is><t>b</t></is></c><c t="s"><v>7</v></c></row>'
        '<row><c t="str"><v>x &amp; y</v></c><c><v>3</v></c></row><row/>'
    )
    sheet = workbook(tmp_path / "a.xlsx", rows, shared="<si><r><t>a1</t></r><r><t>a2</t></r></si>")
    assert [line.split() for line in load("casia_names")._lines(sheet)] == [["a1a2", "b"], ["x", "&", "y", "3"], []]


def test_a_sheet_that_declares_entities_is_refused(load, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    with pytest.raises(InputError, match="declares entities"):
        list(load("casia_names")._lines(tmp_path / "a.xlsx"))


def test_rows_that_are_too_long_are_told(load, tmp_path, capsys):
    (tmp_path / "fileNamesCorrection.csv").write_text(f"Tp_a.jpg,Tp_b.jpg\nTp_c.jpg{',' * 20_000}Tp_d.jpg\n")
    key = load("casia_names").renamed(Tree([tmp_path]))
    assert (key(Path("Tp_a.jpg")), key(Path("Tp_c.jpg"))) == ("tp_b", "tp_c")
    assert "rows of more than 10000 letters are left out, 1 of them" in capsys.readouterr().out


def test_rows_without_a_whole_name_take_no_longer_than_their_length(load, tmp_path):
    """Each of these takes a quarter of a minute where the search begins anew at every letter."""
    (tmp_path / "fileNamesCorrection.csv").write_text(f"Tp_a.jpg,Tp_b.jpg\n{'Tp_' * 3330}\n" * 200)
    lines = [
        "a.jpg",
        '{"id": 1, "image": "d.jpg"}',
        "b.jpg" + "x" * 9990,
        "c" * 9990,
        ' "' * 4990,
        '"a' * 4990,
        '"a":' * 2490,
        '""b' * 3330,
        ' "c.jpg" x' * 900,
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines * 20))
    start = time.perf_counter()
    key, found = (
        load("casia_names").renamed(Tree([tmp_path])),
        load("make")._split_list(f"test={tmp_path / 'list.txt'}"),
    )
    assert time.perf_counter() - start < 5
    assert key(Path("Tp_a.jpg")) == "tp_b" and found.entries[:3] == ["a.jpg", "d.jpg", "c.jpg"]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_bad_pairs_are_no_formulas(begin, load, tmp_path):
    record = load("record")
    row = {"image": f"{begin}cmd|x", "mask": f"a;{begin}1;b-1.png", "problem": f"{begin}1"}
    record.write_bad(tmp_path / "set.bad.csv", [row])
    with open(tmp_path / "set.bad.csv", newline="", encoding="utf-8") as file:
        (found,) = csv.DictReader(file)
    assert found == {"image": f"'{begin}cmd|x", "mask": f"a;'{begin}1;b-1.png", "problem": f"'{begin}1"}


def test_a_line_break_in_a_name_begins_no_row_of_the_bad_pairs(load, tmp_path):
    load("record").write_bad(tmp_path / "set.bad.csv", [{"image": "\ra\n=1+1", "mask": "", "problem": "no mask"}])
    assert (tmp_path / "set.bad.csv").read_bytes() == b"image,mask,problem\n\\ra\\n=1+1,,no mask\n"


def test_a_report_shows_names_escaped(load, capsys):
    load("record").tell("bad: \x1b[2Ja.png | - | no mask")
    assert capsys.readouterr().out == "bad: \\x1b[2Ja.png | - | no mask\n"


def answer(data: bytes) -> str:
    """The address of a server that says this to the first who asks, and no more."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/set.zip"


@pytest.mark.parametrize(
    "data, words",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: lots\r\n\r\nabc", "invalid literal"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n", "Invalid IPv6 URL"),
        (b"HTTP/1.1 999 \x1b[2J\r\n\r\n", r"says 999 \\x1b\[2J"),
        (b"hello\r\n\r\n", r"hello\\r\\n"),
    ],
)
def test_a_server_that_talks_nonsense_is_told_in_one_line(data, words, tmp_path):
    with pytest.raises(InputError, match=words) as error:
        fetch.download(fetch.Download(answer(data), "set.zip"), tmp_path)
    assert printable(error.value) == str(error.value)


def test_a_damaged_note_of_the_servers_version_begins_the_download_anew(tmp_path):
    (tmp_path / "set.zip.part").write_bytes(b"of another file")
    (tmp_path / "set.zip.part.etag").write_bytes(b"\xffa\r\nX: y")
    fetch.download(fetch.Download(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), "set.zip"), tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"abc"


def test_a_damaged_record_of_a_checksum_does_not_speak_to_the_terminal(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"a")
    (tmp_path / "set.zip.sha256").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"but set\.zip\.sha256 says") as error:
        fetch.verified(tmp_path / "set.zip")
    assert printable(error.value) == str(error.value)
