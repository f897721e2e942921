"""Where a script writes masks: nothing of the user's goes, and earlier results stay until new ones are complete."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import Pair
from make import main
from mpc_lite.data.manifest import check, read_manifest, read_mask

pytestmark = pytest.mark.trust
SCRIPTS = Path(__file__).parents[2] / "data_scripts"


@pytest.fixture
def wild(load, tmp_path, photo, mask_file):
    """Two pairs in sets/wild/, the official layout, whose masks need converting with --threshold 50."""
    for number, name in enumerate("ab"):
        photo(tmp_path / "data" / "images" / f"{name}.png", seed=number)
        path = mask_file(tmp_path / "data" / "masks" / f"{name}.png", inside=90)
        values = np.array(Image.open(path))
        values[0, 0] = 255  # three grey values: above 127 is one pixel, above 50 the box too
        Image.fromarray(values).save(path)
    return load("wild").WILD


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def areas(manifest):
    return [int(read_mask(row).sum()) for row in read_manifest(manifest)]


def test_masks_that_the_script_did_not_write_stay(wild, tmp_path, capsys):
    """$MPC_LITE_SETS/wild/{images,masks}, where the set itself may lie."""
    (tmp_path / "sets").mkdir()
    (tmp_path / "data").rename(tmp_path / "sets" / "wild")
    before = files(tmp_path)
    for arguments in ((), ("--threshold", "50")):
        assert main(wild, argv=[str(tmp_path / "sets" / "wild"), "--out", str(tmp_path / "sets"), *arguments]) == 2
        assert "did not write a.png, b.png; choose another --out" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_neither_a_folder_of_links_nor_an_added_file_is_taken_for_the_scripts(wild, tmp_path, capsys):
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    assert main(wild, argv=call) == 0
    (sets / "wild" / "masks" / "masks").symlink_to(tmp_path / "data")
    assert main(wild, argv=call) == 2 and "did not write masks;" in capsys.readouterr().err
    (sets / "wild" / "masks" / "masks").unlink()
    (sets / "wild" / "masks" / "images" / "mine.png").write_bytes(b"mine")
    assert main(wild, argv=call) == 2 and "did not write images/mine.png;" in capsys.readouterr().err
    (sets / "wild" / "masks" / "images" / "mine.png").unlink()
    assert main(wild, argv=call) == 0 and areas(sets / "wild.csv") == [65, 65]


def test_masks_of_an_earlier_run_are_no_input_of_the_next(wild, tmp_path, capsys):
    sets = tmp_path / "sets"
    assert main(wild, argv=[str(tmp_path / "data"), "--out", str(sets), "--threshold", "50"]) == 0
    converted = sets / "wild" / "masks" / "images"  # called after the images' folder
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "images").symlink_to(tmp_path / "data" / "images")
    (tmp_path / "again" / "masks").symlink_to(converted)
    before = files(tmp_path)
    roots = [str(tmp_path / "again" / name) for name in ("images", "masks")]

    def pairs(tree):
        return [Pair(*both) for both in zip(*(sorted(root.iterdir()) for root in tree.roots), strict=True)]

    here = dataclasses.replace(wild, pairs=pairs)
    assert main(here, argv=[*roots, "--out", str(sets)]) == 2
    assert "is where this script writes, and a.png, b.png in it is to be read here" in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize("moment", ["at once", "between the masks", "before the manifest", "after the manifest"])
def test_a_run_that_is_killed_leaves_the_old_set_or_the_new_and_the_next_one_goes_through(
    wild, tmp_path, monkeypatch, moment
):
    sets, data = tmp_path / "sets", str(tmp_path / "data")
    assert main(wild, argv=[data, "--out", str(sets), "--threshold", "50"]) == 0
    old = areas(sets / "wild.csv")
    for path in (tmp_path / "data" / "masks").iterdir():
        values = np.array(Image.open(path))
        values[20:, 30:] = 100
        Image.fromarray(values).save(path)

    class Killed(BaseException):
        pass

    plain, done = os.replace, []

    def replace(source, target):
        after = moment == "after the manifest" and str(target).endswith("wild.csv")
        if after:
            plain(source, target)
        if after or (
            (moment == "at once" and str(target).endswith(".png"))
            or (moment == "between the masks" and len(done) == 1)
            or (moment == "before the manifest" and str(target).endswith("wild.csv"))
        ):
            raise Killed
        done.append(target)
        plain(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace)
        with pytest.raises(Killed):
            main(wild, argv=[data, "--out", str(sets), "--threshold", "50"])
    new = [area + 24 for area in old]
    assert check(sets / "wild.csv") == [] and areas(sets / "wild.csv") == (new if "after" in moment else old)
    for _ in range(2):
        assert main(wild, argv=[data, "--out", str(sets), "--threshold", "50"]) == 0
        assert check(sets / "wild.csv") == [] and areas(sets / "wild.csv") == new
    found = sorted(path.name for path in (sets / "wild").rglob("*") if path.is_file())
    assert found == [".written", "a-2.png", "b-2.png"]  # the first names stay those of the first pixels


@pytest.mark.trust
def test_two_runs_at_once_are_told_apart(wild, tmp_path, capsys):
    """Each wrote its masks by way of one file: in nine tries six had a mask of another image's pixels."""
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    (sets / "wild").mkdir(parents=True)
    code = "import sys, time, pathlib; from mpc_lite.run_folder import locked; c = locked(pathlib.Path(sys.argv[1]))"
    code += "; c.__enter__(); print('held', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", code, str(sets / "wild")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        assert main(wild, argv=call) == 2
        assert f"in use by process {other.pid}" in capsys.readouterr().err and not (sets / "wild.csv").exists()
    finally:
        other.kill()
        other.communicate()
    assert main(wild, argv=call) == 0
    assert sorted(path.name for path in (sets / "wild").iterdir()) == ["masks"]  # and no lock


@pytest.mark.trust
def test_a_name_never_gets_other_pixels(wild, tmp_path, capsys):
    """A manifest that was made of an earlier one says so of its masks, whichever thresholds are tried after it."""
    sets, data = tmp_path / "sets", str(tmp_path / "data")
    for path in (tmp_path / "data" / "masks").iterdir():
        values = np.array(Image.open(path))
        values[20:, 30:], values[20:, 20:30], values[20:, 10:20] = 100, 60, 40
        Image.fromarray(values).save(path)
    assert main(wild, argv=[data, "--out", str(sets), "--threshold", "90"]) == 0
    assert "removed" not in capsys.readouterr().out
    shutil.copy(sets / "wild.csv", sets / "derived.csv")
    truth = areas(sets / "derived.csv")
    for threshold in ("50", "30", "90"):
        assert main(wild, argv=[data, "--out", str(sets), "--threshold", threshold]) == 0
        assert "masks of an earlier run are removed; make anew what from_list.py made" in capsys.readouterr().out
        if check(sets / "derived.csv") == []:
            assert areas(sets / "derived.csv") == truth
        else:
            assert threshold != "90" and "does not exist" in check(sets / "derived.csv")[0]
    assert areas(sets / "derived.csv") == truth  # the same pixels are found again


def test_a_long_name_and_a_second_mask_for_it_fit(wild, tmp_path):
    name = "é" * 125  # 250 bytes; .png makes 254
    sets, data = tmp_path / "sets", tmp_path / "data"
    for folder in ("images", "masks"):
        for path in (data / folder).glob("a.*"):
            path.rename(path.with_stem(name))
    for threshold in ("50", "40"):
        for path in (data / "masks").iterdir():
            values = np.array(Image.open(path))
            values[20:, 30:] = 45
            Image.fromarray(values).save(path)
        assert main(wild, argv=[str(data), "--out", str(sets), "--threshold", threshold]) == 0
        assert check(sets / "wild.csv") == [] and len(read_manifest(sets / "wild.csv")) == 2


def test_a_mistaken_second_run_leaves_the_earlier_result(wild, tmp_path, mask_file, capsys):
    sets = tmp_path / "sets"
    assert main(wild, argv=[str(tmp_path / "data"), "--out", str(sets), "--threshold", "50"]) == 0
    before = files(sets)
    for name in "ab":  # another release: masks of another size
        mask_file(tmp_path / "data" / "masks" / f"{name}.png", size=(8, 8), box=(0, 0, 4, 4))
    assert main(wild, argv=[str(tmp_path / "data"), "--out", str(sets), "--threshold", "50"]) == 1
    printed = capsys.readouterr().out
    assert "no manifest: every pair is bad, and " in printed and "wild.csv of an earlier run stays as it is" in printed
    after = files(sets)
    assert after.pop("wild.bad.csv").count(b"size mismatch") == 2 and after == before


def test_no_result_takes_the_place_of_a_list_or_an_archive(wild, tmp_path, capsys):
    (tmp_path / "wild.csv").write_text("a.png\n")
    call = [str(tmp_path / "data"), "--out", str(tmp_path)]
    assert main(wild, argv=[*call, "--split", f"test={tmp_path / 'wild.csv'}"]) == 2
    assert "is read here" in capsys.readouterr().err and (tmp_path / "wild.csv").read_text() == "a.png\n"
    (tmp_path / "wild.csv").rename(tmp_path / "wild.json")
    assert main(wild, argv=[str(tmp_path / "wild.json"), *call]) == 2 and "is read here" in capsys.readouterr().err


def test_a_mask_that_somebody_corrected_stays_and_is_told(wild, tmp_path, capsys):
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    assert main(wild, argv=call) == 0
    mine = sets / "wild" / "masks" / "images" / "a.png"
    Image.fromarray(np.full((24, 36), 255, np.uint8)).save(mine)
    painted = mine.read_bytes()
    capsys.readouterr()
    for arguments in (call, call, [*call[:-1], "60"]):
        assert main(wild, argv=arguments) == 0
        assert "note: images/a.png in" in (told := capsys.readouterr().out) and "it stays" in told
        assert mine.read_bytes() == painted and areas(sets / "wild.csv") == [65, 65]
        assert sorted(p.name for p in mine.parent.iterdir()) == ["a-2.png", "a.png", "b.png"]
    for path in (tmp_path / "data" / "masks").iterdir():  # nothing is to be converted any more
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    assert main(wild, argv=call) == 0
    assert [p.name for p in mine.parent.iterdir()] == ["a.png"] and mine.read_bytes() == painted
    assert main(wild, argv=call) == 0 and mine.read_bytes() == painted


def test_an_older_list_of_names_alone_counts_as_before(wild, tmp_path):
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    assert main(wild, argv=call) == 0
    (sets / "wild" / "masks" / ".written").write_text("images/a.png\nimages/b.png")
    before = files(sets)
    for path in (tmp_path / "data" / "masks").iterdir():
        Image.fromarray((np.array(Image.open(path)) > 50).astype(np.uint8) * 255).save(path)
    assert main(wild, argv=call) == 0 and before.keys() > files(sets).keys()
    assert [path.name for path in (sets / "wild" / "masks").rglob("*") if path.is_file()] == [".written"]


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "~$list.xlsx", "images/.DS_Store"]
)
def test_files_of_the_system_are_nobodys_masks(wild, tmp_path, name):
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    assert main(wild, argv=call) == 0
    (sets / "wild" / "masks" / name).write_bytes(b"\0")
    assert main(wild, argv=call) == 0 and (sets / "wild" / "masks" / name).read_bytes() == b"\0"


def test_masks_of_a_version_without_a_list_are_taken_over(wild, tmp_path, capsys):
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    assert main(wild, argv=call) == 0
    before, written = files(sets), sets / "wild" / "masks" / ".written"
    written.unlink()
    assert main(wild, argv=call) == 0 and files(sets) == before
    written.unlink()
    (sets / "wild" / "masks" / "images" / "mine.png").write_bytes(b"mine")
    assert main(wild, argv=call) == 2
    assert "did not write images/a.png, images/b.png, images/mine.png;" in capsys.readouterr().err
    (sets / "wild" / "masks" / "images" / "mine.png").unlink()
    (sets / "wild.json").write_text((sets / "wild.json").read_text().replace('"converted": 2', '"converted": 1'))
    assert main(wild, argv=call) == 2 and "did not write images/a.png" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["sets/wild", "sets", "sets/wild/masks", "sets/wild/masks/.written/"])
def test_something_else_where_a_folder_or_a_list_should_be_is_told(wild, tmp_path, place, capsys):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).mkdir() if place.endswith("/") else (tmp_path / place).touch()
    call = [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    assert main(wild, argv=call) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and "choose another" in told


def test_a_link_in_the_place_of_a_file_to_write_is_not_written_through(wild, tmp_path, capsys):
    sets, call = tmp_path / "sets", [str(tmp_path / "data"), "--out", str(tmp_path / "sets"), "--threshold", "50"]
    (tmp_path / "mine").write_text("mine")
    (sets / "wild" / "masks").mkdir(parents=True)
    for name in (".written", ".mask.tmp"):
        (sets / "wild" / "masks" / name).symlink_to(tmp_path / "mine")
        assert main(wild, argv=call) == 2 and f"did not write {name}" in capsys.readouterr().err
        (sets / "wild" / "masks" / name).unlink()
    assert main(wild, argv=call) == 0 and (tmp_path / "mine").read_text() == "mine"


KILLED = """
import os, signal, sys
sys.path.append(sys.argv[1])
from make import main
from wild import WILD
synced, sync = [], os.fsync
def end(number):
    sync(number)
    synced.append(number)
    if len(synced) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = end
sys.exit(main(WILD, argv=sys.argv[3:]))
"""


@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("write", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("again", [False, True])
def test_kill_nine_within_a_write_blocks_no_later_start(wild, tmp_path, write, again):
    """Who holds the set's folder, the list of masks, record and manifest, and the list once more."""
    sets = tmp_path / "sets"
    call = [str(tmp_path / "data"), "--out", str(sets), "--threshold", "50"]
    if again:
        assert main(wild, argv=call) == 0
        call[-1] = "40"
    done = subprocess.run([sys.executable, "-c", KILLED, str(SCRIPTS), str(write), *call], timeout=60)
    assert done.returncode == -9
    left = [p for p in sets.rglob("*.tmp") if p.name != ".mask.tmp"]
    assert left
    assert main(wild, argv=call) == 0 and check(sets / "wild.csv") == []
    # Another process may be writing them, but not in the set's own folder, which this one held.
    assert all(path.exists() == (path.parent == sets) for path in left)
    left = [path for path in left if path.parent == sets]
    for path in left:
        os.utime(path, (time.time() - 3700,) * 2)
    assert main(wild, argv=call) == 0
    assert sorted(p.name for p in sets.rglob("*") if p.is_file()) == [
        ".written",
        "a.png",
        "b.png",
        "wild.csv",
        "wild.json",
    ]


LIMITED = """
import resource, sys
sys.path.append(sys.argv[1])
from make import main
from wild import WILD
from checked import Checked
end = Checked.end
def full(self):
    end(self)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
size = int(sys.argv[2])
if sys.argv[3] == "masks":
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
Checked.end = full
sys.exit(main(WILD, argv=sys.argv[4:]))
"""


@pytest.mark.parametrize(("size", "moment"), [(10, "masks"), (150, "masks"), (10, "end"), (100, "end"), (400, "end")])
@pytest.mark.parametrize("again", [False, True])
def test_a_full_disk_leaves_the_earlier_pair_or_none(wild, tmp_path, size, moment, again):
    sets, data = tmp_path / "sets", tmp_path / "data"
    call = [str(data), "--out", str(sets), "--threshold"]
    if again:
        assert main(wild, argv=[*call, "50"]) == 0
    before = files(sets)
    values = np.array(Image.open(data / "masks" / "a.png"))
    values[20:, 30:] = 100
    Image.fromarray(values).save(data / "masks" / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(SCRIPTS), str(size), moment, *call, "40"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr and "Free some space" in done.stderr.replace("free", "Free")
    after = files(sets)
    for name in ("wild.csv", "wild.json", "wild.bad.csv"):
        assert after.get(name) == before.get(name)
    assert not [name for name in after if name.endswith(".tmp")]
    if again:
        assert check(sets / "wild.csv") == []
    assert main(wild, argv=[*call, "40"]) == 0 and check(sets / "wild.csv") == []
    assert areas(sets / "wild.csv") == [89, 65]
