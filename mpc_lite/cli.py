"""The command line: `mpc-lite …`, a thin shell over the package.

Exit codes: 0 done; 1 done, but some rows or photos failed; 2 a mistake in the call or its input, told in one message;
70 an error in the package, with its traceback; 130 interrupted. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mpc_lite.config import InputError, load_recipe
from mpc_lite.kernel import REFUSED, KernelDied, KernelStopped
from mpc_lite.options import (
    BUG,
    DONE,
    INTERRUPTED,
    MISTAKE,
    SOME_FAILED,
    BookOption,
    CollectOption,
    DeviceOption,
    ForceOption,
    GoOnOption,
    NameArgument,
    OutOption,
    Parameters,
    ProfileOption,
    RecipeOption,
    ResumeOption,
    SchedulerOption,
    SweepOption,
    WeightsOption,
    examples,
)

app = typer.Typer(
    name="mpc-lite",
    help="Find where photographs were changed: train, measure and use MPC networks.\n\n"
    "Start with: mpc-lite reproduce quickstart\n\n"
    "Exit codes: 0 done, 1 some rows or photos failed and the rest was done, 2 a mistake in the call or its input, "
    "70 an error in the package, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# ------------------------------------------------------------------------------------------------------- a whole run


@app.command(
    epilog=examples(
        "mpc-lite reproduce quickstart",
        "mpc-lite reproduce quickstart --profile smoke",
        "mpc-lite reproduce quickstart -p SEED=1 -p pretrain.steps=600",
        "mpc-lite reproduce quickstart --resume",
        "mpc-lite reproduce table8 --profile smoke --sweep ablation=full,small --sweep seed=0,1",
        "mpc-lite reproduce table2 --profile paper --sweep seed=0,1,2 --scheduler tcp://node1:8786",
        "mpc-lite reproduce table2 --profile paper --collect",
    )
)
def reproduce(
    name: NameArgument,
    profile: ProfileOption = None,
    parameters: Parameters = None,
    resume: GoOnOption = False,
    force: ForceOption = False,
    over: SweepOption = None,
    scheduler: SchedulerOption = None,
    collect: CollectOption = False,
    book: BookOption = None,
) -> None:
    """Train both stages, measure, and write a report: all of a recipe's notebook.

    The folder runs/NAME/PROFILE/SEED[-hash of other parameters] gets
    results.json, report.html, notebook.ipynb and the weights.
    Ctrl-C stops after the step at hand; --resume goes on from there.

    A sweep runs on this machine, a worker per GPU or core,
    or on the workers of --scheduler (dask worker ADDRESS --nthreads 1).
    It skips runs with results.json and resumes the others.
    Exit code 1 when a run failed: its notebook.ipynb shows why.

    --collect writes book/results/NAME-PROFILE.json from all runs,
    or from those that -p and --sweep name.
    Exit code 1 when a score lies outside the band around the paper's.
    """
    from rich.console import Console

    from mpc_lite.cells import exit_code, sweep_table, sweep_values
    from mpc_lite.reproduce import assignments

    given, values = assignments(parameters or []), sweep_values(over or [])
    if collect:
        if scheduler or force or resume:
            raise InputError("--collect runs nothing; leave out --scheduler, --force and --resume")
        from mpc_lite.collect import collect as gather

        path, compared, code = gather(name, profile, given, values, book)
        print(*filter(None, [compared, f"collected in {path}"]), sep="\n\n")
        raise typer.Exit(code)
    if values or scheduler:
        from mpc_lite.sweep import sweep

        cells = sweep(
            name, profile, given, values, scheduler, force, book, say=lambda line: print(line, file=sys.stderr)
        )
        Console().print(sweep_table(cells))
        raise typer.Exit(exit_code(cells))
    from mpc_lite.reproduce import reproduce as run

    out = run(name, profile, given, resume, force, book)

    from mpc_lite.results import terminal_table

    Console().print(terminal_table(out))
    print(f"report: {out / 'report.html'}")


# ----------------------------------------------------------------------------------------------------------- its parts


@app.command(
    epilog=examples(
        "mpc-lite synth --out forgeries --n 100 --seed 0 --size 256",
        "mpc-lite synth --out forgeries --n 100 --seed 0 --size 256 --photos ~/Pictures",
        "mpc-lite synth --out control --n 100 --null",
    )
)
def synth(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for images/, masks/ and manifest.csv.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")] = 0,
    size: Annotated[int, typer.Option("--size", min=32, help="Side of the square images, pixels.")] = 256,
    photos: Annotated[
        str | None, typer.Option("--photos", metavar="DIR", help="Your photographs, instead of the packaged ones.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation or test: other scenes, cameras.")] = "test",
    null: Annotated[
        bool,
        typer.Option("--null", help="Only null splices: donor and host from one camera, a control without traces."),
    ] = False,
) -> None:
    """Make forgeries whose truth is known: splices, copy-moves, removals, and authentic photographs beside them."""
    found = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if found:
        some = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise InputError(
            f"--out {out} is not empty (found {some}); choose another folder: a set starts in an empty one"
        )

    from mpc_lite.scenes import Scenes
    from mpc_lite.synth import write_set

    scenes = Scenes(split, ["photos"] if photos else ["packaged", "dead_leaves"], photos)
    print(write_set(out, split, n, seed, size, scenes, null=null))


def _train(stage: str, recipe: str, out: Path, weights: str | None, resume: bool, parameters, profile, device) -> None:
    from mpc_lite.progress import following
    from mpc_lite.reproduce import assignments

    checked = load_recipe(recipe, profile, assignments(parameters or []))
    with following(out / "log.jsonl") if _speaks() else nullcontext(lambda text: None) as say:
        say("loading torch…")
        from mpc_lite import finetune, pretrain
        from mpc_lite.training import Interrupted

        work = {"pretrain": pretrain.pretrain, "finetune": finetune.finetune, "adapt": finetune.adapt}[stage]
        try:
            path = work(checked, out, resume, weights, None if device == "auto" else device)
        except Interrupted as stopped:
            say(f"{stopped}; go on with the same command and --resume")
            raise typer.Exit(INTERRUPTED) from None
    if _speaks():
        print(path)


def _speaks() -> bool:
    """Of processes started together (`accelerate launch`, `torchrun`) only the first one prints: all know the same."""
    return os.environ.get("RANK", "0") == "0"


@app.command(
    epilog=examples(
        "mpc-lite pretrain --recipe quickstart --out my-run",
        "mpc-lite pretrain --recipe my.yaml --out my-run -p pretrain.steps=5000 --resume",
    )
)
def pretrain(
    recipe: RecipeOption,
    out: OutOption,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="NAME|FILE", help="Start from these weights.")
    ] = None,
    resume: ResumeOption = False,
    parameters: Parameters = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Stage 1: train the encoder with the contrastive loss; writes OUT/stage1.safetensors."""
    _train("pretrain", recipe, out, weights, resume, parameters, profile, device)


@app.command(
    epilog=examples(
        "mpc-lite finetune --recipe quickstart --out my-run",
        "mpc-lite finetune --recipe quickstart --out other-run --weights my-run/stage1.safetensors",
    )
)
def finetune(
    recipe: RecipeOption,
    out: OutOption,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="NAME|FILE", help="Start from these instead of OUT/stage1.safetensors."),
    ] = None,
    resume: ResumeOption = False,
    parameters: Parameters = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Stage 2: train the localization head with the focal loss; writes OUT/model.safetensors."""
    _train("finetune", recipe, out, weights, resume, parameters, profile, device)


@app.command(
    epilog=examples(
        "mpc-lite adapt --recipe protocol2 --out my-run",
        "mpc-lite adapt --recipe protocol2 --out adapted --weights lite -p adapt.steps=50",
    )
)
def adapt(
    recipe: RecipeOption,
    out: OutOption,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="NAME|FILE", help="Start from these instead of OUT/model.safetensors."),
    ] = None,
    resume: ResumeOption = False,
    parameters: Parameters = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
) -> None:
    """A third stage, for recipes with `adapt`: go on with other images; writes OUT/adapted.safetensors."""
    _train("adapt", recipe, out, weights, resume, parameters, profile, device)


@app.command(
    epilog=examples(
        "mpc-lite evaluate --weights lite --manifest forgeries/manifest.csv --protocol mpc --json scores.json",
        "mpc-lite evaluate --weights my-run/model.safetensors --manifest casia.csv --split test --maps maps",
        "mpc-lite evaluate --manifest casia.csv --split test --maps maps --protocol permuted",
    )
)
def evaluate(
    manifest: Annotated[Path, typer.Option("--manifest", metavar="CSV", help="Images, masks and labels to score.")],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="NAME|FILE", help="'lite', or a file; without it saved --maps are scored anew."
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="How maps become numbers: mpc, permuted, trufor, …")
    ] = "mpc",
    split: Annotated[str | None, typer.Option("--split", help="Only the rows of this split.")] = None,
    maps: Annotated[Path | None, typer.Option("--maps", metavar="DIR", help="Keep the score maps here.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Score weights on the images of a manifest, beside three baselines. Exit code 1 when rows had to be left out."""
    if weights is None and maps is None:
        raise InputError("evaluate needs --weights, or --maps with a folder of maps that an earlier evaluation kept")
    from mpc_lite.evaluate import evaluate as score
    from mpc_lite.evaluate import format_table, rescore
    from mpc_lite.weights import write_atomic

    if weights is None:
        table = rescore(manifest, maps, protocol, split)
    else:
        table = score(_localizer(weights, device), manifest, protocol, split, maps)
    print(format_table(table))
    if json_file:
        write_atomic(json_file, (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode())
    if table["errors"]:
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog=examples(
        "mpc-lite robustness --weights lite --manifest forgeries/manifest.csv --protocol mpc --json robustness.json",
        "mpc-lite robustness --weights lite --manifest columbia.csv --grid chains --json chains.json",
    )
)
def robustness(
    manifest: Annotated[Path, typer.Option("--manifest", metavar="CSV", help="Images, masks and labels to score.")],
    json_file: Annotated[
        Path,
        typer.Option("--json", metavar="FILE", help="Gets each finished cell; the same command goes on from there."),
    ],
    weights: WeightsOption = "lite",
    protocol: Annotated[
        str, typer.Option("--protocol", help="How maps become numbers: mpc, permuted, trufor, …")
    ] = "mpc",
    grid: Annotated[
        str, typer.Option("--grid", help="paper (MPC, Fig. 2), chains (MPC, Table 7), field (IMDL-BenCo and SAFIRE).")
    ] = "paper",
    split: Annotated[str | None, typer.Option("--split", help="Only the rows of this split.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise; each image has its own draw.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Score weights after JPEG, blur, noise and resizing, in one table. Exit code 1 when rows had to be left out."""
    from mpc_lite.robustness import format_robustness
    from mpc_lite.robustness import robustness as run

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    table = run(_localizer(weights, device), manifest, protocol, grid, split, seed, json_file, say)
    print(format_robustness(table))
    if table["errors"]:
        raise typer.Exit(SOME_FAILED)


def _localizer(weights: str, device: str):
    from mpc_lite.localizer import Localizer
    from mpc_lite.training import choose_accelerator
    from mpc_lite.weights import ENCODER_ONLY, read_facts

    if read_facts(weights).get("stage") in ENCODER_ONLY:
        print(f"note: only the encoder of {weights} has learnt; its head is random, and so are maps", file=sys.stderr)
    return Localizer.from_pretrained(weights, device=str(choose_accelerator(device, "fp32").device))


@app.command(
    epilog=examples(
        "mpc-lite predict photo.jpg --out found",
        "mpc-lite predict *.jpg --out found --weights my-run/model.safetensors",
    )
)
def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photographs of any size.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for pictures and predictions.jsonl.")],
    weights: WeightsOption = "lite",
    device: DeviceOption = "auto",
) -> None:
    """Show where photographs were changed: score map, mask and overlay of each. Exit code 1 when a photo failed."""
    from mpc_lite.localizer import predict as run

    failed = 0
    for line in run(photos, out, _localizer(weights, device)):
        if line["error"]:
            failed += 1
            where = "" if line["error"].startswith(line["image"]) else f"{line['image']}: "
            print(where + line["error"], file=sys.stderr)
        else:
            print(f"{line['image']}: score {line['score']:.3f}, {line['tampered_fraction']:.1%} marked")
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command(epilog=examples("mpc-lite check casia.csv"))
def check(manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest to look through.")]) -> None:
    """Open every image and mask of a manifest and list the bad rows. Exit code 1 when there are any."""
    from mpc_lite.manifest import check as look

    problems = look(manifest)
    print("\n".join(problems) if problems else f"{manifest}: all rows are good")
    if problems:
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog=examples(
        "mpc-lite convert MPC_CATNet_stage2_weights.pth --out official.safetensors",
        "mpc-lite convert hrt_base.pth --out imagenet.safetensors",
    )
)
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth file of MPC's authors, or hrt_base.pth.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .safetensors file to write.")],
) -> None:
    """Make an official checkpoint into weights that every command loads; nothing in the file is run."""
    from mpc_lite.convert import convert as run
    from mpc_lite.convert import summary

    print(summary(run(file, out)))


@app.command(
    epilog=examples(
        "mpc-lite info quickstart",
        "mpc-lite info quickstart --profile smoke -p model.size=small",
        "mpc-lite info protocol1 --profile paper --cost",
    )
)
def info(
    recipe: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A recipe's name or YAML file.")],
    profile: ProfileOption = None,
    parameters: Parameters = None,
    costs: Annotated[
        bool, typer.Option("--cost", help="FLOPs, memory, disk and hours of an epoch instead of the recipe.")
    ] = False,
) -> None:
    """Show a recipe with its profile and parameters applied, and how large its network is."""
    import yaml

    from mpc_lite.reproduce import assignments

    checked = load_recipe(recipe, profile, assignments(parameters or []))
    if costs:
        from mpc_lite.cost import cost, format_cost

        print(format_cost(cost(checked)))
        return
    print(yaml.safe_dump(checked.as_dict(), sort_keys=False, allow_unicode=True))
    import torch

    from mpc_lite.model import MPC

    with torch.device("meta"):  # counts need no memory
        model = MPC.build(checked.model.size, checked.model.head)
    for name, part in (("encoder", model.encoder), ("localization head", model.decoder), ("together", model)):
        print(f"{name:>18}: {sum(p.numel() for p in part.parameters()):>12,} parameters")


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns its exit code."""
    try:
        code = app(arguments, standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except InputError as mistake:
        if _speaks():
            print(f"error: {mistake}", file=sys.stderr)
        return MISTAKE
    except OSError as error:
        if error.errno not in REFUSED:
            return _other(error)
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{where}; choose another folder, or free some space", file=sys.stderr)
        return MISTAKE
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return _other(error)


def _other(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's, which newer versions of typer bring along
        error.show()
        return MISTAKE
    if isinstance(error, KernelStopped | KernelDied):
        print(error, file=sys.stderr)
        return INTERRUPTED if isinstance(error, KernelStopped) else BUG
    traceback.print_exception(error)
    return BUG


if __name__ == "__main__":
    sys.exit(main())
