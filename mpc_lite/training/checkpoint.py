"""Checkpoints: everything the next training step depends on, written atomically, read only by the run it belongs to."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import torch

from mpc_lite.errors import InputError, some
from mpc_lite.files import expand_all, open_file, write_atomic
from mpc_lite.forgeries.scenes import photo_files
from mpc_lite.network.weights import read_facts
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS


def identity(recipe: Recipe) -> str:
    """What must not change between the halves of a run: the recipe, the manifests' bytes, the photographs' names.

    The number of workers, the description, the tables it gives numbers for, the later evaluation and whether a frozen
    encoder's maps are kept on disk may change.
    """
    free = {"description": True, "tables": True, "evaluate": True, "data": {"workers", "epoch"}}
    free |= {"finetune": {"cache_features"}, "adapt": {"cache_features"}}
    # A run that began before there were such keys goes on.
    if recipe.augment.jpeg is None:
        free["augment"] = {"jpeg"}
    if recipe.data.real is None:
        free["data"] = free["data"] | {"real"}
    for name in ("finetune", "adapt"):
        if getattr(recipe, name) is not None and not getattr(recipe, name).contrast:
            free[name] = free[name] | {"contrast"}
    free |= {name: True for name in NEIGHBOURS if getattr(recipe, name) is None}
    parts = {"recipe": recipe.model_dump(mode="json", exclude=free)}
    lists = [recipe.data.manifest, recipe.data.validation]
    if recipe.adapt:
        lists += [recipe.adapt.manifest, recipe.adapt.validation]
    parts["manifests"] = [[_sha256(path) for path in expand_all(paths)] for paths in lists]
    if recipe.data.photos:
        names = "\n".join(file.name for file in photo_files(recipe.data.photos))
        parts["photos"] = hashlib.sha256(names.encode()).hexdigest()
    return json.dumps(parts, sort_keys=True)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; a run goes on only with the manifests it began with") from None


def store(
    path: Path, recipe: Recipe, processes: int, step: int, best: float, model, optimizer, scheduler, companion=None
) -> None:
    """Write a checkpoint. Data and random numbers need no state: both are functions of (seed, micro-batch).

    companion: what the stage has beside the model, a module, see `training.Stage`."""
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    parts |= {} if companion is None else {"companion": companion}
    state = {name: part.state_dict() for name, part in parts.items()}
    # A LambdaLR keeps its function's attributes; a closure has none, so the entry is empty and can go.
    state["scheduler"].pop("lr_lambdas", None)
    about = {"step": step, "best": best, "processes": processes, "recipe": identity(recipe)}
    with io.BytesIO() as buffer:
        torch.save({**about, **state}, buffer)
        write_atomic(path, buffer.getvalue())


def restore(
    path: Path, recipe: Recipe, processes: int, steps: int, model, optimizer, scheduler, companion=None
) -> tuple[int, float]:
    """Put a checkpoint back into its parts; returns (step, best score so far).

    steps: of the whole stage.
    Raises:
        InputError: damaged; of another run; of another number of processes, whose steps read another number of images.
    """
    state = _read(path)
    same_run(state["recipe"], recipe, path)
    if state["processes"] != processes:
        raise InputError(
            f"{path} was written by {state['processes']} processes together, now there are {processes}; a step would "
            f"read another number of images. Start {state['processes']} again, or choose another folder"
        )
    step, best = state["step"], state["best"]
    extra = {"lr_lambdas": [None]} if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR) else {}
    try:
        if not 0 <= step <= steps or math.isnan(best) or best == math.inf:
            raise ValueError(f"step {step}, score {best}")
        _same_kinds(state["scheduler"], {**scheduler.state_dict(), **extra})
        _same_kinds(state["optimizer"]["param_groups"], optimizer.state_dict()["param_groups"])
        model.load_state_dict(state["model"])
        if companion is not None:
            companion.load_state_dict(state["companion"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict({**state["scheduler"], **extra})
    except Exception as error:  # torch has no one type for what does not fit
        raise _damaged(path, error) from error
    return step, best


def _same_kinds(found: Any, expected: Any) -> None:
    """Raises ValueError where settings that were read are of another kind than those of today's parts: torch takes any,
    and the next step would fail by them."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected.keys() & found.keys():
            _same_kinds(found[key], expected[key])
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(found) == len(expected):
        for one, other in zip(found, expected, strict=True):
            _same_kinds(one, other)
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise ValueError(f"{found!r:.20} for a number")
    elif type(found) is not type(expected):
        raise ValueError(f"{type(found).__name__} for {type(expected).__name__}")


_KINDS = {"step": int, "best": float, "processes": int, "recipe": str}
_KINDS |= dict.fromkeys(("model", "optimizer", "scheduler"), dict)


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint's content, checked: torch does not compare the checksums that it writes (CRC-32, as in any zip)."""
    try:
        with open_file(path) as whole, zipfile.ZipFile(whole) as file:
            if member := file.testzip():
                raise zipfile.BadZipFile(f"checksum of {member}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        wrong = [name for name, kind in _KINDS.items() if not isinstance(state[name], kind) or state[name] is True]
        if wrong:
            raise TypeError(f"type of {wrong[0]}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes bring a reader to raise anything
        raise _damaged(path, error) from error
    return state


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is damaged, or no checkpoint of a training run ({type(error).__name__}); delete it, and --resume "
        "begins this stage anew"
    )


def read_done(path: Path, recipe: Recipe, weights: Path) -> None:
    """InputError when the note that a stage has ended is damaged, or it or the weights beside it, where there are any,
    are of another run; see `same_run`, `same_weights`."""
    same_run(_note(path), recipe, path)
    if weights.is_file():
        same_weights(weights, path)


def same_weights(file: Path, done: Path) -> None:
    """InputError where weights say another recipe of themselves than the note that their stage has ended.

    Keys that one of both lacks pass: versions differ in them. So do those that `identity` leaves out.
    """
    written, found = (_flat(recipe) for recipe in (json.loads(_note(done)).get("recipe"), read_facts(file)["recipe"]))
    differing = [
        f"{key} {found[key]}, not {written[key]}" for key in written if found.get(key, written[key]) != written[key]
    ]
    if differing:
        raise InputError(
            f"{file} is of another run than {done.name} beside it ({some(differing, 5)}); put back the run's own file, "
            f"delete both to train it anew, or name the file with --weights in a folder of its own"
        )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"data": {"size": 96}} -> {"data.size": 96}"""
    if not isinstance(value, dict):
        return {name: value}
    return {key: v for k, inner in value.items() for key, v in _flat(inner, f"{name}.{k}".lstrip(".")).items()}


def _note(path: Path) -> str:
    try:
        with open_file(path) as file:
            written = file.read().decode("utf-8")
        if not isinstance(json.loads(written), dict):
            raise ValueError("no object")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged, or no note of a finished stage; delete it, and --resume goes on with this stage"
        ) from error
    return written


def same_run(written: str, recipe: Recipe, path: Path) -> None:
    """InputError when a checkpoint or a finished stage belongs to another recipe, manifest or folder of photographs."""
    if written != identity(recipe):
        raise InputError(
            f"{path} was written by another recipe, other parameters or another list of images; "
            "resume with the same ones, or choose another folder"
        )
