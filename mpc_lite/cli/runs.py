"""Whole runs, and what a recipe asks for: `mpc-lite reproduce`, `info`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mpc_lite.cli.options import (
    BookOption,
    CollectOption,
    ForceOption,
    GoOnOption,
    NameArgument,
    Parameters,
    ProfileOption,
    SchedulerOption,
    SweepOption,
    examples,
    loading,
)
from mpc_lite.cli.terminal import put, tell
from mpc_lite.errors import InputError

commands = typer.Typer()


def _drawn(table: Any) -> str:
    """A table of rich as the terminal shows it, in its colours and width."""
    from rich.console import Console

    console = Console()
    with console.capture() as text:
        console.print(table)
    return text.get().removesuffix("\n")


@commands.command(
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
    Exit code 1 when a score lies outside the band around the paper's,
    or a file of a run is damaged.
    """
    from mpc_lite.recipes.load import assignments
    from mpc_lite.reproduce.run import Request
    from mpc_lite.reproduce.sweep_runs import exit_code, sweep_table, sweep_values

    request = Request(name, profile, assignments(parameters or []), sweep_values(over or []), book)
    if collect:
        if scheduler or force or resume:
            raise InputError("--collect runs nothing; leave out --scheduler, --force and --resume")
        with loading():
            from mpc_lite.reproduce.collect import collect as gather

        path, compared, code = gather(request)
        tell("\n\n".join(filter(None, [compared, f"collected in {path}"])))
        raise typer.Exit(code)
    if request.over or scheduler:
        from mpc_lite.reproduce.sweep import sweep

        cells = sweep(request, scheduler, force, say=lambda line: tell(line, error=True))
        put(_drawn(sweep_table(cells)))
        raise typer.Exit(exit_code(cells))
    from mpc_lite.reproduce.runner import reproduce as run

    out = run(request, resume, force)

    from mpc_lite.reproduce.results import terminal_table

    put(_drawn(terminal_table(out)))
    tell(f"report: {out / 'report.html'}")


@commands.command(
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

    from mpc_lite.recipes.load import assignments, load_recipe

    checked = load_recipe(recipe, profile, assignments(parameters or []))
    if costs:
        with loading():
            from mpc_lite.cost.recipe_cost import cost, format_cost

        tell(format_cost(cost(checked)))
        return
    tell(yaml.safe_dump(checked.as_dict(), sort_keys=False, allow_unicode=True))
    if checked.neighbour:
        tell(f"trains: {checked.neighbour}, the one stage of a neighbour; pretrain and finetune have no part in it")
    with loading():
        import torch

        from mpc_lite.network.model import MPC

    with torch.device("meta"):  # counts need no memory
        model = MPC.build(checked.model.size, checked.model.head)
    for name, part in (("encoder", model.encoder), ("localization head", model.decoder), ("together", model)):
        tell(f"{name:>18}: {sum(p.numel() for p in part.parameters()):>12,} parameters")
