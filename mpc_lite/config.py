"""Recipes: what a run does, as checked data.

A *recipe* says what to do (`mpc_lite/recipes/NAME.yaml` or a file of yours). A *profile* is an override of scale that
stands inside the recipe: ``smoke`` for tests, ``lite`` (the default) for a laptop, ``check`` for a few steps of the
full model on a CPU, ``paper`` for GPUs. Single values are overridden with dotted keys, ``pretrain.steps=300``. A key or
value that the recipe does not know is an error that names the nearest key: a misspelt option never passes in silence.
"""

from __future__ import annotations

import difflib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class InputError(ValueError):
    """A mistake its user can mend; the message says what was found, what was expected and what to do."""


# Held here because a recipe is checked before anything heavy is imported; a test compares it with PROTOCOLS.
PROTOCOL_NAMES = ("mpc", "mpc_legacy", "macro", "permuted", "trufor", "best_threshold", "trufor_best", "pooled")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSection(Section):
    size: Literal["nano", "small", "base"] = "nano"
    head: Literal["4conv", "5conv"] = "4conv"


class DataSection(Section):
    """Where images come from: forgeries made by `mpc_lite.synth` from `scenes`, or the rows of `manifest`."""

    scenes: list[str] = Field(default=["packaged", "dead_leaves"], min_length=1)
    photos: str | None = None
    manifest: str | None = None
    size: int = Field(default=128, ge=32)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_images: int = Field(default=64, ge=2)
    test_images: int = Field(default=64, ge=2)
    test_size: int = Field(default=256, ge=32)
    authentic_share: float = Field(default=0.2, ge=0, lt=1)
    workers: int = Field(default=1, ge=0)


class AugmentSection(Section):
    dihedral: bool = True


class ScheduleSection(Section):
    """`cosine`: warm-up, then one decay to `floor`. `official`: what the released code does (plateau in stage 1, a
    cosine that swings with `period` validations in stage 2)."""

    name: Literal["cosine", "official"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    floor: float = Field(default=1e-8, ge=0)
    period: int = Field(default=20, ge=1)


class StageSection(Section):
    steps: int = Field(ge=1)
    batch: int = Field(default=4, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float | None = Field(default=None, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    schedule: ScheduleSection = ScheduleSection()
    validate_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=100, ge=1)


class PretrainSection(StageSection):
    steps: int = Field(default=1000, ge=1)
    formulation: Literal["official", "paper"] = "official"
    temperature: float = Field(default=0.1, gt=0)
    max_pixels: int | None = Field(default=5000, ge=2)


class FinetuneSection(StageSection):
    """`encoder`: `frozen` (evaluation mode, no gradients), `official` (the released code: not in the optimiser, yet in
    training mode), `trained` (the whole network learns)."""

    steps: int = Field(default=1000, ge=1)
    encoder: Literal["frozen", "official", "trained"] = "frozen"
    alpha: float = Field(default=0.5, ge=0, le=1)
    gamma: float = Field(default=2.0, ge=0)


class EvaluateSection(Section):
    """How a photograph becomes a score map (`mode`, `size`, `overlap` in pixels) and which protocol scores it."""

    mode: Literal["stretch", "pad", "tiles"] = "stretch"
    size: int = Field(default=512, ge=32)
    overlap: int = Field(default=0, ge=0)
    protocol: Literal[PROTOCOL_NAMES] = "mpc"

    @model_validator(mode="after")
    def _tiles_move_on(self):
        if self.mode == "tiles" and self.overlap >= self.size:
            raise ValueError(f"tiles of {self.size} pixels need an overlap below that, found {self.overlap}")
        return self


class Recipe(Section):
    name: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    tracker: Literal["none", "tensorboard"] = "none"
    profile: str = "lite"
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    pretrain: PretrainSection = PretrainSection()
    finetune: FinetuneSection = FinetuneSection()
    evaluate: EvaluateSection = EvaluateSection()

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


PROFILES = ("smoke", "lite", "check", "paper")


def recipe_names() -> list[str]:
    return sorted(p.name[:-5] for p in (resources.files("mpc_lite") / "recipes").iterdir() if p.name.endswith(".yaml"))


def load_recipe(
    name_or_file: str | Path, profile: str | None = None, overrides: dict[str, Any] | None = None
) -> Recipe:
    """Read a recipe by name or file, apply a profile and dotted overrides, check every key and value.

    Args:
        name_or_file: a name from `recipe_names()` or the path of a YAML file.
        profile: one of the recipe's profiles; ``None`` means ``lite``, the recipe as written.
        overrides: dotted keys to values; a text value is read as YAML (and ``3e-4`` as a number).
    Raises:
        InputError: unknown recipe, profile or key (the nearest one is named), or a value of the wrong type or range.
    """
    raw = _read(name_or_file)
    profiles = raw.pop("profiles", None) or {}
    for known in profiles:
        if known not in PROFILES:
            raise InputError(
                f"recipe {raw.get('name')}: profile '{known}' is unknown; profiles are {', '.join(PROFILES)}"
            )
    chosen = profile or "lite"
    if chosen not in profiles and chosen != "lite":
        offered = ", ".join(sorted({*profiles, "lite"}))
        raise InputError(f"recipe {raw.get('name')} has no profile '{chosen}'; it offers {offered}")
    raw = _merge(raw, profiles.get(chosen, {}))
    raw["profile"] = chosen
    for key, value in (overrides or {}).items():
        raw = _merge(raw, _nest(key.split("."), _scalar(value)))
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise InputError(_explain(raw.get("name", name_or_file), error)) from None


def _read(name_or_file: str | Path) -> dict[str, Any]:
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise InputError(f"recipe file {path} does not exist")
        text = path.read_text(encoding="utf-8")
    else:
        names = recipe_names()
        if str(name_or_file) not in names:
            raise InputError(
                f"no recipe '{name_or_file}'{nearest(str(name_or_file), names)}; recipes are {', '.join(names)}"
            )
        text = (resources.files("mpc_lite") / "recipes" / f"{name_or_file}.yaml").read_text(encoding="utf-8")
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"recipe {name_or_file} is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise InputError(
            f"recipe {name_or_file} holds {type(raw).__name__}, expected sections such as 'model:' and 'data:'"
        )
    raw.setdefault("name", path.stem)
    return raw


def _scalar(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value) if _is_float(value) else yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _is_float(text: str) -> bool:
    """YAML 1.1 reads ``3e-4`` as text; people write it as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return any(c in text for c in ".eE") and any(c.isdigit() for c in text)


def _nest(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nest(keys[1:], value)}


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _keys(field.annotation, f"{prefix}{name}.")
    return found


def nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _explain(name: Any, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            siblings = [k for k in _keys(Recipe) if k.count(".") == key.count(".")]
            lines.append(f"unknown key '{key}'{nearest(key, siblings) or nearest(key, _keys(Recipe))}")
        else:
            lines.append(f"{key}: found {json.dumps(item['input'], default=str)}; {item['msg'].lower()}")
    return f"recipe {name}: " + "; ".join(lines)
