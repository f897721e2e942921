"""Lists of real photographs: which split each belongs to, how often it is drawn, and their pixels in a bounded cache.

A list is a CSV file with the columns ``image`` and ``source``; paths are relative to its folder. ``camera`` and
``licence`` are read where they are there.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpc_lite.decoders import open_image
from mpc_lite.errors import InputError, nearest, shown, some
from mpc_lite.files import csv_rows, expand, place
from mpc_lite.forgeries.lives import Tables
from mpc_lite.forgeries.scenes import SHARES, hash_share, name_hash
from mpc_lite.images import read_image

CACHE_BYTES = 512 * 2**20
WINDOW = 640  # a photograph in the cache is a window of at most 640×640: 128 pixels at a fifth of the resolution
TURN = 32768  # after so many forgeries each photograph shows another window


@dataclass(frozen=True)
class Photograph:
    """One file. group: photographs of one camera with one set of tables share it; scene: what may not be split."""

    path: Path
    source: str
    group: str
    width: int
    height: int
    tables: Tables | None


class Photographs:
    """The photographs of one split, drawn by weight.

    A source whose rows all name one camera is one scene (a flight, an object): it belongs to one split as a whole, by a
    hash of its name. Photographs of other sources are shared out one by one, by a hash of the file's name. The shares
    are those of `scenes.SHARES`, so a folder of the same files is shared out alike. A source is drawn as often as the
    square root of its number of photographs says, one scene half as often; `weights` replaces that number by yours.

    Args:
        split: train, validation or test. lists: CSV files; ``$NAME`` is read from the environment.
        sources: only these; None: all. weights: of a source, relative to the others.
        smallest: height and width that a photograph needs, pixels; smaller ones are left out with a warning.
    Raises:
        InputError: a list that cannot be read or lacks a column, files that are missing or no images, unknown sources,
            fewer than two photographs in the split (a splice needs a host and a donor).
    """

    def __init__(
        self,
        split: str,
        lists: Sequence[str],
        sources: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        smallest: int = 136,
    ):
        if split not in SHARES:
            raise InputError(f"split '{split}' is unknown; splits are {', '.join(SHARES)}")
        self.split, self.lists = split, list(lists)
        rows = [row for path in lists for row in read_photograph_list(expand(path))]
        names = {row["source"] for row in rows}
        for what, selection in (("sources", sources or []), ("weights", weights or {})):
            if unknown := [s for s in selection if s not in names]:
                raise InputError(
                    f"data.real.{what} names '{unknown[0]}', which no photograph has as its source"
                    f"{nearest(unknown[0], sorted(names))}; sources in {', '.join(lists)}: {', '.join(sorted(names))}"
                )
        rows = [row for row in rows if sources is None or row["source"] in sources]
        _check_files(rows)
        cameras = defaultdict(set)
        for row in rows:
            cameras[row["source"]].add(row.get("camera") or "")
        one_scene = {s for s, c in cameras.items() if len(c) == 1 and c != {""}}
        low, high = SHARES[split]
        chosen = [
            r for r in rows if low <= hash_share(r["source"] if r["source"] in one_scene else r["path"].name) < high
        ]
        items = [_photograph(row) for row in chosen]
        self.items = [item for item in items if min(item.width, item.height) >= smallest]
        if small := len(items) - len(self.items):
            worst = min(items, key=lambda x: min(x.width, x.height))
            text = f"{small} of {len(items)} photographs of the split '{split}' are smaller than {smallest} pixels"
            text += f" (the smallest, {worst.path.name}, is {worst.width}×{worst.height})"
            if len(self.items) < 2:
                raise InputError(f"{', '.join(lists)}: {text}; give larger photographs, or lower data.size")
            warnings.warn(f"{text} and are left out", stacklevel=2)
        if len(self.items) < 2:
            raise InputError(
                f"{', '.join(lists)}: {len(self.items)} of {len(rows)} photographs fall to the split '{split}', and a "
                f"splice needs two; give more ({split} gets {high - low:.0%} of them, by a hash of the name)"
            )
        count = Counter(item.source for item in self.items)
        weight = {s: np.sqrt(n) * (0.5 if s in one_scene else 1) for s, n in count.items()}
        weight.update({s: w for s, w in (weights or {}).items() if s in count})
        each = np.array([weight[item.source] / count[item.source] for item in self.items])
        if not each.sum() > 0:
            raise InputError(f"data.real.weights leave nothing to draw in the split '{split}'; give one above 0")
        self._levels = np.cumsum(each / each.sum())
        self.tables = sorted({item.tables for item in self.items if item.tables})
        self._groups, self._sources = defaultdict(list), defaultdict(list)
        for k, item in enumerate(self.items):
            self._sources[item.source].append(k)
            self._groups[item.group].append(k)

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, rng: np.random.Generator) -> int:
        """The index of a photograph, by weight."""
        return min(int(np.searchsorted(self._levels, rng.random(), side="right")), len(self.items) - 1)

    def other(self, k: int, rng: np.random.Generator, alike: bool = False) -> int:
        """The index of another photograph than `k`: by weight, where sixteen tries find one, or one of `k`'s source."""
        if alike and len(others := self._sources[self.items[k].source]) > 1:
            return others[(others.index(k) + int(rng.integers(1, len(others)))) % len(others)]
        for _ in range(16):
            if (j := self.draw(rng)) != k:
                return j
        return (k + 1) % len(self.items)

    def sibling(self, k: int, rng: np.random.Generator) -> int:
        """Another photograph of the same camera and tables; `k` itself where there is none."""
        others = [j for j in self._groups[self.items[k].group] if j != k]
        return others[int(rng.integers(len(others)))] if others else k

    def window(self, k: int, turn: int, least: int) -> np.ndarray:
        """Pixels of photograph `k`, (H,W,3) uint8, at most `WINDOW` (or twice `least`) a side, from its 8×8 grid on.

        Which window is a function of the file's name and `turn`.
        """
        return _window(self.items[k].path, turn, max(WINDOW, 2 * least))


def read_photograph_list(path: Path) -> list[dict]:
    columns, rows = None, []
    for number, (cells, broken) in enumerate(csv_rows(path, "a list of photographs: image,source"), start=1):
        if broken:
            raise InputError(f"row {number} of {shown(path, 200)}: {broken}; close it")
        if not any(map(str.strip, cells)):  # an empty row of a spreadsheet, before the header as below it
            continue
        if columns is None:
            columns = [cell.strip().lower() for cell in cells]
            if twice := sorted({name for name, n in Counter(columns).items() if name and n > 1}):
                raise InputError(
                    f"{path}: the columns {some(twice, 6)} occur twice, in any case of letters; rename one"
                )
        else:
            if len(cells) < len(columns) or any(cells[len(columns) :]):
                raise InputError(
                    f"row {number} of {shown(path, 200)} has {len(cells)} cells, expected {len(columns)} as in the "
                    "header; write nothing between two commas where nothing is known"
                )
            row = dict(zip(columns, cells, strict=False))
            rows.append({name: cell if name == "image" else cell.strip() for name, cell in row.items()})
            if not row.get("source", "-").strip():
                raise InputError(f"row {number} of {shown(path, 200)} names no source; give one, such as a data set")
    columns = columns or []
    if missing := [c for c in ("image", "source") if c not in columns]:
        header = shown(", ".join(columns), 200) or "no header"
        raise InputError(
            f"{path}: no column {' and no '.join(missing)}; found {header}; a list of "
            "photographs has image and source, and should have camera and licence"
        )
    if not rows:
        raise InputError(f"{path} lists no photograph")
    if "licence" not in columns and "license" not in columns:
        warnings.warn(
            f"{path.name} has no licence column: nothing says whether weights trained on its photographs may be passed "
            "on; add one, or keep the weights to yourself",
            stacklevel=3,
        )
    if any(row.get("split") for row in rows):  # as in a manifest, where it decides
        warnings.warn(
            f"{path.name} has a column split, which is not looked at: photographs are shared out to training, "
            "validation and test by a hash of their names; list those alone that a training may see",
            stacklevel=3,
        )
    # Rows that are forgeries have no place here: their authentic part would teach what nobody knows.
    if forged := [label for row in rows if (label := row.get("label", "0")) not in ("0", "", None)]:
        raise InputError(
            f"{path}: {len(forged)} rows have another label than 0 (authentic), the first '{shown(forged[0])}'; list "
            "authentic photographs only"
        )
    return [{**row, "path": place(row["image"] or "", path.parent)} for row in rows]


def _check_files(rows: list[dict]) -> None:
    missing = [row["path"] for row in rows if not os.path.isfile(row["path"])]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(rows)} photographs are missing, the first is {shown(missing[0], 200)}; "
            "put them there or take their rows out of the list"
        )


def _photograph(row: dict) -> Photograph:
    """From the file's header alone; its pixels are decoded when they are first drawn."""
    path = row["path"]
    with open_image(path) as image:
        width, height = image.size
        tables = tuple(tuple(t) for t in getattr(image, "quantization", {}).values()) or None
        layers = tuple(x[1:3] for x in getattr(image, "layer", []))  # sampling factors of the colour planes
    camera = row.get("camera")
    # Grey files have one table; a save of colour takes up to four, Pillow sends the second to both colour planes.
    usable = tables if tables and len(tables) == 2 else None
    group = f"{row['source']} {camera} {zlib.crc32(repr((tables, layers)).encode())}" if camera else str(path)
    return Photograph(path, row["source"], group, width, height, usable)


windows: OrderedDict[tuple[Path, int, int], np.ndarray] = OrderedDict()
held_bytes = 0


def _window(path: Path, turn: int, side: int) -> np.ndarray:
    """Of one process, all splits together: the windows used last, `CACHE_BYTES` of them."""
    global held_bytes
    key = (path, turn, side)
    if key in windows:
        windows.move_to_end(key)
        return windows[key]
    whole = read_image(path, orient=False)  # turned, a photograph would lose its grid
    rng = np.random.default_rng([name_hash(path.name), turn])
    top, left = (8 * int(rng.integers(max(0, extent - side) // 8 + 1)) for extent in whole.shape[:2])
    window = np.ascontiguousarray(whole[top : top + side, left : left + side])
    window.setflags(write=False)
    windows[key] = window
    held_bytes += window.nbytes
    while held_bytes > CACHE_BYTES and len(windows) > 1:
        held_bytes -= windows.popitem(last=False)[1].nbytes
    return window


def cached_bytes() -> int:
    """Bytes of pixels that this process holds."""
    return held_bytes
