"""What makes two halves of a training one run: its recipe, and the bytes of every list that it names."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePath
from typing import Any

from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import expand, expand_all
from mpc_lite.forgeries.scenes import photo_files
from mpc_lite.network.weights import weights_sha256
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS

# Keys of lists and weights whose bytes are compared themselves: they may lie in another folder in a run's second half,
# as on a scratch disk with the number of the job in its path. Of photographs only the names are: their folder counts.
PLACES = (
    "data.manifest",
    "data.validation",
    "adapt.manifest",
    "adapt.validation",
    "data.real.lists",
    "borrowed.teacher",
)
_LATER = {"lists": "data.real.lists", "teacher": "borrowed.teacher"}  # whose bytes older versions did not write down


def identity(recipe: Recipe, with_lists: bool = True) -> str:
    """What must not change between the halves of a run: the recipe, the bytes of manifests, lists of photographs
    (`with_lists`: older versions left these out) and a teacher, the photographs' names. The number of workers, the
    description, its tables, the later evaluation and whether a frozen encoder's maps are kept on disk may change."""
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
    if recipe.borrowed and recipe.borrowed.teacher and with_lists:
        parts["teacher"] = weights_sha256(str(expand(recipe.borrowed.teacher)))
    lists = [each for part in (recipe.data, recipe.adapt) if part for each in (part.manifest, part.validation)]
    parts["manifests"] = [[_sha256(path) for path in expand_all(paths)] for paths in lists]
    if recipe.data.real and with_lists:
        parts["lists"] = [_sha256(path) for path in expand_all(recipe.data.real.lists)]
    if recipe.data.photos:
        names = "\n".join(file.name for file in photo_files(recipe.data.photos))
        parts["photos"] = hashlib.sha256(os.fsencode(names)).hexdigest()
    return json.dumps(parts, sort_keys=True)


def learnt_by(recipe: Recipe) -> dict[str, Any]:
    """The recipe as weights carry it: without what changes no weight, who reads images and whether maps are kept."""
    values = recipe.as_dict()
    for section, key in (("data", "workers"), ("finetune", "cache_features"), ("adapt", "cache_features")):
        (values[section] or {}).pop(key, None)
    return values


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; a run goes on only with the lists it began with") from None


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"data": {"size": 96}} -> {"data.size": 96}"""
    if not isinstance(value, dict):
        return {name: value}
    return {key: v for k, inner in value.items() for key, v in flat(inner, f"{name}.{k}".lstrip(".")).items()}


def by_name(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe, flat, with the names of the lists at `PLACES` instead of their paths, which the halves of a run may
    have otherwise; of the bytes, which `identity` compares, weights know nothing."""

    def names(value: Any) -> Any:
        paths = [value] if isinstance(value, str) else value
        return [PurePath(str(path)).name for path in paths] if isinstance(paths, list) else paths

    return {key: names(value) if key in PLACES else value for key, value in flat(recipe).items()}


def same_run(written: str, recipe: Recipe, path: Path) -> None:
    """InputError when a checkpoint or a finished stage belongs to another recipe, manifest or folder of photographs.

    written: what `identity` gave when it was written."""
    today = [json.loads(identity(recipe, lists)) for lists in (True, False)]
    try:
        parts = json.loads(written)
        differing = [_differing(parts, now) for now in today]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        differing = [["not one of ours"]] * 2
    if all(differing):
        raise InputError(
            f"{path} was written by another recipe, other parameters or another list of images "
            f"({some(min(differing, key=len), 4)}); resume with the same ones, or choose another folder"
        )


def _differing(written: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The parts in which what was written is unlike what is now, places aside."""
    before, after = flat(written["recipe"]), flat(now["recipe"])
    compared = {*PLACES} - {key for part, key in _LATER.items() if part not in now}
    told = [
        f"{key} {shown(before.get(key, 'absent'))}, not {shown(after.get(key, 'absent'))}"
        for key in sorted({*before, *after} - compared)
        if before.get(key, ...) != after.get(key, ...)
    ]
    others = {*written, *now} - {"recipe"}
    return told + [f"the bytes of {key}" for key in sorted(others) if written.get(key, ...) != now.get(key, ...)]
