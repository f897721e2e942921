"""Two ways of training, the same seeds: how far apart are they, and how far apart would they have to be to be seen?

Runs of one seed share their first weights and their images, so what a seed does to both cancels in their difference.
The differences are taken as independent draws from one normal distribution (Student 1908).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from mpc_lite.errors import InputError


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a − b over n pairs, its confidence interval, and the standard deviation of one difference.

    One pair says nothing of the spread: the interval is then the whole line and `deviation` is nan.
    """

    mean: float
    low: float
    high: float
    n: int
    deviation: float


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> PairedDifference:
    """Mean of the differences a[i] − b[i] ± t · s / √n, where a[i] and b[i] are scores of one seed.

    t is the quantile (1 + confidence) / 2 of Student's distribution with n − 1 degrees of freedom, s the standard
    deviation of the differences with n − 1 below. Raises InputError when a and b are empty, of different lengths, or
    hold a value that is not finite, and when confidence is not between 0 and 1.
    """
    _share("confidence", confidence)
    if len(a) != len(b) or not len(a):
        raise InputError(f"{len(a)} and {len(b)} values; expected one of a and one of b for each seed")
    differences = np.asarray(a, float) - np.asarray(b, float)
    if not np.isfinite(differences).all():
        raise InputError("a value that is not finite; leave out seeds of which a run is missing")
    mean, n = float(differences.mean()), len(differences)
    if n == 1:
        return PairedDifference(mean, -np.inf, np.inf, 1, np.nan)
    deviation = float(differences.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * deviation / np.sqrt(n)
    return PairedDifference(mean, mean - half, mean + half, n, deviation)


def detectable_difference(deviation: float, n: int, power: float = 0.8, confidence: float = 0.95) -> float:
    """True difference whose interval leaves out 0 in about `power` of all experiments of n pairs, in scores.

    (t_confidence + t_power) · deviation / √n, the quantiles (1 + confidence) / 2 and power of Student's distribution
    with n − 1 degrees of freedom; `deviation` is that of one difference. With few pairs it is a little short: drawn
    experiments at power 0.8 reach 0.73 with two pairs, 0.77 with three, 0.79 with five. Raises InputError for less than
    two pairs, a negative deviation, and shares outside (0, 1).
    """
    _share("power", power)
    _share("confidence", confidence)
    if n < 2 or not deviation >= 0:
        raise InputError(f"{n} pairs with a deviation of {deviation}; expected two pairs or more, and no less than 0")
    return float(t.ppf((1 + confidence) / 2, n - 1) + t.ppf(power, n - 1)) * deviation / n**0.5


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} = {value}; expected a number between 0 and 1, as 0.95")
