"""The arms of a comparison beside one another: means over seeds, and differences from one arm in pairs of one seed.

What a sweep or a script of `book/results` leaves is a list of runs; each has an arm, a seed and a figure. Arms and
seeds may be missing: what nobody ran is called *not run*, and an arm counts its differences over the seeds in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from mpc_lite.evaluation.paired import paired_difference


@dataclass(frozen=True)
class Difference:
    """How far an arm lies above another: the mean of `pairs` differences, each of one seed, and its 95 % interval,
    mean ± t·sd/√n; None for one pair. It takes the differences for normal, which a few seeds can neither show nor
    refute."""

    pairs: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        if self.interval is None:
            return "one pair"
        low, high = self.interval
        return "above" if low > 0 else "below" if high < 0 else "inside the noise"


@dataclass(frozen=True)
class Arm:
    """scores: {seed: figure}, empty where it is not run. lead: its difference from the arm it is compared with; None
    for that arm itself, and without a seed in common."""

    name: str
    scores: Mapping[int, float]
    lead: Difference | None = None

    @property
    def mean(self) -> float | None:
        return mean(self.scores.values()) if self.scores else None

    @property
    def sd(self) -> float | None:
        """Over the seeds; None for one."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """ours − theirs over the seeds in common, {seed: figure} each; None without one."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    pairs = paired_difference([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    return Difference(pairs.n, pairs.mean, None if pairs.n == 1 else (pairs.low, pairs.high))


def side_by_side(runs: Iterable[tuple[str, int, float | None]], names: Sequence[str], against: str) -> list[Arm]:
    """One `Arm` for each of `names`, in that order, each compared with the arm `against`.

    runs: (arm, seed, figure); a figure of None, undefined, counts as not run, and other arms than `names` are left out.
    """
    scores: dict[str, dict[int, float]] = {name: {} for name in names}
    for arm, seed, value in runs:
        if arm in scores and value is not None:
            scores[arm][seed] = value
    other = scores.get(against, {})
    return [Arm(name, own, None if name == against else difference(own, other)) for name, own in scores.items()]


def arm_rows(arms: Sequence[Arm], against: str, digits: int = 3) -> list[list[str]]:
    """Rows of text, header first: arm, seeds, mean ± sd, difference with its interval, and what that says."""
    rows = [["arm", "seeds", "mean ± sd", f"minus {against}, 95 %", "which is"]]
    for arm in arms:
        if arm.mean is None:
            rows.append([arm.name, "0", "not run", "–", "–"])
            continue
        spread = "" if arm.sd is None else f" ± {arm.sd:.{digits}f}"
        row = [arm.name, str(len(arm.scores)), f"{arm.mean:.{digits}f}{spread}"]
        if lead := arm.lead:
            interval = "" if lead.interval is None else " [{:+.{d}f}, {:+.{d}f}]".format(*lead.interval, d=digits)
            row += [f"{lead.mean:+.{digits}f}{interval}", lead.verdict]
        else:
            row += ["–", "–" if arm.name == against else "no seed in common"]
        rows.append(row)
    return rows
