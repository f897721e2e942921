"""Checkpoints: everything the next training step depends on, written atomically, read only by the run it belongs to."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import torch

from mpc_lite.config import InputError, Recipe
from mpc_lite.scenes import photo_files
from mpc_lite.weights import write_atomic


def identity(recipe: Recipe) -> str:
    """What must not change between the halves of a run: the recipe, the manifest's bytes, the photographs' names.

    The number of workers, the description and the later evaluation may change.
    """
    free = {"description": True, "evaluate": True, "data": {"workers"}}
    parts = {"recipe": recipe.model_dump(mode="json", exclude=free)}
    if recipe.data.manifest:
        parts["manifest"] = hashlib.sha256(Path(recipe.data.manifest).read_bytes()).hexdigest()
    if recipe.data.photos:
        names = "\n".join(file.name for file in photo_files(recipe.data.photos))
        parts["photos"] = hashlib.sha256(names.encode()).hexdigest()
    return json.dumps(parts, sort_keys=True)


def store(path: Path, recipe: Recipe, step: int, best: float, model, optimizer, scheduler) -> None:
    """Write a checkpoint. Data need no state: batches are functions of (seed, step)."""
    rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    state = {name: part.state_dict() for name, part in parts.items()}
    # A LambdaLR keeps its function's attributes; a closure has none, so the entry is empty and can go.
    state["scheduler"].pop("lr_lambdas", None)
    with io.BytesIO() as buffer:
        torch.save({"step": step, "best": best, "recipe": identity(recipe), "rng": rng, **state}, buffer)
        write_atomic(path, buffer.getvalue())


def restore(path: Path, recipe: Recipe, model, optimizer, scheduler) -> tuple[int, float]:
    """Put a checkpoint back into its parts; returns (step, best score so far). InputError: of another run."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    same_run(state["recipe"], recipe, path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    extra = {"lr_lambdas": [None]} if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR) else {}
    scheduler.load_state_dict({**state["scheduler"], **extra})
    torch.set_rng_state(state["rng"]["cpu"])
    if state["rng"]["cuda"]:
        torch.cuda.set_rng_state_all(state["rng"]["cuda"])
    return state["step"], state["best"]


def same_run(written: str, recipe: Recipe, path: Path) -> None:
    """InputError when a checkpoint or a finished stage belongs to another recipe, manifest or folder of photographs."""
    if written != identity(recipe):
        raise InputError(
            f"{path} was written by another recipe, other parameters or another list of images; "
            "resume with the same ones, or choose another folder"
        )
