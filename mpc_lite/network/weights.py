"""Checkpoints: safetensors files that carry the recipe they were trained with, written whole or not at all.

One format serves both stages: a stage-1 checkpoint holds the whole network too, its head as initialised. The file's
metadata has one entry, `mpc_lite`, with JSON: `version, size, head, recipe, fingerprint` and whatever facts the writer
adds (`stage`, `step`, …). Loading is strict: a checkpoint of another architecture is refused, with every tensor that
does not fit named; so is one whose words or values cannot be (`network.checks`), or whose tensors are not those it was
written with.
"""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import absent, place, write_atomic
from mpc_lite.network.checks import LONGEST_FACTS, check_facts
from mpc_lite.network.hub import PREFIX, hub_file
from mpc_lite.provenance import read_json

PRETRAINED = Path(__file__).parents[1] / "pretrained"
_ADVICE = "train or download it anew"
ENCODER_ONLY = ("initial", "pretrain")  # stages whose weights have a head that has learnt nothing


def pretrained_names() -> list[str]:
    """Names of the shipped weights, such as `lite`, `lite-stage1`, `lite-initial`."""
    return sorted(path.stem for path in PRETRAINED.glob("*.safetensors"))


def pretrained_file(name: str) -> Path:
    """The file of shipped weights. InputError, naming those that exist, if there is none of that name."""
    if name not in pretrained_names():
        shipped = ", ".join(pretrained_names()) or "none in this installation"
        raise InputError(f"no shipped weights '{shown(name)}' (shipped: {shipped}), and no file of that name either")
    return PRETRAINED / f"{name}.safetensors"


def save_weights(path: str | Path, model: nn.Module, /, recipe: dict[str, Any], **facts: Any) -> str:
    """Write a checkpoint atomically and return its sha256 (hexadecimal).

    recipe and facts, of any names, are stored as JSON inside the file; a finished file appears under `path`, or an
    earlier one stays as it was. Equal tensors, recipe and facts give equal bytes. InputError if the file cannot be
    written, and for facts of megabytes, which `read_facts` refuses.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    about = {
        "version": metadata.version("mpc-lite"),
        "size": model.size,
        "head": model.head,
        "recipe": recipe,
        "fingerprint": fingerprint(model),
        **facts,
    }
    data = safetensors.torch.save(tensors, metadata={"mpc_lite": json.dumps(about, sort_keys=True)})
    if (header := int.from_bytes(data[:8], "little")) > LONGEST_FACTS:
        raise InputError(
            f"cannot write {path}: what it would say of itself and its tensors has {header} bytes, and {LONGEST_FACTS} "
            "are read; make it from a file that says less of itself"
        )
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def check_replaces(out: str | Path, of: str | Path | None) -> None:
    """InputError where `out` holds weights that were trained, and are not those of `of` (a name or a file), from which
    the ones to write are made: no run of the same command would bring them back."""
    if not os.path.isfile(out):
        return
    try:
        there = read_facts(Path(out).absolute())
    except InputError:  # no weights
        return
    own = None if of is None else read_facts(of).get("fingerprint")
    if there.get("recipe") and there.get("fingerprint") != own:
        advice = "" if of is None else f"if you mean these, say --weights {shown(out, 200)}, else "
        raise InputError(
            f"{shown(out, 200)} holds other weights, trained by recipe {shown(there['recipe'].get('name', '?'))}, and "
            f"would be replaced; {advice}give another name"
        )


def read_facts(name_or_file: str | Path) -> dict[str, Any]:
    """What a checkpoint says about itself: `version, size, head, recipe` and the facts given to `save_weights`.

    Only the file's header is read. InputError as for `load_weights`.
    """
    with _opened(name_or_file) as (path, file):
        return _facts(path, file)


def weights_sha256(name_or_file: str | Path) -> str:
    """sha256 (hexadecimal) of a file of weights, however it is named. InputError as `load_weights` raises it."""
    return hashlib.sha256(located(name_or_file).read_bytes()).hexdigest()


def network_of(name_or_file: str | Path) -> str:
    """What tells a network from others, whatever else its file says: the fingerprint of its tensors."""
    return read_facts(name_or_file).get("fingerprint") or weights_sha256(name_or_file)


def load_strict(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into the model if, and only if, names and shapes agree without exception.

    InputError otherwise, naming missing, unexpected and mis-shaped tensors, five of each where there are more than
    ten; the model is then untouched.
    `source` is what the message calls the tensors' origin.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensor_shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    shapes = [
        f"{name} (found {tensor_shapes[name]}, expected {expected[name]})"
        for name in expected
        if name in tensor_shapes and tensor_shapes[name] != expected[name]
    ]
    groups = {
        "missing": [name for name in expected if name not in tensor_shapes],
        "unexpected": [name for name in tensor_shapes if name not in expected],
        "of another shape": shapes,
    }
    if any(groups.values()):
        sized = hasattr(model, "size") and hasattr(model, "head")  # an MPC
        what = f"MPC '{model.size}' with head '{model.head}'" if sized else type(model).__name__
        lines = [
            f"{len(names)} {kind}: {some(names, 5 if len(names) > 10 else 10)}"
            for kind, names in groups.items()
            if names
        ]
        raise InputError(f"{source} does not fit {what}, nothing was loaded\n  " + "\n  ".join(lines))
    model.load_state_dict(tensors)


def located(name_or_file: str | Path) -> Path:
    """The file of weights that a shipped name, a path or a hub's name stands for. InputError where there is none."""
    if str(name_or_file).startswith("hf:/"):  # a Path has lost one slash
        return hub_file(re.sub("^hf:/+", PREFIX, str(name_or_file)))
    path = place(name_or_file)
    if str(name_or_file) in pretrained_names() or not os.path.exists(path):  # False for impossible names as well
        if path.suffix or len(path.parts) != 1:  # spelt like a file
            raise InputError(
                f"weights file {shown(path, 200)} {absent(path)}; give a .safetensors file or a shipped name"
            )
        return pretrained_file(str(name_or_file))
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path} is {what}; expected a .safetensors file or one of: {', '.join(pretrained_names())}")
    return path


def read_weights(name_or_file: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint says about itself, and its tensors by name, on the CPU. InputError as for `load_weights`."""
    with _opened(name_or_file) as (path, file):
        return _facts(path, file), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


@contextmanager
def _opened(name_or_file: str | Path) -> Iterator[tuple[Path, safe_open]]:
    path = located(name_or_file)
    try:
        with open(path, "rb") as file:
            start, size = file.read(8), os.fstat(file.fileno()).st_size
        if path.suffix.lower() == ".onnx":
            raise InputError(f"{path} is an ONNX file; 'mpc-lite predict' takes it with --backend onnx")
        # "version https://git-lfs…": as the length that a safetensors file begins with it is endless.
        if start.startswith(b"vers"):
            raise InputError(f"{path} is a Git LFS pointer, not the weights; fetch them with 'git lfs pull'")
        if start.startswith((b"PK\x03\x04", b"\x80\x02\x8a\x0a")):  # how torch.save begins a file, now and formerly
            if path.suffix.lower() == ".state":
                raise InputError(
                    f"{path} is a checkpoint, from which a training goes on; give a .safetensors file of it"
                )
            if start[:2] == b"PK" and not _holds_pickle(path):
                raise InputError(f"{path} is a ZIP archive; unpack it, and give the .safetensors file in it")
            raise InputError(
                f"{path} is a PyTorch pickle; expected a safetensors file that mpc_lite wrote. "
                f"If it is a checkpoint of the released code: mpc-lite convert {path} --out FILE"
            )
        if LONGEST_FACTS < (header := int.from_bytes(start, "little")) <= size:
            raise InputError(
                f"{path} says {header} bytes of itself and its tensors, expected at most {LONGEST_FACTS}; {_ADVICE}"
            )
        with named_in_utf_8(path) as known, safe_open(known, framework="pt") as file:
            yield path, file
    except InputError:
        raise
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error}); {_ADVICE}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:  # types that this torch does not know
        raise InputError(f"{path} holds what cannot be read as tensors ({error}); {_ADVICE}") from error


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("data.pkl") for name in file.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # damaged; convert tells
        return True


@contextmanager
def named_in_utf_8(path: Path) -> Iterator[str | Path]:
    """A file by a name that safetensors takes: a path in another encoding than UTF-8, as on old disks, is none."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield path


def _facts(path: Path, file: safe_open) -> dict[str, Any]:
    """What stands in the header, checked; no tensor is read."""
    try:
        about = read_json((file.metadata() or {}).get("mpc_lite", "null"))
    except ValueError:
        about = None
    return check_facts(str(path), about, _ADVICE)


def fingerprint(model: nn.Module) -> str:
    """sha256 of a network's weights and buffers: names, shapes, types and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
