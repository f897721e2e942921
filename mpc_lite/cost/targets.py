"""What was to be fast, how fast it was to be, and what the benchmarks found: the goals of chapter 16.

The scripts in `tests/benchmarks` write their results to `book/results`; `read_goals` makes one list of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mpc_lite.errors import InputError

BENCHMARKS = {
    "speed-loss": "loss.py",
    "speed-backbone": "backbone.py",
    "speed-stage2": "stage2.py",
    "speed-localizer": "localizer.py",
    "speed-data": "data_pipeline.py",
}  # result in book/results -> the script in tests/benchmarks that writes it


class Goal(NamedTuple):
    """A number that was to be reached. low, high: its range over single rounds, where it is a ratio of seconds."""

    key: str
    part: str
    value: float
    aim: float
    least: bool  # whether at least `aim` was wanted, or at most
    low: float
    high: float

    @property
    def margin(self) -> float:
        """How many times better than wanted; below 1 the goal is missed."""
        return self.value / self.aim if self.least else self.aim / self.value

    @property
    def reached(self) -> bool:
        return self.margin >= 1


def read_goals(results: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """All goals of the benchmarks, from their results: name in `BENCHMARKS` -> what `book_result` gives.

    Raises InputError for a result that is missing, or was written by another version of its script.
    """
    goals = []
    for name, read in _READERS.items():
        if name not in results:
            raise InputError(f"the result '{name}' is missing; python tests/benchmarks/{BENCHMARKS[name]} writes it")
        try:
            goals += read(results[name])
        except (KeyError, TypeError, StopIteration, ValueError) as error:
            raise InputError(
                f"the result '{name}' cannot be read ({type(error).__name__}: {error}): expected what "
                f"tests/benchmarks/{BENCHMARKS[name]} writes on Linux; run the script again"
            ) from error
    return goals


def _number(key: str, part: str, value: float, aim: float, least: bool = True) -> Goal:
    return Goal(key, part, value, aim, least, value, value)


def _faster(key: str, part: str, ratio: Mapping[str, float], aim: float, least: bool = True) -> Goal:
    return Goal(key, part, ratio["median"], aim, least, ratio["low"], ratio["high"])


def _loss(result: Mapping[str, Any]) -> list[Goal]:
    term, whole = result["one_term"]["ways"], result["whole_loss"]["ways"]
    dense, fused = term["dense"], term["fused"]
    kept_ratio = dense["kept"]["beyond_inputs"] / fused["kept"]["beyond_inputs"]
    growth = result["growth"]["fused"]
    return [
        _faster("term_time", "one term: time", fused["times_faster_than_dense"], 3.5),
        _number("term_peak", "one term: peak memory", dense["peak"] / fused["peak"], 4),
        _number("term_kept", "one term: kept for backward", kept_ratio, 15),
        _faster("term_products", "one term: time, 3 products", fused["times_three_products"], 1.6, least=False),
        _number("growth_time", "growth: exponent of time", growth["time_exponent"], 2.05, least=False),
        _number("growth_memory", "growth: exponent of memory", growth["memory_exponent"], 1.05, least=False),
        _faster("whole_time", "whole loss: time", whole["ours"]["times_faster_than_dense"], 3.5),
        _number("whole_peak", "whole loss: peak memory", whole["dense"]["peak"] / whole["ours"]["peak"], 8),
        _number(
            "whole_all",
            "whole loss, all pixels: peak",
            whole["dense"]["peak"] / whole["ours, all pixels"]["peak"],
            1,
        ),
    ]


def _backbone(result: Mapping[str, Any]) -> list[Goal]:
    return [
        _faster("forward_time", "forward pass: time", result["forward"]["ours, folded"]["times_faster"], 1.5),
        _faster("step_time", "step of stage 1: time", result["stage-1 step"]["ours"]["times_faster"], 1.5),
    ]


def _stage2(result: Mapping[str, Any]) -> list[Goal]:
    goals = []
    for size in ("base", "nano"):
        row = next(row for row in result["rows"] if row["size"] == size)
        seconds = {step["way"]: step["all_seconds"] for step in row["steps"]}
        for key, part, way, against, aim in (
            ("frozen", "frozen", "frozen", "released code", 2.5),
            ("cached", "cached, to frozen", "cached, disk", "frozen", 10),
            ("cached_released", "cached, to released", "cached, disk", "released code", 10),
        ):
            slow, fast = np.array(seconds[against]), np.array(seconds[way])
            value = float(np.median(slow) / np.median(fast))
            each = slow / fast
            goals.append(
                Goal(f"{key}_{size}", f"stage 2, {size}: {part}", value, aim, True, *map(float, (min(each), max(each))))
            )
    return goals


def _localizer(result: Mapping[str, Any]) -> list[Goal]:
    sizes = [result["sizes"][name] for name in ("6", "12", "24")]
    time, memory = ([size[key] for size in sizes] for key in ("seconds_per_megapixel", "beyond_map"))
    return [
        _number("tiles_time", "tiles, 6 to 24 MP: time", max(time) / min(time), 1.2, least=False),
        _number("tiles_memory", "tiles, 6 to 24 MP: memory", max(memory) / min(memory), 1.2, least=False),
    ]


def _data(result: Mapping[str, Any]) -> list[Goal]:
    worst = max(row["ratio"] for row in result["rows"])
    return [_number("data_time", "data, slowest case: time", worst, 1, least=False)]


_READERS = {
    "speed-loss": _loss,
    "speed-backbone": _backbone,
    "speed-stage2": _stage2,
    "speed-localizer": _localizer,
    "speed-data": _data,
}


def words(goal: Goal) -> str:
    """The number and what was wanted: `3.02 (≥ 3.5)`."""
    return f"{_short(goal.value)} ({'≥' if goal.least else '≤'} {goal.aim:g})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
