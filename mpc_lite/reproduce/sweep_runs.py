"""The cells of a sweep: which runs it has, checked before anything starts, and how they ended."""

from __future__ import annotations

import itertools
import json
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from mpc_lite.errors import InputError, OtherFiles, printable, shown
from mpc_lite.provenance import without_paths
from mpc_lite.recipes.load import recipe_name
from mpc_lite.reproduce.run import Request, Run, inputs_digest, read_results
from mpc_lite.reproduce.runner import find_notebook, plan


def check_inputs(results: dict, run: Run) -> None:
    """OtherFiles where a finished run was given other files, by the same names, than it would be given now."""
    if results.get("inputs") not in (None, inputs_digest(run)):
        raise OtherFiles(
            "a file that its parameters name has changed since, or is gone; give it the old one, or run it again with "
            "--force"
        )


def check_own(results: dict, run: Run) -> None:
    """OtherFiles where the results in a run's folder are another run's: of a copied folder, or one that was moved."""
    own = {"name": run.name, "profile": run.recipe.profile, "seed": run.recipe.seed}
    own["parameters"] = json.loads(json.dumps(without_paths(run.parameters)))
    if other := [key for key, value in own.items() if results[key] != value]:
        found = shown(", ".join(f"{key} {results[key]}" for key in other), 200)
        raise OtherFiles(f"results.json is of another run ({found}); move it to where it belongs")


@dataclass
class Cell:
    """One run of a sweep: `status` is waiting, finished (before this sweep), done, failed or stopped."""

    label: str  # seed=0 ablation=small
    request: Request  # of this one run
    run: Run
    status: str = "waiting"
    reason: str = ""
    seconds: float | None = None
    tries: int = 0
    signal: int = signal.SIGINT  # by which the sweep was asked to stop, if it was

    def look(self, files: bool = True) -> None:
        """Call it finished where its results are there, and failed where the files that it is given are others now;
        where the results are damaged, `reason` says so, and it will run. files: these are at hand."""
        try:
            results = read_results(self.run.out)
            self.status = "finished"
            check_own(results, self.run)
            if files:
                check_inputs(results, self.run)
        except FileNotFoundError:
            pass
        except OtherFiles as error:
            self.status, self.reason = "failed", str(error)
        except InputError as error:
            self.reason = str(error).partition(";")[0]


# ------------------------------------------------------------------------------------------------------- which cells


def sweep_values(pairs: list[str]) -> dict[str, list[str]]:
    """["seed=0,1", "data.scenes=[a, b],[a]"] as {"seed": ["0", "1"], "data.scenes": ["[a, b]", "[a]"]}.

    A comma inside brackets or quotes does not separate. Raises InputError for anything but KEY=VALUE,VALUE… and for a
    key given twice.
    """
    values_by_key: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        values = _split(text)
        if not equals or not key or not all(values):
            raise InputError(f"--sweep {pair}: expected KEY=VALUE,VALUE…, for example --sweep seed=0,1,2")
        if key in values_by_key:
            raise InputError(f"--sweep {key} is given twice; write all its values behind one another, with commas")
        values_by_key[key] = values
    return values_by_key


def _split(text: str) -> list[str]:
    values, open_brackets, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        open_brackets += (not quote) * ((char in "[{(") - (char in "]})"))
        if char == "," and not quote and not open_brackets:
            values.append("")
        else:
            values[-1] += char
    if quote or open_brackets:
        raise InputError(f"--sweep …={text}: a {'quote' if quote else 'bracket'} has no partner")
    return [value.strip() for value in values]


def plan_cells(request: Request) -> list[Cell]:
    """The cells of a sweep, checked and in order, the last key's values changing fastest; nothing is written.

    Raises:
        InputError: any cell is wrong, a key is given both ways, or two cells are the same run.
    """
    given, over = request.given, request.over
    both = [key for key in over if key in given]
    if both:
        raise InputError(f"{both[0]} is given by -p and by --sweep; keep one")
    notebook = find_notebook(request.name, request.book)
    cells: dict[Path, Cell] = {}
    for values in itertools.product(*over.values()):
        own = dict(zip(over, values, strict=True))
        label = " ".join(f"{key}={value}" for key, value in own.items()) or recipe_name(request.name)
        single = replace(request, given={**given, **own}, over={})
        run, _ = plan(single, notebook)
        if run.out in cells:
            raise InputError(f"--sweep: '{cells[run.out].label}' and '{label}' are the same run; leave one out")
        cells[run.out] = Cell(label, single, run)
    return list(cells.values())


# ------------------------------------------------------------------------------------------------------ how they ended


def sweep_table(cells: list[Cell]) -> Table:
    """One row per cell: what became of it, its seconds, F1 where it was measured, and its folder."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("cell", "status", "seconds", "F1", "run folder"):
        table.add_column(name, justify="right" if name in ("seconds", "F1") else "left")
    for cell in cells:
        seconds = "–" if cell.seconds is None else f"{cell.seconds:.0f}"
        status = "not run" if cell.status == "waiting" else cell.status
        f1 = _f1(cell.run.out) if cell.status in ("finished", "done") else "–"  # else it is an earlier run's
        row = (cell.label, status, seconds, f1, short(cell.run.out))
        table.add_row(*(Text(printable(each)) for each in row))  # plain strings may hold rich's markup: seed=[1]
    return table


def _f1(out: Path) -> str:
    try:
        value = read_results(out)["average"]["f1"]
    except (FileNotFoundError, InputError):
        return "–"
    return "–" if value is None else f"{value:.3f}"


def exit_code(cells: list[Cell]) -> int:
    """0: all are done; 1: some failed; 130 (143 by SIGTERM, 129 by SIGHUP): some were stopped or never started."""
    stopped = [cell for cell in cells if cell.status in ("stopped", "waiting")]
    return 128 + stopped[0].signal if stopped else int(any(cell.status == "failed" for cell in cells))


def short(path: Path) -> str:
    """A path as seen from the working folder, where it lies below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
