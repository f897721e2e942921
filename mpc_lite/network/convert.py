"""Official checkpoints made into files of this package: read without running anything, and accounted for key by key.

Three layouts exist, all of HRFormer-B. Stage 1 of the released code holds the encoder, its names without `encoder.`
(2236 tensors). Stage 2 holds `encoder.*` and the head `decoder.*`, of four or five convolutions; the shape of
`decoder.classifier.11.weight` tells which. HRFormer's ImageNet file holds the classification network under `model`:
its heads are not used, and the four projections `convs.*` (24 tensors) are not in it.

Files that others saved anew are unwrapped first: the weights under `state_dict` or `model`, names with `module`
(of DataParallel, and of averaged models, whose count `n_averaged` is left out) or `_orig_mod` (of torch.compile) in
them, names that all begin with `model.` or `net.` (of a trainer's module that holds the network).

What a file lacks is initialised with seed 0 and listed, in the facts of the converted file too. A head that is listed
there has learnt nothing: such a file is a start for training, like `lite-stage1`.
"""

import hashlib
import re
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpc_lite.errors import InputError, shown, some
from mpc_lite.files import check_output, open_file
from mpc_lite.network.checks import check_values
from mpc_lite.network.model import MPC
from mpc_lite.network.saved_file import asked_for, check_saved
from mpc_lite.network.weights import load_strict, save_weights

# sha256 -> (name, bytes), from the released repository's history (Git LFS pointers)
KNOWN = {
    "5a8a255239a4198b48ef7f0450d4b66d4c63f55d5be2aeb842c6ba14b0571140": ("MPC_CATNet_stage1_weights.pth", 179_812_573),
    "cda63e3e13bce33029cf6ac4ea4e38816996ec63d6ef76d580991ac6805045d3": ("MPC_CATNet_stage2_weights.pth", 182_674_234),
    "5b62e5c08bcc2acfb9f5d1930ac9b278a7d0b26b538ddaf44b8aebc5d2edf900": ("hrt_base.pth", 607_411_218),
}
LAYOUTS = {  # name -> (what it is, stage that the converted file is the result of)
    "stage1": ("stage 1 of the released code, an encoder without prefix", "pretrain"),
    "stage2": ("stage 2 of the released code, encoder and head", "finetune"),
    "imagenet": ("HRFormer-B trained on ImageNet", "initial"),
}
HEAD_KEY = "decoder.classifier.11.weight"
HEAD_SHAPES = {(1, 128, 1, 1): "4conv", (64, 128, 1, 1): "5conv"}
UNUSED_HEADS = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
SEED = 0  # of what a file lacks: equal files give equal bytes
# The ImageNet file keeps its training configuration, an object of yacs. It is read as the plain dictionary it is.
INERT = [(OrderedDict, "yacs.config.CfgNode")]
ADVICE = (
    "expected the HRFormer-B checkpoint of stage 1 or stage 2 of the released code, or HRFormer's hrt_base.pth; "
    "check which file this is, or download it anew"
)


def convert(file: str | Path, out: str | Path) -> dict[str, Any]:
    """Convert an official checkpoint into a file that `MPC.from_pretrained` and every command load.

    Returns the facts stored in it (see `read_official`) and `size, head, out: {file, sha256}`. The same input gives
    the same bytes. InputError: see `read_official`; `out` that cannot be written or is the input itself.
    """
    check_output(out, [file])
    model, facts = read_official(file)
    digest = save_weights(out, model, {}, **facts)  # no recipe: this package did not train it
    return {**facts, "size": model.size, "head": model.head, "out": {"file": str(out), "sha256": digest}}


def read_official(file: str | Path) -> tuple[MPC, dict[str, Any]]:
    """The network in an official checkpoint, on the CPU, and its facts; nothing is written, nothing is run.

    Facts: `source: {file, bytes, sha256, known}` (known: the name of a file recognised by its sha256, or None),
    `layout` (stage1, stage2 or imagenet), `stage` (pretrain, finetune or initial), `loaded` (number of tensors),
    `unused` (names in the file that MPC has no place for), `initialised` (names of tensors that the file lacks).

    InputError: not a file of torch.save, or damaged; what would take memory or time out of all proportion to the file
    (`saved_file`); names that are no texts; a pickle that asks for more than plain data; another layout;
    missing, foreign or mis-shaped tensors, ten of each named; tensors of another type, with NaN, or with other
    window positions.
    """
    path = Path(file)
    state, source = _read(path)
    if isinstance(state, dict) and {"stage", "recipe", "optimizer"} <= state.keys():
        raise InputError(
            f"{path} is a checkpoint of a training by mpc_lite, which goes on from it with --resume; weights are the "
            ".safetensors files that its stages write, each after its first validation"
        )
    layout, tensors, unused = sort_tensors(path, state)
    odd = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if odd:
        raise InputError(f"{path} holds entries that are no tensors: {some(odd)}\n  {ADVICE}")
    head = _head(path, tensors) if layout == "stage2" else "4conv"
    with torch.random.fork_rng(devices=[]):  # a seeded program must not notice that something was converted
        torch.manual_seed(SEED)
        model = MPC.build("base", head)
    part = model if layout == "stage2" else model.encoder
    own = part.state_dict()
    lacking = {n: t for n, t in own.items() if n.startswith("convs.")} if layout == "imagenet" else {}
    if doubled := lacking.keys() & tensors.keys():
        raise InputError(
            f"{path} has an ImageNet file's layout, but also {some(sorted(doubled))}: such files have no "
            f"projections\n  {ADVICE}"
        )
    check_values(str(path), own, tensors, ADVICE)
    try:
        load_strict(part, {**lacking, **tensors}, source=str(path))
    except InputError as error:
        raise InputError(f"{error}\n  {ADVICE}") from None
    initialised = [f"encoder.{name}" for name in lacking]
    if layout != "stage2":
        initialised += [f"decoder.{name}" for name in model.decoder.state_dict()]
    facts = {
        "source": source,
        "layout": layout,
        "stage": LAYOUTS[layout][1],
        "loaded": len(tensors),
        "unused": unused,
        "initialised": initialised,
    }
    return model, facts


def summary(facts: dict[str, Any]) -> str:
    """What `convert` returned, for a terminal: a line for each thing that a reader may have to check."""
    source = facts["source"]
    same_size = [name for name, size in KNOWN.values() if size == source["bytes"]]
    known = "not a file known by its sha256"
    if source["known"]:
        known = f"recognised as {source['known']}"
    elif same_size:
        known = f"as long as {same_size[0]}, but with another sha256: not that file, or changed since"
    groups = Counter(name.partition(".")[0] for name in facts["unused"])
    unused = some(f"{name} ({n} tensors)" if n > 1 else name for name, n in groups.items())
    lines = [
        f"{source['file']}: {source['bytes']} bytes, sha256 {source['sha256']}, {known}",
        f"layout: {LAYOUTS[facts['layout']][0]}; network {facts['size']}, head {facts['head']}",
        f"loaded: {facts['loaded']} tensors",
        f"in the file, not used: {unused or 'nothing'}",
        f"not in the file, newly initialised: {', '.join(facts['initialised']) or 'nothing'}",
    ]
    if facts["initialised"]:
        command = "finetune" if facts["layout"] == "stage1" else "pretrain"
        lines.append(f"a start for training, not a detector: mpc-lite {command} --weights {facts['out']['file']} …")
    return "\n".join([*lines, f"written: {facts['out']['file']}, sha256 {facts['out']['sha256']}"])


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    """The unpickled content and `source`. Digest and content come from one open file."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a checkpoint, a .pth file")
    try:
        file = open_file(path)
        digest = hashlib.sha256()
        start = file.read(24)
        file.seek(0)
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    except (OSError, ValueError) as error:  # ValueError: what no system takes as a path
        raise InputError(f"cannot read {shown(path, 200)}: {getattr(error, 'strerror', None) or error}") from error
    with file:
        source = {"file": path.name, "bytes": file.tell(), "sha256": digest.hexdigest()}
        source["known"] = KNOWN.get(source["sha256"], (None,))[0]
        file.seek(0)
        if start == b"version https://git-lfs.":
            raise InputError(f"{path} is a Git LFS pointer; expected the checkpoint it stands for, download that one")
        try:
            check_saved(file, str(path), source["bytes"])
            with torch.serialization.safe_globals(INERT):
                return torch.load(file, map_location="cpu", weights_only=True), source
        except InputError:
            raise
        except Exception as error:  # there is hardly one that damaged or crafted bytes cannot cause
            # PyTorch's own text is not passed on: it tells people how to load the file all the same.
            if match := re.search(r"GLOBAL (\S+)", str(error)):
                raise asked_for(str(path), match[1]) from None
            sizes = ", ".join(f"{name} has {size}" for name, size in KNOWN.values())
            raise InputError(
                f"{path} ({source['bytes']} bytes) is damaged or not a file of torch.save; download it anew and "
                f"compare the size ({sizes} bytes)"
            ) from error


def sort_tensors(path: Path, state: Any) -> tuple[str, dict[str, Any], list[str]]:
    """(layout, what should be loaded, names of what is not used)."""

    def any_name(names: Any, prefix: str) -> bool:
        return isinstance(names, dict) and any(n.startswith(prefix) for n in names)

    network, beside = _unwrapped(path, state)
    if any_name(network, "encoder."):
        return "stage2", dict(network), beside
    if any_name(network, "transition1."):  # a name of the HRFormer itself, so there is no prefix
        unused = [n for n in network if n.startswith(UNUSED_HEADS)]
        if not unused and (network is state or any_name(network, "convs.")):
            return "stage1", dict(network), beside
        tensors = {n: value for n, value in network.items() if n not in unused}
        return "imagenet", tensors, unused + beside
    contents = f"a {type(state).__name__}"
    if isinstance(state, dict):
        contents = f"{len(state)} entries: {some(state, 5)}"
    raise InputError(f"{path} has none of the known layouts (found {contents})\n  {ADVICE}")


def _unwrapped(path: Path, state: Any) -> tuple[Any, list[str]]:
    """The names and values inside what `torch.save` callers put around them, and the names of what lay beside."""
    beside: list[str] = []
    state = _named(path, state)
    for _ in range(8):  # deeper than anybody wraps
        if not isinstance(state, dict):
            break
        inner = next((k for k in ("state_dict", "model_state_dict", "model") if isinstance(state.get(k), dict)), None)
        averaged = [n for n in state if n == "n_averaged"]
        plain = {_without_wrappers(n): n for n in state if n not in averaged}
        prefix = next((p for p in ("model.", "net.") if plain and all(n.startswith(p) for n in plain)), "")
        if inner:
            beside += [name for name in state if name != inner]
            state = _named(path, state[inner])
        elif len(plain) + len(averaged) < len(state):  # two names became one: which of them is meant?
            break
        elif averaged or prefix or list(plain) != list(state):
            beside += averaged
            state = {name.removeprefix(prefix): state[old] for name, old in plain.items()}
        else:
            break
    return state, beside


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def _named(path: Path, state: Any) -> Any:
    if isinstance(state, dict) and not all(isinstance(name, str) for name in state):
        raise InputError(f"{path} has entries whose names are no texts\n  {ADVICE}")
    return state


def _head(path: Path, tensors: dict[str, Tensor]) -> str:
    shape = tuple(tensors[HEAD_KEY].shape) if HEAD_KEY in tensors else None
    if shape not in HEAD_SHAPES:
        expected = " or ".join(f"{shape} ({head})" for shape, head in HEAD_SHAPES.items())
        raise InputError(f"{path}: {HEAD_KEY} is {shape or 'missing'}; expected {expected}\n  {ADVICE}")
    return HEAD_SHAPES[shape]
