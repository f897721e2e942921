"""The two worlds of forgeries, simulated cameras and real photographs, as one stream."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mpc_lite.forgeries.photographs import Photographs
from mpc_lite.forgeries.real import GRID, forge_real
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import Forgery, forge, write_forgeries

_WORLD = 17  # beside (split, seed, index): which world a forgery belongs to


class Stream:
    """Forgeries 0, 1, 2, … of a split: `stream(index, size)`, a pure function of (split, seed, index, size).

    With `data.real` the forgery comes from real photographs in so many of 100 cases as `data.real.share` says, else
    from simulated cameras; without it always from those, with the bytes of `synth.forge`.

    Args:
        split: train, validation or test. seed: of the stream. data: the recipe's section (`recipes.keys.DataSection`).
        size: the largest height and width that will be asked for, pixels; smaller photographs are left out.
    Raises:
        InputError: as `Scenes` and `Photographs` do.
    """

    def __init__(self, split: str, seed: int, data: Any, size: int):
        self.split, self.seed, self.authentic_share = split, seed, data.authentic_share
        self.share = data.real.share if data.real else 0.0
        self.scenes = Scenes(split, data.scenes, data.photos) if self.share < 1 else None
        self.photographs = None
        if data.real:
            self.photographs = Photographs(split, data.real.lists, data.real.sources, data.real.weights, size + GRID)

    def is_real(self, index: int) -> bool:
        if not 0 < self.share < 1:
            return self.share == 1
        return np.random.default_rng([zlib.crc32(self.split.encode()), self.seed, index, _WORLD]).random() < self.share

    def __call__(self, index: int, size: int, kind: str | None = None, null: bool = False) -> Forgery:
        if self.is_real(index):
            return forge_real(
                self.split, self.seed, index, self.photographs, size, self.authentic_share, kind=kind, null=null
            )
        return forge(self.split, self.seed, index, self.scenes, size, self.authentic_share, kind=kind, null=null)

    def origin(self, index: int) -> str:
        """What the source column of a set written from this stream begins with; pictures of real photographs are never
        taken for free ones."""
        return "photos" if self.is_real(index) else self.scenes.origin

    def write(self, out: Path, n: int, size: int, kind: str | None = None, null: bool = False) -> Path:
        """Forgeries 0 … n-1 as `synth.write_set` writes them, with its errors; returns the manifest's path."""
        forgeries = ((self(index, size, kind, null), self.origin(index)) for index in range(n))
        return write_forgeries(out, self.split, forgeries, null)
