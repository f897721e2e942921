"""The masks that a script writes: in a folder of its own, beside a list of them, the earlier ones kept to the end.

What lies in the folder without being listed is somebody else's: such a folder is refused, and nothing in it is touched.
A new mask never takes the place of an earlier one of other pixels but has a name of its own, so that an earlier
manifest is right until the new one replaces it, whenever the run ends; only then the masks that it does not name go.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mpc_lite.errors import InputError, shown, some

LIST, UNFINISHED = ".written", ".mask.tmp"  # the names of the masks, a line each; the file being written


class Converted:
    """The folder of a set's converted masks. InputError if it holds what no run of the script has written."""

    def __init__(self, folder: Path, inputs: Iterable[Path | None] = ()) -> None:
        """inputs: the files to read; none of them may lie in the folder."""
        self.folder = folder
        self._written: set[Path] = set()
        self._earlier = self._listed()
        there = folder.resolve()
        if self._earlier and (read := [p for p in inputs if p is not None and there in p.resolve().parents]):
            raise InputError(
                f"{shown(folder, 200)} is where this script writes, and {some(p.name for p in read)} in it is to be "
                "read here; choose another --out, or give the masks that came with the set"
            )

    def _listed(self) -> set[str]:
        """The names, below the folder, of the masks that earlier runs wrote."""
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise InputError(f"{shown(self.folder, 200)} is no folder; converted masks go there: choose another --out")
        listed = set()
        with contextlib.suppress(FileNotFoundError):
            listed = set((self.folder / LIST).read_text(encoding="utf-8", errors="replace").split("\n"))
        found = {
            Path(here, name).relative_to(self.folder).as_posix()
            for here, below, files in os.walk(self.folder)
            for name in (*files, *(n for n in below if Path(here, n).is_symlink()))
        }
        if strange := sorted(found - listed - {LIST, UNFINISHED}):
            raise InputError(
                f"{shown(self.folder, 200)}: this script keeps the masks that it converts there, and did not write "
                f"{some(strange, 3)}; choose another --out, or move that folder"
            )
        return listed & found

    def write(self, mask: np.ndarray, name: str) -> Path:
        """Write a mask, (H,W) 0/1, called after its image's name below the folder given; the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / UNFINISHED
        Image.fromarray(mask * np.uint8(255)).save(unfinished, "PNG")
        target = plain = self.folder / PurePosixPath(name).with_suffix(".png")
        number = 1
        while target in self._written or not _is_free(target, unfinished):  # a.jpg beside a.tif, or an earlier run's
            number += 1
            target = plain.with_name(f"{plain.stem}-{number}.png")
        self._written.add(target)
        with open(self.folder / LIST, "a", encoding="utf-8") as file:  # first: what is there is listed at any time
            file.write(f"\n{target.relative_to(self.folder).as_posix()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unfinished, target)
        return target

    def end(self) -> None:
        """After the new manifest is in place: remove the earlier runs' masks that it does not name."""
        kept = {path.relative_to(self.folder).as_posix() for path in self._written}
        gone = [self.folder / name for name in self._earlier - kept]
        for path in gone:
            path.unlink(missing_ok=True)
        if kept:
            (self.folder / UNFINISHED).write_text("\n".join(sorted(kept)), encoding="utf-8")
            os.replace(self.folder / UNFINISHED, self.folder / LIST)
        elif gone:
            for name in (LIST, UNFINISHED):
                (self.folder / name).unlink(missing_ok=True)
        for folder in sorted({above for path in gone for above in path.parents}, reverse=True):  # those below first
            if folder == self.folder or self.folder in folder.parents:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()


def _is_free(target: Path, new: Path) -> bool:
    """May the new file be called so? Where there is none yet, or a copy of it."""
    return not os.path.lexists(target) or (target.is_file() and target.read_bytes() == new.read_bytes())
