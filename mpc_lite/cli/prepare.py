"""Images and weights made ready: `mpc-lite synth`, `check`, `convert`, `calibrate`, `export`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated

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


@commands.command(
    epilog=examples(
        "mpc-lite synth --out forgeries --n 100 --seed 0 --size 256",
        "mpc-lite synth --out forgeries --n 100 --seed 0 --size 256 --photos ~/Pictures",
        "mpc-lite synth --out control --n 100 --null",
    )
)
def synth(
    out: Annotated[Path, output("--out", "DIR", "Folder for images/, masks/ and manifest.csv.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")] = 0,
    size: Annotated[int, typer.Option("--size", min=32, max=4096, help="Side of the square images, pixels.")] = 256,
    photos: Annotated[
        str | None, typer.Option("--photos", metavar="DIR", help="Your photographs, instead of the packaged ones.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation or test: other scenes, cameras.")] = "test",
    null: Annotated[
        bool,
        typer.Option("--null", help="Only null splices: donor and host from one camera, a control without traces."),
    ] = False,
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Make forgeries whose truth is known: splices, copy-moves, removals, and authentic photographs beside them."""
    from mpc_lite.forgeries.scenes import Scenes
    from mpc_lite.forgeries.synth import check_fresh, write_set
    from mpc_lite.training.signals import Stopped, ending

    check_fresh(out)
    asked: list[int] = []
    try:
        with ending() as asked, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what could not be read is listed below
            scenes = Scenes(split, ["photos"] if photos else ["packaged", "dead_leaves"], photos)
            for note in [scenes.left_out, scenes.shared_out] if photos else []:
                if note:
                    tell(f"note: {note}", error=True)
            tell(write_set(out, split, n, seed, size, scenes, null=null, fresh=True))
    except KeyboardInterrupt:
        stopped = Stopped(f"synth stopped; {out} is unfinished, and the same command begins it anew", *asked[:1])
        tell(stopped, error=True)
        raise typer.Exit(stopped.exit_code) from None
    for problem in scenes.unreadable.values():
        tell(printable(problem), error=True)
    if scenes.unreadable:
        raise typer.Exit(SOME_FAILED)


@commands.command(epilog=examples("mpc-lite check casia.csv"))
def check(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest to look through.")],
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Open every image and mask of a manifest and list the bad rows. Exit code 1 when there are any."""
    from mpc_lite.data.manifest import look_through, manifest_rows
    from mpc_lite.evaluation.notes import turned_note

    problems, notes = look_through(manifest)
    notes += turned_note(sample for sample, problem in manifest_rows(manifest) if not problem)
    tell("\n".join(map(printable, problems)) if problems else f"{printable(manifest)}: all rows are good")
    for note in notes:
        tell(f"note: {printable(note)}")
    if problems:
        raise typer.Exit(SOME_FAILED)


@commands.command(
    epilog=examples(
        "mpc-lite convert MPC_CATNet_stage2_weights.pth --out official.safetensors",
        "mpc-lite convert hrt_base.pth --out imagenet.safetensors",
    )
)
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth file of MPC's authors, or hrt_base.pth.")],
    out: Annotated[Path, output("--out", "FILE", "The .safetensors file to write.")],
) -> None:
    """Make an official checkpoint into weights that every command loads; nothing in the file is run."""
    with loading():
        from mpc_lite.files import check_output, place
        from mpc_lite.network.convert import convert as run
        from mpc_lite.network.convert import summary
        from mpc_lite.network.weights import check_replaces
        from mpc_lite.run_folder import clear_stale

    check_output(out, [file])
    check_kind(out, ".safetensors")
    check_replaces(out, None)
    clear_stale(out.parent)
    tell(summary(run(place(file), out)))


@commands.command(
    epilog=examples(
        "mpc-lite calibrate authentic/ --weights my-run/model.safetensors --out calibrated.safetensors",
        'mpc-lite calibrate phone/*.jpg --out phone.safetensors --photographs "200 photographs of one phone"',
    )
)
def calibrate(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO…|FOLDER", help="Authentic photographs that no training saw; 99 or more."),
    ],
    out: Annotated[Path, output("--out", "FILE", "The .safetensors file to write.")],
    weights: WeightsOption = "lite2",
    photographs: Annotated[
        str | None, typer.Option("--photographs", metavar="TEXT", help="What they are, in words, for the file.")
    ] = None,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Put scores of authentic photographs into weights: predict then says how many score as high as a photo.

    Copies of a photograph count once. Exit code 1 when a photo failed; the others count.
    """
    with loading():
        from mpc_lite.files import check_output, place
        from mpc_lite.forgeries.scenes import of_sets, told
        from mpc_lite.inference.calibration import check_extent, each_once, write_calibrated
        from mpc_lite.inference.calibration import told as told_again
        from mpc_lite.inference.localizer import Localizer
        from mpc_lite.inference.predict import no_pictures
        from mpc_lite.inference.predict import photographs as gathered
        from mpc_lite.network.devices import choose_device
        from mpc_lite.network.weights import ENCODER_ONLY, check_replaces, read_facts
        from mpc_lite.run_folder import check_folder, clear_stale

    if read_facts(weights).get("stage") in ENCODER_ONLY:
        raise InputError(f"only the encoder of {weights} has learnt; its head is random, and its scores mean nothing")
    files, left_out = gathered(photos)
    named = set(map(place, photos))
    forged = dict.fromkeys(of_sets([file for file in files if file not in named]))
    left_out += forged
    files = [file for file in files if file not in forged]
    if left_out and not files:
        raise InputError(f"no photograph: {told(left_out)}; name the photographs that they were made from")
    if left_out:
        tell(f"note: {told(left_out)}", error=True)
    for folder in filter(os.path.isdir, files):
        raise no_pictures(folder)
    check_output(out, [weights, *files])
    check_kind(out, ".safetensors")
    check_replaces(out, weights)
    check_folder(out)
    clear_stale(out.parent)
    check_extent(len(files), photographs)
    localizer = Localizer.from_pretrained(weights, device=str(choose_device(device)))
    again: list[Path] = []
    files = list(each_once(files, again))
    if again:
        tell(f"note: {told_again(again)}", error=True)
    calibration = localizer.calibrate(files, photographs, say=lambda line: tell(printable(line), error=True))
    digest = write_calibrated(weights, calibration, out)
    tell(f"{out}: sha256 {digest}")
    scored = len(calibration.scores)
    tell(f"calibrated on {scored} of {len(files)} photographs")
    for alpha in (0.01, 0.05, 0.2):
        tell(f"at most {alpha:.0%} false alarms: score above {calibration.threshold(alpha):.3f}")
    if scored < len(files):
        raise typer.Exit(SOME_FAILED)


@commands.command(epilog=examples("mpc-lite export --weights lite2 --out model.onnx"))
def export(
    out: Annotated[Path, output("--out", "FILE", "The .onnx file to write.")],
    weights: WeightsOption = "lite2",
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", metavar="JSON", help="From 'evaluate --json', stored in the file; repeatable."),
    ] = None,
) -> None:
    """Write a network as one ONNX file, for other runtimes and for the page in the book."""
    with loading():
        from mpc_lite.files import check_output, place
        from mpc_lite.inference.export import export as run
        from mpc_lite.network.weights import read_facts
        from mpc_lite.run_folder import clear_stale

    results = [place(file) for file in results or []]
    check_output(out, [weights, *results])
    check_kind(out, ".onnx")
    clear_stale(out.parent)
    note_random_head(weights, read_facts(weights))
    tell(f"{out}: sha256 {run(weights, out, results)}")
