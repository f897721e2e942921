"""What a run scored: results.json for programs and for collecting, and the table on the terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from mpc_lite.errors import printable, shown
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.files import write_atomic
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.devices import choose_device, device_name
from mpc_lite.network.weights import pretrained_names
from mpc_lite.provenance import record, without_paths
from mpc_lite.reproduce.run import Run, hub_digests, inputs_digest
from mpc_lite.reproduce.tables import cells, columns, comparison, image_level_line, protocol_line, set_rows, wide

# ---------------------------------------------------------------------------------------------------- results.json


def save_results(
    run: Run, table: dict, grids: dict[str, dict] | None = None, more: dict[str, dict] | None = None
) -> dict:
    """Write OUT/results.json from what `evaluate` returned, and `robustness` for each grid, and return it.

    Schema 1: name, profile, recipe, seed, parameters, where these name files inputs (a digest of the files) and hub
    ({NAME: sha256}), protocol, device, versions, commit (of the clone, null outside one), seconds (an interrupted run
    counts its training before), manifest {name, sha256}, sets, average, image_level, errors (how many rows could not be
    read and are in no figure), with grids robustness: {GRID: cells}, and what `more` holds
    (`neighbour_scores.neighbour_scores`). Scores are in 0–1. Nothing in it names a path of the machine.
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
        "recipe": without_paths(run.recipe.as_dict()),
        "seed": run.recipe.seed,
        "parameters": without_paths(run.parameters),
        **({"inputs": digest} if (digest := inputs_digest(run)) else {}),
        **({"hub": files} if (files := hub_digests(run)) else {}),
        "protocol": table["protocol"],
        **record(device=device_name(choose_device(run.torch_device))),
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
    results |= more or {}
    write_atomic(run.out / "results.json", (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode())
    return results


def score_shipped(run: Run, manifest: str | Path, name: str = "lite2") -> dict | None:
    """What `evaluate` says about the shipped weights on the same images, and `input`, how their own recipe feeds them
    photographs: {mode, size, overlap}; None when this version ships none."""
    if name not in pretrained_names():
        return None
    localizer = Localizer.from_pretrained(name, device=run.torch_device)
    way = {"mode": localizer.mode, "size": localizer.size, "overlap": localizer.overlap}
    return {**evaluate(localizer, manifest, run.recipe.evaluate.protocol), "input": way}


def save_shipped(run: Run, table: dict | None, name: str = "lite2") -> dict:
    """Write OUT/shipped.json: the same figures of the shipped weights, null where this version ships none."""
    keys = ("input", "sets", "average", "image_level")
    contents = {"weights": name, "table": table and {key: table[key] for key in keys}}
    write_atomic(run.out / "shipped.json", (json.dumps(contents, indent=2) + "\n").encode())
    return contents


# ----------------------------------------------------------------------------------------------------- the terminal


def terminal_table(out: str | Path) -> Table:
    """The table of a finished run, for `rich` to print; without a row of shipped weights where OUT/shipped.json is not
    there."""
    out = Path(out)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    file = out / "shipped.json"
    shipped = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    title = f"{results['name']}, profile {results['profile']}, seed {results['seed']}"
    # Text, because in plain strings rich takes [words] of a source's name for its markup.
    table = Table(title=Text(printable(title)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    header, *rows = set_rows(results) if wide(results) else [columns(results)]
    for name in header:
        words = name in ("method", "input", "test set")
        longest = max(map(len, name.split()))
        table.add_column(Text(printable(name)), justify="left" if words else "right", no_wrap=words, min_width=longest)
    notes = []
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    for row in [] if wide(results) else comparison(results, shipped):
        if row["note"]:
            notes.append(f"{row['method']}: {row['note']}.")
        else:
            table.add_row(*(Text(shown(cell)) for cell in (row["method"], *cells(row))))
    table.caption = Text("\n".join(map(printable, [*notes, protocol_line(results), image_level_line(results)])))
    table.caption_justify = "left"
    return table


def scored_on(results: dict[str, Any]) -> str:
    """Of how many forgeries a run's scores are: by set where lists name them, together where each seed draws others."""
    counts = {source: scores["n"] for source, scores in sorted(results["sets"].items())}
    if (results["recipe"].get("evaluate") or {}).get("manifests"):
        text = ", ".join(f"{n} of {source}" for source, n in counts.items())
    else:
        text = str(sum(counts.values()))
    return f"{text or 'no'} forgeries ({results.get('errors') or 0} rows left out)"
