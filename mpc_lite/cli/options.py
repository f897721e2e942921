"""Options that several commands share, or that fill a page of their own, and the exit codes.

Only what typer needs is imported: a command's help shows at once.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mpc_lite.cli.terminal import tell
from mpc_lite.errors import InputError, shown
from mpc_lite.files import place
from mpc_lite.training.signals import unanswered

DONE, SOME_FAILED, MISTAKE, BUG = 0, 1, 2, 70


def output(name: str, kind: str, help: str) -> Any:
    """An option for a file or folder to write, found by the rule for those that are read (`files.place`)."""
    return typer.Option(name, metavar=kind, callback=lambda path: path and place(path), help=help)


Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "-p", metavar="KEY=VALUE", help="Change a value of the recipe, e.g. -p pretrain.steps=600; repeatable."
    ),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Scale: smoke (seconds), lite (default), check, paper.")
]
RecipeOption = Annotated[str, typer.Option("--recipe", metavar="NAME|FILE", help="A recipe's name or YAML file.")]
OutOption = Annotated[Path, output("--out", "DIR", "Folder for weights, checkpoints and log.jsonl.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        callback=lambda n: n and os.environ.update(MPC_LITE_MAX_PIXELS=str(n)),
        help="Read pictures of up to N pixels. Without it 2^28, of short files 2^26.",
    ),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        "--weights", metavar="NAME|FILE|hf://…", help="'lite2', 'lite', a .safetensors file, or hf://OWNER/NAME."
    ),
]

# ----------------------------------------------------------------------------------------------------- of `reproduce`

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A recipe with a notebook book/reproduce/NAME.ipynb, or such as table2.")
]
GoOnOption = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run; a sweep always does so.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Delete an earlier run of the same parameters.")]
SweepOption = Annotated[
    list[str] | None,
    typer.Option("--sweep", metavar="KEY=A,B", help="A run for each value; given again, for each combination."),
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Run on the workers of this Dask scheduler.")
]
CollectOption = Annotated[
    bool, typer.Option("--collect", help="Run nothing: gather finished runs, and compare them with the paper.")
]
BookOption = Annotated[
    Path | None, typer.Option("--book", metavar="PATH", help="The book's folder, when you are outside a clone.")
]


def check_kind(output: Path, ending: str) -> None:
    """InputError for a name that does not end as what is written: others know it by that, and `--out *.jpg` without a
    name of its own must not cost the first photograph."""
    if output.suffix.lower() != ending:
        raise InputError(f"{shown(output, 200)} does not end in {ending}, as what is written there; give another name")


def note_random_head(weights: str, facts: dict[str, Any]) -> None:
    """A line where a head that has learnt nothing would mark pixels, by what the file of weights says of itself."""
    from mpc_lite.network.weights import ENCODER_ONLY

    if facts.get("stage") in ENCODER_ONLY:
        tell(f"note: only the encoder of {weights} has learnt; its head is random, and so are maps", error=True)


@contextmanager
def loading() -> Iterator[None]:
    """Hold back Python's search for unreachable objects while modules load: it walks all that torch brings along time
    and again, finds next to nothing, and takes a quarter of the start. Nor is what they brought walked later.

    SIGTERM and SIGHUP end the process as if nobody answered them: an exception out of an import breaks libraries in
    two, and nothing is written yet."""
    gc.disable()
    try:
        with unanswered():
            yield
    finally:
        gc.enable()
        if not gc.get_freeze_count():
            gc.freeze()


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["[bold]Examples[/bold]", *lines])
