"""A frozen encoder's maps, computed once and kept on disk: stage 2 then trains its head without encoding anything.

An encoder in evaluation mode makes of an image that is not augmented the same four maps in every epoch. `MapCache.fill`
computes them before training begins, one file a row of the manifest, each written whole or not at all; so a filling
that was stopped or killed goes on with the rows that are missing. The maps are kept as the encoder gave them, fp32, or
bf16 where the stage's precision has it compute in bf16: nothing is rounded on the way to the disk.

A cache is only read by what it was made from: its folder is named after a hash of the encoder's weights, the images'
size, the precision, and the rows' files by name, length and time of change. What was made from anything else is
removed, and made anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpc_lite.data.loader import loader
from mpc_lite.data.stream import ManifestImages
from mpc_lite.errors import InputError
from mpc_lite.files import write_atomic
from mpc_lite.network.weights import named_in_utf_8
from mpc_lite.training.processes import Processes
from mpc_lite.training.stage import GO_ON

MAPS = ("map4", "map8", "map16", "map32")  # by the pixels of the image to one of theirs

_CACHE = re.compile(r"[0-9a-f]{16}")  # what a cache's folder is called


class MapCache(Dataset):
    """Items of the same positions as those of the images that it stands for: maps, a list of four (h,w,D), finest
    first, and mask (h,w) uint8, the target at the finest map's size.

    Channels come last, as the encoder computes them; a batch (B,h,w,D) permuted to (B,D,h,w) is in channels_last memory
    without a copy.

    images: training rows, not augmented: an item must depend on its row alone. folder: of caches, in one that exists;
    the cache is a folder in it. precision: of the stage, "fp32" or "bf16".
    """

    split = "train"

    def __init__(self, images: ManifestImages, encoder: nn.Module, folder: Path, precision: str):
        self.images, self.epoch, self.parent = images, images.epoch, folder
        self.folder = folder / fingerprint(encoder, images, precision)[:16]

    def file(self, row: int) -> Path:
        return self.folder / f"{row}.safetensors"

    def names(self, position: int) -> list[str]:
        """The images that the maps of a position were made from: the files to be mended where one is bad."""
        return self.images.names(position)

    def __getitem__(self, position: int) -> dict[str, Tensor | list[Tensor]] | str:
        """The item, or what is wrong with its file; see `ManifestImages`."""
        file = self.file(self.images.row(position))
        try:
            with named_in_utf_8(file) as name, safe_open(name, framework="pt") as opened:
                tensors = {each: opened.get_tensor(each) for each in (*MAPS, "mask")}
                kept = (opened.metadata() or {}).get("crc32")
            if kept not in (None, _crc32(tensors)):  # older files have none
                raise KeyError("their checksum is another")
            return {"maps": [tensors[name] for name in MAPS], "mask": tensors["mask"]}
        except (OSError, SafetensorError, KeyError) as error:
            return (
                f"{file}: the maps kept there cannot be read ({error}); remove {self.parent} and resume, "
                "they will be computed anew"
            )

    def fill(
        self,
        encode: Callable[[dict[str, Tensor]], tuple[list[Tensor], Tensor]],
        batch: int,
        workers: int,
        processes: Processes,
        stop: Callable[[], int],
    ) -> bool:
        """Compute the maps of all rows that have none yet; each process does its share, and all return together.

        Args:
            encode: a batch of `data.loader` on the CPU -> four maps (B,D,h,w) and the target (B,h,w), on any device.
            batch: images encoded together; workers: of the loader.
            stop: asked after each batch whether to leave it there.
        Returns:
            False if it was stopped before the end.
        Raises:
            InputError: a row that cannot be read; too little space on the disk; a folder that cannot be written.
        """
        missing = processes.first(self._missing)
        batches = [missing[i : i + batch] for i in range(0, len(missing), batch)]
        own = batches[processes.index :: processes.number]
        # An image's rounding depends on how many are encoded together: a last batch is filled up with its own images.
        positions = [[position for _, position in (rows * batch)[:batch]] for rows in own]
        items = iter(loader(self.images, positions, workers))

        def work(rows: list[tuple[int, int]]) -> None:
            item = next(items)
            if isinstance(item, str):
                raise InputError(f"{item}. {GO_ON}")
            with torch.inference_mode():
                maps, target = encode(item)
            self._write([row for row, _ in rows], maps, target, len(missing) if rows is batches[0] else 0)

        turns = math.ceil(len(batches) / processes.number)
        for turn, rows in enumerate(own + [[]] * (turns - len(own)), 1):
            processes.together(lambda rows=rows: work(rows) if rows else None)
            if processes.sum([stop() > 0]).item() and turn < turns:
                return False
        return True

    def _missing(self) -> list[tuple[int, int]]:
        """Rows without a file, each with a position at which it occurs; caches of anything else are removed, but not
        what systems put beside folders, such as .DS_Store."""
        for other in self.parent.iterdir() if self.parent.is_dir() else ():
            if other != self.folder and _CACHE.fullmatch(other.name) and other.is_dir() and not other.is_symlink():
                shutil.rmtree(other)
        names = {file.stem for file in self.folder.glob("*.safetensors")}
        rows = {self.images.row(position): position for position in range(self.epoch)}
        return [(row, rows[row]) for row in sorted(rows) if str(row) not in names]

    def _write(self, rows: list[int], maps: list[Tensor], target: Tensor, to_come: int) -> None:
        """One file a row. to_come: how many rows the disk must have space for; 0: that was looked at before."""
        parts = [*(x.permute(0, 2, 3, 1).contiguous().cpu() for x in maps), target.cpu()]
        needed = to_come * sum(part[0].nbytes for part in parts)
        free = shutil.disk_usage(self.parent.parent).free
        if needed > free:
            raise InputError(
                f"{self.parent}: the maps of {to_come} images need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
                "free; free some space, choose another output folder, or set cache_features to false"
            )
        for row, *of_row in zip(rows, *parts, strict=False):  # what filled up the batch is left out
            tensors = dict(zip((*MAPS, "mask"), of_row, strict=True))
            write_atomic(self.file(row), safetensors.torch.save(tensors, {"crc32": _crc32(tensors)}))


def _crc32(tensors: dict[str, Tensor]) -> str:
    """Of all values, in the order of their names' list: safetensors keeps no checksum, and what is read is learnt."""
    total = 0
    for name in (*MAPS, "mask"):
        total = zlib.crc32(tensors[name].contiguous().view(-1).view(torch.uint8).numpy(), total)
    return str(total)


def fingerprint(encoder: nn.Module, images: ManifestImages, precision: str) -> str:
    """What maps depend on, as one hash (hexadecimal sha256): the encoder's weights, size and precision, the rows and
    the state of their files, which may be replaced under their names."""
    whole = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    rows = [[_state(file) for file in (sample.image, sample.mask)] for sample in images.samples]
    whole.update(json.dumps([images.size, precision, rows]).encode())
    return whole.hexdigest()


def _state(file: Path | None) -> list[str | int]:
    """Name, length and time of the last change, in nanoseconds; the name alone of a file that is not there."""
    try:
        there = os.stat(file) if file else None
    except OSError:
        there = None
    return [str(file), *((there.st_size, there.st_mtime_ns) if there else ())]
