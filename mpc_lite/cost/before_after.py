"""Whole pieces of work before and after: two checkouts in turn on one machine, from `tests/benchmarks/versus.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

VERSUS = ("speed-versus", "speed-training")  # results in book/results; a piece of work may stand in either
# Piece of work, what it is, and how many times faster it was to be.
WORKS = {
    "stage-1": ("training `lite`, stage 1, whole loop with data", 2.0),
    "stage-2": ("training `lite`, stage 2, whole loop with data", 2.0),
    "quickstart": ("`mpc-lite reproduce quickstart`, from start to end", 1 / 0.63),
    "localizer": ("photograph of 6 megapixels in tiles", 1 / 0.6),
    "robustness": ("`robustness`, the paper's grid", 2.0),
    "evaluate": ("`evaluate` on small images", 1 / 0.6),
    "forgery": ("one forgery of 128²", 15 / 8),
}


class Change(NamedTuple):
    """One piece of work. before, after: seconds of one image, megapixel, …, None where nobody measured. low, high: the
    range of single rounds."""

    work: str
    aim: float
    before: float | None = None
    after: float | None = None
    faster: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        if self.faster is None:
            return "not measured"
        return "reached" if self.faster >= self.aim else "missed"

    def row(self) -> list[str]:
        """Work, before, after, times faster with its range, wanted, verdict."""
        if self.faster is None:
            return [self.work, "–", "–", "–", f"≥ {self.aim:.2f}", self.verdict]
        faster = f"{self.faster:.2f} ({self.low:.2f} to {self.high:.2f})"
        return [self.work, f"{self.before:.3g} s", f"{self.after:.3g} s", faster, f"≥ {self.aim:.2f}", self.verdict]


def read_changes(results: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """A change for each of `WORKS`, from results of `versus.py` by their names; the first that has it counts."""
    changes = []
    for name, (work, aim) in WORKS.items():
        found = [result["work"][name]["measures"] for result in results.values() if name in result.get("work", {})]
        if not found:
            changes.append(Change(work, aim))
            continue
        measure = next(iter(found[0].values()))
        faster = measure["times_faster"]
        ends = (faster["median"], faster["low"], faster["high"])
        changes.append(Change(work, aim, measure["other"], measure["this"], *ends))
    return changes
