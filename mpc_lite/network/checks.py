"""What a weight file may hold, before anything acts on it: its own words about itself, and its tensors.

Weights travel between strangers. A recipe in a file decides how large an image the network is given and in how many
tiles, a NaN makes every map empty, and another window index silently exchanges pixels: none of it is a matter of
names and shapes, which `weights.load_strict` compares.
"""

from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from itertools import chain
from typing import Annotated, Any, get_args

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from mpc_lite.errors import InputError, shown, some
from mpc_lite.network.head import ALL_HEADS
from mpc_lite.network.hrformer import SIZES
from mpc_lite.recipes.keys import Recipe, Section

# What stands for a key that a section must have and a file lacks.
STAND_INS = {"name": "unnamed", "lists": ["unnamed.csv"], "manifest": "unnamed.csv"}


MOST_SCORES, LONGEST_TEXT = 100_000, 1000  # of a calibration
MOST_VALUES = 150_000  # of a recipe, or of a calibration with its scores: pydantic makes a sentence for each wrong one
LONGEST_FACTS = 2**22  # bytes of all that a file says of itself and its tensors; with so many scores it has half of it


class _Calibration(Section):
    scores: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1, max_length=MOST_SCORES)
    photographs: str = Field(max_length=LONGEST_TEXT)
    mode: str
    size: int
    overlap: int


def check_facts(source: str, facts: Any, advice: str) -> dict[str, Any]:
    """The facts of a weight file, checked: `size` and `head` that this version has, `recipe` by the recipe's own model,
    `calibration` by what `inference.calibration` reads.

    Keys that this version does not know, and keys that are not there, pass: a file may be older or newer. `source` is
    what the message calls the file. InputError otherwise.
    """
    if not isinstance(facts, dict) or not {"size", "head", "recipe"} <= facts.keys():
        raise InputError(f"{source} is a safetensors file, but does not say that mpc_lite wrote it; {advice}")
    for key, known in (("size", SIZES), ("head", ALL_HEADS)):
        if facts[key] not in list(known):  # of any JSON type
            value = _short(facts[key])
            raise InputError(f"{source} holds a network of {key} {value}; this version knows {', '.join(known)}")
    for key in ("stage", "version", "fingerprint"):
        if not isinstance(facts.get(key, ""), str):
            raise InputError(f"{source} says {key} {_short(facts[key])} of itself, expected a text; {advice}")
    check_sections(source, facts, advice)
    return facts


def check_sections(source: str, facts: Mapping[str, Any], advice: str) -> None:
    """InputError unless a file's recipe, which decides over time and memory, and its calibration, where it has one,
    have values that those can have."""
    # A recipe may lack keys or have more, of another version; a calibration is whole or not there.
    wrong = _wrong("recipe", Recipe, _of_this_version(Recipe, facts["recipe"])) + _wrong_calibration(facts)
    if wrong:
        with suppress(metadata.PackageNotFoundError):  # of a folder on PYTHONPATH nobody knows the version
            if (theirs := facts.get("version")) and theirs != (ours := metadata.version("mpc-lite")):
                advice = f"mpc_lite {shown(theirs)} wrote it, and this is {ours}: read it with that version"
        raise InputError(f"{source} says what cannot be: {'; '.join(wrong[:10])}; {advice}")


def check_calibration(source: str, facts: Any) -> None:
    """InputError unless facts, which somebody may have made up, are a mapping, and a calibration among them is one."""
    if not isinstance(facts, Mapping):
        raise InputError(f"{source} of type {type(facts).__name__}; expected what weights.read_facts returns")
    if wrong := _wrong_calibration(facts):
        raise InputError(f"{source} say what cannot be: {'; '.join(wrong[:10])}; give what weights.read_facts returns")


def _wrong_calibration(facts: Mapping[str, Any]) -> list[str]:
    found = facts.get("calibration")
    return [] if found is None else _wrong("calibration", _Calibration, found)


def _of_this_version(section: type[Section], value: Any) -> Any:
    """`value` with the keys that the section has and no others, those that it must have and lacks filled in.

    Before it is validated, not by passing over such errors afterwards: where one field is wrong, pydantic leaves out
    the rules that hold between fields, and an unknown key would switch them off.
    """
    if not isinstance(value, dict):
        return value
    whole = {}
    for key, field in section.model_fields.items():
        if key in value:
            kinds = (field.annotation, *get_args(field.annotation))  # a section may be optional
            inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
            whole[key] = _of_this_version(inner, value[key]) if inner else value[key]
        elif field.is_required():
            whole[key] = STAND_INS[key]
    return whole


def _wrong(name: str, section: type[Section], value: Any) -> list[str]:
    """What a section's own model refuses in `value`, a line each."""
    level, values = [value], 0
    while level and values <= MOST_VALUES:
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        values, level = values + len(level), list(chain(*inner))
    if values > MOST_VALUES:
        return [f"{name}: more than {MOST_VALUES} values"]
    try:
        section.model_validate(value)
    except ValidationError as error:
        return [f"{'.'.join([name, *map(shown, item['loc'])])}: {_told(item)}" for item in error.errors()]
    return []


def _told(item: Any) -> str:
    """One of pydantic's errors in words."""
    if item["type"] == "value_error":  # a rule of ours, which says what it found
        return shown(item["msg"].removeprefix("Value error, "), 600)
    return f"found {_short(item['input'])}; {shown(item['msg'].lower(), 600)}"


def check_values(source: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], advice: str) -> None:
    """What `load_strict`, which looks at names and shapes, would let through: types, NaN, other window positions.

    own: the network's tensors by name. InputError, naming those that differ.
    """
    if torch.get_default_dtype() != torch.float32:  # what the network was just built in
        default = torch.get_default_dtype()
        raise InputError(
            f"{source}: torch's default type is {default}, and weights are float32; set it back by "
            "torch.set_default_dtype(torch.float32)"
        )
    wrong = []
    for name, like in own.items():
        value = tensors.get(name)
        if value is None or value.shape != like.shape:
            continue  # load_strict's matter
        if (value.dtype, value.layout, value.device) != (like.dtype, like.layout, like.device):
            kind = f"{value.dtype} {value.layout} {value.device}"
            wrong.append(f"{name} (found {kind}, expected {like.dtype} {like.layout} {like.device})")
        elif not torch.isfinite(value).all():
            wrong.append(f"{name} (found NaN or infinite values)")
        elif name.endswith("relative_position_index") and not torch.equal(value, like):
            wrong.append(f"{name} (found other positions than those of a 7×7 window)")
        elif name.endswith("running_var") and (value < 0).any():
            wrong.append(f"{name} (found a variance below 0)")
    if wrong:
        raise InputError(f"{source}: {len(wrong)} tensors cannot be used: {some(wrong, 5)}\n  {advice}")


def _short(value: Any) -> str:
    """A value of a file in a message, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
