"""Recipes: what a run does, as checked data.

A *recipe* says what to do (`mpc_lite/recipes/NAME.yaml` or a file of yours); with ``extends: NAME`` it says only what
it does otherwise than another; ``extends: base.yaml`` names a file, whose path starts at the folder of the recipe that
says so. A *profile* is an override of scale that stands inside the recipe: ``smoke`` for tests, ``lite`` (the default)
for a laptop, ``check`` for a few steps of the full model on a CPU, ``paper`` for GPUs. A *choice* is between named
alternatives, ``variant=official`` or ``variant=corrected``; the first one counts unless another is asked for. Single
values are overridden with dotted keys, ``pretrain.steps=300``. A key or value that the recipe does not know is an error
that names the nearest key: a misspelt option never passes in silence. The keys themselves stand in
`mpc_lite.recipes.keys`. A recipe that extends another may narrow its choices, ``choice: {arm: mscc}`` or a list of
alternatives: the others are then not offered, and the first one counts unless another is asked for.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mpc_lite.errors import InputError, nearest, shown, some
from mpc_lite.files import absent
from mpc_lite.recipes import yaml_text
from mpc_lite.recipes.keys import EPOCHS, OTHER_NAMES, Recipe, nameless
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS

PROFILES = ("smoke", "lite", "check", "paper")
_SHOWN = 10  # wrong keys and values in one message
# Keys that say what a recipe is and what was taken of it: to set them would change that record alone.
_RECORD = {
    "name": "the recipe's name",
    "description": "the recipe itself",
    "tables": "the recipe itself",
    "choice": "the choices' own names, as in -p variant=corrected",
    "profile": "--profile",
}


# ---------------------------------------------------------------------------------------------------- reading a recipe


def recipe_names() -> list[str]:
    return sorted(p.name[:-5] for p in resources.files("mpc_lite.recipes").iterdir() if p.name.endswith(".yaml"))


def recipe_name(name: str) -> str:
    """The recipe behind a name: its own, or that of a table or figure it reproduces (``table2`` is `protocol1`)."""
    if name in recipe_names():
        return name
    for candidate in recipe_names():
        if name in (table.lower().replace(" ", "") for table in _read(candidate).get("tables") or []):
            return candidate
    return name


def load_recipe(
    name_or_file: str | Path, profile: str | None = None, overrides: dict[str, Any] | None = None
) -> Recipe:
    """Read a recipe by name or file, apply a profile, choices and dotted overrides, check every key and value.

    Each stands above those before it: the recipe, its profile, each choice, what a choice says for this profile (its
    own `profiles`), the overrides.

    Args:
        name_or_file: a name from `recipe_names()`, a table or figure of the paper (``table2``) or a YAML file's path.
        profile: one of the recipe's profiles; ``None`` means ``lite``, the recipe as written.
        overrides: choices by name, and dotted keys to values; a text is read by `scalar`.
    Raises:
        InputError: unknown recipe, profile, alternative or key (the nearest one is named), or a value of the wrong type
            or range.
    """
    for key in overrides or {}:
        if (section := key.partition(".")[0]) in _RECORD:
            raise InputError(f"'{shown(key)}' is no parameter of a run: it is set by {_RECORD[section]}")
    raw = _read(name_or_file)
    name = shown(raw["name"])
    profiles, choices = raw.pop("profiles", None) or {}, raw.pop("choices", None) or {}
    changes = [change for alternatives in choices.values() for change in alternatives.values() if change]
    for known in (profile for table in (profiles, *(c.get("profiles") or {} for c in changes)) for profile in table):
        if known not in PROFILES:
            close = nearest(str(known), list(PROFILES))
            offered = ", ".join(PROFILES)
            raise InputError(f"recipe {name}: profile '{shown(known)}' is unknown{close}; profiles are {offered}")
    chosen = profile or "lite"
    if chosen not in profiles and chosen != "lite":
        offered = ", ".join(sorted({*profiles, "lite"}))
        raise InputError(f"recipe {name} has no profile '{shown(chosen)}'; it offers {offered}")
    if (written := raw.get("profile", chosen)) != chosen:
        raise InputError(f"recipe {name} is written for the profile {shown(written)}; choose it by --profile")
    raw = _merge(raw, _for_sections_of(raw, profiles.get(chosen, {}), name))
    raw["profile"], raw["choice"] = chosen, {}
    overrides = dict(overrides or {})
    for choice, alternatives in choices.items():
        taken = overrides.pop(choice, next(iter(alternatives)))
        if taken not in alternatives:
            offered = some(alternatives)
            unknown = f"'{shown(taken)}' is unknown{nearest(str(taken), list(alternatives))}"
            raise InputError(f"recipe {name}: {shown(choice)} {unknown}; choose one of {offered}")
        change = dict(alternatives[taken] or {})
        scaled = change.pop("profiles", {}).get(chosen, {})
        raw = _merge(_merge(raw, change), scaled)
        raw["choice"] = {**raw["choice"], choice: taken}
    for key, value in overrides.items():
        raw = _merge(raw, _nest(key.split("."), _given(key, value) if isinstance(value, str) else value))
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise InputError(_explain(name, error, list(choices))) from None
    if key := nameless(recipe):
        raise InputError(f"recipe {name}: {key} is empty; write null for none")
    return recipe


def recipe_choices(name_or_file: str | Path) -> dict[str, list[str]]:
    """The choices of a recipe and their alternatives, the default first: {"variant": ["official", "corrected"]}."""
    return {name: list(alternatives) for name, alternatives in (_read(name_or_file).get("choices") or {}).items()}


def _read(name_or_file: str | Path, extended: tuple = ()) -> dict[str, Any]:
    path = Path(name_or_file)
    if _is_file(name_or_file):
        if not os.path.isfile(path):  # False for impossible names as well
            raise InputError(f"recipe file {shown(path, 200)} {absent(path)}; expected a .yaml file")
        try:
            with open(path, "rb") as file:
                data = file.read(yaml_text.LONGEST + 1)  # enough to tell that it is longer; nothing is cut off
        except OSError as error:
            reason = f"recipe {shown(path, 200)} cannot be read ({error.strerror})"
            raise InputError(f"{reason}; choose another file") from None
    else:
        names, name = recipe_names(), str(name_or_file)
        if name not in names and (own_name := recipe_name(name)) in names:
            return _read(own_name, extended)
        if name not in names:
            short = shown(name)
            raise InputError(f"no recipe '{short}'{nearest(name, names)}; recipes are {some(names)}")
        data = (resources.files("mpc_lite.recipes") / f"{name}.yaml").read_bytes()
    raw = yaml_text.read(data, name_or_file)
    raw.setdefault("name", path.stem)
    if "extends" in raw:
        if len(extended) >= 8:
            chain = some(extended, 2)
            raise InputError(f"recipe {shown(path, 200)} extends a recipe that extends another without end: {chain}")
        base = raw.pop("extends")
        base = _read(path.parent / base if _is_file(base) else base, (*extended, name_or_file))
        base = {key: value for key, value in base.items() if key not in ("name", "tables")}
        raw = _merge(base, raw)
    _narrow(raw)
    return raw


def _is_file(name_or_file: str | Path) -> bool:
    """Whether this names a recipe's file; else it is the name of a recipe of the package."""
    return Path(name_or_file).suffix in {".yaml", ".yml"}


def _narrow(raw: dict[str, Any]) -> None:
    """Keep of each choice the alternatives that `choice` names, in its order. InputError for one that is not there."""
    narrowed = raw.pop("choice", None) or {}
    if not isinstance(narrowed, dict):
        raise InputError(f"recipe {shown(raw['name'])}: choice is no table; expected choice: {{CHOICE: ALTERNATIVE}}")
    for choice, taken in narrowed.items():
        alternatives = (raw.get("choices") or {}).get(choice, {})
        names = taken if isinstance(taken, list) else [taken]
        for name in names or [None]:
            if not isinstance(name, str) or name not in alternatives:
                offered, what = some(alternatives) or "none", f"choice {shown(choice)} names {shown(name)}"
                raise InputError(f"recipe {shown(raw['name'])}: {what}; alternatives are {offered}")
        raw["choices"] = {**raw["choices"], choice: {name: alternatives[name] for name in names}}


def scalar(text: str) -> Any:
    """The value of a text behind ``-p KEY=``, read as in a recipe's file, but for # and &, which begin nothing there:
    they stand in names of folders. The text itself if it is no YAML, or a text without quotes; see `_given`."""
    stand_in = next(letter for letter in map(chr, range(0xE000, 0xF900)) if letter not in text)
    try:
        value = yaml_text.parse(text.replace("#", stand_in))
    except ValueError:
        return text
    if isinstance(value, str) and text.strip()[:1] not in ("'", '"'):
        return text.strip()
    return _replaced(value, stand_in, "#")


def _given(key: str, text: str) -> Any:
    """`scalar` of a text for this key; the text as it stands where the key takes a text: 2024 may name a folder."""
    if not text.strip():
        raise InputError(f"-p {shown(key)}= is empty; is a variable of the shell not set? Write null for none")
    value, kinds = scalar(text), _kinds(Recipe, key)
    if str not in kinds or isinstance(value, str) or (isinstance(value, list) and list in kinds):
        return value
    return None if type(None) in kinds and text.strip() in ("~", "null", "Null", "NULL") else text.strip()


def _kinds(model: type[BaseModel], key: str) -> set[type]:
    """The types that a key SECTION.NAME of a model takes, a list's without what is in it; none of no key."""
    name, _, rest = key.partition(".")
    if name not in model.model_fields:
        return set()
    annotation = model.model_fields[name].annotation
    kinds = {get_origin(kind) or kind for kind in (annotation, *get_args(annotation))}
    sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return set().union(*(_kinds(section, rest) for section in sections)) if rest else kinds


def _replaced(value: Any, letter: str, by: str) -> Any:
    """A value with another letter in all its texts."""
    if isinstance(value, dict):
        return {_replaced(key, letter, by): _replaced(item, letter, by) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, letter, by) for item in value]
    return value.replace(letter, by) if isinstance(value, str) else value


def _nest(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return value


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _for_sections_of(raw: dict[str, Any], profile: dict[str, Any], name: str) -> dict[str, Any]:
    """What a profile changes: no section that the recipe leaves out by null. InputError for one that is no table."""
    for key in raw.keys() & Recipe.model_fields.keys():
        kinds = (annotation := Recipe.model_fields[key].annotation, *get_args(annotation))
        if not any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
            continue
        if not isinstance(raw[key], dict) and not (raw[key] is None and type(None) in kinds):
            found = shown(json.dumps(raw[key], default=str))
            raise InputError(f"recipe {name}: {key}: found {found}; expected a table of its keys, or no such section")
    return {key: change for key, change in profile.items() if raw.get(key, change) is not None}


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):  # a section may be optional: AdaptSection | None
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _keys(kind, f"{prefix}{name}.")
    return keys


def _explain(name: str, error: ValidationError, choices: list[str]) -> str:
    lines, length = [], 200 if error.error_count() == 1 else 40
    for item in error.errors()[:_SHOWN]:
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key '{shown(key, max(length, 60))}'{_meant(key, choices)}")
        elif not key:  # sections that do not go together; the message names the keys
            lines.append(shown(item["msg"].removeprefix("Value error, "), 600))
        else:
            value = shown(json.dumps(item["input"], default=str, ensure_ascii=False), length)
            lines.append(f"{shown(key)}: found {value}; {shown(item['msg'], 600).lower()}")
    lines += [f"and {more} more"] if (more := error.error_count() - _SHOWN) > 0 else []
    return f"recipe {name}: " + "; ".join(lines)


def _meant(key: str, choices: list[str]) -> str:
    """What to write instead of an unknown key: our name for it, in the same section if there, else the nearest."""
    keys, (*section, name) = _keys(Recipe), key.lower().replace("-", "_").split(".")
    if key in keys:
        return f" (in a file its section is a table: {section[0]}: {{{name}: …}})"
    other = OTHER_NAMES.get(".".join([*section, name]), OTHER_NAMES.get(name))
    if other is None:
        siblings = [k for k in [*keys, *choices] if k.count(".") == key.count(".")]
        return nearest(key, siblings) or nearest(key, keys)
    named = [k for k in keys if f".{k}".endswith(f".{other}")]
    if section[:1] not in [[neighbour] for neighbour in NEIGHBOURS]:
        named = [k for k in named if k.split(".")[0] not in NEIGHBOURS]
    while not (inside := [k for k in named if k.split(".")[: len(section)] == section]):
        section.pop()  # not in that section: in the one around it, at last in the recipe
    offered = " or ".join(f"'{k}'" for k in inside)
    if name in EPOCHS and other == "steps":
        return f" (training is counted in steps of batch × accumulate images, not in epochs: set {offered})"
    return f" (did you mean {offered}?)"


def assignments(pairs: list[str]) -> dict[str, str]:
    """["pretrain.steps=10", …] as a dict. Raises InputError for a text without '=' and for a key given twice."""
    overrides: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"-p {shown(pair, 200)}: expected KEY=VALUE, for example -p pretrain.steps=600")
        if key in overrides:
            both = f"{shown(overrides[key])} and {shown(value)}"
            raise InputError(f"-p {shown(key)} is given twice: {both}; keep one")
        overrides[key] = value
    return overrides
