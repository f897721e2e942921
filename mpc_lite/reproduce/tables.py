"""Tables of a run's results, as rows of text: methods beside one another, test sets, robustness, the paper's numbers.

Every function here reads what results.json holds. Rows come header first; the terminal, a notebook and report.html
print the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpc_lite.errors import InputError
from mpc_lite.evaluation.baselines import LABELS
from mpc_lite.evaluation.degrade import READINGS
from mpc_lite.evaluation.evaluate import aligned
from mpc_lite.evaluation.protocols import get_protocol
from mpc_lite.evaluation.robustness import robustness_rows
from mpc_lite.reproduce.paper import Compared, compare

GENERATED = ("generated-", "photos-")  # sources of forgeries made here; what stands behind is their kind

# ------------------------------------------------------------------------------------------- methods beside one another


def comparison(results: dict, shipped: dict | None) -> list[dict]:
    """Rows {method, note, input, f1, iou, auc, sets: {SOURCE: F1}}: this run, the shipped weights, the baselines.

    `input` is the way a photograph is fed: each network's own. Averages weigh each image alike (MPC Eq. 6). A row with
    a note has no figures. Without `shipped` there is no row for it.
    """
    sets = results["sets"]

    def mean(values: list[tuple[int, float | None]]) -> float | None:
        known = [(n, value) for n, value in values if value is not None]
        return sum(n * value for n, value in known) / sum(n for n, _ in known) if known else None

    def row(method: str, scores: dict[str, dict], way: dict | None = None) -> dict:
        averages = {key: mean([(sets[s]["n"], scores[s].get(key)) for s in sets]) for key in ("f1", "iou", "auc")}
        return {
            "method": method,
            "note": "",
            "input": input_name(way),
            **averages,
            "sets": {s: scores[s]["f1"] for s in sets},
        }

    rows = [row("this run", sets, results["recipe"]["evaluate"])]
    if shipped and shipped["table"]:
        rows.append(row(f"shipped '{shipped['weights']}'", shipped["table"]["sets"], shipped["table"]["input"]))
    elif shipped:
        rows.append({"method": f"shipped '{shipped['weights']}'", "note": "not shipped in this version"})
    names = list(next(iter(sets.values()))["baselines"]) if sets else []
    return rows + [row(LABELS.get(name, name), {s: sets[s]["baselines"][name] for s in sets}) for name in names]


def columns(results: dict) -> list[str]:
    return ["method", "input", "F1", "IoU", "pixel AUC", *(f"F1 {kind(source)}" for source in results["sets"])]


def kind(source: str) -> str:
    """`generated-copy_move` -> `copy move`; the name of a data set stays as it is."""
    return source.partition("-")[2].replace("_", " ") if source.startswith(GENERATED) else source


def cells(row: dict) -> list[str]:
    return [row["input"], *(number(value) for value in (row["f1"], row["iou"], row["auc"], *row["sets"].values()))]


def input_name(way: dict | None) -> str:
    """How a photograph is fed: `tiles 128`, `stretch 512`; `native` for the whole photograph at its own size."""
    return "native" if way is None or way["mode"] == "pad" else f"{way['mode']} {way['size']}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def protocol_line(results: dict) -> str:
    protocol = get_protocol(results["protocol"])
    return (
        f"Protocol {protocol.name}: {protocol.description}. Input: how each method is fed a photograph, a network in "
        "the way of its own recipe (tiles and stretch with their size in pixels). Averages weigh each of the "
        f"{results['image_level']['n_tampered']} tampered images alike."
    )


def image_level_line(results: dict) -> str:
    level = results["image_level"]
    left_out = f" {results['errors']} rows could not be read and were left out." if results.get("errors") else ""
    return (
        f"Whole images: AUC {number(level['auc'])}, false alarms {number(level['false_alarm_rate'])} "
        f"({level['n_tampered']} tampered, {level['n_authentic']} authentic).{left_out}"
    )


# ------------------------------------------------------------------------------------------------- many test sets


def wide(results: dict) -> bool:
    """Whether there are too many test sets for a column each: then they are the rows (`set_rows`)."""
    return len(results["sets"]) > 3


def set_rows(results: dict) -> list[list[str]]:
    """One row per test set and their average: this run's F1, IoU and pixel AUC, and the F1 of each baseline."""
    this, *baselines = comparison(results, None)
    rows = [["test set", "images", "F1", "IoU", "pixel AUC", *(f"F1 {row['method']}" for row in baselines)]]
    for source, scores in results["sets"].items():
        figures = [number(scores[key]) for key in ("f1", "iou", "auc")]
        rows.append([kind(source), str(scores["n"]), *figures, *(number(row["sets"][source]) for row in baselines)])
    total = str(sum(scores["n"] for scores in results["sets"].values()))
    figures = [number(this[key]) for key in ("f1", "iou", "auc")]
    return [*rows, ["average", total, *figures, *(number(row["f1"]) for row in baselines)]]


# ------------------------------------------------------------------------------------------------ beside the paper

# The paper's row of Table 8 for each alternative of the recipe's choice `ablation`.
ABLATIONS = {
    "full": "MPC",
    "without_within_image": "w/o L1",
    "without_cross_scale": "w/o L2",
    "without_cross_modality": "w/o L3",
    "small": "HRFormer-small",
}
_NOT_RUN = "Profile {profile}: not run at full scale, so no number of this run belongs beside the paper's."
_NO_NOISE = ("jpeg_quality", "blur_kernel", "resize_ratio")  # of Figure 2: alike under both readings
READ_AS = {"noise_sigma_unit": "noise read as σ", "noise_variance_unit": "noise read as variance"}


@dataclass(frozen=True)
class Beside:
    """One of the paper's tables with our numbers beside it; `note` says why there are none, or how ours were made."""

    title: str
    rows: list[Compared]
    note: str = ""


def beside_paper(results: dict) -> list[Beside]:
    """The paper's tables that the recipe reproduces, with this run's numbers where it was made at full scale.

    Of Table 8 it is the row of the run's ablation. What holds noise comes once for each reading of its strength. One
    run is one seed: nothing is called reproduced here (`paper.compare` does that with three).
    """
    comparisons = []
    for table in results["recipe"]["tables"]:
        method = ABLATIONS[results["recipe"]["choice"].get("ablation", "full")] if table == "Table 8" else "MPC"
        title = table if method == "MPC" else f"{table}, {method}"
        if results["profile"] != "paper":
            comparisons.append(Beside(title, compare([], table, method), _NOT_RUN.format(profile=results["profile"])))
        elif table not in ("Figure 2", "Table 7"):
            comparisons.append(_beside(title, table, method, results))
        else:
            sigma, variance = READINGS
            comparisons.append(_beside(f"{title}, {READ_AS[sigma]}", table, method, as_cases(results, table, sigma)))
            other = _beside(f"{title}, {READ_AS[variance]}", table, method, as_cases(results, table, variance))
            noisy = [row for row in other.rows if row.paper.condition not in _NO_NOISE and row.paper.level != "N/A"]
            comparisons.append(replace(other, rows=noisy))
    return comparisons


def _beside(title: str, table: str, method: str, run: dict) -> Beside:
    variant = "".join(f"{choice} {taken}, " for choice, taken in run["recipe"]["choice"].items())
    try:
        note = f"One run ({variant}seed {run['seed']}): a band needs three seeds."
        return Beside(title, compare([run], table, method), note)
    except InputError as error:  # scored otherwise, or on none of the table's sets; the run is worth keeping
        return Beside(title, compare([], table, method), f"Not comparable: {error}.")


def as_cases(results: dict, table: str, reading: str) -> dict:
    """The results with the cells of the grids as test sets, named as the paper's cases: `Columbia, jpeg_quality 90`,
    `Columbia, Facebook JRBN`. The untouched photographs belong to every panel of Figure 2."""
    sets = {}
    grid = "chains" if table == "Table 7" else "paper"
    for cell in results.get("robustness", {}).get(grid, []):
        for source, scores in cell["sets"].items():
            if table == "Table 7":
                if cell["degradation"] == f"chain, {reading}":
                    sets[f"{source} {cell['value']}"] = scores
            elif cell["degradation"] == "none":
                sets |= {f"{source}, {panel} N/A": scores for panel in (*_NO_NOISE, "noise")}
            elif cell["degradation"] in READINGS:
                if cell["degradation"] == reading:
                    sets[f"{source}, noise {cell['value']}"] = scores
            else:
                sets[f"{source}, {cell['degradation']} {cell['value']}"] = scores
    return {**results, "sets": sets}


def paper_rows(beside: Beside) -> list[list[str]]:
    """One row per case, scores in percent: what the paper prints and what this run scored, *not run* where it did not.

    ≈ marks values digitised from a figure; *recomputed* is the average that follows from the printed row (MPC Eq. 6).
    """
    metrics = list(dict.fromkeys(row.paper.metric for row in beside.rows))
    rows = [["test set", "images", *(f"{metric} {whose}" for metric in metrics for whose in ("paper", "here"))]]
    cases = {}
    for row in beside.rows:
        cases.setdefault(row.paper.case, {})[row.paper.metric] = row
    for case, scores in cases.items():
        first = next(iter(scores.values()))
        printed = "–" if first.paper.images is None else str(first.paper.images)
        images = printed if first.images in (None, first.paper.images) else f"{first.images} of {printed}"
        values = [text for metric in metrics for text in _pair(scores.get(metric))]
        rows.append([case, images, *values])
    return rows


def _pair(row: Compared | None) -> tuple[str, str]:
    if row is None:
        return "–", "–"
    printed = f"{'≈ ' if row.paper.digitised else ''}{row.paper.value:.1f}"
    if row.paper.recomputed is not None and round(row.paper.recomputed, 1) != row.paper.value:
        printed += f" (recomputed {row.paper.recomputed:.1f})"
    return printed, "not run" if row.mean is None else f"{row.mean:.1f}"


def format_beside(results: dict) -> str:
    """The paper's tables beside this run as plain text."""
    return "\n\n".join("\n".join([b.title, *aligned(paper_rows(b)), b.note]) for b in beside_paper(results))


def grid_rows(results: dict) -> dict[str, list[list[str]]]:
    """The robustness tables of a run, {GRID: rows}; empty where it ran none."""
    facts = {"protocol": results["protocol"], "seed": results["seed"]}
    grids = results.get("robustness", {})
    return {grid: robustness_rows({**facts, "cells": grid_cells}) for grid, grid_cells in grids.items()}
