"""One run, checked: its recipe, its parameters, its folder, and what it scored."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpc_lite.errors import InputError, shown
from mpc_lite.files import open_file, place
from mpc_lite.network.hub import PREFIX, hub_file
from mpc_lite.provenance import read_json, without_paths
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe, recipe_choices, recipe_name
from mpc_lite.training.progress import read_log

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Request:
    """What somebody asks for: a recipe's runs as a command line names them, not checked yet."""

    name: str  # a recipe's, or of a table or figure that it reproduces
    profile: str | None = None  # None: the recipe's own
    given: Mapping[str, str] = field(default_factory=dict)  # texts by recipe key, choice or notebook parameter
    over: Mapping[str, Sequence[str]] = field(default_factory=dict)  # texts of those that differ from run to run
    book: str | Path | None = None  # the book's folder; None: that of the clone
    root: str | Path = "runs"  # the run folders' common folder


@dataclass(frozen=True)
class Run:
    """One run, checked: the notebook makes the same object from its parameters as the runner did before it."""

    name: str
    recipe: Recipe
    device: str = "auto"  # as asked for: auto, cpu or cuda
    parameters: dict[str, Any] = field(default_factory=dict)  # choices, recipe keys, notebook parameters that differ
    out: Path = Path("runs")
    resume: bool = False
    started: float = field(default_factory=time.monotonic, compare=False)
    earlier: float = field(default=0.0, compare=False)  # seconds of training before the run was resumed

    @property
    def command(self) -> str:
        """The command line that repeats the run."""
        values = {**({"SEED": self.recipe.seed} if self.recipe.seed else {}), **self.parameters}
        if self.device != "auto":
            values["DEVICE"] = self.device
        words = ["mpc-lite", "reproduce", self.name, "--profile", self.recipe.profile]
        for key, value in values.items():
            words += ["-p", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        return shlex.join(words)

    @property
    def log(self) -> Path:
        return self.out / "log.jsonl"

    @property
    def torch_device(self) -> str | None:
        """The device for training and scoring; None: the best there is."""
        return None if self.device == "auto" else self.device


def prepare(
    name: str,
    profile: str = "lite",
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    parameters: dict[str, Any] | None = None,
    resume: bool = False,
    root: str | Path = "runs",
    **extra: Any,
) -> Run:
    """Check a run's parameters and resolve its recipe; nothing is written.

    Args:
        name: a recipe's, or of a table or figure that it reproduces.
        parameters: choices of the recipe and dotted recipe keys to values.
        out: the run folder; by default `root`/NAME/PROFILE/SEED[-hash of the other parameters].
        extra: parameters of the notebook beside the common ones; they count for the run folder's hash.
    Raises:
        InputError: an unknown name, a wrong type or a value out of range; the message names the nearest known key.
    """
    for key, value, kind in [("PROFILE", profile, str), ("DEVICE", device, str), ("SEED", seed, int)]:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{key}: found {value!r}, expected {kind.__name__}")
    if device not in DEVICES:
        raise InputError(f"DEVICE: found '{device}', expected one of {', '.join(DEVICES)}")
    name, choices = recipe_name(name), recipe_choices(name)
    chosen = {key: value for key, value in (parameters or {}).items() if key in choices}
    recipe = load_recipe(name, profile, {**(parameters or {}), "seed": seed})
    # A choice stands for all that it sets: what else differs is measured against the recipe with the same choices.
    base = _flat(load_recipe(name, profile, {**chosen, "seed": seed}))
    changed = {key: recipe.choice[key] for key in choices if recipe.choice[key] != choices[key][0]}
    changed.update({key: value for key, value in _flat(recipe).items() if key not in base or base[key] != value})
    changed.update(extra)
    if out is None:
        others = {**changed, **({"DEVICE": device} if device != "auto" else {})}
        digest = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:8]
        out = Path(root) / name / recipe.profile / (f"{seed}-{digest}" if others else str(seed))
    earlier = _trained_seconds(Path(out) / "log.jsonl") if resume else 0.0
    return Run(name, recipe, device, changed, Path(out), resume, earlier=earlier)


def _trained_seconds(log: Path) -> float:
    """Seconds of training in a log: they count up in every session of a stage and start at zero with the next."""
    total = last = 0.0
    for entry in read_log(log):
        if "seconds" in entry:
            total += last if entry["seconds"] < last else 0.0
            last = entry["seconds"]
    return total + last


def _flat(recipe: Recipe) -> dict[str, Any]:
    """{"pretrain.steps": 300, …}: the values of a recipe by dotted key."""

    def walk(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in section.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(walk(recipe.as_dict(), ""))


# ------------------------------------------------------------------------------------------------------ what it scored


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


_Score = Annotated[float, Field(ge=-1e9, le=1e9)] | None  # so that no difference of two is infinite


class _Scores(_Strict):
    f1: _Score
    iou: _Score


class _OfSet(_Scores):
    n: int = Field(ge=0)


class _Cell(_Strict):
    degradation: str
    value: Any
    sets: dict[str, _OfSet]


class _Recipe(_Strict):
    tables: list[str]
    choice: dict[str, str]


class _Results(_Strict):
    """What collecting reads of results.json; see `results.save_results`."""

    name: str
    profile: str
    recipe: _Recipe
    seed: int
    parameters: dict[str, Any]
    inputs: str | None = None  # older ones do not have it
    hub: dict[str, str] = {}
    protocol: str
    device: str
    sets: dict[str, _OfSet]
    average: _Scores
    robustness: dict[str, list[_Cell]] = {}
    own_metrics: dict[str, _Score] = {}
    null_splices: dict[str, _Score] = {}

    @model_validator(mode="after")
    def _neighbour_scores_together(self):
        if len(self.model_fields_set & {"own_metrics", "null_splices"}) == 1:
            raise ValueError("own_metrics and null_splices belong together, found one of them")
        return self


def inputs_digest(run: Run) -> str | None:
    """A digest that tells apart what has one name: of each file that the parameters name its bytes, so that moved files
    stay the same, or where there is none its path, if it names a folder of this machine. None: no such names."""

    def digests(value: Any) -> Iterator[str]:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from digests(inner)
        elif isinstance(value, str):
            path = place(os.path.expandvars(value))
            try:
                with open_file(path) as file:
                    yield hashlib.sha256(file.read()).hexdigest()
            except (OSError, ValueError):  # a folder, a file that went, a text with a path in it
                if "$" in value or without_paths(value) != value:
                    yield hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()

    named = {key: value for key, value in run.parameters.items() if key not in run.recipe.choice}
    found = {key: list(digests(value)) for key, value in named.items()}
    found = {key: values for key, values in found.items() if values}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16] if found else None


def hub_digests(run: Run) -> dict[str, str]:
    """{name: sha256 of the file} of the names of a hub among the parameters, whose owner may push others under them;
    without those that say their sha256 themselves, and those that cannot be asked for now."""
    found: dict[str, str] = {}

    def look(value: Any) -> None:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                look(inner)
        elif isinstance(value, str) and value.startswith(PREFIX) and "#sha256=" not in value:
            with contextlib.suppress(InputError, OSError):
                found[value] = hashlib.sha256(hub_file(value).read_bytes()).hexdigest()

    look(run.parameters)
    return found


def read_results(out: Path) -> dict[str, Any]:
    """What OUT/results.json holds. FileNotFoundError: the run has not ended. InputError: the file is damaged."""
    file = out / "results.json"
    try:
        with open_file(file) as opened:
            results = read_json(opened.read().decode("utf-8"), parse_constant=_finite, parse_float=_finite)
        _Results.model_validate(results)
        writable(results)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None
    return results


def _finite(text: str) -> float:
    """ValueError for NaN and infinity, in words or as 1e999: no JSON knows them, and who reads on would write them."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number")
    return value


def writable(value: Any) -> Any:
    """The value. ValueError for what JSON can say and a file that collects it cannot: half characters, numbers that
    are none."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def damaged(file: Path, error: Exception) -> InputError:
    """The sentence on a file of a run folder that cannot be read as what it should be; its reader names the folder."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        expected = first["msg"].lower().partition(" or instance of ")[0]
        reason = f"{where}: {expected}" if where else expected
    else:
        reason = getattr(error, "strerror", None) or error
    return InputError(
        f"{file.name} is damaged ({shown(reason, 200)}); delete it, and run the run's command with --resume"
    )
