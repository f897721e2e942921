"""The stages one by one: `mpc-lite pretrain`, `finetune`, `adapt`, and `neighbour`, the one of another method."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mpc_lite.cli.options import (
    DeviceOption,
    MaxPixelsOption,
    OutOption,
    Parameters,
    ProfileOption,
    RecipeOption,
    ResumeOption,
    examples,
    loading,
)
from mpc_lite.cli.terminal import speaks, tell

commands = typer.Typer()


def _train(stage: str, recipe: str, out: Path, weights: str | None, resume: bool, parameters, profile, device) -> None:
    from mpc_lite.recipes.load import assignments, load_recipe
    from mpc_lite.training.progress import following

    checked = load_recipe(recipe, profile, assignments(parameters or []))
    with following(out / "log.jsonl") if speaks() else nullcontext(lambda text: None) as say:
        say(f"loading torch… (threads that wait: OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']})")
        with loading():
            from mpc_lite.training import finetune, pretrain
            from mpc_lite.training.loop import Interrupted

        if stage == "neighbour":
            from mpc_lite.neighbours.stages import train_neighbour as work
        else:
            work = {"pretrain": pretrain.pretrain, "finetune": finetune.finetune, "adapt": finetune.adapt}[stage]
        try:
            path = work(checked, out, resume, weights, None if device == "auto" else device)
        except Interrupted as stopped:
            say(f"{stopped}; go on with the same command and --resume")
            raise typer.Exit(stopped.exit_code) from None
    if speaks():
        tell(path)


@commands.command(
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
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Stage 1: train the encoder with the contrastive loss; writes OUT/stage1.safetensors."""
    _train("pretrain", recipe, out, weights, resume, parameters, profile, device)


@commands.command(
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
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Stage 2: train the localization head with the focal loss; writes OUT/model.safetensors."""
    _train("finetune", recipe, out, weights, resume, parameters, profile, device)


@commands.command(
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
    max_pixels: MaxPixelsOption = None,
) -> None:
    """A third stage, for recipes with `adapt`: go on with other images; writes OUT/adapted.safetensors."""
    _train("adapt", recipe, out, weights, resume, parameters, profile, device)


@commands.command(
    epilog=examples(
        "mpc-lite neighbour --recipe mscc --out my-run",
        "mpc-lite neighbour --recipe pclmix --out my-run -p pclmix.mix_label_rule=splice --resume",
    )
)
def neighbour(
    recipe: RecipeOption,
    out: OutOption,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="NAME|FILE", help="Start from these weights.")
    ] = None,
    resume: ResumeOption = False,
    parameters: Parameters = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
    max_pixels: MaxPixelsOption = None,
) -> None:
    """Train a method beside MPC, the recipe's section mscc, pppc, pclmix or borrowed; writes OUT/model.safetensors."""
    _train("neighbour", recipe, out, weights, resume, parameters, profile, device)
