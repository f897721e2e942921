"""A run folder has one holder, who is named to others, and is free once he is gone, however he went."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpc_lite import run_folder
from mpc_lite.errors import InputError
from mpc_lite.files import write_atomic
from mpc_lite.recipes.load import load_recipe
from mpc_lite.run_folder import EARLIER, check_held, clear_stale, drop_earlier, holds_run, locked, put_back, set_aside
from mpc_lite.training.pretrain import pretrain

pytestmark = pytest.mark.trust

HOLD = """
import sys, time
from pathlib import Path
from mpc_lite.run_folder import locked
with locked(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "pretrain.state").write_text("all that was learnt")
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path):
    """A run folder, and the process that holds it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "pretrain.state").exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.05)
    yield tmp_path, process
    process.kill()
    process.communicate()


def test_a_second_run_is_told_who_holds_the_folder_and_changes_nothing(held):
    folder, process = held
    who = rf"in use by process {process.pid} on {socket.gethostname()}, since 20.* wait for its end, stop it \(create"
    for resume in (False, True):
        with pytest.raises(InputError, match=who):
            pretrain(load_recipe("quickstart", "smoke"), folder, resume=resume, device="cpu")
    assert sorted(file.name for file in folder.iterdir()) == [".lock", ".lock.json", "pretrain.state"]


def test_a_killed_run_is_not_named_as_the_holder_while_the_next_one_begins(tmp_path, monkeypatch):
    """Its process is gone, so the lock would be deleted that the next one holds."""
    (tmp_path / ".lock.json").write_text(json.dumps({"process": 1, "host": "another"}))
    others = []

    def sleep(seconds):
        if not others:
            others.append(seconds)
            who = rf"in use by process {os.getpid()} on {socket.gethostname()}, since"
            with pytest.raises(InputError, match=who), locked(tmp_path):
                pass

    monkeypatch.setattr(run_folder.time, "sleep", sleep)
    with locked(tmp_path):
        assert len(others) == 1


def test_who_has_just_taken_a_folder_is_named(tmp_path, monkeypatch):
    with locked(tmp_path):
        named = (tmp_path / ".lock.json").read_bytes()
        (tmp_path / ".lock.json").unlink()
        monkeypatch.setattr(run_folder.time, "sleep", lambda _: (tmp_path / ".lock.json").write_bytes(named))
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} on"), locked(tmp_path):
            pass


def test_a_disk_full_of_what_a_killed_run_left_does_not_block_the_next_one(tmp_path, monkeypatch):
    left = tmp_path / f".pretrain.state.{'0' * 32}.tmp"
    left.touch()

    def write(path, data):
        if left.exists():
            raise InputError("no space")
        write_atomic(path, data)

    monkeypatch.setattr(run_folder, "write_atomic", write)
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["process"] == os.getpid()


@pytest.mark.parametrize("name", ["pretrain.state", "pretrain.done", "log.jsonl", "stage1.safetensors"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_whose_files_lie_in_a_store_that_is_away_does_not_begin_anew(tmp_path, name, resume):
    (tmp_path / name).symlink_to(tmp_path / "gone" / name)
    with pytest.raises(InputError, match=rf"{name} is a link to .*gone.*, which is not there; bring that back, or"):
        pretrain(load_recipe("quickstart", "smoke"), tmp_path, resume=resume, device="cpu")
    assert (tmp_path / name).is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no folder with an open file in it")
@pytest.mark.parametrize("how", ["deleted", "moved", "made anew", "taken by another run"])
def test_a_holder_whose_folder_is_another_one_writes_no_more(tmp_path, how):
    """Else a forgotten run goes on writing into the one that took its place, checkpoint and log."""
    out = tmp_path / "run"
    with locked(out):
        check_held(out)
        check_held(tmp_path)  # nobody holds it
        out.rename(tmp_path / "away")
        if how == "deleted":
            shutil.rmtree(tmp_path / "away")
        if how in ("made anew", "taken by another run"):
            out.mkdir()
        if how == "taken by another run":
            begun = subprocess.Popen([sys.executable, "-c", HOLD, str(out)])
            while not (out / "pretrain.state").exists():
                time.sleep(0.05)
            begun.kill()
            begun.wait()
        with pytest.raises(InputError, match="run is not the folder any more that this run began in: it was deleted"):
            check_held(out)
    assert (out / ".lock.json").exists() == (how == "taken by another run")  # of the other one
    with locked(tmp_path / "b"):
        (tmp_path / "b" / ".lock").unlink()  # as the message on a folder in use advises: the folder is the same
        check_held(tmp_path / "b")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_to_a_disk_that_is_not_there_is_named(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "scratch" / "runs")
    said = r"runs is a link to .*scratch/runs, which is not there; choose another output folder"
    with pytest.raises(InputError, match=said), locked(tmp_path / "runs" / "quickstart" / "0"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to("../precious")
    with pytest.raises(InputError, match=r"\.lock is a link, and none of ours; delete it"), locked(tmp_path / "out"):
        pass
    (tmp_path / "out" / ".lock").unlink()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").touch()
    (tmp_path / "out" / ".earlier.part").symlink_to("../docs")
    with pytest.raises(InputError, match=r"\.earlier\.part is a link, and none of ours"), locked(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_killed_holder_leaves_the_folder_free_and_his_temporary_files_go(held):
    folder, process = held
    temporary = [f".{name}.{'0a' * 16}.tmp" for name in ("pretrain.state", "notebook.ipynb", "features/7.safetensors")]
    temporary = [folder / os.path.dirname(name[1:]) / f".{os.path.basename(name).lstrip('.')}" for name in temporary]
    for file in temporary:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    (folder / ".mine.tmp").write_text("no file of ours")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with locked(folder):
        assert not any(file.exists() for file in temporary)
        assert json.loads((folder / ".lock.json").read_text())["process"] == os.getpid()
        temporary[0].write_bytes(b"of a failed write")
    assert sorted(file.name for file in folder.iterdir()) == [".lock", ".mine.tmp", "features", "pretrain.state"]


def test_a_temporary_file_of_write_atomic_is_known_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "copy").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: os.link(source, tmp_path / "copy" / source.name))
        write_atomic(tmp_path / "pretrain.state", b"state")
    assert len(list((tmp_path / "copy").iterdir())) == 1
    with locked(tmp_path):
        assert not list((tmp_path / "copy").iterdir())


def test_a_run_in_a_folder_above_leaves_alone_what_another_is_writing(held):
    folder, _ = held
    above = folder.parent / "above"
    above.mkdir()
    held_below = folder.rename(above / "run")
    live = held_below / "finetune.features" / f".7.safetensors.{'0a' * 16}.tmp"
    live.parent.mkdir()
    mine = above / "masks" / f".0.png.{'0a' * 16}.tmp"
    mine.parent.mkdir()
    for file in (live, mine):
        file.write_bytes(b"half")
    with locked(above):
        assert live.exists() and not mine.exists()
    assert live.exists()


def test_the_kernel_that_the_holder_started_is_let_in_and_nobody_elses(tmp_path):
    enter = [sys.executable, "-c", HOLD.replace("time.sleep(600)", ""), str(tmp_path)]
    with locked(tmp_path):
        subprocess.run(enter, check=True)
        with pytest.raises(InputError, match=f"process {os.getpid()} "), locked(tmp_path):
            pass
        shell = [sys.executable, "-c", f"import subprocess; raise SystemExit(subprocess.run({enter!r}).returncode)"]
        done = subprocess.run(shell, capture_output=True, text=True)
        assert done.returncode == 1 and f"in use by process {os.getpid()}" in done.stderr


def test_a_process_of_another_container_is_nobodys_child_whatever_its_parents_number(tmp_path):
    """Two containers of one host name count their processes anew: each has a process 1."""
    enter = [sys.executable, "-c", HOLD.replace("time.sleep(600)", ""), str(tmp_path)]
    with locked(tmp_path):
        holder = json.loads((tmp_path / ".lock.json").read_text())
        assert ("system" in holder) == sys.platform.startswith("linux")
        (tmp_path / ".lock.json").write_text(json.dumps(holder | {"system": "another"}))
        done = subprocess.run(enter, capture_output=True, text=True)
        if "system" in holder:
            assert done.returncode == 1 and f"in use by process {os.getpid()}" in done.stderr


def test_what_killed_processes_left_where_nobody_locks_goes_after_an_hour(tmp_path):
    old, young = (tmp_path / f".model.safetensors.{digit * 32}.tmp" for digit in "ab")
    for file in (old, young, tmp_path / "mine.tmp"):
        file.write_bytes(b"half")
    for file in (old, tmp_path / "mine.tmp"):
        os.utime(file, (time.time() - 3700,) * 2)
    clear_stale(tmp_path)
    clear_stale(tmp_path / "gone")
    assert {file.name for file in tmp_path.iterdir()} == {young.name, "mine.tmp"}


@pytest.mark.parametrize("record", [None, b"", b"[1]", b"\xff\xfe", b'{"process": ' + b"[" * 900 + b"]" * 900 + b"}"])
def test_a_damaged_record_of_the_holder_costs_only_his_name(tmp_path, record):
    with locked(tmp_path):
        (tmp_path / ".lock.json").unlink()
        if record is not None:
            (tmp_path / ".lock.json").write_bytes(record)
        with pytest.raises(InputError, match="process unknown on an unknown host; "), locked(tmp_path):
            pass


def test_a_folder_with_nothing_but_a_lock_holds_no_run(tmp_path):
    out = tmp_path / "a" / "run"
    assert not holds_run(out)
    with locked(out):
        assert not holds_run(out)
        (out / "features").mkdir()
        (out / "model.safetensors").touch()
        (out / "link").symlink_to(tmp_path)
        assert holds_run(out)
        set_aside(out)
        assert not holds_run(out) and {file.name for file in (out / EARLIER).iterdir()} == {
            *("features", "model.safetensors", "link")
        }
        drop_earlier(out)
        assert not (out / EARLIER).exists() and tmp_path.exists()
        with pytest.raises(InputError, match="in use"), locked(out):
            pass


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_an_earlier_run_comes_back_until_the_new_one_has_a_checkpoint(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stage1.safetensors").write_text("precious")
    (tmp_path / "notebook.ipynb").write_text("earlier")
    assert not put_back(tmp_path)  # nothing was set aside
    set_aside(tmp_path)
    (tmp_path / "notebook.ipynb").write_text("an error")
    (tmp_path / "maps").mkdir()
    set_aside(tmp_path)  # the new one was killed, and begins anew: what is kept is the earlier one
    (tmp_path / "notebook.ipynb").write_text("an error again")
    assert put_back(tmp_path) and names(tmp_path) == ["failed.ipynb", "model", "notebook.ipynb"]
    assert (tmp_path / "model" / "stage1.safetensors").read_text() == "precious"
    assert (tmp_path / "notebook.ipynb").read_text() == "earlier"
    assert (tmp_path / "failed.ipynb").read_text() == "an error again"

    set_aside(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pretrain.state").write_text("a checkpoint")
    assert not put_back(tmp_path) and names(tmp_path) == [EARLIER, "model"]
    set_aside(tmp_path)  # of two runs that can be used, the later one
    assert names(tmp_path) == [EARLIER] and names(tmp_path / EARLIER / "model") == ["pretrain.state"]


@pytest.mark.parametrize("moved", [["results.json"], ["model.safetensors", "log.jsonl"], []])
def test_a_kill_between_two_files_that_are_moved_costs_none(tmp_path, moved):
    """However many had been moved, aside or back: the next holder finds them all in their place."""
    files = {"results.json", "model.safetensors", "log.jsonl"}
    (tmp_path / ".earlier.part").mkdir()
    for name in files:
        (tmp_path / (f".earlier.part/{name}" if name in moved else name)).write_text(name)
    assert holds_run(tmp_path)
    with locked(tmp_path):
        assert files == {file.name for file in tmp_path.iterdir()} - {".lock", ".lock.json"}
        set_aside(tmp_path)
        assert files == {file.name for file in (tmp_path / EARLIER).iterdir()}


def test_a_lock_of_another_user_is_told(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".lock"))

    real = os.access
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr(os, "access", lambda path, how: Path(path).name != ".lock" and real(path, how))
    with pytest.raises(InputError, match=r"\.lock may not be written; delete it if no run uses the folder"):
        locked(tmp_path).__enter__()


def test_a_wish_to_stop_is_no_run(tmp_path):
    """A sweep asks a cell that is about to begin."""
    (tmp_path / "stop").touch()
    assert not holds_run(tmp_path)


def test_a_file_system_without_locks_is_said_once_and_used(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.warns(UserWarning, match="has no locks; see to it that one run at a time uses it"), locked(tmp_path):
        (tmp_path / "x").touch()
