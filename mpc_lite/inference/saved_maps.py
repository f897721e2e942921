"""Saved score maps: written once, read again for any protocol, never taken for maps of something else."""

import hashlib
import io
import json
import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError
from mpc_lite.files import open_file, place, write_atomic
from mpc_lite.inference.score_map import ScoreMap
from mpc_lite.network.weights import fingerprint
from mpc_lite.provenance import read_json, sealed
from mpc_lite.run_folder import locked

INDEX = "index.json"
_NAME = re.compile(r"\d{6,}-[A-Za-z0-9._-]*-[0-9a-f]{16}-([0-9a-f]{16})\.png")  # a map; its run's key


class SavedMaps:
    """A folder of score maps: 16-bit PNG files, one per image, and index.json, which says what made them.

    A file is named after its row, the image's sha256 and the key of its run, so a map of another network, of another
    manifest or of an image that has changed since is never taken for a good one, nor written over before `finish`.
    One process at a time writes (`writing`); any number may read.
    """

    def __init__(self, folder: str | Path, facts: dict):
        self.folder, self.facts = place(folder), facts
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def create(cls, folder: str | Path, manifest: dict, model: nn.Module | ScoreMap) -> "SavedMaps":
        """Begin a folder for the maps of `model`, or go on with it; manifest: its {name, sha256}.

        Maps of another run stay as they are, and the index stays theirs, until `finish` is called. Raises InputError
        where an index is there that no evaluation wrote.
        """
        saved = cls(folder, {"schema": 2, "manifest": manifest, "made_by": identity(model)})
        if not _begun(saved.folder):  # nothing to lose: what is there after an interruption can be scored
            saved._write_index()
        return saved

    @classmethod
    def check_free(cls, folder: str | Path, manifest: dict, model: nn.Module | ScoreMap) -> None:
        """InputError where maps of another network or manifest are kept, which `finish` would delete."""
        own, facts = cls(folder, {"schema": 2, "manifest": manifest, "made_by": identity(model)}), _index(folder)
        if facts is None or facts == own.facts:
            return
        if n := len(list(place(folder).glob(f"*-{cls(folder, facts).key}.png"))):
            other = (
                "network" if facts["made_by"] != own.facts["made_by"] else "manifest, or of this one before a change"
            )
            raise InputError(
                f"{folder} holds {n} maps of another {other}, and they would be deleted; give each its own folder, or "
                "delete that one first"
            )

    @classmethod
    @contextmanager
    def writing(cls, folder: str | Path, manifest: dict, model: nn.Module | ScoreMap) -> Iterator["SavedMaps"]:
        """What `create` returns, where no other process writes maps, or removes them, until the block ends.

        A folder that cannot be written stays as it is: whoever finds all its maps there needs no more. Raises
        InputError where another process writes, and says which.
        """
        _begun(place(folder))  # somebody else's folder is refused without a lock left in it
        with _alone(place(folder)):
            yield cls.create(folder, manifest, model)

    @classmethod
    def open(cls, folder: str | Path, manifest: dict) -> "SavedMaps":
        """A folder that `create` began. Raises InputError without a readable index or with another manifest's."""
        facts = _index(folder)
        if facts is None:
            raise InputError(f"{folder}: no readable {INDEX}; evaluate with a network and maps_dir first")
        digest = facts["manifest"]["sha256"]
        if digest != manifest["sha256"]:
            raise InputError(
                f"{folder}: its maps were made for a manifest with sha256 {digest[:12]}…, this one has "
                f"{manifest['sha256'][:12]}…; evaluate with the network again"
            )
        return cls(folder, facts)

    def check(self) -> None:
        """InputError when the folder, by its index, no longer holds the maps of this run."""
        if _index(self.folder) != self.facts:
            raise InputError(
                f"{self.folder}: another evaluation has put its maps here meanwhile, and those scored here are gone; "
                "evaluate with the network again, and give each network a folder of its own"
            )

    def finish(self) -> None:
        """The run's maps are complete: the index names this run, and the maps of others go, with a warning."""
        if _index(self.folder) != self.facts:
            self._write_index()
        gone = 0
        for file in self.folder.glob("*.png"):
            if (name := _NAME.fullmatch(file.name)) and name[1] != self.key:
                with suppress(OSError):  # one that stays, in a folder that cannot be written, is nobody's
                    file.unlink()
                    gone += 1
        if gone:
            text = f"{self.folder}: {gone} maps of another network or another manifest are deleted"
            warnings.warn(text, stacklevel=2)

    def _write_index(self) -> None:
        write_atomic(self.folder / INDEX, (json.dumps(self.facts, indent=2) + "\n").encode())

    def _file(self, sample: Sample) -> Path:
        digest = hashlib.sha256(sample.image.read_bytes()).hexdigest()[:16]
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", sample.image.stem)[:60]
        return self.folder / f"{sample.row:06d}-{stem}-{digest}-{self.key}.png"

    def read(self, sample: Sample, size: tuple[int, int]) -> np.ndarray | None:
        """Levels (H,W) uint16 of a sample, or None when there is no whole map of this run and image."""
        try:
            with open_file(self._file(sample)) as file, Image.open(file, formats=["PNG"]) as picture:
                # 16-bit grey alone, which is I;16, and I in older Pillow: no levels of 8 bits, no numbers of colours.
                if picture.size != size[::-1] or not picture.mode.startswith("I"):
                    return None
                return np.asarray(picture).astype(np.uint16)
        except Exception:  # missing or damaged, and decoders have many ways to say so: the map is made again
            return None

    def write(self, sample: Sample, levels: np.ndarray) -> None:
        """Keep a sample's levels (H,W) uint16."""
        data = io.BytesIO()
        Image.fromarray(levels).save(data, "PNG", compress_level=3)
        write_atomic(self._file(sample), sealed(data.getvalue()))


def _alone(folder: Path) -> AbstractContextManager[None]:
    """The lock of a folder of maps; none where nobody can write."""
    if os.path.exists(folder) and not os.access(folder, os.W_OK | os.X_OK):
        return nullcontext()
    return locked(folder, "Ctrl-C where it runs")


def _begun(folder: Path) -> bool:
    """Is the index of an evaluation here? InputError where another file has its name."""
    if _index(folder) is not None:
        return True
    if os.path.lexists(index := folder / INDEX):
        raise InputError(
            f"{index}: not written by evaluate, or damaged, and would be replaced; move it away, or choose "
            "another folder for the maps"
        )
    return False


def _index(folder: str | Path) -> dict | None:
    """The facts in a folder's index; None without a readable one."""
    try:
        with open_file(place(folder) / INDEX) as file:
            facts = read_json(file.read().decode("utf-8"))
        ours = isinstance(facts["manifest"]["sha256"], str) and {"schema", "made_by"} <= facts.keys()
        return facts if ours else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def identity(model: nn.Module | ScoreMap) -> dict:
    """What made a map. A callable may name itself by a `fingerprint`; without one its maps are always made anew."""
    kind = type(model).__qualname__
    if isinstance(model, nn.Module):
        return {"model": kind, "fingerprint": fingerprint(model), "input": "stretch 512"}
    return {"model": kind, "fingerprint": getattr(model, "fingerprint", None) or uuid.uuid4().hex}
