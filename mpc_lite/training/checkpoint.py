"""Checkpoints: everything the next training step depends on, written atomically, read only by the run it belongs to."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mpc_lite.errors import InputError, OtherRun, shown, some
from mpc_lite.files import open_file, write_atomic
from mpc_lite.network.checks import check_values
from mpc_lite.network.saved_file import check_extent, check_saved
from mpc_lite.network.weights import read_facts, weights_sha256
from mpc_lite.provenance import read_json
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.finite import check_moments
from mpc_lite.training.identity import by_name, identity, same_run


def store(
    path: Path,
    recipe: Recipe,
    processes: int,
    step: int,
    best: float,
    model,
    optimizer,
    scheduler,
    companion=None,
    start: str | None = None,
    given: bool = True,
) -> None:
    """Write a checkpoint, NAME.state. Data and random numbers need no state: both are functions of (seed, micro-batch).

    companion: what the stage has beside the model, a module, see `training.Stage`. start: the sha256 of the weights
    that the stage began with, None for random numbers. given: it was told them, and did not take its own."""
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    parts |= {} if companion is None else {"companion": companion}
    state = {name: part.state_dict() for name, part in parts.items()}
    # A LambdaLR keeps its function's attributes; a closure has none, so the entry is empty and can go.
    state["scheduler"].pop("lr_lambdas", None)
    about = {"step": step, "best": best, "processes": processes, "recipe": identity(recipe), "stage": path.stem}
    about |= {"start": start, "given": given}
    with io.BytesIO() as buffer:
        torch.save({**about, **state}, buffer)
        write_atomic(path, buffer.getvalue())


def restore(
    path: Path,
    recipe: Recipe,
    processes: int,
    steps: int,
    model,
    optimizer,
    scheduler,
    companion=None,
    weights: str | Path | None = None,
    own: Callable[[], str | None] = lambda: None,
) -> tuple[int, float, str | None, bool]:
    """Put a checkpoint back into its parts; returns (step, best score so far, start and given as for `store`).

    steps: of the whole stage. weights: that the run is told to start from, if it is told. own: the sha256 of what the
    stage starts from by itself, None where that is not there any more.
    Raises:
        InputError: damaged; of another run or stage; begun with other weights; of another number of processes, whose
            steps read another number of images.
    """
    state = read_state(path)
    same_run(state["recipe"], recipe, path)
    if state["stage"] != path.stem:
        raise InputError(
            f"{path} is a checkpoint of the stage {shown(state['stage'])}; put back its own, or delete it, and "
            "--resume begins this stage anew"
        )
    _same_start(state["start"], weights, None if state["given"] else own, path)
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
        check_moments(state["optimizer"]["state"], optimizer)
        _load(model, state["model"])
        if companion is not None:
            _load(companion, state["companion"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict({**state["scheduler"], **extra})
    except Exception as error:  # torch has no one type for what does not fit
        raise _damaged(path, error) from error
    return step, best, state["start"], state["given"]


def _load(network: torch.nn.Module, state: dict[str, Any]) -> None:
    """Weights and buffers put back: torch compares neither types nor values, and an index reads where it says."""
    own = {name: value.cpu() for name, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
    check_values("its weights", own, state, "")
    network.load_state_dict(state)  # what is no tensor is a module's own (`get_extra_state`)


def _same_start(
    start: str | None, weights: str | Path | None, own: Callable[[], str | None] | None, path: Path
) -> None:
    """InputError when a stage is told to start from other weights than it began with, or the file that it starts from
    by itself (`own`: its sha256, None where it is gone) is another one by now; what it is not told counts."""
    if weights is not None and start not in (_UNKNOWN, weights_sha256(weights)):
        began = "random numbers" if start is None else "other weights"
        raise InputError(
            f"{path} says that this stage began with {began}, not with {weights}; leave out --weights to resume it, or "
            "choose another folder"
        )
    if weights is None and own is not None and start != _UNKNOWN and own() not in (None, start):
        raise InputError(
            f"{path} says that this stage began with other weights than those it starts from now; put back the file, "
            "name the former one with --weights, or choose another folder"
        )


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


_KINDS = {"step": int, "best": float, "processes": int, "recipe": str, "stage": str, "given": bool}
_KINDS |= {"start": (str, type(None)), **dict.fromkeys(("model", "optimizer", "scheduler"), dict)}
_UNKNOWN = "unknown"  # the start, where an older version wrote the file


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's content, checked: torch does not compare the checksums that it writes (CRC-32, as in any zip)."""
    try:
        with open_file(path) as whole:
            check_saved(whole, str(path), os.fstat(whole.fileno()).st_size)
            if member := zipfile.ZipFile(whole).testzip():
                raise zipfile.BadZipFile(f"checksum of {member}")
        check_extent(state := torch.load(path, map_location="cpu", weights_only=True))
        state = {"stage": path.stem, "start": _UNKNOWN, "given": True, **state}
        wrong = [name for name, kind in _KINDS.items() if not _is(state[name], kind)]
        if wrong:
            raise TypeError(f"type of {wrong[0]}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes bring a reader to raise anything
        raise _damaged(path, error) from error
    return state


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Python takes True for a whole number."""
    return isinstance(value, kind) and (kind is bool or value is not True)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = shown(str(error).strip(), 300) if isinstance(error, InputError) else type(error).__name__
    return InputError(
        f"{path} is damaged, or no checkpoint of a training run ({reason}); delete it, and --resume begins this stage "
        "anew"
    )


def write_done(path: Path, recipe: Recipe, start: str | None, given: bool, best: float) -> None:
    """Write the note that a stage has ended, NAME.done: the run's `identity`, the stage, its start (`store`), the
    validation score of its best weights, and the sha256 of all that."""
    note = {**json.loads(identity(recipe)), "stage": path.stem, "start": start, "given": given, "best": best}
    write_atomic(path, json.dumps({**note, "sha256": _digest(note)}, sort_keys=True).encode())


def _digest(note: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def read_done(
    path: Path,
    recipe: Recipe,
    file: Path,
    weights: str | Path | None = None,
    own: Callable[[], str | None] | None = None,
) -> None:
    """InputError when the note that a stage has ended is damaged, or it or the file of weights beside it, where there
    is one, are of another run, or of other weights to start from; see `same_run`, `same_weights`, `restore`."""
    note = _note(path)
    start, given = note.pop("start", _UNKNOWN), note.pop("given", True)
    note = {key: value for key, value in note.items() if key not in ("stage", "best")}
    same_run(json.dumps(note, sort_keys=True), recipe, path)
    if file.is_file():
        same_weights(file, path)
    _same_start(start, weights, None if given else own, path)


def same_weights(file: Path, done: Path) -> None:
    """InputError where weights say another stage or recipe of themselves than the note that their stage has ended, or
    are older than it.

    Keys that one of both lacks pass: versions differ in them. So do those that `identity` leaves out.
    """
    facts, note = read_facts(file), _note(done)
    written, found = {"stage": done.stem, **by_name(note["recipe"])}, by_name(facts["recipe"])
    found |= {"stage": facts["stage"]} if "stage" in facts else {}
    keys = [key for key in written if found.get(key, written[key]) != written[key]]
    differing = [f"{key} {shown(found[key])}, not {written[key]}" for key in keys]
    if differing:
        raise OtherRun(
            f"{file} is of another run than {done.name} beside it ({some(differing, 5)}); put back the run's own file, "
            f"delete both to train it anew, or name the file with --weights in a folder of its own"
        )
    check_best(file, note.get("best", -math.inf), done)


def check_best(target: Path, best: float, beside: Path) -> None:
    """InputError where a stage's best weights are missing, or older ones lie in their place, as after a copy of the
    folder that broke off, or where `make` deleted what it takes for half a file.

    Later ones pass: they were written after the checkpoint, and the steps since then end with the same file.

    Args:
        best: their validation score, by the checkpoint or note `beside` them; -inf: there are none yet.
    """
    if best == -math.inf:
        return
    what = f"is missing, the best weights of the stage '{beside.stem}' so far (validation score {best:.6g})"
    if target.is_file():
        scores = read_facts(target).get("validation")
        score = scores.get("score") if isinstance(scores, dict) else None
        if not isinstance(score, int | float) or score >= best:
            return
        what = f"is older than {beside.name} beside it (validation score {score:.6g}, not {best:.6g})"
    then = "goes on with this stage" if beside.suffix == ".done" else "begins this stage anew"
    raise OtherRun(f"{target} {what}; put back the stage's own file, or delete {beside.name}, and --resume {then}")


_SECTIONS = ("model", "data")  # that every recipe has
_PARTS = {
    "recipe",
    "manifests",
    "lists",
    "teacher",
    "photos",
    "stage",
    "start",
    "given",
    "best",
}  # of a note, see `identity`


def _note(path: Path) -> dict[str, Any]:
    try:
        with open_file(path) as file:
            note = read_json(file.read().decode("utf-8"))
        digest = note.pop("sha256", None)  # older versions wrote none
        if digest not in (None, _digest(note)) or (digest is None and note.keys() - _PARTS):
            raise ValueError("changed since it was written")
        recipe = note["recipe"]
        if not isinstance(note["manifests"], list) or not all(isinstance(recipe[key], dict) for key in _SECTIONS):
            raise TypeError("another note")
        if note.get("stage", path.stem) != path.stem or not isinstance(note.get("start"), str | None):
            raise ValueError("of another stage")
        if not isinstance(note.get("given", True), bool) or not isinstance(note.get("best", 0.0), float):
            raise TypeError("given or best")
        if not math.isfinite(note.get("best", 0.0)):
            raise ValueError("best")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged, or no note of a finished stage; delete it, and --resume goes on with this stage"
        ) from error
    return note
