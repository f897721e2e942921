"""The masks that a script writes: in a folder of its own, beside a list of them, the earlier ones kept to the end.

What lies in the folder without being listed is somebody else's: such a folder is refused, and nothing in it is touched.
Nor is a mask that was changed since it was written. A new mask never takes the place of an earlier one of other pixels
but has a name of its own, so that an earlier manifest is right until the new one replaces it, whenever the run ends;
only then the masks that it does not name go. Their names stay theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import csv_rows, open_file, place, write_atomic
from mpc_lite.run_folder import TEMPORARY, of_the_system

# The list has a line for each mask, its sha256 and its name; in older ones the name alone. And the file being written.
LIST, UNFINISHED = ".written", ".mask.tmp"
_LINE = re.compile(r"(?:([0-9a-f]{64})  )?(.+)")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".rar", ".7z")


def is_packed(path: Path, folders: set[str]) -> bool:
    """Is it an archive beside which no folder (all in lower case) is called as if it had been unpacked?"""
    here, name = str(path.parent), path.name.casefold()
    unpacked = (f"{name}.unpacked", path.stem.casefold(), path.stem.casefold().removesuffix(".tar"))
    return path.suffix.lower() in _ARCHIVES and not any(f"{here}/{each}".casefold() in folders for each in unpacked)


def is_converted(folder: Path) -> bool:
    """Are these the converted masks of a run of any set's script?"""
    if os.path.isfile(folder / LIST):
        return True
    recorded = folder.name == "masks" and os.path.isfile(folder.parent.parent / f"{folder.parent.name}.json")
    return recorded and bool(_unlisted(folder, _files(folder)))


def _files(folder: Path) -> set[str]:
    """What lies below a folder, but for files of the system, folders that are none but folders, and what a killed run
    was writing the list to."""
    return {
        Path(here, name).relative_to(folder).as_posix()
        for here, below, files in os.walk(folder)
        for name in (*files, *(n for n in below if Path(here, n).is_symlink()))
        if not of_the_system(name) and not (name.startswith(f".{LIST}.") and TEMPORARY.fullmatch(name))
    }


def _unlisted(folder: Path, found: set[str]) -> set[str]:
    """The masks of a version that kept no list: all files there are, where the set's record counts as many converted
    ones, and the manifest beside it names each."""
    name, out = folder.parent.name, folder.parent.parent
    found = found - {UNFINISHED}
    try:
        with open_file(out / f"{name}.json") as file:
            record = json.load(file)
        if record["set"] != name or record["masks"]["converted"] != len(found):
            return set()
        rows = csv_rows(out / f"{name}.csv", "the manifest of an earlier run")
        column = next(rows)[0].index("mask")
        named = {place(cells[column], out).resolve() for cells, _ in rows if cells[column:] and cells[column]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, StopIteration, InputError):
        return set()
    ours = all(each.endswith(".png") and (folder / each).resolve() in named for each in found)
    return found if ours else set()


class Converted:
    """The folder of a set's converted masks. InputError if it holds what no run of the script has written."""

    def __init__(self, folder: Path, inputs: Iterable[Path | None] = ()) -> None:
        """inputs: the files to read; none of them may lie in the folder."""
        self.folder = folder
        self._written: dict[Path, str] = {}  # sha256
        self._gone: dict[str, set[str]] = {}  # masks that were removed, which earlier manifests may name
        self.removed = 0
        self._earlier = self._listed()
        there = folder.resolve()
        if self._earlier and (read := [p for p in inputs if p is not None and there in p.resolve().parents]):
            raise InputError(
                f"{shown(folder, 200)} is where this script writes, and {some(p.name for p in read)} in it is to be "
                "read here; choose another --out, or give the masks that came with the set"
            )

    def _listed(self) -> dict[str, set[str]]:
        """The names, below the folder, of the masks that earlier runs wrote, and the sums that they had."""
        for folder in (self.folder.parent, self.folder):
            if os.path.lexists(folder) and not folder.is_dir():
                raise InputError(f"{shown(folder, 200)} is no folder; converted masks go there: choose another --out")
        found, listed = _files(self.folder), {}
        try:
            with open_file(self.folder / LIST) as file:
                for line in file.read().decode("utf-8", "replace").split("\n"):
                    if match := _LINE.fullmatch(line):
                        listed.setdefault(match[2], set()).update(filter(None, [match[1]]))
        except FileNotFoundError:
            listed = {name: set() for name in _unlisted(self.folder, found)}
        except OSError as error:
            raise InputError(
                f"{shown(self.folder / LIST, 200)}: cannot be read ({error.strerror}), expected the list of the "
                "converted masks there; choose another --out, or move that folder"
            ) from None
        own = {name for name in (LIST, UNFINISHED) if not (self.folder / name).is_symlink()}
        if strange := sorted(found - listed.keys() - own):
            raise InputError(
                f"{shown(self.folder, 200)}: this script keeps the masks that it converts there, and did not write "
                f"{some(strange, 3)}; choose another --out, or move that folder"
            )
        self._gone = {name: sums for name, sums in listed.items() if name not in found and sums}
        return {name: sums for name, sums in listed.items() if name in found}

    def write(self, mask: np.ndarray, name: str) -> Path:
        """Write a mask, (H,W) 0/1, called after its image's name below the folder given; the file.

        OSError, which names the file, where it cannot be written: that is no fault of a pair's.
        """
        png = io.BytesIO()
        Image.fromarray(mask * np.uint8(255)).save(png, "PNG")
        new = png.getvalue()
        target = plain = self.folder / PurePosixPath(name).with_suffix(".png")
        number, digest = 1, hashlib.sha256(new).hexdigest()
        while target in self._written or not self._is_free(target, new, digest):  # a.jpg beside a.tif, an earlier run's
            number += 1
            target = plain.with_name(_numbered(plain.stem, number))
        unfinished = self.folder / UNFINISHED
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self._written:
                self._list(self._earlier | self._gone)
            self._written[target] = digest
            unfinished.write_bytes(new)
            with open(self.folder / LIST, "a", encoding="utf-8") as file:  # first: what is there is listed at any time
                file.write(_line(target.relative_to(self.folder).as_posix(), digest))
            os.replace(unfinished, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise OSError(error.errno, error.strerror, str(target)) from None
        return target

    def _is_free(self, target: Path, new: bytes, digest: str) -> bool:
        """May the new file be called so? Where there is none yet, or a copy of it; nor was one of other pixels there,
        which a manifest made of an earlier one may name."""
        name = target.relative_to(self.folder).as_posix()
        if not os.path.lexists(target):
            return digest in self._gone.get(name, {digest})
        return target.is_file() and target.read_bytes() == new

    def end(self) -> list[str]:
        """After the new manifest is in place: remove the earlier runs' masks that it does not name.

        Those that are not what was written, because somebody changed them, stay; their names.
        """
        kept = {path.relative_to(self.folder).as_posix(): {digest} for path, digest in self._written.items()}
        changed, gone = {}, []
        for name in sorted(self._earlier.keys() - kept.keys()):
            sums, path = self._earlier[name], self.folder / name
            if sums and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() not in sums:
                changed[name] = sums
            else:
                gone.append(path)
        if gone and not self._written:
            self._list(self._earlier | self._gone)
        for path in gone:
            name = path.relative_to(self.folder).as_posix()
            with contextlib.suppress(OSError):  # lists of older versions held names alone
                self._gone[name] = self._earlier[name] or {hashlib.sha256(path.read_bytes()).hexdigest()}
            path.unlink(missing_ok=True)
        self.removed = len(gone)
        if listed := {name: sums for name, sums in self._gone.items() if name not in kept} | kept | changed:
            self._list(listed)
        elif gone:
            (self.folder / LIST).unlink(missing_ok=True)
        if self._earlier or kept:
            (self.folder / UNFINISHED).unlink(missing_ok=True)
        for folder in sorted({above for path in gone for above in path.parents}, reverse=True):  # those below first
            if folder == self.folder or self.folder in folder.parents:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()
        return list(changed)

    def _list(self, masks: dict[str, set[str]]) -> None:
        """Write the list anew. Before any other change: masks of a version without one are listed at any time, too."""
        lines = (_line(name, digest) for name in sorted(masks) for digest in sorted(masks[name]) or [""])
        write_atomic(self.folder / LIST, "".join(lines).encode())


def _line(name: str, digest: str) -> str:
    """A line of the list. The break comes first: a line before it may have been cut off with a full disk."""
    return f"\n{digest}  {name}" if digest else f"\n{name}"


def _numbered(stem: str, number: int) -> str:
    """A name with a number behind it, in the 255 bytes that file systems give one."""
    ending = f"-{number}.png"
    while len(os.fsencode(stem + ending)) > 255:
        stem = stem[:-1]
    return stem + ending
