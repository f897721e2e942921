"""Robustness: the same images and the same network after each cell of a grid of degradations.

`robustness` evaluates cell by cell and keeps what is finished in its JSON file; `format_robustness` prints the table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from mpc_lite.errors import InputError, shown
from mpc_lite.evaluation.baselines import BASELINES, LABELS
from mpc_lite.evaluation.degrade import Cell, Steps, degrade, get_grid
from mpc_lite.evaluation.evaluate import aligned, evaluate, manifest_facts, number, score_with_interval
from mpc_lite.evaluation.protocols import PROTOCOLS, get_protocol
from mpc_lite.evaluation.rows import samples_of
from mpc_lite.files import open_file, write_atomic
from mpc_lite.inference.forward import images_at_once
from mpc_lite.inference.localizer import map_of
from mpc_lite.inference.saved_maps import identity
from mpc_lite.inference.score_map import ScoreMap
from mpc_lite.provenance import read_json

_SCORES = ("n", "f1", "iou", "f1_ci95")


def degraded_map(model: nn.Module | ScoreMap, image: np.ndarray, steps: Steps, seed: int = 0) -> np.ndarray:
    """Score map of a degraded photo at the size of the photo as it was: (H,W,3) uint8 RGB -> (H,W) float32 in [0,1].

    Where the network is fed by stretching, its map goes straight to H×W (MPC, released code, stage-2 test, on degraded
    files beside the masks as they were); any other map has the degraded photo's size and is resized bilinearly.
    """
    return map_of(model, degrade(image, steps, seed), image.shape[:2])


@dataclass(frozen=True)
class Degraded:
    """A network that sees a photo degraded and answers at the size of the photo as it was."""

    model: nn.Module | ScoreMap
    steps: Steps
    seed: int = 0

    @property
    def bears_threads(self) -> bool:
        return images_at_once(self.model) > 1

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return degraded_map(self.model, image, self.steps, self.seed)


def robustness(
    model: nn.Module | ScoreMap,
    manifest: str | Path,
    protocol: str = "mpc",
    grid: str = "paper",
    split: str | None = None,
    seed: int = 0,
    json_file: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Evaluate a network on every cell of a grid of `degrade.GRIDS`; values in 0–1, None where a figure is undefined.

    model: as for `evaluate`. manifest: path of a CSV; its masks stay as they are. seed: of the noise. json_file: is
    written after each cell; cells found there are not run again. say: is told each finished cell, and each note of
    `evaluate`, in one line.

    Returns {schema: 1, protocol, grid, split, seed, model: {model, fingerprint}, manifest: {name, sha256},
    images: sha256 of all image and mask files,
    cells: [{degradation, value, steps, n, f1, iou, f1_ci95, f1_change, sets: {SOURCE: {n, f1, iou, f1_ci95}},
    image_level}], baselines: {NAME: {f1, iou}} on the untouched images, errors: [one line per row left out],
    notes: [those of `evaluate`]}. n, f1, iou and f1_ci95 are the averages of `evaluate`; f1_change is F1 minus that of
    the untouched images.

    Raises InputError for an unknown protocol, grid or split, for a json_file that holds anything but cells of this very
    run (same network, manifest, images, protocol, grid, split and seed; a callable without a `fingerprint` is never the
    same), and as `evaluate` does.
    """
    cells = get_grid(grid)
    facts = {
        "schema": 1,
        "protocol": get_protocol(protocol).name,
        "grid": grid,
        "split": split,
        "seed": seed,
        "model": identity(model),
        **_files(manifest, split),
    }
    result = {**facts, "cells": [], "baselines": {}, "errors": [], "notes": []}
    if json_file is not None:
        result |= _finished(Path(json_file), facts) or {}
        _write(json_file, result)  # a folder that cannot be written is found before the work
    for note in result["notes"]:
        say(f"note: {note}")
    for count, cell in enumerate(cells, start=1):
        if count > len(result["cells"]):
            score = Degraded(model, cell.steps, seed)
            beside = {} if result["baselines"] else BASELINES  # they see untouched images: once is enough
            table = evaluate(score, manifest, protocol, split, baselines=beside)
            for note in table["notes"] if count == 1 else ():
                say(f"note: {note}")
                result["notes"].append(note)
            result = _with_cell(result, cell, table)
            if json_file is not None:
                _write(json_file, result)
            done = result["cells"][-1]
            say(f"{count} of {len(cells)}: {label(done)}, F1 {score_with_interval(done)}")
    return result


def _with_cell(result: dict, cell: Cell, table: dict) -> dict:
    """The result with one more cell: `table` is what `evaluate` says of it."""
    scores = {key: table["average"].get(key) for key in _SCORES}
    before = result["cells"][0]["f1"] if result["cells"] else scores["f1"]
    done = {
        "degradation": cell.degradation,
        "value": cell.value,
        "steps": [list(step) for step in cell.steps],
        **scores,
        "f1_change": None if None in (scores["f1"], before) else scores["f1"] - before,
        "sets": {source: {key: s[key] for key in _SCORES} for source, s in table["sets"].items()},
        "image_level": table["image_level"],
    }
    return {
        **result,
        "cells": [*result["cells"], done],
        "baselines": result["baselines"] or table["average"]["baselines"],
        "errors": list(dict.fromkeys([*result["errors"], *table["errors"]])),  # a cell may leave out a row of its own
    }


def _files(manifest: str | Path, split: str | None) -> dict:
    """{manifest: {name, sha256}, images}: what the figures were made from, so that no cell is taken for another's."""
    digest = hashlib.sha256()
    for sample, problem in samples_of(manifest, split):
        for file in () if problem else (sample.image, sample.mask):  # `evaluate` lists bad rows, and reads none either
            content = hashlib.sha256()
            with suppress(OSError), nullcontext() if file is None else open_file(file) as opened:
                for block in iter(lambda: opened.read(1 << 20), b"") if opened else ():
                    content.update(block)
            digest.update(content.digest())
    return {"manifest": manifest_facts(manifest), "images": digest.hexdigest()}


def _finished(json_file: Path, facts: dict) -> dict | None:
    """What an earlier run left in the file; None without a file. Anything but this very run is left alone."""
    advice = "choose another file, or delete this one"
    try:
        with open_file(json_file) as file:
            earlier = read_json(file.read().decode("utf-8"))
        other = [key for key, value in facts.items() if earlier[key] != value]
        cells = [(cell["degradation"], cell["value"]) for cell in earlier["cells"]]
        _ = earlier["baselines"], earlier["errors"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{json_file}: cannot be read ({error.strerror}); {advice}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{json_file}: holds something else than a table of robustness; {advice}") from None
    if cells != [(cell.degradation, cell.value) for cell in get_grid(facts["grid"])][: len(cells)]:
        other.append("the cells of its grid")
    if other:
        raise InputError(f"{json_file}: holds a run that differs in {', '.join(other)}; {advice}")
    try:
        _Table.model_validate(earlier)
    except ValidationError as error:
        first = error.errors()[0]
        where, found = ".".join(map(str, first["loc"])), shown(first["msg"].lower(), 200)
        raise InputError(
            f"{json_file}: is damaged ({where}: {found}); delete it, and the same command begins anew"
        ) from None
    return earlier


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Interval = Annotated[list[_Number], Field(min_length=2, max_length=2)] | None


class _Figures(_Strict):
    """F1 and IoU, which a set without a tampered image alone does not have."""

    f1: _Number | None
    iou: _Number | None


class _Scores(_Figures):
    n: Annotated[int, Field(ge=0)]
    f1_ci95: _Interval

    @model_validator(mode="after")
    def _counted(self) -> _Scores:
        if None in (self.f1, self.iou) and self.n:
            raise ValueError(f"no f1 or iou, and n is {self.n}")
        return self


class _Level(_Strict):
    auc: _Number | None
    false_alarm_rate: _Number | None
    threshold: _Number
    n_authentic: int
    n_tampered: int


class _Cell(_Scores):
    degradation: str
    value: Any
    steps: list
    f1_change: _Number | None
    sets: dict[str, _Scores]
    image_level: _Level


class _Baseline(_Figures):
    lead_ci95: _Interval = None


class _Table(_Strict):
    """What a table holds beside the facts on its run; those are compared one by one."""

    cells: list[_Cell]
    baselines: dict[Literal[tuple(LABELS)], _Baseline]
    errors: list[str]
    notes: list[str] = []  # older files have none


def _write(json_file: str | Path, result: dict) -> None:
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_atomic(json_file, text.encode(errors="backslashreplace"))


# ------------------------------------------------------------------------------------------------------------- tables


def label(cell: dict) -> str:
    """Name and value of a cell: `jpeg_quality 80`, or `none`."""
    return cell["degradation"] if cell["value"] is None else f"{cell['degradation']} {cell['value']}"


def robustness_rows(result: dict) -> list[list[str]]:
    """A result of `robustness` as rows of text, header first: one row per cell, averaged over the sets by images."""
    rows = [["degradation", "value", "protocol", "seed", "images", "F1 [95 %]", "F1 change", "IoU"]]
    for cell in result["cells"]:
        change = "–" if cell["f1_change"] is None else f"{cell['f1_change']:+.3f}"
        value = "–" if cell["value"] is None else str(cell["value"])
        row = [cell["degradation"], value, result["protocol"], str(result["seed"]), str(cell["n"])]
        rows.append([*row, score_with_interval(cell), change, number(cell["iou"])])
    return rows


def format_robustness(result: dict) -> str:
    """A result of `robustness` as plain text: table, baselines of the untouched images, protocol, rows left out."""
    beside = (f"{LABELS[name]} {number(b['f1'])}" for name, b in result["baselines"].items())
    lines = [
        *aligned(robustness_rows(result)),
        f"F1 of the baselines on the untouched images: {', '.join(beside)}",
        f"protocol {result['protocol']}: {PROTOCOLS[result['protocol']].description}",
    ]
    if result["errors"]:
        lines += [f"{len(result['errors'])} rows left out:", *(f"  {line}" for line in result["errors"])]
    return "\n".join(lines)
