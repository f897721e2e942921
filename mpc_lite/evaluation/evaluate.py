"""Evaluation: a score map of every image, a protocol that turns them into numbers, and baselines beside each of them.

`evaluate` scores a network on a manifest, `rescore` does it again from saved maps, `evaluations` either of them under
several protocols, `score_maps` from the maps of any other detector; `table_rows` and `format_table` print results.
Pixel scores average tampered images only; authentic images enter only the image-level figures. On a CPU as many images
are in memory as PyTorch may use threads.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from torch import nn

from mpc_lite.errors import InputError, printable, shown
from mpc_lite.evaluation.baselines import BASELINES, LABELS, shipped_thresholds
from mpc_lite.evaluation.foreign_maps import ForeignMaps
from mpc_lite.evaluation.metrics import roc_auc
from mpc_lite.evaluation.notes import inverted_note, notes_on
from mpc_lite.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from mpc_lite.evaluation.rows import Manifest, Row, RowScore, RowScores, samples_of
from mpc_lite.files import open_file, place
from mpc_lite.inference.forward import images_at_once
from mpc_lite.inference.saved_maps import SavedMaps
from mpc_lite.inference.score_map import ScoreMap
from mpc_lite.network.devices import side_by_side

ALARM = 0.5  # an authentic image whose image score is above this is a false alarm


def evaluate(
    model: nn.Module | ScoreMap,
    manifest: Manifest,
    protocol: str = "mpc",
    split: str | None = None,
    maps_dir: str | Path | None = None,
    thresholds: Mapping[str, float] | None = None,
    baselines: Mapping[str, ScoreMap] = BASELINES,
) -> dict:
    """Score a network on a manifest under a protocol of `PROTOCOLS`; values in 0–1, None where a figure is undefined.

    model: a network (scored by `stretch_map` at 512) or a callable, (H,W,3) uint8 RGB -> (H,W) map in [0,1] or an
    object with such a `score_map` (a Localizer). manifest: path of a CSV or list of samples. maps_dir: folder where the
    maps are written; maps found there that this network made for this manifest are not made again, and those of others
    go, with a warning. thresholds:
    {baseline: threshold}, by default those shipped for the protocol. baselines: those to score beside the network;
    without any the other figures are the same.

    Returns {protocol, manifest: {name, sha256}, split,
    sets: {SOURCE: {n, f1, iou, auc, f1_ci95, baselines: {NAME: {f1, iou, threshold, lead_ci95}}}} of the tampered
    images; lead_ci95 is the interval of the model's F1 minus the baseline's on the same images,
    average: the same without thresholds, and weighting: "images" (MPC Eq. 6: each set weighs as many as it has images),
    image_level: {auc, false_alarm_rate, threshold, n_authentic, n_tampered}, errors: [one line per row left out],
    notes: [one line on each kind of row that counts and often is a mistake, see `notes_on`]}.
    The false-alarm rate is the share of authentic images whose `image_score` is above 0.5.

    A row that cannot be read, or is too large for the memory, is left out and listed in `errors`: a caller that must
    not miss rows looks there. Raises InputError when no row is left, for an unknown protocol or split, for a map of
    another size or outside [0,1], and while another process writes maps to `maps_dir`.
    """
    return _evaluate(model, manifest, [protocol], split, maps_dir, thresholds, baselines)[0]


def rescore(
    manifest: Manifest,
    maps_dir: str | Path,
    protocol: str = "mpc",
    split: str | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> dict:
    """What `evaluate` returns, from the maps it has written to `maps_dir`: the same figures to the last digit.

    Raises InputError when the maps belong to another manifest; an image without a map counts as a row with an error.
    """
    return _evaluate(None, manifest, [protocol], split, maps_dir, thresholds, BASELINES)[0]


def evaluations(
    model: nn.Module | ScoreMap | None,
    manifest: Manifest,
    protocols: Sequence[str],
    split: str | None = None,
    maps_dir: str | Path | None = None,
) -> list[dict]:
    """What `evaluate` returns, under each of some protocols, all from the same maps; without a model, as `rescore`.

    The network runs once: other protocols read its maps in `maps_dir`, where no other process may put its own until the
    last is done. A row that one protocol leaves out is left out of those after it. Raises InputError, as those two do.
    """
    return _evaluate(model, manifest, protocols, split, maps_dir, None, BASELINES)


def score_maps(
    manifest: Manifest,
    folder: str | Path,
    protocol: str = "mpc",
    split: str | None = None,
    key: str | None = None,
) -> dict:
    """What `evaluate` returns, from maps that another program wrote to `folder`, one file an image: see `ForeignMaps`.

    key: the array of .npz files that hold several. `maps` is added: {folder, sha256 of its maps, resized: how many were
    brought to their image's size, notes: one line each}. An image without a map of its own, or with one that is none,
    counts as a row with an error.
    """
    manifest = manifest if isinstance(manifest, str | Path) else list(manifest)
    maps = ForeignMaps(folder, key, (sample for sample, _ in samples_of(manifest, split) if sample is not None))
    facts = {"folder": maps.folder.name, "sha256": maps.digest()}  # first: what cannot be read is found before the work
    (table,) = _evaluate(None, manifest, [protocol], split, maps, None, BASELINES)
    return {**table, "maps": {**facts, "resized": maps.resized, "notes": maps.notes()}}


def _evaluate(model, manifest, names, split, maps_dir, thresholds, baselines) -> list[dict]:
    manifest = manifest if isinstance(manifest, str | Path) else list(manifest)  # an iterator is read once
    protocols, facts = [get_protocol(name) for name in names], manifest_facts(manifest)
    listed, maps, tables = samples_of(manifest, split), nullcontext(maps_dir), []
    if model is None and not isinstance(maps_dir, ForeignMaps):
        maps = nullcontext(SavedMaps.open(maps_dir, facts))
    elif model is not None and maps_dir is not None:
        maps = SavedMaps.writing(maps_dir, facts, model)
    rows = listed
    with maps as saved:
        for protocol in protocols:
            fixed = protocol.threshold is not None
            shipped = shipped_thresholds(protocol.name) if thresholds is None and fixed else thresholds
            marked = {name: protocol.at(shipped[name]) if fixed else protocol for name in baselines}
            beside = {name: (baselines[name], marked[name]) for name in baselines}
            found = _scored(RowScores(model, saved, protocol, beside, manifest), rows)
            if saved and model is not None:
                saved.finish()
                model = None  # what is not here now will not be here for the other protocols
            figures = _figures(protocol, marked, rows, found)
            tables.append({"protocol": protocol.name, "manifest": facts, "split": split, **figures})
            rows = [(sample, one.error) for (sample, _), one in zip(rows, found, strict=True)]
    notes = notes_on(sample for sample, problem in listed if not problem)
    notes += inverted_note([one.share for one in found if one.share is not None])
    return [{**table, "notes": notes} for table in tables]


def _scored(score: RowScores, rows: list[Row]) -> list[RowScore]:
    """All rows' scores. InputError when there is none."""
    threads = 1 if score.model is None else images_at_once(score.model)
    found = list(side_by_side(score, rows, threads))
    if threads > 1:  # what was too large beside others may not be so alone
        found = [score(row) if one.too_large else one for row, one in zip(rows, found, strict=True)]
    errors = [one.error for one in found if one.error]
    if errors and score.model is None and isinstance(score.saved, SavedMaps):
        score.saved.check()  # where another evaluation took the maps away, that is what to tell
    if len(errors) == len(rows):
        reason = errors[0] if errors else "an empty list"
        reason += f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"no row could be scored: {reason}; expected at least one readable image")
    return found


def _figures(protocol: Protocol, marked: dict[str, Protocol], rows: list[Row], found: list[RowScore]) -> dict:
    """What a protocol says of the rows' scores; marked: that of each baseline."""
    pixels, beside, scored = defaultdict(list), defaultdict(list), []
    for (sample, _), one in zip(rows, found, strict=True):
        if one.error is None:
            scored.append((sample.label, one.image_score))
        if one.pixels is not None:
            pixels[sample.source].append(one.pixels)
            for name in marked:
                beside[sample.source, name].append(one.beside[name])

    sets = {}
    for source, scores in sorted(pixels.items()):
        compared = {}
        for name in marked:
            summary = protocol.summarise(beside[source, name])
            compared[name] = {key: summary[key] for key in ("f1", "iou")} | {"threshold": marked[name].threshold}
            compared[name]["lead_ci95"] = protocol.interval([scores], [beside[source, name]])
        sets[source] = {**protocol.summarise(scores), "baselines": compared}
    average = _average(sets, marked)
    if sets:
        average["f1_ci95"] = protocol.interval(list(pixels.values()))
        for name, baseline in average["baselines"].items():
            baseline["lead_ci95"] = protocol.interval(list(pixels.values()), [beside[s, name] for s in pixels])
    return {
        "sets": sets,
        "average": average,
        "image_level": _image_level(scored),
        "errors": [one.error for one in found if one.error],
    }


def manifest_facts(manifest: Manifest) -> dict:
    """{name, sha256}: of the file, or for a list of the rows' names, labels, sources and splits."""
    if isinstance(manifest, str | Path):
        try:
            with open_file(path := place(manifest)) as file:
                return {"name": path.name, "sha256": hashlib.sha256(file.read()).hexdigest()}
        except OSError as error:
            raise InputError(f"{shown(manifest, 200)}: cannot read the manifest ({error.strerror})") from None
    rows = [(s.row, s.image.name, s.mask.name if s.mask else None, s.label, s.source, s.split) for s in manifest]
    return {"name": None, "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def _average(sets: dict, names: Iterable[str]) -> dict:
    """MPC Eq. 6: mean over the sets, weighted by their numbers of images."""

    def mean(values: list[tuple[int, float | None]]) -> float | None:
        known = [(n, value) for n, value in values if value is not None]
        return float(np.average([v for _, v in known], weights=[n for n, _ in known])) if known else None

    figures = {key: mean([(s["n"], s[key]) for s in sets.values()]) for key in ("f1", "iou", "auc")}
    baselines = {
        name: {key: mean([(s["n"], s["baselines"][name][key]) for s in sets.values()]) for key in ("f1", "iou")}
        for name in names
    }
    return {"n": sum(s["n"] for s in sets.values()), **figures, "baselines": baselines, "weighting": "images"}


def _image_level(scored: list[tuple[int, float]]) -> dict:
    labels, scores = (np.array(column) for column in zip(*scored, strict=True))
    alarms = scores[labels == 0] > ALARM
    return {
        "auc": roc_auc(labels, scores) if len(set(labels)) == 2 else None,
        "false_alarm_rate": float(alarms.mean()) if alarms.size else None,
        "threshold": ALARM,
        "n_authentic": int((labels == 0).sum()),
        "n_tampered": int((labels == 1).sum()),
    }


# ------------------------------------------------------------------------------------------------------------- tables


def number(value: float | None) -> str:
    """Three decimals, or a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of text, header first, as lines in columns with a rule below the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def score_with_interval(scores: dict) -> str:
    """F1 and its interval, as every table writes them: `0.512 [0.480, 0.541]`."""
    interval = scores.get("f1_ci95")
    spread = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    return number(scores["f1"]) + spread


def table_rows(result: dict) -> list[list[str]]:
    """A result of `evaluate` as rows of text, header first: one row per set, then the average, baselines in each."""
    rows = [["set", "protocol", "images", "F1 [95 %]", "IoU", "pixel AUC"]]
    rows[0] += [f"{LABELS.get(name, name)} F1 / IoU" for name in result["average"]["baselines"]]
    for name, s in [*result["sets"].items(), ("average (by images)", result["average"])]:
        row = [shown(name), result["protocol"], str(s["n"]), score_with_interval(s), number(s["iou"]), number(s["auc"])]
        row += [f"{number(b['f1'])} / {number(b['iou'])}" for b in s["baselines"].values()]
        rows.append(row)
    return rows


def format_table(*results: dict) -> str:
    """Results of one network on one manifest under some protocols, as one table; below it image-level figures, what
    each protocol is, and rows left out, with the protocols that miss them where not all do."""
    level, missed = results[0]["image_level"], defaultdict(list)
    for result in results:
        for line in result["errors"]:
            missed[line].append(result["protocol"])
    lines = [
        *aligned([*table_rows(results[0]), *(row for result in results[1:] for row in table_rows(result)[1:])]),
        f"image level: AUC {number(level['auc'])} ({level['n_tampered']} tampered, {level['n_authentic']} authentic), "
        f"false alarms {number(level['false_alarm_rate'])} (score > {level['threshold']} after 8×8 mean pooling)",
        *(f"protocol {name}: {PROTOCOLS[name].description}" for name in (result["protocol"] for result in results)),
    ]
    maps = [result.get("maps", {}) for result in results]
    if resized := max(each.get("resized", 0) for each in maps):
        lines.append(f"{resized} maps had another size than their image and were resized bilinearly")
    lines += [
        f"note: {printable(note)}" for note in dict.fromkeys(note for each in maps for note in each.get("notes", ()))
    ]
    if missed:
        lines.append(f"{len(missed)} rows left out:")
    for line, names in missed.items():
        under = f" (under {', '.join(names)})" if len(names) < len(results) else ""
        lines.append(f"  {printable(line)}{under}")
    return "\n".join(lines)
