"""The runner: `mpc-lite reproduce NAME` = the recipe NAME, done by the notebook book/reproduce/NAME.ipynb.

A table or figure of the paper stands for the recipe that gives its numbers: `table2` is `protocol1`. papermill executes
the notebook in a kernel of this Python. Names and types of all parameters are checked before the kernel starts. The
kernel writes OUT/log.jsonl, this process reads it and shows the progress; to stop, this process creates OUT/stop, and
the training loop ends after the step at hand, with a checkpoint written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mpc_lite.config import (
    InputError,
    Recipe,
    expand_all,
    load_recipe,
    nearest,
    recipe_choices,
    recipe_name,
    recipe_names,
)
from mpc_lite.kernel import KernelDied, KernelStopped, execute
from mpc_lite.progress import following, read_log

DEVICES = ("auto", "cpu", "cuda")
_SET_BY_RUNNER = {"OUT": "the run folder", "RESUME": "--resume", "PROFILE": "--profile", "PARAMETERS": "-p KEY=VALUE"}
_NOT_PARAMETERS = {
    "name": "the recipe's name",
    "description": "the recipe itself",
    "tables": "the recipe itself",
    "choice": "the choices' own names, as in -p variant=corrected",
    "profile": "--profile",
}


# ------------------------------------------------------------------------------------------------ what is to be done


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
    for key in parameters or {}:
        section = key.partition(".")[0]
        if section in _NOT_PARAMETERS:
            raise InputError(f"'{key}' is no parameter of a run: it is set by {_NOT_PARAMETERS[section]}")
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


def assignments(pairs: list[str]) -> dict[str, str]:
    """["pretrain.steps=10", …] as a dict. Raises InputError for a text without '=' and for a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"-p {pair}: expected KEY=VALUE, for example -p pretrain.steps=600")
        if key in found:
            raise InputError(f"-p {key} is given twice: {found[key]} and {value}; keep one")
        found[key] = value
    return found


# ---------------------------------------------------------------------------------------------------- the notebook


def find_notebook(name: str, book: str | Path | None = None) -> Path:
    """book/reproduce/NAME.ipynb: in `book`, else in the clone around the working folder, else in the package's clone.

    Raises InputError when the recipe or the notebook is missing; the message says which of the two.
    """
    name = recipe_name(name)
    if book is not None:
        folders = [Path(book), Path(book) / "book"]
        if not folders[0].is_dir():
            raise InputError(f"--book {book}: no such folder; expected the book's folder, with reproduce/{name}.ipynb")
    else:
        here = Path.cwd()
        folders = [p / "book" for p in (here, *here.parents, Path(__file__).resolve().parent.parent)]
    places = [folder / "reproduce" for folder in folders if (folder / "reproduce").is_dir()]
    for place in places:
        if (place / f"{name}.ipynb").is_file():
            if name not in recipe_names():
                raise InputError(
                    f"{name}: the notebook is there, but the package has no recipe '{name}' (recipes are "
                    f"{', '.join(recipe_names())}); install the package of the same clone"
                )
            return (place / f"{name}.ipynb").resolve()
    if name not in recipe_names():
        load_recipe(name)  # raises, and names the nearest recipe
    if not places:
        where = f"--book {book} has no folder reproduce/" if book else "no folder book/reproduce here or above"
        raise InputError(
            f"the recipe '{name}' is there, its notebook is not: {where}; the notebooks come with the "
            "repository, not with the installed package: run inside a clone of it, or pass --book PATH/TO/CLONE/book"
        )
    known = sorted(p.stem for place in places for p in place.glob("*.ipynb"))
    raise InputError(
        f"the recipe '{name}' is there, its notebook {name}.ipynb is not{nearest(name, known)}; "
        f"notebooks here are {', '.join(known) or 'none'}"
    )


def notebook_parameters(notebook: Path) -> dict[str, str]:
    """Names and annotated types of a notebook's parameters, from its cell with the tag `parameters`."""
    import nbformat
    from papermill.translators import PythonTranslator

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return {p.name: p.inferred_type_name for cell in tagged for p in PythonTranslator.inspect(cell)}


_TYPES = {"int": int, "float": (int, float), "bool": bool, "str": str, "dict": dict, "list": list}


def _typed(key: str, text: str, kind: str) -> Any:
    try:
        value = text if kind == "str" else yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    wrong = not isinstance(value, _TYPES.get(kind, object)) or (isinstance(value, bool) and kind in ("int", "float"))
    if wrong:
        raise InputError(f"-p {key}={text}: the notebook's {key} is of type {kind}")
    return value


def plan(
    name: str, notebook: Path, profile: str | None, given: dict[str, str], root: str | Path = "runs"
) -> tuple[Run, dict[str, Any]]:
    """The checked run and the values for the notebook's parameters cell; nothing is written.

    Args: as for `reproduce`; `notebook` is what `find_notebook` found. Raises InputError as `prepare` does, and for
    parameters that the notebook does not have or that are of another type there.
    """
    types = notebook_parameters(notebook)
    missing = [key for key in ("PROFILE", "SEED", "DEVICE", "OUT", "RESUME", "PARAMETERS") if key not in types]
    if missing:
        raise InputError(f"{notebook.name}: its cell with the tag 'parameters' lacks {', '.join(missing)}")
    own, recipe_keys = {}, {}
    for key, text in given.items():
        if key in _SET_BY_RUNNER:
            raise InputError(f"-p {key}={text}: {key} is set by {_SET_BY_RUNNER[key]}")
        if key in types:
            own[key] = _typed(key, text, types[key])
        elif key == "seed":
            own["SEED"] = _typed(key, text, "int")
        elif key == key.upper():
            raise InputError(f"-p {key}={text}: {notebook.name} has no parameter '{key}'{nearest(key, list(types))}")
        else:
            recipe_keys[key] = text
    if "SEED" in given and "seed" in given:
        raise InputError("-p SEED and seed are the same; keep one")
    seed = own.pop("SEED", None)
    seed = load_recipe(name, profile).seed if seed is None else seed
    device = own.pop("DEVICE", "auto")
    run = prepare(name, profile or "lite", seed, device, None, recipe_keys, root=root, **own)
    values = {"PROFILE": run.recipe.profile, "SEED": seed, "DEVICE": device, "OUT": run.out.as_posix(), **own}
    values["PARAMETERS"] = {key: value for key, value in run.parameters.items() if key not in own}
    return run, values


# --------------------------------------------------------------------------------------------------------- the run


def _files_at_hand(recipe: Recipe) -> None:
    """InputError when a manifest that the recipe names is missing, or a variable in its paths: found here, where the
    notebook will run, before there is a run folder."""
    lists = [recipe.data.manifest, recipe.data.validation, recipe.evaluate.manifests]
    lists += [recipe.adapt.manifest, recipe.adapt.validation] if recipe.adapt else []
    for path in [path for paths in lists for path in expand_all(paths)]:
        if not path.is_file():
            raise InputError(f"{path}: no such manifest; the scripts of data_scripts/ write them, or give another path")
    expand_all([weights for weights in (recipe.pretrain.weights, recipe.evaluate.weights) if weights])


def reproduce(
    name: str,
    profile: str | None = None,
    given: dict[str, str] | None = None,
    resume: bool = False,
    force: bool = False,
    book: str | Path | None = None,
    root: str | Path = "runs",
    quiet: bool = False,
    cwd: str | Path | None = None,
) -> Path:
    """Execute the notebook of a recipe and return the run folder, with results.json, report.html and notebook.ipynb.

    Args:
        given: texts by dotted recipe key or notebook parameter, as `-p KEY=VALUE` gives them.
        resume: go on from the checkpoint of an interrupted run. force: delete an earlier run and start anew.
        quiet: show no progress. cwd: the working folder of the notebook, by default that of this process.
    Raises:
        InputError: anything wrong with the names, values or folders, before a kernel starts or from inside it.
        KernelStopped: stopped by SIGINT, SIGTERM or the file `stop` in the run folder; no kernel is left.
    """
    notebook = find_notebook(name, book)
    run, values = plan(name, notebook, profile, given or {}, root)
    there = run.out.is_dir() and any(run.out.iterdir())
    if resume and force:
        raise InputError("--resume and --force exclude each other: go on with the old run, or delete it")
    if there and not (resume or force):
        raise InputError(
            f"{run.out} holds a run already; go on with --resume, or delete it and start anew with --force"
        )
    if resume and not there:
        raise InputError(
            f"nothing to resume: {run.out} holds no run; check -p and --profile, or start without --resume"
        )
    _files_at_hand(run.recipe)
    if there and force:
        shutil.rmtree(run.out)
    run.out.mkdir(parents=True, exist_ok=True)
    (run.out / "stop").unlink(missing_ok=True)
    values["RESUME"] = resume
    with contextlib.nullcontext(lambda text: None) if quiet else following(run.log) as show:
        show(f"{run.command}\nrun folder {run.out}")
        try:
            execute(notebook, run.out / "notebook.ipynb", values, run.out / "stop", show, cwd)
        except KernelStopped as stopped:
            raise KernelStopped(f"{stopped}; go on with: {run.command} --resume") from None
        except KernelDied as error:
            raise KernelDied(f"{error}; go on from the last checkpoint with: {run.command} --resume") from error
    return run.out
