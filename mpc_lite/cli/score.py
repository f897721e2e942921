"""Networks measured and used: `mpc-lite evaluate`, `score`, `robustness`, `predict`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mpc_lite.cli.options import (
    SOME_FAILED,
    DeviceOption,
    MaxPixelsOption,
    WeightsOption,
    check_kind,
    examples,
    loading,
    note_random_head,
    output,
)
from mpc_lite.cli.terminal import tell
from mpc_lite.errors import InputError, printable

commands = typer.Typer()

ProtocolsOption = Annotated[
    list[str] | None,
    typer.Option("--protocol", help="How maps become numbers: mpc (default), permuted, trufor, …; repeatable."),
]
ManifestOption = Annotated[
    Path | None, typer.Option("--manifest", metavar="CSV", help="Images, masks and labels to score.")
]
PairsOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--pairs",
        metavar="IMAGES MASKS",
        help="Instead of a manifest: a folder of images, one of masks with their names, or with _gt, _mask, … more.",
    ),
]
JsonOption = Annotated[Path | None, output("--json", "FILE", "Write all figures to this file.")]


@commands.command(
    epilog=examples(
        "mpc-lite evaluate --weights lite2 --manifest forgeries/manifest.csv --protocol mpc --json scores.json",
        "mpc-lite evaluate --weights my-run/model.safetensors --manifest casia.csv --split test --maps maps",
        "mpc-lite evaluate --weights lite2 --manifest casia.csv --protocol mpc --protocol permuted",
        "mpc-lite evaluate --manifest casia.csv --split test --maps maps --protocol permuted",
        "mpc-lite evaluate --weights lite2 --pairs photos masks --protocol mpc --json mine.json",
    )
)
def evaluate(
    manifest: ManifestOption = None,
    pairs: PairsOption = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="NAME|FILE|hf://…", help="As for predict; without it saved --maps are scored anew."
        ),
    ] = None,
    protocol: ProtocolsOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Only the rows of this split.")] = None,
    maps: Annotated[Path | None, output("--maps", "DIR", "Keep the score maps here.")] = None,
    json_file: JsonOption = None,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Score weights on a manifest or on pairs, beside three baselines. Exit code 1 when rows had to be left out."""
    if weights is None and maps is None:
        raise InputError("evaluate needs --weights, or --maps with a folder of maps that an earlier evaluation kept")
    with loading():
        from mpc_lite.evaluation.evaluate import evaluations, manifest_facts
        from mpc_lite.inference.export import check_results
        from mpc_lite.inference.saved_maps import INDEX, SavedMaps
        from mpc_lite.network.weights import network_of

    names, (rows, found) = _protocols(protocol), _rows(manifest, pairs)
    _spare_inputs(json_file, rows, maps, weights, [maps / INDEX] if maps else [])
    check_results(json_file)
    localizer = None if weights is None else _localizer(weights, device)
    if localizer and maps:
        SavedMaps.check_free(maps, manifest_facts(rows), localizer)
    with tempfile.TemporaryDirectory() as folder:  # for one protocol nothing is kept that nobody asked for
        kept = maps or (folder if len(names) > 1 else None)
        tables = evaluations(localizer, rows, names, split, kept)
    tables = [{**table, "weights": weights and network_of(weights)} for table in tables]
    _report(tables, json_file, found)


@commands.command(
    epilog=examples(
        "mpc-lite score maps/ --manifest casia.csv --protocol mpc --protocol trufor",
        "mpc-lite score trufor_out/ --key map --manifest casia.csv --json trufor.json",
        "mpc-lite score maps/ --pairs photos masks --protocol mpc --protocol permuted",
    )
)
def score(
    maps: Annotated[Path, typer.Argument(metavar="FOLDER", help="Maps, a file an image: PNG, TIFF, .npy or .npz.")],
    manifest: ManifestOption = None,
    pairs: PairsOption = None,
    protocol: ProtocolsOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Only the rows of this split.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="The array of .npz files that hold several.")] = None,
    json_file: JsonOption = None,
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Score the maps of any other detector, beside three baselines. Exit code 1 when rows had to be left out.

    a.jpg is scored by a.png, a.jpg.npz, a_pred.png, … Integer files count from 0 to their greatest value, floats are
    scores in [0,1]; maps of another size are brought to their image's.
    """
    with loading():
        from mpc_lite.evaluation.evaluate import score_maps
        from mpc_lite.files import place
        from mpc_lite.inference.export import check_results

    names, (rows, found), maps = _protocols(protocol), _rows(manifest, pairs), place(maps)
    _spare_inputs(json_file, rows, maps)
    check_results(json_file)
    _report([score_maps(rows, maps, name, split, key) for name in names], json_file, found)


def _rows(manifest: Path | None, folders: tuple[Path, Path] | None) -> tuple[Any, Any]:
    """(manifest, None), or of a folder of images and one of masks (samples, how they were paired)."""
    if (manifest is None) == (folders is None):
        raise InputError("give either --manifest CSV or --pairs IMAGES MASKS")
    if folders is None:
        return manifest, None
    from mpc_lite.data.pairs import read_pairs

    found = read_pairs(*folders)
    tell(found.told())
    return found.samples, found


def _spare_inputs(
    json_file: Path | None,
    rows: Any,
    maps: Path | None = None,
    weights: str | None = None,
    written: Sequence[Path] = (),
) -> None:
    """InputError when the JSON file is the manifest or one of its files, a map, or the file of weights; when it is no
    plain file; and when it is what the command has written elsewhere by then."""
    from mpc_lite.evaluation.rows import samples_of
    from mpc_lite.files import check_output, folders_below

    if json_file is None:
        return
    check_output(json_file, [], written)
    if not os.path.exists(json_file):  # none of them, and a long list is read once
        return
    inputs = [] if isinstance(rows, list) else [rows]
    inputs += [file for sample, _ in samples_of(rows, None) if sample for file in (sample.image, sample.mask) if file]
    inputs += [here / name for here, names in (folders_below(maps) if maps else ()) for name in names]
    inputs += [weights] if weights else []
    check_output(json_file, inputs)
    check_kind(json_file, ".json")


def _protocols(names: list[str] | None) -> list[str]:
    """As asked for, each once; all known, so that none fails after the others' work."""
    from mpc_lite.evaluation.protocols import get_protocol

    return [get_protocol(name).name for name in dict.fromkeys(names or ["mpc"])]


def _report(tables: list[dict], json_file: Path | None, pairs: Any = None) -> None:
    """Write results under one or several protocols, print them; a file of several is {protocols: {NAME: result}}.

    pairs: what `--pairs` found; each result says how its pairs were made, and lists files without a partner.
    """
    from mpc_lite.evaluation.evaluate import format_table
    from mpc_lite.files import write_atomic

    if pairs is not None:
        tables = [{**table, "pairs": pairs.facts, "errors": [*pairs.left_out, *table["errors"]]} for table in tables]
    tell(format_table(*tables))  # first, or a file that cannot be written would take all with it
    if json_file:
        content = tables[0] if len(tables) == 1 else {"protocols": {table["protocol"]: table for table in tables}}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomic(json_file, text.encode(errors="backslashreplace"))
    for note in dict.fromkeys(note for table in tables for note in table["notes"]):
        tell(f"note: {printable(note)}", error=True)
    if any(table["errors"] for table in tables):
        raise typer.Exit(SOME_FAILED)


@commands.command(
    epilog=examples(
        "mpc-lite robustness --weights lite2 --manifest forgeries/manifest.csv --protocol mpc --json robustness.json",
        "mpc-lite robustness --weights lite2 --manifest columbia.csv --grid chains --json chains.json",
    )
)
def robustness(
    manifest: Annotated[Path, typer.Option("--manifest", metavar="CSV", help="Images, masks and labels to score.")],
    json_file: Annotated[
        Path, output("--json", "FILE", "Gets each finished cell; the same command goes on from there.")
    ],
    weights: WeightsOption = "lite2",
    protocol: Annotated[
        str, typer.Option("--protocol", help="How maps become numbers: mpc, permuted, trufor, …")
    ] = "mpc",
    grid: Annotated[
        str, typer.Option("--grid", help="paper (MPC, Fig. 2), chains (MPC, Table 7), field (IMDL-BenCo and SAFIRE).")
    ] = "paper",
    split: Annotated[str | None, typer.Option("--split", help="Only the rows of this split.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise; each image has its own draw.")] = 0,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Score weights after JPEG, blur, noise and resizing, in one table. Exit code 1 when rows had to be left out."""
    with loading():
        from mpc_lite.evaluation.robustness import format_robustness
        from mpc_lite.evaluation.robustness import robustness as run

    _spare_inputs(json_file, manifest, weights=weights)

    def say(line: str) -> None:
        tell(line, error=True)

    table = run(_localizer(weights, device), manifest, protocol, grid, split, seed, json_file, say)
    tell(format_robustness(table))
    if table["errors"]:
        raise typer.Exit(SOME_FAILED)


@commands.command(
    epilog=examples(
        "mpc-lite predict photo.jpg --out found",
        "mpc-lite predict *.jpg --out found --weights my-run/model.safetensors",
        "mpc-lite predict *.jpg --out found --backend onnx",
        "mpc-lite predict holiday/ --out found --report --threshold 0.7",
    )
)
def predict(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO…|FOLDER", help="Photographs of any size, or folders of them.")
    ],
    out: Annotated[Path, output("--out", "DIR", "Folder for pictures and predictions.jsonl.")],
    weights: WeightsOption = "lite2",
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
    backend: Annotated[
        str, typer.Option("--backend", help="torch, or onnx: on a CPU 1.5 times as fast; takes .onnx files too.")
    ] = "torch",
    threshold: Annotated[
        float, typer.Option("--threshold", help="Of the mask and its contour, between 0 and 1; scores stay the same.")
    ] = 0.5,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write where four mirrors of a photo agree; four times the time.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write report.html: all photographs, the highest score first.")
    ] = False,
) -> None:
    """Show where photographs were changed: score map, mask and overlay of each. Exit code 1 when a photo failed."""
    with loading():
        from mpc_lite.inference.predict import REPORT, photographs, told
        from mpc_lite.inference.predict import predict as run

    files, left_out = photographs(photos, out)
    if left_out:
        tell(f"note: {told(left_out)}", error=True)
    failed = 0
    for line in run(files, out, _localizer(weights, device, backend), report, confidence, threshold):
        if line["error"]:
            failed += 1
            where = "" if line["error"].startswith(line["image"]) else f"{line['image']}: "
            tell(printable(where + line["error"]), error=True)
        else:
            name = printable(line["image"])
            verdict = f"{line['verdict']}; " if line["verdict"] else ""
            tell(f"{name}: {verdict}score {line['score']:.3f}, {line['tampered_fraction']:.1%} marked")
    if report:
        tell(f"report: {out / REPORT}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _localizer(weights: str, device: str, backend: str = "torch"):
    with loading():
        from mpc_lite.inference.localizer import Localizer
        from mpc_lite.network.devices import choose_device, keep_freed_memory
        from mpc_lite.network.weights import read_facts

    keep_freed_memory()
    if backend == "onnx" and weights.lower().endswith(".onnx"):
        localizer = Localizer.from_pretrained(weights, device=device, backend=backend)
        note_random_head(weights, localizer.model.facts)
        return localizer
    note_random_head(weights, read_facts(weights))
    device = device if backend == "onnx" else str(choose_device(device))
    return Localizer.from_pretrained(weights, device=device, backend=backend)
