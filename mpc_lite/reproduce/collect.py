"""`mpc-lite reproduce NAME --collect`: the finished runs of a recipe in one file of the book, and beside the paper."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, StrictInt

from mpc_lite.errors import InputError, shown, some
from mpc_lite.evaluation.evaluate import aligned
from mpc_lite.files import open_file, write_atomic
from mpc_lite.provenance import read_json, without_paths
from mpc_lite.recipes.load import load_recipe, recipe_choices, recipe_name
from mpc_lite.reproduce.paper import Compared, compare
from mpc_lite.reproduce.results import scored_on
from mpc_lite.reproduce.run import Request, damaged, read_results, writable
from mpc_lite.reproduce.runner import find_notebook
from mpc_lite.reproduce.sweep_runs import check_own, plan_cells
from mpc_lite.reproduce.tables import ABLATIONS, READ_AS, READINGS, as_cases
from mpc_lite.run_folder import EARLIER, holds_run


def collect(request: Request) -> tuple[Path, str, int]:
    """Write book/results/NAME-PROFILE.json; returns its path, the comparison with the paper, and an exit code.

    The file holds {schema: 1, name, profile, command, runs, groups, unfinished}: `command` that writes it; `runs`, what
    each results.json holds, ordered by parameters and seed; `groups`, one for each set of parameters beside the seed
    and of files that they name (inputs, hub), {parameters, seeds, average, sets} with {mean, sd} over seeds of F1 and
    IoU in 0–1 (sd null for one seed), n the fewest of a seed; `unfinished`, the runs that are not in it, {folder, seed,
    parameters, reason}. Groups of `neighbour_scores` have null_splices and own_metrics too, and lead, their F1 and IoU
    less those of the first group, seed by seed. Equal runs give equal bytes, and no path of a machine is in them.

    Args:
        request: with `given` or `over` of these runs only, else of all in `root`/NAME/PROFILE.
    Returns:
        The exit code is 1 when a score lies outside its band (`paper.compare`; in every reading, where the paper's
        noise has two), or a file of a run is damaged, else 0, also where nothing ran at full scale.
    Raises:
        InputError: no finished run; runs of one group that differ in recipe or test images, or two of one seed.
    """
    notebook, name = find_notebook(request.name, request.book), recipe_name(request.name)
    profile = load_recipe(name, request.profile).profile
    folder = Path(request.root) / name / profile
    if request.given or request.over:
        cells = plan_cells(replace(request, name=name, profile=profile, book=notebook.parents[1]))
        planned = {cell.run.out: (cell.run.recipe.seed, cell.run.parameters, cell.run) for cell in cells}
    else:
        planned = {out: (*_told(out), None) for out in sorted(folder.glob("*")) if out.is_dir()}
    runs, unfinished, code = {}, [], 0
    for out, (seed, parameters, run) in planned.items():
        try:
            try:
                results = read_results(out)
                if (results["name"], results["profile"]) != (name, profile):
                    other = shown(f"{results['name']}, profile {results['profile']}")
                    raise InputError(f"results.json is of another run ({other}); move it to where it belongs")
                if run:
                    check_own(results, run)
                runs[out] = results
                continue
            except FileNotFoundError:
                reason = _reason(out)
        except InputError as error:
            reason, code = str(error), 1
        unfinished.append({"folder": out.name, "seed": seed, "parameters": parameters, "reason": reason})
    if not runs:
        listed = "".join(f"; {run['folder']}: {run['reason']}" for run in unfinished)
        raise InputError(f"nothing to collect: {folder} holds no finished run of these{listed}")
    groups = _grouped(runs)
    document = {
        "schema": 1,
        "name": name,
        "profile": profile,
        "command": _command(request, name, profile),
        "runs": [run for group in groups for run in group],
        "groups": [_summary(group) | _beside_first(group, groups[0]) for group in groups],
        "unfinished": without_paths(sorted(unfinished, key=lambda run: (_key(run), run["folder"]))),
    }
    path = notebook.parents[1] / "results" / f"{name}-{profile}.json"
    if path.is_file() and b"--collect" not in path.read_bytes():
        raise InputError(f"{path} is there and was not written by --collect; move it, or what it holds is lost")
    write_atomic(path, (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    texts, codes = zip(*(_beside_paper(group) for group in groups), strict=True)
    return path, "\n\n".join(filter(None, [*texts, _listed(document["unfinished"])])), max(code, *codes)


def _command(request: Request, name: str, profile: str) -> str:
    words = ["mpc-lite", "reproduce", name, "--profile", profile]
    for key, value in request.given.items():
        words += ["-p", f"{key}={value}"]
    for key, values in request.over.items():
        words += ["--sweep", f"{key}={','.join(values)}"]
    return without_paths(shlex.join([*words, "--collect"]))


def _listed(unfinished: list[dict[str, Any]]) -> str:
    lines = [f"  {run['folder']}: {run['reason']}" for run in unfinished]
    return "\n".join([f"not collected, {len(lines)} unfinished:", *lines]) if lines else ""


# ------------------------------------------------------------------------------------------------------ unfinished runs


class _Parameters(BaseModel):
    SEED: StrictInt | None = None
    PARAMETERS: Annotated[dict[str, Any] | None, AfterValidator(writable)] = None


class _Papermill(BaseModel):
    parameters: _Parameters = _Parameters()


class _Metadata(BaseModel):
    papermill: _Papermill = _Papermill()


class _Output(BaseModel):
    output_type: str
    ename: str = ""
    evalue: str = ""


class _Cell(BaseModel):
    outputs: list[_Output] = []


class _Notebook(BaseModel):
    """What an unfinished run tells by the notebook that papermill began to write."""

    metadata: _Metadata = _Metadata()
    cells: list[_Cell] = []


def _notebook(out: Path) -> _Notebook:
    """An empty one where there is none. InputError: the file is damaged."""
    try:
        with open_file(file := out / "notebook.ipynb") as opened:
            return _Notebook.model_validate(read_json(opened.read().decode("utf-8")))
    except FileNotFoundError:
        return _Notebook()
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None


def _told(out: Path) -> tuple[int | None, dict[str, Any] | None]:
    """Seed and parameters of an unfinished run."""
    try:
        values = _notebook(out).metadata.papermill.parameters
    except InputError:  # told where the run turns out to be unfinished
        return None, None
    return values.SEED, values.PARAMETERS


def _reason(out: Path) -> str:
    aside = f", and an earlier run is in {EARLIER}" if (out / EARLIER).is_dir() else ""
    if not holds_run(out):
        return f"not run{aside}"
    for error in [each for cell in _notebook(out).cells for each in cell.outputs if each.output_type == "error"]:
        text = shown(f"{error.ename}: {next(iter(error.evalue.splitlines()), '')}", 300)
        return "interrupted" if error.ename == "Interrupted" else f"failed: {text}"
    return f"unfinished{aside}"


# --------------------------------------------------------------------------------------------------------------- groups


def _key(run: dict[str, Any]) -> tuple[tuple[int, str, str], int]:
    """Parameters, the fewest first, and the files they name, then the seed."""
    parameters, seed = run["parameters"] or {}, run["seed"]
    text = json.dumps(parameters, sort_keys=True)
    return (len(parameters), text, f"{run.get('inputs') or ''} {run.get('hub') or ''}"), -1 if seed is None else seed


def _grouped(runs: dict[Path, dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The runs of equal parameters together, ordered by seed; checked that the seed is all they differ in."""
    ordered = sorted(runs.items(), key=lambda item: (_key(item[1]), item[0].name))
    groups = [list(group) for _, group in groupby(ordered, key=lambda item: _key(item[1])[0])]
    for group in groups:
        (first, run), others = group[0], group[1:]
        for (before, earlier), (out, other) in zip(group, others, strict=False):
            if other["seed"] == earlier["seed"]:
                which = "say which with -p DEVICE=…, or delete one"
                raise InputError(
                    f"{before.name} and {out.name} are both of seed {other['seed']} with the same parameters, on "
                    f"{shown(earlier['device'])} and {shown(other['device'])}; "
                    f"{which if earlier['device'] != other['device'] else 'delete one, or move it away'}"
                )
        for out, other in others:
            recipe = run["recipe"]
            unlike = [key for key in recipe if key != "seed" and other["recipe"].get(key) != recipe[key]]
            if unlike:
                raise InputError(
                    f"{first.name} and {out.name} are of different versions of the recipe, unlike in "
                    f"{some(unlike)}; run the older one again with --force"
                )
            scored = f"{first.name} was scored on {scored_on(run)}, {out.name} on {scored_on(other)}"
            if scored_on(run) != scored_on(other):
                raise InputError(f"{scored}; run the one whose list was incomplete again with --force")
    return [[run for _, run in group] for group in groups]


def _summary(group: list[dict[str, Any]]) -> dict[str, Any]:
    common = [source for source in group[0]["sets"] if all(source in run["sets"] for run in group)]
    return {
        "parameters": group[0]["parameters"],
        **{key: group[0][key] for key in ("inputs", "hub") if group[0].get(key)},
        "seeds": [run["seed"] for run in group],
        "average": {score: _spread([run["average"][score] for run in group]) for score in ("f1", "iou")},
        "sets": {
            source: {
                "n": min(run["sets"][source]["n"] for run in group),
                **{score: _spread([run["sets"][source][score] for run in group]) for score in ("f1", "iou")},
            }
            for source in common
        },
    }


def _beside_first(group: list[dict[str, Any]], first: list[dict[str, Any]]) -> dict[str, Any]:
    """Of runs that hold `neighbour_scores`: these in {mean, sd}, and how far the group's averages lie above those of
    the first group, in pairs of one seed; lead null without a seed in common."""
    if not all("own_metrics" in run for run in [*group, *first]):
        return {}
    parts = {
        part: {name: _spread([run[part].get(name) for run in group]) for name in group[0][part] if name != "n"}
        for part in ("null_splices", "own_metrics")
    }
    other = {run["seed"]: run["average"] for run in first}
    pairs = [(run["average"], other[run["seed"]]) for run in group if run["seed"] in other]
    pairs = [pair for pair in pairs if None not in (pair[0]["f1"], pair[1]["f1"])]
    if not pairs:
        return {**parts, "lead": None}
    lead = {score: _spread([ours[score] - theirs[score] for ours, theirs in pairs]) for score in ("f1", "iou")}
    return {**parts, "lead": {"pairs": len(pairs), **lead}}


def _spread(values: list[float | None]) -> dict[str, float | None]:
    if None in values:
        return {"mean": None, "sd": None}
    return {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}


# ---------------------------------------------------------------------------------------------------- beside the paper


def _beside_paper(group: list[dict[str, Any]]) -> tuple[str, int]:
    """The paper's tables beside runs that differ in the seed, as text, and 1 if a score lies outside its band."""
    first, texts, code = group[0], [], 0
    what = ", ".join(f"{key}={value}" for key, value in first["parameters"].items())
    seeds = f"{'seed' if len(group) == 1 else 'seeds'} {', '.join(str(run['seed']) for run in group)}"
    for table in first["recipe"]["tables"]:
        ablation = first["recipe"]["choice"].get("ablation", "full")
        method = ABLATIONS.get(ablation, ablation) if table == "Table 8" else "MPC"
        noisy = table in ("Figure 2", "Table 7")
        outside = []
        for reading in READINGS if noisy else [None]:
            runs = [as_cases(run, table, reading) for run in group] if reading else group
            rows, note = _compared(runs, table, method)
            outside.append({(row.paper.case, row.paper.metric) for row in rows if row.verdict == "outside"})
            title = ", ".join(filter(None, [table, method, READ_AS.get(reading), what, seeds]))
            texts.append("\n".join([title, *([] if note else aligned(_rows(rows))), *([note] if note else [])]))
        code = max(code, int(bool(set.intersection(*outside))))
    return "\n\n".join(texts), code


def _compared(runs: list[dict[str, Any]], table: str, method: str) -> tuple[list[Compared], str]:
    """The rows, or why there are none: what was changed is another experiment than the paper's."""
    first = runs[0]
    changed = [key for key in first["parameters"] if key not in recipe_choices(first["name"])]
    if first["profile"] != "paper":
        return [], f"not run at full scale: these are runs of profile {first['profile']}"
    if changed:
        return [], f"not run as the paper did: {', '.join(changed)} changed"
    try:
        return compare(runs, table, method), ""
    except InputError as error:
        return [], f"not run as the paper did: {error}"


def _rows(rows: list[Compared]) -> list[list[str]]:
    """One row per score, in percent and points."""

    def figure(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{sign}{value:.1f}"

    table = [["test set", "score", "paper", "here", "sd", "band", "verdict"]]
    for row in rows:
        paper = f"{'≈ ' if row.paper.digitised else ''}{row.paper.value:.1f}"
        here = "not run" if row.mean is None else f"{row.mean:.1f}"
        table.append(
            [row.paper.case, row.paper.metric, paper, here, figure(row.sd), figure(row.band, "±"), row.verdict]
        )
    return table
