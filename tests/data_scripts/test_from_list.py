"""from_list.py: manifests from foreign lists, and PSCC-Net's way of splitting one."""

import os
import shutil
import time

import pytest

from mpc_lite.data.manifest import check, read_manifest, read_mask


@pytest.fixture
def main(load):
    return lambda *arguments: load("from_list").main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path, photo, mask_file):
    """Three images, two of them with masks."""
    for number, name in enumerate("abc"):
        photo(tmp_path / "set" / "Tp" / f"{name}.jpg", seed=number)
        mask_file(tmp_path / "set" / "Gt" / f"{name}.png")
    return tmp_path


def test_a_list_becomes_a_manifest(main, folder, capsys):
    (folder / "list.txt").write_text("Tp/a.jpg,Gt/a.png,0jpg/a.jpg\nTp/b.jpg,None\n")
    out = folder / "sets" / "m.csv"
    code = main(
        folder / "list.txt", "--root", folder / "set", "--out", out, "--source", "CASIAv2", "--split", "train",
        "--expect", 2,
    )  # fmt: skip
    assert code == 0 and "1 tampered, 1 authentic" in capsys.readouterr().out and check(out) == []
    assert [(r.image.name, r.label, r.source, r.split) for r in read_manifest(out)] == [
        ("a.jpg", 1, "CASIAv2", "train"),
        ("b.jpg", 0, "CASIAv2", "train"),
    ]


def test_what_a_killed_process_was_writing_beside_it_goes_after_an_hour(main, folder):
    (left := folder / f".m.csv.{'a' * 32}.tmp").touch()
    os.utime(left, (time.time() - 3700,) * 2)
    (folder / "set" / "list.txt").write_text("Tp/a.jpg Gt/a.png\n")
    assert main(folder / "set" / "list.txt", "--out", folder / "m.csv") == 0 and not left.exists()


@pytest.mark.trust
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Tp/a.jpg,Gt/a.png,Tp/b.jpg,Gt/b.png\n", "names several images; write a line for each"),
        ("Tp/a.jpg Gt/a.png tampered\nTp/b.jpg Gt/b.png tampered\n", "names 2 files in no known form; expected"),
        ("Tp/a.jpg|Gt/a.png|1\n", "names 2 files in no known form; expected"),
    ],
)
def test_no_pair_of_a_line_is_left_out_in_silence(main, folder, capsys, text, said):
    (folder / "list.txt").write_text(text)
    code = main(folder / "list.txt", "--root", folder / "set", "--out", folder / "m.csv")
    told = capsys.readouterr()
    assert code and said in told.out + told.err


@pytest.mark.trust
def test_several_names_a_line_are_no_list_to_pick_by(main, folder, capsys):
    """The first alone would be picked, and --rest would train on the others."""
    assert main(folder / "set", "--out", folder / "all.csv") == 0
    several = (
        "a.jpg,b.jpg,c.jpg\n",
        '["a.jpg", "b.jpg"]',
        "a.jpg b.jpg c.jpg\n",
        "a.jpg b.jpg\n",
        "a.jpg,b.jpg\nc.jpg,b.jpg\n",
    )
    for text in several:
        (folder / "list.txt").write_text(text)
        for more in ([], ["--rest"]):
            assert main(folder / "list.txt", "--of", folder / "all.csv", *more, "--out", folder / "x.csv") == 1
    (folder / "list.txt").write_text("Tp/a.jpg,Gt/a.png,Tp/a2.jpg\nTp/b.jpg,Gt/b.png,Tp/b2.jpg\n")  # as CAT-Net's
    assert main(folder / "list.txt", "--of", folder / "all.csv", "--out", folder / "y.csv") == 0
    assert len(read_manifest(folder / "y.csv")) == 2


@pytest.mark.trust
def test_pictures_in_folders_below_are_told(main, folder, photo, mask_file, capsys):
    photo(folder / "set" / "Tp" / "CM" / "d.jpg")
    mask_file(folder / "set" / "Gt" / "CM" / "d.png")
    assert main(folder / "set", "--out", folder / "m.csv") == 1
    told = capsys.readouterr().out
    assert "Tp/CM: 1 pictures lie in folders below Tp, of which nothing is read" in told and "Gt/CM: 1 pict" in told
    assert len(read_manifest(folder / "m.csv")) == 3


@pytest.mark.trust
def test_a_table_that_is_no_manifest_is_not_replaced(main, folder, capsys):
    (folder / "notes.csv").write_text("my,notes\n1,2\n")
    assert main(folder / "set", "--out", folder / "notes.csv") == 2
    assert "notes.csv: is there and is no manifest, and would be lost" in capsys.readouterr().err
    assert main(folder / "set", "--out", folder / "m.csv") == main(folder / "set", "--out", folder / "m.csv") == 0


def test_bad_pairs_are_listed_and_left_out(main, folder, capsys, mask_file):
    mask_file(folder / "set" / "Gt" / "b.png", size=(20, 20))
    mask_file(folder / "set" / "Gt" / "c.png", inside=0)
    (folder / "set" / "list.txt").write_text("Tp/a.jpg Gt/a.png\nTp/b.jpg Gt/b.png\nTp/c.jpg Gt/c.png\nTp/d.jpg None\n")
    code = main(folder / "set" / "list.txt", "--out", folder / "m.csv", "--expect", 4)
    printed = capsys.readouterr().out
    assert code == 1 and [r.image.name for r in read_manifest(folder / "m.csv")] == ["a.jpg"]
    assert "line 4 of list.txt: image Tp/d.jpg does not exist" in printed and "1 rows, expected 4" in printed
    assert "entry 2, b.jpg" in printed and "mask 20×20, image 36×24" in printed
    assert "entry 3, c.jpg" in printed and "no tampered pixel" in printed


def test_a_split_of_a_manifest_and_its_rest(main, load, run, tmp_path, photo, mask_file):
    """NIST16's masks are inverted: the list's masks would be wrong, those of the manifest are right."""
    root = tmp_path / "DSO-1"
    for number in (1, 2, 3):
        photo(root / "DSO-1" / f"splicing-0{number}.png", seed=number)
        photo(root / "DSO-1" / f"normal-0{number}.png", seed=number)
        masks = root / "DSO-1-Fake-Images-Masks"
        mask_file(masks / f"splicing-0{number}.png", box=(0, 0, number, 1), inside=0, outside=255)
    sets = run(load("dso1").DSO1, root).folder
    names = tmp_path / "names.txt"
    names.write_text("DSO-1/splicing-02.png DSO-1-Fake-Images-Masks/splicing-02.png\n")
    common = [names, "--of", sets / "dso1.csv"]
    assert main(*common, "--split", "test", "--expect", 1, "--out", sets / "test.csv") == 0
    assert main(*common, "--rest", "--split", "train", "--expect", 2, "--out", sets / "train.csv") == 0
    (test,), train = read_manifest(sets / "test.csv"), read_manifest(sets / "train.csv")
    assert (test.image.stem, test.split, test.source, read_mask(test).sum()) == ("splicing-02", "test", "DSO", 2)
    assert [(r.image.stem, r.split) for r in train] == [("splicing-01", "train"), ("splicing-03", "train")]


def test_a_list_over_two_manifests(main, folder):
    for name in "ab":
        (folder / "list.txt").write_text(f"Tp/{name}.jpg,Gt/{name}.png\n")
        assert main(folder / "list.txt", "--root", folder / "set", "--out", folder / f"{name}.csv") == 0
    (folder / "names.txt").write_text("b.jpg\na.jpg\n")
    both = ["--of", folder / "a.csv", "--of", folder / "b.csv"]
    assert main(folder / "names.txt", *both, "--out", folder / "m.csv", "--expect", 2) == 0
    assert [row.image.stem for row in read_manifest(folder / "m.csv")] == ["b", "a"]
    (folder / "names.txt").write_text("b.jpg\n")
    assert main(folder / "names.txt", *both, "--rest", "--out", folder / "m.csv", "--expect", 1) == 0
    assert [row.image.stem for row in read_manifest(folder / "m.csv")] == ["a"]


def test_wrong_counts_and_names_that_are_not_found(main, folder, capsys):
    (folder / "list.txt").write_text("Tp/a.jpg,Gt/a.png\nTp/b.jpg,Gt/b.png\n")
    assert main(folder / "list.txt", "--root", folder / "set", "--out", folder / "m.csv", "--expect", 921) == 1
    assert "2 rows, expected 921" in capsys.readouterr().out
    (folder / "names.txt").write_text("a.jpg\nx.jpg\n")
    assert main(folder / "names.txt", "--of", folder / "m.csv", "--rest", "--out", folder / "rest.csv") == 1
    printed = capsys.readouterr().out
    assert "line 2 of names.txt: x.jpg: no images of the manifest" in printed and "may be among the rest" in printed


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["none.txt"], "no such file or folder"),
        (["list.txt", "--root", "none"], "is not a folder"),
        (["list.txt", "--rest"], "--rest needs --of"),
        (["list.txt", "--of", "m.csv", "--root", "."], "--root and --of"),
        (["list.txt", "--of", "m.csv"], "no such file; expected a manifest"),
        (["names.txt"], "names images only"),
    ],
)
def test_mistakes_are_told_in_one_message(main, folder, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(folder)
    (folder / "list.txt").write_text("Tp/a.jpg,Gt/a.png\n")
    (folder / "names.txt").write_text("a.jpg\n")
    assert main(*arguments, "--out", "out.csv") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and expected in printed.err and not (folder / "out.csv").exists()


def test_neither_list_nor_manifest_is_written_over(main, folder, capsys):
    names = folder / "set" / "list.csv"
    names.write_text("Tp/a.jpg,Gt/a.png\n")
    (folder / "link.csv").symlink_to(names)
    for out in (names, folder / "link.csv", folder / "set" / "Tp" / ".." / "list.csv"):
        assert main(names, "--out", out) == 2 and "is read here" in capsys.readouterr().err
    assert main(names, "--out", folder / "m.csv") == 0
    before = (folder / "m.csv").read_bytes()
    assert main(names, "--of", folder / "m.csv", "--out", folder / "m.csv") == 2
    assert names.read_text() == "Tp/a.jpg,Gt/a.png\n" and (folder / "m.csv").read_bytes() == before


@pytest.mark.trust
def test_no_file_that_the_list_names_is_written_over(main, folder, capsys):
    (folder / "set" / "list.txt").write_text("Tp/a.jpg,Gt/a.png\n")
    (folder / "set" / "names.txt").write_text("a.jpg\n")
    assert main(folder / "set" / "list.txt", "--out", folder / "m.csv") == 0
    (folder / "linked.csv").symlink_to(folder / "set" / "Tp" / "a.jpg")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for arguments in (["list.txt"], ["names.txt", "--of", folder / "m.csv"]):
        for out, words in (
            ("set/Tp/a.jpg", "a manifest is written there; expected a name such as manifest.csv"),
            ("set/Gt/new.PNG", "a manifest is written there"),
            ("linked.csv", "is read here as "),
        ):
            assert main(folder / "set" / arguments[0], *arguments[1:], "--out", folder / out) == 2
            assert words in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.trust
def test_names_of_strangers_are_printed_and_written_in_utf8_or_left_out(main, folder, capsys):
    """A name that is not UTF-8, and an escape character in one that is paired with a mask of another name."""
    pictures, masks = folder / "set" / "Tp", folder / "set" / "Gt"
    (pictures / "c.jpg").rename(pictures / "c\x1b[2J.jpg")
    (masks / "c.png").rename(masks / "c\x1b[2J_gt.png")
    (pictures / "b.jpg").rename(pictures / "caf\udce9.jpg")
    (masks / "b.png").rename(masks / "caf\udce9.png")
    (folder / "m.csv").write_text("image,mask,label,source\n")
    assert main(folder / "set", "--out", folder / "m.csv") == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and r"note: " in printed and r"c\x1b[2J.jpg" in printed
    assert r"caf\udce9.jpg is not one line of UTF-8" in printed and "2 tampered" in printed
    assert [row.image.name for row in read_manifest(folder / "m.csv")] == ["a.jpg", "c\x1b[2J.jpg"]


def test_a_folder_whose_name_is_not_utf8_may_lie_above(main, folder, tmp_path_factory):
    above = tmp_path_factory.mktemp("any") / "caf\udce9"
    shutil.copytree(folder, above)
    assert main(above / "set", "--out", above / "m.csv") == 0
    assert len(read_manifest(above / "m.csv")) == 3


def test_a_file_where_the_folder_of_the_manifest_should_be_is_told(main, folder, capsys):
    (folder / "set" / "list.txt").write_text("Tp/a.jpg Gt/a.png\n")
    (folder / "sets").touch()
    for out in ("sets/m.csv", "sets/deeper/m.csv"):
        assert main(folder / "set" / "list.txt", "--out", folder / out) == 2
        assert "its folder cannot be made" in capsys.readouterr().err


@pytest.mark.trust
def test_an_error_is_one_line_whatever_the_list_is_called(main, folder, capsys):
    (folder / "a\nwrote m.csv.txt").write_text("")
    assert main(folder / "a\nwrote m.csv.txt", "--out", folder / "m.csv") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and r"a\nwrote m.csv.txt: the list is empty" in said and said.count("\n") == 1
