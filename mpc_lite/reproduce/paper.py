"""The paper's printed numbers (arXiv v1, `paper.yaml`), and what our runs say beside them.

A number of ours stands against a printed one only where it was made at full scale: profile ``paper``, scored as the
paper scores. One seed is an anecdote: the band is unknown until three seeds ran, and then it is the larger of one point
and two standard deviations. What nobody ran is *not run*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from statistics import mean, stdev
from typing import Any, Literal

import yaml

from mpc_lite.errors import InputError, nearest

AVERAGE = "Average"
SCORES = ("F1", "IoU")
MIN_SEEDS = 3
SCORED_ALIKE = ("mpc", "mpc_legacy")  # the text's threshold and the released code's
Verdict = Literal["inside", "outside", "fewer than three seeds", "not run"]


@dataclass(frozen=True)
class PaperNumber:
    """One printed number.

    `training_protocol` is the paper's experiment (1, 2, 3) and `training` what it trains on. `level` is that of the
    `condition` ("N/A": the untouched set), None where it has none. `images` counts the test set, or all of them for
    `Average`; None where a number has no test set. `recomputed` is what Eq. 6, or counting, gives instead, where that
    was done; `digitised` says that the value comes from a picture, to about one point.
    """

    table: str
    training_protocol: int
    training: str
    method: str
    metric: str
    value: float
    unit: str
    test_set: str
    condition: str
    level: float | str | None
    images: int | None
    recomputed: float | None
    digitised: bool

    @property
    def case(self) -> str:
        """What was scored, in words: `Columbia`, `Columbia, Facebook` or `Columbia, jpeg_quality 90`."""
        condition = self.condition if self.level is None else f"{self.condition} {self.level}"
        return f"{self.test_set}, {condition}" if condition else self.test_set


@dataclass(frozen=True)
class Compared:
    """A printed score and ours, in percent: `mean` and `sd` over the `seeds`, on `images` images.

    `sd` is None below two seeds; `band`, the half-width around the printed value in points, is None below three.
    """

    paper: PaperNumber
    seeds: int
    images: int | None
    mean: float | None
    sd: float | None
    band: float | None
    verdict: Verdict


# ------------------------------------------------------------------------------------------------ the paper's numbers


@cache
def _document() -> dict[str, Any]:
    return yaml.safe_load((resources.files("mpc_lite.reproduce") / "paper.yaml").read_text(encoding="utf-8"))


@cache
def _all_numbers() -> tuple[PaperNumber, ...]:
    return tuple(number for block in _document()["blocks"] for number in _numbers(dict(block)))


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _numbers(block: dict[str, Any]) -> Iterable[PaperNumber]:
    where, recomputed = block.pop("where"), block.pop("recomputed", {})
    images = _document()["images"]
    keys = (where.get("test_set", ""), where.get("condition", ""), where.get("level"))
    columns = list(product(*map(_listed, keys)))
    for metric, methods in block.items():
        for method, values in methods.items():
            row = [(c, v) for c, v in zip(columns, _listed(values), strict=True) if v is not None]
            total = sum(images.get(test_set, 0) for (test_set, _, _), _ in row)
            for (test_set, condition, level), value in row:
                yield PaperNumber(
                    table=where["table"],
                    training_protocol=where["training"],
                    training=_document()["training"][where["training"]],
                    method=method,
                    metric=metric,
                    value=float(value),
                    unit=where.get("unit", "%"),
                    test_set=test_set,
                    condition=condition,
                    level=level,
                    images=(total or None) if test_set == AVERAGE else images.get(test_set),
                    recomputed=recomputed.get(metric, {}).get(method) if test_set in (AVERAGE, "") else None,
                    digitised=where.get("digitised", False),
                )


def paper_numbers(table: str | None = None, method: str | None = None, metric: str | None = None) -> list[PaperNumber]:
    """The printed numbers, in the paper's order: of one table (`Table 2`, `Figure 2`), one method, one metric, or all.

    Metrics are F1 and IoU in percent, `parameters` (millions), `training images` (thousands), `change of F1` and
    `change of IoU` (points).

    Raises:
        InputError: the paper has no such table, method or metric.
    """
    numbers = list(_all_numbers())
    for field, wanted in (("table", table), ("method", method), ("metric", metric)):
        if wanted is None:
            continue
        known = list(dict.fromkeys(getattr(number, field) for number in numbers))
        if wanted not in known:
            raise InputError(f"no {field} '{wanted}'{nearest(wanted, known)} here; there are {', '.join(known)}")
        numbers = [number for number in numbers if getattr(number, field) == wanted]
    return numbers


def weighted_average(values: Mapping[str, float], images: Mapping[str, int] | None = None) -> float:
    """The paper's average: each test set weighs as many as it has images, Σ n_s · v_s / Σ n_s (MPC Eq. 6).

    Args:
        values: score by test set.
        images: number of images by test set; None takes the paper's.
    Raises:
        InputError: no values, or a test set whose number of images is not known.
    """
    images = _document()["images"] if images is None else images
    unknown = [name for name in values if name not in images]
    if unknown or not values:
        raise InputError(f"an average needs test sets of known size; found {unknown or 'none'}, known: {list(images)}")
    return sum(images[name] * value for name, value in values.items()) / sum(images[name] for name in values)


# --------------------------------------------------------------------------------------------- ours beside the paper's


def band(sd: float | None, seeds: int) -> float | None:
    """Half-width of what counts as reproduced, in points: max(1, 2 sd), None below three seeds."""
    return None if sd is None or seeds < MIN_SEEDS else max(1.0, 2 * sd)


def compare(
    runs: list[dict[str, Any]], table: str, method: str = "MPC", sources: Mapping[str, str] | None = None
) -> list[Compared]:
    """Every F1 and IoU of a table's row of `method` beside what our runs scored.

    Runs below full scale (a profile other than `paper`) are left out. An average is compared where a run has all of its
    sets, and weighs them by the images that we scored.

    Args:
        runs: what results.json files hold, one per seed of one recipe.
        sources: the name of a test set in the runs by its name here (`PaperNumber.case`), where the two differ.
    Raises:
        InputError: unknown table, method or case; runs of unlike recipes, of one seed, or scored on unlike images; runs
            scored otherwise than the paper scores, or that have none of the table's sets.
    """
    numbers = [number for number in paper_numbers(table, method) if number.metric in SCORES]
    cases = [number.case for number in numbers if number.test_set != AVERAGE]
    names = {case: case for case in cases} | dict(sources or {})
    unknown = [case for case in names if case not in cases]
    if unknown:
        known = ", ".join(dict.fromkeys(cases))
        raise InputError(f"no '{unknown[0]}'{nearest(unknown[0], cases)} in {table}; there are {known}")
    full = _full_scale(runs)
    for run in full:
        if not set(names.values()) & set(run["sets"]):
            raise InputError(
                f"{_name(run)} has none of the sets of {table} ({', '.join(names)}) but {', '.join(run['sets'])}; "
                "say with `sources` which is which"
            )
    return [_compared(number, numbers, names, full) for number in numbers]


def _name(run: dict[str, Any]) -> str:
    return f"the run of {run['name']} with seed {run['seed']}"


def _full_scale(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    full = [run for run in runs if run["profile"] == "paper"]
    for run in full:
        if run["protocol"] not in SCORED_ALIKE:
            raise InputError(
                f"{_name(run)} was scored by protocol '{run['protocol']}', the paper scores by '{SCORED_ALIKE[0]}': "
                "evaluate its weights again"
            )
        unlike = [
            key for key in full[0]["recipe"] if key != "seed" and run["recipe"].get(key) != full[0]["recipe"][key]
        ]
        if unlike:
            raise InputError(f"{_name(run)} and {_name(full[0])} differ in {', '.join(unlike)}; compare them apart")
        sizes, first = ({name: scores["n"] for name, scores in r["sets"].items()} for r in (run, full[0]))
        if sizes != first:
            raise InputError(f"{_name(run)} was scored on the images {sizes}, {_name(full[0])} on {first}")
    seeds = [run["seed"] for run in full]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"each seed counts once; found seeds {seeds}")
    return full


def _compared(number: PaperNumber, row: list[PaperNumber], names: dict[str, str], runs: list[dict]) -> Compared:
    """One number; an average is made of the numbers of the same metric and condition in its row."""
    if number.test_set == AVERAGE:
        members = [n for n in row if (n.metric, n.condition) == (number.metric, number.condition) and n is not number]
    else:
        members = [number]
    key = number.metric.lower()
    scores, images = [], None
    for run in runs:
        sets = {n.case: run["sets"].get(names[n.case]) for n in members}
        if all(scored and scored["n"] and scored[key] is not None for scored in sets.values()):
            counts = {case: scored["n"] for case, scored in sets.items()}
            scores.append(100 * weighted_average({case: scored[key] for case, scored in sets.items()}, counts))
            images = sum(counts.values())
    sd = stdev(scores) if len(scores) > 1 else None
    width = band(sd, len(scores))
    if not scores:
        verdict = "not run"
    elif width is None:
        verdict = "fewer than three seeds"
    else:  # a hair more than the band: 31.6 - 30.6 is not 1 in floating point
        verdict = "inside" if abs(mean(scores) - number.value) <= width + 1e-9 else "outside"
    return Compared(number, len(scores), images, mean(scores) if scores else None, sd, width, verdict)


def exit_code(rows: Iterable[Compared]) -> int:
    """What a command that compares ends with: 1 when a score lies outside its band, else 0, also where nothing ran."""
    return int(any(row.verdict == "outside" for row in rows))
