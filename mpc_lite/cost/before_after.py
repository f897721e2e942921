"""Whole pieces of work before and after: two checkouts in turn on one machine, from `tests/benchmarks/versus.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Wanted(NamedTuple):
    """piece: its name in `versus.py`. aim: how many times faster, or smaller, it was to be. measure: one of the piece;
    None for the first. most: `aim` is what it may be at most, whatever it was before."""

    piece: str
    work: str
    aim: float
    measure: str | None = None
    most: bool = False


TRIPS = "JPEG round trips of 256² a forgery"  # a unit of time that any machine has


WANTED = (
    Wanted("stage-1", "training, stage 1", 2.0),
    Wanted("stage-2", "training, stage 2", 2.0),
    Wanted("stage-1-two", "stage 1 as two processes", 2.0),
    Wanted("stage-2-two", "stage 2 as two processes", 2.0),
    Wanted("predict", "`predict`, a small photograph, with its start", 2.0),
    Wanted("quickstart", "`reproduce quickstart`", 1 / 0.63),
    Wanted("localizer", "6 MP in tiles", 1 / 0.6),
    *(Wanted("onnx", f"{size} MP, now onnxruntime", 3.0, f"seconds a megapixel at {size}") for size in (2, 6, 12)),
    Wanted("onnx", "… of 12 MP, memory", 1.0, "bytes beyond the map at 12"),
    Wanted("robustness", "`robustness`", 2.0),
    Wanted("evaluate", "`evaluate`", 1 / 0.6),
    Wanted("forgery", "one forgery", 8, TRIPS, most=True),
)


class Change(NamedTuple):
    """One piece of work. before, after: seconds of one image, megapixel, …, or bytes; None where nobody measured. low,
    high: the range of single rounds."""

    work: str
    aim: float
    measure: str | None = None
    before: float | None = None
    after: float | None = None
    faster: float | None = None
    low: float | None = None
    high: float | None = None
    most: bool = False

    @property
    def verdict(self) -> str:
        if self.faster is None:
            return "not measured"
        return "reached" if (self.after <= self.aim if self.most else self.faster >= self.aim) else "missed"

    def row(self) -> list[str]:
        """Work, before, after, times faster or smaller with its range, wanted, verdict."""
        wanted = f"≤ {self.aim:g} trips" if self.most else f"≥ {self.aim:.2f}"
        if self.faster is None:
            return [self.work, "–", "–", "–", wanted, self.verdict]
        faster = f"{self.faster:.2f} ({self.low:.2f}–{self.high:.2f})"
        seconds = "trips" if self.measure == TRIPS else "s/MP" if "a megapixel" in self.measure else "s"
        size, unit = (1e6, "MB") if self.measure.startswith("bytes") else (1, seconds)
        before, after = (f"{x / size:.3g} {unit}" for x in (self.before, self.after))
        return [self.work, before, after, faster, wanted, self.verdict]


def read_changes(pieces: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """A change for each of `WANTED`, from pieces of work by their names: `work` of a result of `versus.py`."""
    changes = []
    for piece, work, aim, measure, most in WANTED:
        measures = pieces.get(piece, {}).get("measures", {})
        name = measure or next(iter(measures), None)
        if name not in measures:
            changes.append(Change(work, aim, most=most))
            continue
        found = measures[name]
        ends = (found["times_faster"][key] for key in ("median", "low", "high"))
        changes.append(Change(work, aim, name, found["other"], found["this"], *ends, most))
    return changes
