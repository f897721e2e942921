"""A trained network as one ONNX file: for the page in the book, and for every runtime that is not PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mpc_lite.errors import InputError, shown
from mpc_lite.files import open_file, write_atomic
from mpc_lite.network.checks import LONGEST_FACTS
from mpc_lite.network.model import load_weights
from mpc_lite.network.weights import network_of, read_facts, weights_sha256
from mpc_lite.provenance import read_json

HOW_TO_INSTALL = "install them with: pip install 'mpc-lite[onnx]'"


def export(weights: str | Path, out: str | Path, results: Sequence[str | Path] = ()) -> str:
    """Write the network of `weights` (a shipped name or a file) to `out`, whole or not at all; returns its sha256.

    One self-contained file, float32, with the inputs, outputs and operators of `graph.network_graph`. Its metadata are
    JSON values: what the checkpoint says about itself (`version, size, head, recipe, …`), the `sha256` of its weights
    file, `opset`, and in `results` the files that `mpc-lite evaluate --json` wrote for these weights. Of a path in the
    recipe only the last part is kept. Equal inputs give equal bytes. InputError without the packages, for weights or
    results that cannot be read, and for a file that cannot be written.
    """
    data = export_bytes(weights, [table for path in results for table in _results_of(weights, path)])
    write_atomic(out, data)
    return hashlib.sha256(data).hexdigest()


def export_bytes(weights: str | Path, results: Sequence[dict[str, Any]] = ()) -> bytes:
    """The file that `export` writes."""
    try:
        from mpc_lite.inference.graph import OPSET, network_graph
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise InputError(f"making an ONNX file needs the package onnx; {HOW_TO_INSTALL}") from None
    facts = {**read_facts(weights), "sha256": weights_sha256(weights), "opset": OPSET, "results": list(results)}
    if (length := len(json.dumps(facts))) > LONGEST_FACTS:
        raise InputError(
            f"what an ONNX file of {weights} would say of itself has {length} letters, and {LONGEST_FACTS} are read; "
            "give fewer or shorter results"
        )
    return network_graph(load_weights(weights), without_folders(facts))


def _results_of(weights: str | Path, path: str | Path) -> list[dict[str, Any]]:
    """`read_results` of a file that says it is of these weights."""
    tables, scored = read_results(path), read_json(Path(path).read_bytes())
    for table in scored.get("protocols", {"": scored}).values():
        if "maps" in table:
            raise InputError(f"{path} holds the scores of another detector's maps; give those of 'mpc-lite evaluate'")
        if table.get("weights") != network_of(weights):
            what = "of other weights" if table.get("weights") else "and does not say of which weights"
            advice = f"give those of 'mpc-lite evaluate --weights {weights} --json'"
            raise InputError(f"{path} holds scores {what}; {advice}")
    return tables


def without_folders(value: Any) -> Any:
    """The same JSON value with each string that is an absolute or home path cut to its last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(entry) for entry in value]
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute() or value.startswith("~"):
                return path.name
    return value


def check_results(path: Path | None) -> None:
    """InputError for a file to write that is there and holds anything but such results: a set's record, a run's."""
    if path and path.is_file() and path.stat().st_size:
        try:
            read_results(path)
        except InputError:
            raise InputError(
                f"{shown(path, 200)} is there, and neither evaluate nor score wrote it; give another name"
            ) from None


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """What a file of `mpc-lite evaluate --json` says of each of its protocols; InputError where it is another file."""
    keys = ("protocol", "manifest", "split", "sets", "average", "image_level")
    try:
        with open_file(path) as file:
            content = read_json(file.read())
        tables = content["protocols"].values() if "protocols" in content else [content]
        return [{key: table[key] for key in keys} for table in tables]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is not a file that 'mpc-lite evaluate --json' wrote") from None
