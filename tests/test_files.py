"""One rule for paths, one for folders of pictures, one for names in messages."""

import errno
import os
import re
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.data.lists import sort_entries
from mpc_lite.data.manifest import check
from mpc_lite.data.pairs import read_pairs
from mpc_lite.decoders import FORMATS
from mpc_lite.errors import InputError, some
from mpc_lite.files import (
    PICTURES,
    RAISED,
    check_output,
    expand,
    folders_below,
    pictures_in,
    place,
    relative,
    too_many_pixels,
    write_atomic,
)
from mpc_lite.forgeries.scenes import photo_files
from mpc_lite.network.weights import located
from mpc_lite.recipes.load import load_recipe

pytestmark = pytest.mark.trust
COMPOSED = unicodedata.normalize("NFC", "café")
APART = unicodedata.normalize("NFD", "café")


def test_a_path_is_found_whichever_system_wrote_it(tmp_path, monkeypatch):
    (tmp_path / "Tp").mkdir()
    (tmp_path / "Tp" / "a.jpg").touch()
    assert place("Tp/a.jpg", tmp_path) == place("Tp\\a.jpg", tmp_path) == tmp_path / "Tp" / "a.jpg"
    assert COMPOSED != APART
    for on_disk, written in ((COMPOSED, APART), (APART, COMPOSED)):
        folder = tmp_path / str(len(on_disk))
        folder.mkdir()
        (folder / f"{on_disk}.png").touch()
        assert place(f"{written}.png", folder).is_file()
        assert place(f"..\\{len(on_disk)}\\{written}.png", folder).is_file()
    mixed = tmp_path / COMPOSED / APART / f"{COMPOSED}.png"  # a set from a Mac, unpacked below another system's folder
    mixed.parent.mkdir(parents=True)
    mixed.touch()
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, mixed.relative_to(tmp_path).as_posix())
        assert place(written, tmp_path).is_file() and place(written.replace("/", "\\"), tmp_path).is_file()
        assert place(unicodedata.normalize(form, str(mixed))).is_file()
    (tmp_path / "two" / APART).mkdir(parents=True)  # both spellings stand side by side, and one has the file
    (tmp_path / "two" / COMPOSED).mkdir()
    (tmp_path / "two" / APART / "a.png").touch()
    assert place(f"two/{COMPOSED}/a.png", tmp_path).is_file()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/Tp/a.jpg", "/elsewhere") == tmp_path / "Tp" / "a.jpg"
    assert expand("~/Tp\\a.jpg") == tmp_path / "Tp" / "a.jpg"
    assert place(tmp_path / "Tp") == tmp_path / "Tp"
    assert place("gone\\b.jpg", tmp_path) == tmp_path / "gone\\b.jpg"  # named as it was written


def test_a_file_to_write_lies_in_the_folder_that_is_there(tmp_path, monkeypatch):
    for folder in (COMPOSED, APART):
        (home := tmp_path / str(len(folder)) / folder).mkdir(parents=True)
        monkeypatch.setenv("HOME", str(home))
        for form in ("NFC", "NFD"):
            written = unicodedata.normalize(form, str(home))
            assert place(f"{written}/new/o.csv") == home / "new" / "o.csv"
            assert place(f"{written}\\o.csv ") == place("~\\o.csv") == place("~/o.csv ") == home / "o.csv"


def test_results_are_written_by_the_rule_for_what_is_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "sets" / APART).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["synth", "--out", f"sets\\{COMPOSED}\\new", "--n", "1", "--size", "64"]) == 0
    assert main(["evaluate", "--manifest", f"~\\sets/{COMPOSED}/new/manifest.csv", "--weights", "lite2",
                 "--maps", f"~\\sets\\{COMPOSED}\\maps", "--json", f"sets\\{COMPOSED}\\o.json"]) == 0  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "sets" / APART).iterdir()) == ["maps", "new", "o.json"]
    assert [file.name for file in tmp_path.iterdir()] == ["sets"]


def test_a_name_with_a_backslash_or_a_tilde_is_a_name_where_it_exists(tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").touch()
    assert place("a\\b.jpg", tmp_path).name == "a\\b.jpg"
    assert place("~nobody-of-this-name/x", tmp_path) == tmp_path / "~nobody-of-this-name/x"


def test_pictures_of_a_folder(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        "deep/c.tif",
        ".hidden.png",
        "._b.JPG",
        ".cache/d.png",
        "__MACOSX/e.png",
        "@eaDir/a.png",
        "#recycle/f.png",
        "$RECYCLE.BIN/g.png",
        "$Recycle.Bin/g.png",
        "System Volume Information/h.png",
        "lost+found/i.png",
        "notes.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.overlay.png").touch()
    names = [path.relative_to(tmp_path).as_posix() for path in pictures_in(tmp_path, without=tmp_path / "out")]
    assert names == ["a.png", "b.JPG", "deep/c.tif"]
    assert len(pictures_in(tmp_path)) == 4


def test_pictures_come_in_one_order_however_a_system_writes_accents(tmp_path):
    orders = []
    for form in ("NFC", "NFD"):
        (folder := tmp_path / form).mkdir()
        for name in ("étage.png", "f.png", "eta.png", "ez.png"):
            (folder / unicodedata.normalize(form, name)).touch()
        orders.append([unicodedata.normalize("NFC", file.name) for file in pictures_in(folder)])
    assert orders[0] == orders[1] == ["eta.png", "ez.png", "f.png", "étage.png"]


def test_links_to_folders_are_followed_and_no_folder_is_met_twice(tmp_path):
    for name in ("real/a.png", "real/deep/b.png", "hol/own/c.png", "beside.png", "out/d.png", "out/deep/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for link, target in (
        ("hol/sub", "../real"),
        ("hol/self", "."),
        ("hol/up", ".."),  # what lies beside the folder does not lie in it
        ("hol/alias", "own"),
        ("hol/own/down", "../../real/deep"),
        ("real/back", "../hol"),
        ("hol/found", "../out/deep"),
        ("hol/gone", "nowhere"),
        ("hol/.hidden", "../out"),
    ):
        (tmp_path / link).symlink_to(target)
    hol = tmp_path / "hol"
    names = [path.relative_to(hol).as_posix() for path in pictures_in(hol, without=tmp_path / "out")]
    assert names == ["own/c.png", "sub/a.png", "sub/deep/b.png"]  # own/down is sub/deep
    assert (hol / "found" / "e.png") in pictures_in(hol) and len(list(folders_below(hol))) == 5
    assert pictures_in(hol / "own" / "down", without=tmp_path / "real") == [hol / "own" / "down" / "b.png"]


def closed(monkeypatch, folder):
    """A folder that may not be looked into, also for a superuser."""
    scandir = os.scandir

    def looked_into(path="."):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", looked_into)


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch):
    for name in ("a.png", "private/b.png", "open/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    closed(monkeypatch, tmp_path / "private")
    with pytest.raises(InputError, match=r"cannot look into .*private \(Permission denied\); make the folder readable"):
        pictures_in(tmp_path)
    assert pictures_in(tmp_path, tmp_path / "out", met := []) == [tmp_path / "a.png", tmp_path / "open" / "c.png"]
    assert met == [tmp_path / "private"]


def test_what_lies_below_a_folder_that_may_not_be_entered_is_not_said_to_be_missing(tmp_path, monkeypatch):
    private, refused = (
        tmp_path / "private",
        "cannot be looked at (Permission denied): a folder above it may not be entered",
    )
    private.mkdir()
    (tmp_path / "m.csv").write_text("image,mask,label,source\nprivate/a.png,private/b.png,1,set\n")
    (tmp_path / "list.txt").write_text("private/a.png private/b.png\n")
    for name, real in (("stat", os.stat), ("lstat", os.lstat)):

        def asked(path, *args, real=real, **words):
            if private in Path(os.fsdecode(path) if isinstance(path, (str, bytes, Path)) else ".").parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *args, **words)

        monkeypatch.setattr(os, name, asked)
    assert check(tmp_path / "m.csv") == [f"row 2 of m.csv: image private/a.png {refused}"]
    assert refused in sort_entries(tmp_path / "list.txt")[1][0][1]
    for call in (
        lambda: sort_entries(private / "list.txt"),
        lambda: sort_entries(tmp_path / "list.txt", private / "set"),
        lambda: read_pairs(private / "images", private / "masks"),
        lambda: located(private / "w.safetensors"),
        lambda: load_recipe(private / "r.yaml"),
        lambda: photo_files(str(private / "photos")),
    ):
        with pytest.raises(InputError, match=re.escape(refused)):
            call()


def test_a_folder_is_looked_through_for_all_that_is_read_by_name(tmp_path):
    Image.init()
    endings = {end for end, name in Image.registered_extensions().items() if name in FORMATS}
    assert endings - set(PICTURES) == {".icb", ".vda", ".vst"}  # of Targa in name only
    Image.new("RGB", (8, 8)).save(tmp_path / "a.JFIF", "JPEG")
    assert pictures_in(tmp_path) == [tmp_path / "a.JFIF"]


def test_no_result_takes_the_place_of_what_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.csv").write_text("read")
    (tmp_path / "other.csv").write_text("read")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.csv").symlink_to("g.csv")
    os.link(tmp_path / "g.csv", tmp_path / "second.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(InputError, match=r"other\.csv is read here as ~/other\.csv, and the result"):
        check_output("other.csv", ["~/other.csv"])
    inputs = ["gone.csv", "a\0b", "other.csv", "g.csv"]
    for output in ("g.csv", tmp_path / "folder" / ".." / "g.csv", "link.csv", "second.csv"):
        with pytest.raises(InputError, match=r"is read here.* the result would take its place; choose another file"):
            check_output(output, inputs)
    with pytest.raises(InputError, match="folder is a folder; expected the name of a file"):
        check_output("folder", inputs)
    check_output("new.json", inputs)
    check_output("gone.csv", inputs)
    with pytest.raises(InputError, match="cannot write folder: a folder has this name; rename it, or choose another"):
        write_atomic("folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["g.csv", "other.csv", "folder", "link.csv", "second.csv"]
    )


def test_no_result_takes_the_place_of_another_of_the_same_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("maps")
    for output in ("maps/index.json", "MAPS/Index.json", "maps", "link/index.json", tmp_path / "x/../maps/index.json"):
        with pytest.raises(InputError, match=r"maps/index\.json is written here too, .*; choose another file"):
            check_output(output, [], ["other", "maps/index.json"])
    check_output("maps/table.json", [], ["maps/index.json", "a\0b"])
    check_output("a\0b", [], ["maps/index.json"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_is_neither_waited_for_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    for name in ("pipe", "link"):
        for write in (lambda path: check_output(path, []), lambda path: write_atomic(path, b"")):
            with pytest.raises(InputError, match=f"{name} is a pipe or a device; expected the name of a file to write"):
                write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"] and not (tmp_path / "pipe").is_file()


def test_a_failure_to_write_is_told_in_its_own_words(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 250)  # the temporary name is longer still, and cannot be removed either
    with pytest.raises(InputError, match=r"cannot write .*\(3 bytes\): File name too long; nothing was left behind"):
        write_atomic(long, b"abc")
    with pytest.raises(InputError, match=r"cannot write .*: File name too long"):
        write_atomic(tmp_path / ("x" * 300), b"abc")

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr("builtins.open", read_only)  # as a disk mounted read-only refuses both
    monkeypatch.setattr("pathlib.Path.unlink", read_only)
    with pytest.raises(InputError, match=r"cannot write .*a .*: Read-only file system; the earlier file is unchanged"):
        write_atomic(tmp_path / "a", b"new")


def test_a_link_is_named_as_it_is_called(tmp_path, monkeypatch):
    for name in ("set", "store", "lists"):
        (tmp_path / name).mkdir()
    (tmp_path / "store" / "2.png").touch()
    (tmp_path / "set" / "1.png").symlink_to(tmp_path / "store" / "2.png")
    (tmp_path / "set" / "gone.png").symlink_to("nowhere")
    (tmp_path / "here").symlink_to(tmp_path / "lists" / "..")
    lists = tmp_path / "lists"
    assert relative(tmp_path / "set" / "1.png", lists) == "../set/1.png"
    assert relative(tmp_path / "set" / "gone.png", lists) == "../set/gone.png"
    assert relative(lists / ".." / "set" / "1.png", tmp_path / "here" / "lists") == "../set/1.png"
    assert relative(tmp_path / "here" / "set" / "1.png", lists) == "../set/1.png"  # a folder's link is followed
    assert relative(tmp_path / "set" / "..", lists) == ".." and relative(tmp_path, tmp_path) == "."
    monkeypatch.chdir(tmp_path / "set")
    assert relative("1.png", tmp_path) == "set/1.png" and relative(None, tmp_path) == ""


def test_the_way_to_read_more_pixels_is_one_for_scripts_too(monkeypatch):
    problem = too_many_pixels(16384, 16384)
    assert f"set {RAISED} or, where the command has it, give --max-pixels {1 << 28}" in problem
    monkeypatch.setenv(RAISED, str(1 << 28))
    assert too_many_pixels(16384, 16384) is None


@pytest.mark.slow
def test_messages_name_ten_at_most():
    assert some(range(3)) == "0, 1, 2" and some([]) == ""
    assert some(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert len(some("x" * 256_000 for _ in range(10_000))) < 1100
