"""Checkpoints: safetensors files that carry the recipe they were trained with, written whole or not at all.

One format serves both stages: a stage-1 checkpoint holds the whole network too, its head as initialised. The file's
metadata has one entry, `mpc_lite`, with JSON: `version, size, head, recipe` and whatever facts the writer adds
(`stage`, `step`, …). Loading is strict: a checkpoint of another architecture is refused, with every tensor that does
not fit named.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mpc_lite.errors import InputError, some
from mpc_lite.files import place, write_atomic
from mpc_lite.network.head import HEADS
from mpc_lite.network.hrformer import SIZES

PRETRAINED = Path(__file__).parents[1] / "pretrained"
ENCODER_ONLY = ("initial", "pretrain")  # stages whose weights have a head that has learnt nothing


def pretrained_names() -> list[str]:
    """Names of the shipped weights, such as `lite`, `lite-stage1`, `lite-initial`."""
    return sorted(path.stem for path in PRETRAINED.glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    """The file of shipped weights. InputError, naming those that exist, if there is none of that name."""
    if name not in pretrained_names():
        shipped = ", ".join(pretrained_names()) or "none in this installation"
        raise InputError(f"no shipped weights '{name}' (shipped: {shipped}), and no file of that name either")
    return PRETRAINED / f"{name}.safetensors"


def save_weights(path: str | Path, model: nn.Module, recipe: dict[str, Any], **facts: Any) -> str:
    """Write a checkpoint atomically and return its sha256 (hexadecimal).

    recipe and facts are stored as JSON inside the file; a finished file appears under `path`, or an earlier one stays
    as it was. Equal tensors, recipe and facts give equal bytes. InputError if the file cannot be written.
    """
    about = {
        "version": metadata.version("mpc-lite"),
        "size": model.size,
        "head": model.head,
        "recipe": recipe,
        **facts,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(tensors, metadata={"mpc_lite": json.dumps(about, sort_keys=True)})
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def read_facts(name_or_file: str | Path) -> dict[str, Any]:
    """What a checkpoint says about itself: `version, size, head, recipe` and the facts given to `save_weights`."""
    return read_weights(name_or_file)[0]


def load_strict(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into the model if, and only if, names and shapes agree without exception.

    InputError otherwise, naming missing, unexpected and mis-shaped tensors, ten of each; the model is then untouched.
    `source` is what the message calls the tensors' origin.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    shapes = [
        f"{name} (found {found[name]}, expected {expected[name]})"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    groups = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    if any(groups.values()):
        sized = hasattr(model, "size") and hasattr(model, "head")  # an MPC
        what = f"MPC '{model.size}' with head '{model.head}'" if sized else type(model).__name__
        lines = [f"{len(names)} {kind}: {some(names)}" for kind, names in groups.items() if names]
        raise InputError(f"{source} does not fit {what}, nothing was loaded\n  " + "\n  ".join(lines))
    model.load_state_dict(tensors)


def _locate(name_or_file: str | Path) -> Path:
    path = place(name_or_file)
    if str(name_or_file) in pretrained_names() or not path.exists():
        if path.suffix or len(path.parts) != 1:  # spelt like a file
            raise InputError(f"weights file {path} does not exist")
        return pretrained_file(str(name_or_file))
    if not path.is_file():
        raise InputError(f"{path} is a folder; expected a .safetensors file or one of: {', '.join(pretrained_names())}")
    return path


def read_weights(name_or_file: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint says about itself, and its tensors by name, on the CPU. InputError as for `load_weights`."""
    path = _locate(name_or_file)
    advice = "train or download it anew"
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start in (b"PK\x03\x04", b"\x80\x02\x8a\x0a"):  # how torch.save begins a file, now and formerly
            raise InputError(
                f"{path} is a PyTorch pickle; expected a safetensors file that mpc_lite wrote. "
                f"If it is a checkpoint of the released code: mpc-lite convert {path} --out FILE"
            )
        with safe_open(path, framework="pt") as file:
            notes = (file.metadata() or {}).get("mpc_lite", "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error}); {advice}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        about = json.loads(notes)
    except ValueError:
        about = None
    if not isinstance(about, dict) or not {"size", "head", "recipe"} <= about.keys():
        raise InputError(f"{path} is a safetensors file, but does not say that mpc_lite wrote it; {advice}")
    for key, known in (("size", SIZES), ("head", HEADS)):
        if about[key] not in list(known):  # of any JSON type
            raise InputError(f"{path} holds a network of {key} {about[key]!r}; this version knows {', '.join(known)}")
    return about, tensors


def fingerprint(model: nn.Module) -> str:
    """sha256 of a network's weights and buffers: names, shapes, types and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
