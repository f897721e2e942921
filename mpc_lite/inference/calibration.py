"""What an image score means: how many photographs that nobody changed score as high.

The score of a photograph is the maximum over thousands of places, so even a good network gives untouched photographs
high ones, and 0.5 is no threshold for it. Scores of authentic photographs that the network was not trained on say what
is high. With n of them, s_1 … s_n, the share

    p(s) = (1 + #{i : s_i ≥ s}) / (n + 1)

is a conformal p-value (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005): if the photograph
is authentic and exchangeable with those n, p falls to α or below in at most a share α of cases, whatever the network
does. Not exchangeable are photographs of another size, from another camera or with another life of resizing and
re-saving than the n had; then it is a rank among them and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpc_lite.errors import InputError, some
from mpc_lite.files import open_file
from mpc_lite.network.checks import LONGEST_TEXT, MOST_SCORES
from mpc_lite.network.model import load_weights
from mpc_lite.network.weights import read_facts, save_weights

SUSPICIOUS, UNSURE = 0.05, 0.07  # authentic photographs are called so at most this often, if they are exchangeable
Photo = str | Path | np.ndarray
WRITTEN = ("version", "size", "head", "recipe", "fingerprint")  # facts that save_weights writes by itself


@dataclass(frozen=True)
class Calibration:
    """Scores of authentic photographs under one network fed in one way.

    scores: ascending, in [0,1]. photographs: what they are, in words. mode, size, overlap: of the `Localizer` that made
    them; a network fed otherwise scores otherwise.
    """

    scores: tuple[float, ...]
    photographs: str
    mode: str
    size: int
    overlap: int

    @classmethod
    def of(cls, facts: Mapping[str, Any], mode: str, size: int, overlap: int) -> Calibration | None:
        """The calibration among the facts of a weight file, if it carries one for a network fed in this way."""
        stored = facts.get("calibration")
        if stored is None or (stored["mode"], stored["size"], stored["overlap"]) != (mode, size, overlap):
            return None
        return cls(**{**stored, "scores": tuple(stored["scores"])})

    def facts(self) -> dict[str, Any]:
        """What a weight file keeps of it, as JSON values."""
        return {**asdict(self), "scores": list(self.scores)}

    def authentic_above(self, score: float) -> float:
        """The share p(s) of authentic photographs that score as high, in (0,1]: the photograph itself counts as one."""
        return (1 + sum(each >= score for each in self.scores)) / (len(self.scores) + 1)

    def threshold(self, alpha: float) -> float:
        """Scores above it have p ≤ alpha, 0 < alpha < 1: at most this share of exchangeable authentic photographs.

        1.0, which no score exceeds, when there are fewer than 1/alpha - 1 photographs.
        """
        # p ≤ alpha needs at most so many authentic scores as high; the next lower one must stay below. 1e-9: 0.05 × 20.
        above = int(alpha * (len(self.scores) + 1) + 1e-9) - 1
        return self.scores[-above - 1] if 0 <= above < len(self.scores) else 1.0

    def verdict(self, score: float) -> str:
        """The score in words: look here, unsure, or cannot tell."""
        share = self.authentic_above(score)
        if share > UNSURE:
            return f"cannot tell: {_of_hundred(share)} as high"
        return f"{'unsure' if share > SUSPICIOUS else 'look here'}: {_of_hundred(share)} as high"


def each_once(photos: Iterable[Photo], again: list[Photo]) -> Iterator[Photo]:
    """Photographs but those whose bytes an earlier one has, which are added to `again`: one that is given ten times, or
    lies there in ten copies, says no more than once."""
    seen = set()
    for photo in photos:
        digest = hashlib.sha256()
        try:
            if isinstance(photo, np.ndarray):
                digest.update(f"{photo.shape}".encode() + np.ascontiguousarray(photo).tobytes())
            elif isinstance(photo, str | Path):
                with open_file(photo) as file:
                    for block in iter(lambda: file.read(1 << 20), b""):
                        digest.update(block)
            else:
                raise ValueError("of another type")
        except (OSError, ValueError):  # who scores it says why; ValueError: what no system takes as a path
            yield photo
            continue
        if digest.digest() in seen:
            again.append(photo)
        else:
            seen.add(digest.digest())
            yield photo


def told(again: list[Photo]) -> str:
    """The sentence on photographs that count once, though they were given more often."""
    names = some("an array" if isinstance(photo, np.ndarray) else Path(photo).name for photo in again)
    return f"{len(again)} photographs have the bytes of others and do not count again: {names}"


def authentic_scores(
    score: Callable[[Photo], float], photos: Iterable[Photo], say: Callable[[str], None]
) -> tuple[float, ...]:
    """The scores of photographs, ascending. `say` is told which were left out: copies, and what cannot be scored.

    Raises InputError when none is left.
    """
    again, scores, failed = [], [], []
    for photo in each_once(photos, again):
        try:
            scores.append(float(score(photo)))
        except (InputError, MemoryError, RuntimeError) as error:  # RuntimeError: torch is out of memory
            text, name = str(error) or type(error).__name__, str(photo) if isinstance(photo, str | Path) else ""
            failed.append(text if text.startswith(name) else f"{name}: {text}")
            say(failed[-1])
    if again:
        say(told(again))
    if failed and not scores:
        raise InputError(f"none of {len(failed)} photographs could be scored; the first: {failed[0]}")
    if not scores:
        raise InputError("no photograph to calibrate on; give authentic ones that the network has not seen")
    return tuple(sorted(scores))


def check_extent(n: int, photographs: str | None) -> None:
    """InputError for more scores, or a longer text on the photographs, than weights with a calibration may hold."""
    if n > MOST_SCORES:
        raise InputError(f"{n} photographs to calibrate on; weights hold at most {MOST_SCORES} scores: draw so many")
    if len(photographs or "") > LONGEST_TEXT:
        raise InputError(f"what the photographs are has {len(photographs)} letters; weights hold {LONGEST_TEXT}")


def write_calibrated(weights: str | Path, calibration: Calibration, out: str | Path) -> str:
    """Write `weights` (a shipped name or a file) again with the calibration in it; returns the new file's sha256.

    InputError for what such a file does not hold (`check_extent`)."""
    check_extent(len(calibration.scores), calibration.photographs)
    facts = {key: fact for key, fact in read_facts(weights).items() if key not in WRITTEN}
    model = load_weights(weights)
    return save_weights(out, model, model.recipe, **{**facts, "calibration": calibration.facts()})


def _of_hundred(share: float) -> str:
    """A share of authentic photographs, counted in a hundred, or in a thousand below one."""
    count, of = (round(100 * share), 100) if share >= 0.01 else (round(1000 * share), 1000)
    if count < 1:
        return f"fewer than 1 of {of} authentic photographs score"
    return f"{count} of {of} authentic photographs score{'s' if count == 1 else ''}"
