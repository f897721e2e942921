"""A folder of a run, or of a set that is written, belongs to one process at a time; what a killed one left in it goes
before the next one begins."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mpc_lite.errors import InputError, shown
from mpc_lite.files import open_file, write_atomic
from mpc_lite.provenance import read_json

LOCK, HOLDER = ".lock", ".lock.json"  # the operating system's lock is on the one, the other says who has it
EARLIER = ".earlier"  # the run that another one replaces, until there is something of the new one to keep
_MOVING = ".earlier.part"  # the same on its way: what lies in it belongs to the folder
_STOP = "stop"  # asks a run to end, and may come before there is one
_ENDS = 1.5  # seconds in which the kernel of a killed run sees that it is alone, and ends
_NAMES = 0.5  # seconds in which who has just taken a folder writes there who it is
_STALE = 3600  # seconds after which no write goes on
_LOCKLESS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_held: dict[str, tuple] = {}  # folders that this process may write -> what tells the folder and its lock from others
_SYSTEM = {".ds_store", ".localized", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"}
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # what `write_atomic` writes to


def check_folder(output: str | Path) -> None:
    """InputError unless a file may be written under this name: its folder, or the nearest one above that is there, is
    one that may be written. To be called before the work."""
    above = next(folder for folder in Path(os.path.abspath(output)).parents if os.path.lexists(folder))
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        what = "may not be written" if os.path.isdir(above) else "is no folder"
        raise InputError(f"cannot write {shown(output, 200)}: {shown(above, 200)} {what}; choose another folder")


@contextmanager
def locked(out: Path, how_to_stop: str | None = None) -> Iterator[None]:
    """Hold the folder `out`, which is made, until the block or the process ends, whatever ends it.

    Temporary files of processes that were killed are removed at both ends, but not where a folder below has such a lock
    itself. A process that the holder started, the
    kernel of a notebook, is let in: it works for the same run. how_to_stop: what the message advises, by default a
    training's file `stop`.

    Raises:
        InputError: somebody else holds the folder; the message says who. The folder cannot be written.
    """
    lock, name = FileLock(out / LOCK), os.path.abspath(out)
    # Older filelocks would empty what a link leads to, and runs that were set aside are moved out of their folder.
    if link := next((out / each for each in (LOCK, HOLDER, EARLIER, _MOVING) if os.path.islink(out / each)), None):
        raise InputError(f"{link} is a link, and none of ours; delete it, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        holder = _holder(out)
        if any(holder.get(key) != value for key, value in {**_numbers(), "process": os.getppid()}.items()):
            time.sleep(_NAMES)
            raise InputError(_in_use(out, _holder(out), how_to_stop or f"create {out / 'stop'}")) from None
        _held[name] = _ident(out), _ident(out / LOCK)
        try:
            yield
        finally:
            _held.pop(name, None)
        return
    except (NotImplementedError, OSError, ValueError) as error:  # ValueError: what no system takes as a path
        if not isinstance(error, NotImplementedError) and getattr(error, "errno", None) not in _LOCKLESS:
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, FileExistsError):
                reason = dead_link(out) or reason
            if (
                isinstance(error, PermissionError)
                and os.access(out, os.W_OK)
                and os.path.isfile(out / LOCK)
                and not os.access(out / LOCK, os.W_OK)
            ):
                raise InputError(
                    f"{out / LOCK} may not be written; delete it if no run uses the folder, or choose another folder"
                ) from None
            raise InputError(f"{out} cannot be written: {reason}; choose another output folder") from None
        # Some parallel and network file systems are mounted without locks.
        warnings.warn(f"{out}: this file system has no locks; see to it that one run at a time uses it", stacklevel=3)
    try:
        killed = (out / HOLDER).exists()  # its run was
        holder = {**_numbers(), "process": os.getpid()}
        holder["since"] = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(InputError):  # before all else, for others to name; but a disk may be full of what is cleared now
            write_atomic(out / HOLDER, json.dumps(holder).encode())
        if killed:
            time.sleep(_ENDS)
        _clear_temporary(out)
        _move_back(out)
        write_atomic(out / HOLDER, json.dumps(holder).encode())
        _held[name] = _ident(out), _ident(out / LOCK)
        yield
    finally:
        with suppress(OSError, InputError):
            check_held(out)
            _clear_temporary(out)
            (out / HOLDER).unlink(missing_ok=True)
        _held.pop(name, None)
        lock.release()


def dead_link(out: Path) -> str:
    """Which link on the way to a file or folder leads nowhere, as to a disk that was emptied; "" where none does."""
    dead = next((path for path in (out, *out.parents) if path.is_symlink() and not os.path.exists(path)), None)
    return f"{dead} is a link to {shown(os.readlink(dead), 200)}, which is not there" if dead else ""


def check_held(out: Path) -> None:
    """InputError if a folder that this process holds is another one by now: deleted, moved, or made anew by a run that
    would get this one's files. To be called before each of them is written."""
    held = _held.get(os.path.abspath(out))
    folder, lock = _ident(out), _ident(out / LOCK)
    if held and (folder != held[0] or lock not in (None, held[1])):  # a lock that somebody removed is no other folder
        raise InputError(
            f"{out} is not the folder any more that this run began in: it was deleted, moved or made anew; nothing "
            "more is written. Begin anew in a folder of its own"
        )


def unshare(file: Path) -> None:
    """Give a file bytes of its own where it shares them by a link of either kind, as with a snapshot (`cp -al`) or a
    store of objects: what is then written into it changes nothing there. A link that leads nowhere goes."""
    if os.path.islink(file) and not os.path.exists(file):
        file.unlink()
    elif os.path.islink(file) or (os.path.isfile(file) and os.stat(file).st_nlink > 1):
        with open_file(file) as shared:
            write_atomic(file, shared.read())


def _ident(path: Path) -> tuple[int, int] | None:
    """Device and number of a file or folder, which one made anew does not have, as long as this one is open."""
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino


def _numbers() -> dict[str, str]:
    """Whose process numbers a process has: two containers of one host name may each have a process 1."""
    numbers = {"host": socket.gethostname()}
    with suppress(OSError):  # Linux alone
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        numbers["system"] = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return numbers


def _holder(out: Path) -> dict[str, object]:
    try:
        holder = read_json((out / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _in_use(out: Path, holder: dict[str, object], how_to_stop: str) -> str:
    process = f"process {holder.get('process', 'unknown')} on {holder.get('host', 'an unknown host')}"
    since = f", since {holder['since']}" if "since" in holder else ""
    return (
        f"{out} is in use by {process}{since}; wait for its end, stop it ({how_to_stop}), or choose another "
        f"folder. If no such process runs any more, delete {out / LOCK}"
    )


def holds_run(out: Path) -> bool:
    """Whether there is anything in the folder but what a lock leaves, a wish to stop, and a run that was set aside."""
    known = (LOCK, HOLDER, EARLIER, _STOP)
    return out.is_dir() and any(f.name not in known and not TEMPORARY.fullmatch(f.name) for f in out.iterdir())


def set_aside(out: Path) -> None:
    """Move the run in a folder that this process has locked into its folder `EARLIER`, for a new one.

    What is there already, because its successor was killed, gives way only to a run with a checkpoint.
    """
    if (out / EARLIER).is_dir() and not _may_go_on(out):
        _delete(_contents(out))
        return
    drop_earlier(out)
    if contents := _contents(out):
        (out / _MOVING).mkdir()
        for file in contents:
            file.rename(out / _MOVING / file.name)
        (out / _MOVING).rename(out / EARLIER)


def put_back(out: Path) -> bool:
    """Set the earlier run of a locked folder in its place again, unless the new one has a checkpoint or weights.

    What else the new one wrote is deleted, but its notebook, with the reason in it, becomes `failed.ipynb`.
    """
    earlier = out / EARLIER
    if not earlier.is_dir() or _may_go_on(out):
        return False
    if (out / "notebook.ipynb").is_file():
        (out / "notebook.ipynb").replace(earlier / "failed.ipynb")
    _delete(_contents(out))
    earlier.rename(out / _MOVING)
    _move_back(out)
    return True


def drop_earlier(out: Path) -> None:
    """Delete the run that was set aside in a locked folder."""
    if (out / EARLIER).is_dir():
        shutil.rmtree(out / EARLIER)


def _move_back(out: Path) -> None:
    """End what was begun, of one of the two above that was killed between its files."""
    if (out / _MOVING).is_dir():
        for file in (out / _MOVING).iterdir():
            file.rename(out / file.name)
        (out / _MOVING).rmdir()


def _contents(out: Path) -> list[Path]:
    return [file for file in out.iterdir() if file.name not in (LOCK, HOLDER, EARLIER, _MOVING, _STOP)]


def _may_go_on(out: Path) -> bool:
    """Whether the new run of a folder left a checkpoint, weights or results."""
    files = (file for top in _contents(out) for file in (top.rglob("*") if top.is_dir() else [top]))
    return any(file.suffix in (".state", ".safetensors") or file.name == "results.json" for file in files)


def _delete(contents: list[Path]) -> None:
    for file in contents:
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()


def _clear_temporary(out: Path) -> None:
    """Remove what killed processes were writing below a folder, but for folders with a lock of their own: there,
    somebody may write at this moment, and what a killed one left goes when the next one begins."""
    for here, below, files in os.walk(out):
        below[:] = [name for name in below if not any(os.path.lexists(Path(here, name, own)) for own in (LOCK, HOLDER))]
        for name in filter(TEMPORARY.fullmatch, files):
            Path(here, name).unlink(missing_ok=True)


def of_the_system(name: str) -> bool:
    """Is it a file or folder that systems, or Excel while it is open (~$), put beside those that they show? Nobody's
    work, and no picture."""
    return name.startswith(("._", "~$")) or name.casefold() in _SYSTEM


@contextmanager
def temporary_folder(above: Path) -> Iterator[Path]:
    """A folder in `above` to make something in, which goes with the block, or by `clear_stale`."""
    folder = above / f".unfinished.{uuid.uuid4().hex}.tmp"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_stale(folder: str | Path) -> None:
    """Remove what killed processes were writing in a folder that nobody locks: temporary files and folders in which
    nothing was written for an hour, for a younger one may be somebody's who writes at this moment."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if TEMPORARY.fullmatch(entry.name) and time.time() - _written_last(Path(entry.path)) > _STALE:
                _delete([Path(entry.path)])


def _written_last(path: Path) -> float:
    below = (Path(here, name) for here, folders, files in os.walk(path) for name in (*folders, *files))
    return max(each.lstat().st_mtime for each in (path, *below))
