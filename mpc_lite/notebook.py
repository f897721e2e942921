"""What every chapter begins with: parameters checked by the package, and numbers that the prose can quote."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpc_lite.errors import InputError, nearest
from mpc_lite.files import write_atomic
from mpc_lite.provenance import record

PROFILES = ("smoke", "lite", "paper")
DEVICES = ("auto", "cpu", "cuda", "mps")
_RECORD = "application/papermill.record/"


@dataclass(frozen=True)
class Chapter:
    """The checked parameters of a chapter, and the numbers it has told so far."""

    profile: str
    seed: int
    device: torch.device
    out: Path | None
    told: dict[str, Any] = field(default_factory=dict, compare=False)

    def scale(self, smoke: Any, lite: Any, paper: Any = None) -> Any:
        """The value for this profile; without one for `paper` that of `lite`."""
        return {"smoke": smoke, "lite": lite, "paper": lite if paper is None else paper}[self.profile]

    def tell(self, name: str, value: float | int | str) -> None:
        """Keep a number for the prose, which quotes it as ``{glue:text}`NAME:.2f```.

        The number travels in the notebook as a record that shows nothing; with OUT set, it is also written to
        OUT/numbers.json together with how it came about.
        """
        if not isinstance(value, str):
            value = value.item() if hasattr(value, "item") and getattr(value, "shape", ()) == () else value
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise InputError(f"tell('{name}'): found {type(value).__name__}, expected a number or a text")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"tell('{name}'): found {value}, expected a finite number or a text")
        self.told[name] = value
        _record(name, value)
        if self.out is not None:
            facts = record(profile=self.profile, seed=self.seed, device=str(self.device))
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomic(
                self.out / "numbers.json", (json.dumps({**facts, "numbers": self.told}, indent=1) + "\n").encode()
            )


def _record(name: str, value: Any) -> None:
    """The form in which MyST-NB's `glue` looks for a value; written here so that Colab needs no MyST-NB."""
    from IPython.display import display

    data = {f"{_RECORD}text/plain": repr(value)}
    display(data, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": _RECORD}})


def begin(profile: str, seed: int, device: str = "auto", out: str = "") -> Chapter:
    """Check a chapter's parameters and seed every generator.

    Args:
        profile: smoke (continuous integration), lite (a laptop; what the pages show) or paper (GPU).
        seed: of Python's, numpy's and torch's generators. device: auto takes CUDA, then MPS, then the CPU.
        out: folder for the numbers that the chapter tells; empty writes nothing.
    Raises:
        InputError: a value of another type or name; papermill itself lets those through.
    """
    for key, value, kind in [
        ("PROFILE", profile, str),
        ("SEED", seed, int),
        ("DEVICE", device, str),
        ("OUT", out, str),
    ]:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{key}: found {value!r}, expected {kind.__name__}")
    for key, value, known in [("PROFILE", profile, PROFILES), ("DEVICE", device, DEVICES)]:
        if value not in known:
            raise InputError(f"{key}: found '{value}', expected one of {', '.join(known)}{nearest(value, known)}")
    if not 0 <= seed < 2**32:
        raise InputError(f"SEED: found {seed}, expected 0 to 4294967295, which numpy takes")
    availability = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device != "auto" and not availability[device]:
        raise InputError(
            f"DEVICE: '{device}' is asked for, but this torch finds none; DEVICE='auto' takes what is there"
        )
    chosen = next(name for name in availability if availability[name]) if device == "auto" else device
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return Chapter(profile, seed, torch.device(chosen), Path(out) if out else None)
