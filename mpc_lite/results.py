"""What a run scored: results.json for programs and for collecting, and the table on the terminal."""

from __future__ import annotations

import json
import platform
import subprocess
import time
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from mpc_lite.config import InputError
from mpc_lite.evaluate import evaluate
from mpc_lite.localizer import Localizer
from mpc_lite.reproduce import Run
from mpc_lite.tables import cells, columns, comparison, image_level_line, protocol_line, set_rows, wide
from mpc_lite.training import choose_accelerator
from mpc_lite.weights import pretrained_names, write_atomic

PACKAGES = ("mpc-lite", "torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "scikit-image")


# --------------------------------------------------------------------------------------------- results of the book


def repository() -> str | None:
    """The public address of the repository, from the package's metadata; None while it is not known."""
    urls = dict(entry.split(", ", 1) for entry in metadata.metadata("mpc-lite").get_all("Project-URL") or [])
    return urls.get("Repository")


def book_result(name: str) -> dict[str, Any]:
    """A committed result of the book, book/results/NAME.json: from the clone, or fetched where only the package is.

    Raises:
        InputError: the result is not in the clone, or there is no clone and the repository cannot be reached.
    """
    folder = Path(__file__).resolve().parent.parent / "book" / "results"
    if folder.is_dir():
        if not (folder / f"{name}.json").is_file():
            known = ", ".join(sorted(p.stem for p in folder.glob("*.json")))
            raise InputError(f"no result '{name}' in book/results; there are {known}")
        return json.loads((folder / f"{name}.json").read_text())
    address = repository()
    if address is None:
        raise InputError(
            f"the result '{name}' lies in the repository's book/results, and this installed package does not know "
            "its repository; run in a clone, installed with pip install -e ."
        )
    raw = address.rstrip("/").replace("https://github.com/", "https://raw.githubusercontent.com/")
    url = f"{raw}/v{metadata.version('mpc-lite')}/book/results/{name}.json"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        hint = f"run in a clone of {address} instead, installed with pip install -e ."
        raise InputError(f"{url}: {error}; {hint}") from error


# ---------------------------------------------------------------------------------------------------- results.json


def save_results(run: Run, table: dict, grids: dict[str, dict] | None = None) -> dict:
    """Write OUT/results.json from what `evaluate` returned, and `robustness` for each grid, and return it.

    Schema 1: name, profile, recipe, seed, parameters, protocol, device, versions, commit (of the clone, null outside
    one), seconds (an interrupted run counts its training before), manifest {name, sha256}, sets, average, image_level,
    errors (how many rows could not be read and are in no figure), and with grids robustness: {GRID: cells}.
    Scores are in 0–1. Nothing in it names a path of the machine.
    """
    pick = ("n", "f1", "iou", "auc", "f1_ci95")
    sets = {
        source: {
            **{key: s[key] for key in pick},
            "baselines": {name: {"f1": b["f1"], "iou": b["iou"]} for name, b in s["baselines"].items()},
        }
        for source, s in table["sets"].items()
    }
    results = {
        "schema": 1,
        "name": run.name,
        "profile": run.recipe.profile,
        "recipe": _without_paths(run.recipe.as_dict()),
        "seed": run.recipe.seed,
        "parameters": _without_paths(run.parameters),
        "protocol": table["protocol"],
        "device": device_name(run),
        "versions": versions(),
        "commit": commit(),
        "seconds": round(run.earlier + time.monotonic() - run.started, 1),
        "manifest": table["manifest"],
        "sets": sets,
        "average": {key: table["average"][key] for key in ("f1", "iou", "weighting")},
        "image_level": {
            key: table["image_level"][key] for key in ("auc", "false_alarm_rate", "n_authentic", "n_tampered")
        },
        "errors": len(table["errors"]),
    }
    if grids:
        results["robustness"] = {grid: scored["cells"] for grid, scored in grids.items()}
    write_atomic(run.out / "results.json", (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode())
    return results


def _without_paths(value: Any) -> Any:
    """Absolute paths become the names of their files: results travel to other machines."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def device_name(run: Run) -> str:
    """The device that trains and scores: `cpu`, `mps`, or `cuda (NVIDIA …)`."""
    device = choose_accelerator(run.torch_device, "fp32").device
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def commit() -> str | None:
    """The commit of the clone that the package runs from, with `-dirty` after it where files were changed since."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        call = ["git", "-C", str(root), *words]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "mpc_lite/__init__.py")  # an installed package may lie in another's clone
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def score_shipped(run: Run, manifest: str | Path, name: str = "lite") -> dict | None:
    """What `evaluate` says about the shipped weights on the same images, and `input`, how their own recipe feeds them
    photographs: {mode, size, overlap}; None when this version ships none."""
    if name not in pretrained_names():
        return None
    localizer = Localizer.from_pretrained(name, device=run.torch_device)
    way = {"mode": localizer.mode, "size": localizer.size, "overlap": localizer.overlap}
    return {**evaluate(localizer, manifest, run.recipe.evaluate.protocol), "input": way}


def save_shipped(run: Run, table: dict | None, name: str = "lite") -> dict:
    """Write OUT/shipped.json: the same figures of the shipped weights, null where this version ships none."""
    keys = ("input", "sets", "average", "image_level")
    kept = {"weights": name, "table": table and {key: table[key] for key in keys}}
    write_atomic(run.out / "shipped.json", (json.dumps(kept, indent=2) + "\n").encode())
    return kept


# ----------------------------------------------------------------------------------------------------- the terminal


def terminal_table(out: str | Path) -> Table:
    """The table of a finished run, for `rich` to print; without a row of shipped weights where OUT/shipped.json is not
    there."""
    out = Path(out)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    file = out / "shipped.json"
    shipped = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    title = f"{results['name']}, profile {results['profile']}, seed {results['seed']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    header, *rows = set_rows(results) if wide(results) else [columns(results)]
    for name in header:
        words = name in ("method", "input", "test set")
        longest = max(map(len, name.split()))
        table.add_column(name, justify="left" if words else "right", no_wrap=words, min_width=longest)
    notes = []
    for row in rows:
        table.add_row(*row)
    for row in [] if wide(results) else comparison(results, shipped):
        if row["note"]:
            notes.append(f"{row['method']}: {row['note']}.")
        else:
            table.add_row(row["method"], *cells(row))
    table.caption = "\n".join([*notes, protocol_line(results), image_level_line(results)])
    table.caption_justify = "left"
    return table
