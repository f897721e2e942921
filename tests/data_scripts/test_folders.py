"""What a set's folders may hold besides the set: results of earlier runs, links, pipes, files of the system."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archives import unpack
from common import Tree
from make import main
from mpc_lite.data.manifest import read_manifest
from mpc_lite.errors import InputError

pytestmark = pytest.mark.trust
SCRIPTS = Path(__file__).parents[2] / "data_scripts"
CASIA = "Tp_D_CND_M_N_ani00018_sec00096_00138"


@pytest.fixture
def soft(mask_file):
    """soft(path): a mask of three grey values, which --threshold 50 converts."""

    def make(path):
        values = np.array(Image.open(mask_file(path, inside=90)))
        values[0, 0] = 255
        Image.fromarray(values).save(path)

    return make


LAYOUTS = {
    "ffpp": [
        ("manipulated_sequences/Deepfakes/c23/images/000_003/0000.png",
         "manipulated_sequences/Deepfakes/masks/images/000_003/0000.png"),
    ],
    "imd2020": [("abc/1.jpg", "abc/1_mask.png"), ("abc/abc_orig.jpg", None)],
    "korus": [
        ("Canon_60D/tampered-realistic/a.TIF", "Canon_60D/ground-truth/a.PNG"), ("Canon_60D/pristine/a.TIF", None),
    ],
    "tampcoco": [("sp_images/1.jpg_2.jpg_RS0.90.jpg", "sp_masks/1.jpg_2.jpg_RS0.90.png")],
}  # fmt: skip


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_that_any_run_converted_are_none_of_the_set(name, listed, load, tmp_path, photo, soft, capsys):
    root = tmp_path / name
    for number, (image, mask) in enumerate(LAYOUTS[name]):
        photo(root / image, seed=number)
        if mask:
            soft(root / mask)
    module = load(name)
    found = vars(module).get(name.upper(), vars(module).get("SETS"))
    sets = list(found) if isinstance(found, (list, tuple)) else [found]

    def rows(out):
        code = main(*sets, argv=[str(root), "--out", str(root / out), "--threshold", "50"])
        manifests = [path for path in (root / out).glob("*.csv") if not path.name.endswith(".bad.csv")]
        return code, [(row.image.resolve(), row.label) for path in manifests for row in read_manifest(path)]

    first = rows("first")
    assert first[0] == 0 and len(first[1]) == len(LAYOUTS[name])
    lists = list((root / "first").rglob(".written"))
    assert len(lists) == 1
    if not listed:  # as older versions left it
        lists[0].unlink()
    assert rows("second") == first


def test_links_to_folders_are_followed_and_loops_are_not(load, tmp_path, photo, mask_file):
    photo(tmp_path / "set" / "Au" / "Au_ani_00001.jpg")
    photo(tmp_path / "elsewhere" / "tampered" / f"{CASIA}.tif", seed=1)
    mask_file(tmp_path / "elsewhere" / "gt" / f"{CASIA}_gt.png")
    (tmp_path / "set" / "Tp").symlink_to(tmp_path / "elsewhere" / "tampered")
    (tmp_path / "set" / "masks").symlink_to(tmp_path / "elsewhere" / "gt")
    (tmp_path / "set" / "Au" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere" / "tampered" / "again").symlink_to(tmp_path / "elsewhere" / "tampered")
    tree = Tree([tmp_path / "set"])
    assert [tree.name(path) for path in tree.files()] == [
        "Au/Au_ani_00001.jpg", f"Tp/{CASIA}.tif", f"masks/{CASIA}_gt.png",
    ]  # fmt: skip
    assert main(load("casia2").CASIA2, argv=[str(tmp_path / "set"), "--out", str(tmp_path / "sets")]) == 0
    assert sorted(row.label for row in read_manifest(tmp_path / "sets" / "casia2.csv")) == [0, 1]


def test_a_file_that_lies_below_anyway_is_called_by_its_own_path(tmp_path, photo):
    photo(tmp_path / "b" / "Tp" / "x.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b" / "Tp")
    for roots in ([tmp_path], [tmp_path / "a", tmp_path / "b"], [tmp_path / "a", tmp_path / "b" / "Tp", tmp_path]):
        tree = Tree(roots)
        assert [path.parent.name for path in tree.files()] == ["Tp"] and len(tree.files("Tp")) == 1


def test_a_link_that_leads_nowhere_is_told(load, tmp_path, photo, capsys):
    photo(tmp_path / "set" / "Au" / "Au_ani_00001.jpg")
    (tmp_path / "set" / "Tp").symlink_to(tmp_path / "gone")
    assert main(load("casia2").CASIA2, argv=[str(tmp_path / "set"), "--out", str(tmp_path / "sets")]) == 0
    assert "note: Tp is a link that leads nowhere" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "name"), [("casia2", "fileNamesCorrection.csv"), ("casia2", "fileNamesCorrection.xlsx"),
                         ("nist16", "reference/x/NC2016-x-ref.csv")],
)  # fmt: skip
def test_a_pipe_in_the_place_of_a_list_is_refused(script, name, tmp_path, photo):
    photo(tmp_path / "set" / "Tp" / f"{CASIA}.tif")
    (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / "set" / name)
    call = [sys.executable, SCRIPTS / f"{script}.py", tmp_path / "set", "--out", tmp_path / "sets"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "a pipe or a device, expected a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_list_that_is_too_long_is_refused_and_not_cut(load, tmp_path, monkeypatch):
    monkeypatch.setattr("common.LISTED", 10)
    (tmp_path / "fileNamesCorrection.txt").write_bytes("é".encode() * 5)  # bytes count
    list(load("casia_names")._lines(tmp_path / "fileNamesCorrection.txt"))
    (tmp_path / "fileNamesCorrection.txt").write_bytes("é".encode() * 5 + b"x")
    with pytest.raises(InputError, match="longer than 0 MB, expected a list of names"):
        list(load("casia_names")._lines(tmp_path / "fileNamesCorrection.txt"))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_archive_may_hold_what_its_record_is_called(kind, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.txt", "a")
        archive.writestr("b/.sha256", "b")
        archive.writestr(".sha256/x" if kind == "folder" else ".sha256", "x")
    folder, sha256 = unpack(tmp_path / "set.zip")
    assert "note: .sha256 of set.zip is not unpacked" in capsys.readouterr().out
    assert (folder / "a.txt").read_text() == "a" and (folder / "b" / ".sha256").read_text() == "b"
    assert unpack(tmp_path / "set.zip") == (folder, sha256) and capsys.readouterr().out == ""


def test_lines_of_a_split_list_that_are_left_out_are_told(load, tmp_path, photo, mask_file, capsys):
    photo(tmp_path / "wild" / "images" / "a.png")
    mask_file(tmp_path / "wild" / "masks" / "a.png")
    (tmp_path / "list.txt").write_text(f"a.png\n{'b' * 20_000}.png\n")
    call = [str(tmp_path / "wild"), "--out", str(tmp_path / "sets"), "--split", f"test={tmp_path / 'list.txt'}"]
    assert main(load("wild").WILD, argv=call) == 0
    assert "line 2, longer than 10000 letters, left out" in capsys.readouterr().out


@pytest.mark.parametrize("given", [".", "sets", "sets/columbia", "sets/columbia/ImSpliceDataset"])
def test_a_set_may_lie_where_its_manifest_is_written(given, load, tmp_path, photo, mask_file):
    folder = tmp_path / "sets" / "columbia" / "ImSpliceDataset"
    photo(folder / "4cam_splc" / "canon_1.tif")
    values = np.zeros((24, 36, 3), np.uint8)
    values[4:9, 4:9, 1] = 255
    values[20:, 30:, 0] = 255
    (folder / "4cam_splc" / "edgemask").mkdir()
    Image.fromarray(values).save(folder / "4cam_splc" / "edgemask" / "canon_1_edgemask.png")
    photo(folder / "4cam_auth" / "canon_2.tif", seed=1)
    for _ in range(2):  # the second time the converted mask of the first is there
        assert main(load("columbia").COLUMBIA, argv=[str(tmp_path / given), "--out", str(tmp_path / "sets")]) == 0
        assert [row.label for row in read_manifest(tmp_path / "sets" / "columbia.csv")] == [1, 0]
        assert len(list((tmp_path / "sets" / "columbia" / "masks").rglob("*.png"))) == 1


def test_folders_are_found_by_the_one_rule_of_paths(load, tmp_path, photo, monkeypatch):
    photo(tmp_path / "home" / "set" / "Au" / "Au_ani_00001.jpg")
    (tmp_path / "home" / "list.txt").write_text("Au/Au_ani_00001.jpg\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    argv = ["home\\set", "--out", "~/sets", "--split", "test=~/list.txt"]
    assert main(load("casia2").CASIA2, argv=argv) == 0
    assert [row.split for row in read_manifest(tmp_path / "home" / "sets" / "casia2.csv")] == ["test"]
