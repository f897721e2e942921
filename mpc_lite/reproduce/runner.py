"""The runner: `mpc-lite reproduce NAME` = the recipe NAME, done by the notebook book/reproduce/NAME.ipynb.

A table or figure of the paper stands for the recipe that gives its numbers: `table2` is `protocol1`. papermill executes
the notebook in a kernel of this Python. Names and types of all parameters are checked before the kernel starts. The
kernel writes OUT/log.jsonl, this process reads it and shows the progress; to stop, this process creates OUT/stop, and
the training loop ends after the step at hand, with a checkpoint written.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

from mpc_lite.errors import InputError, ProcessDied, nearest, refused, shown, some
from mpc_lite.files import expand, expand_all
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe, recipe_name, recipe_names, scalar
from mpc_lite.reproduce.kernel import REFUSED, KernelDied, KernelStopped, execute
from mpc_lite.reproduce.run import Request, Run, prepare
from mpc_lite.run_folder import EARLIER, drop_earlier, holds_run, locked, put_back, set_aside
from mpc_lite.training.progress import following

MENDED = "; when that is mended, "  # between a mistake that a run was begun with and the way on

_SET_BY_RUNNER = {"OUT": "the run folder", "RESUME": "--resume", "PROFILE": "--profile", "PARAMETERS": "-p KEY=VALUE"}
_SET_BY_RUNNER |= {"RECIPE": "the name behind 'reproduce'"}


# ------------------------------------------------------------------------------------------------ what is to be done


# ---------------------------------------------------------------------------------------------------- the notebook


def find_notebook(name: str, book: str | Path | None = None) -> Path:
    """book/reproduce/NAME.ipynb: in `book`, else in the clone around the working folder, else in the package's clone.
    A notebook is a program, so one that another user put above the working folder is passed over.

    Recipes whose names begin alike and have no notebook of their own share one: `borrowed-context` has borrowed.ipynb.
    Raises InputError when the recipe or the notebook is missing; the message says which of the two.
    """
    name = recipe_name(name)
    if book is not None:
        folders = [Path(book), Path(book) / "book"]
        if not folders[0].is_dir():
            raise InputError(f"--book {book}: no such folder; expected the book's folder, with reproduce/{name}.ipynb")
    else:
        here = Path.cwd()
        around = [each / "book" for each in (here, *here.parents) if os.path.isdir(each / "book" / "reproduce")]
        strange = [folder for folder in around if _of_another_user(folder / "reproduce")]
        folders = [folder for folder in around if folder not in strange]
        folders.append(Path(__file__).resolve().parents[2] / "book")
    places = [folder / "reproduce" for folder in folders if (folder / "reproduce").is_dir()]
    for place in places:
        if (notebook := _notebook(place, name)).is_file():
            if name not in recipe_names():
                raise InputError(
                    f"{name}: the notebook is there, but the package has no recipe '{name}' (recipes are "
                    f"{some(recipe_names())}); install the package of the same clone"
                )
            return notebook.resolve()
    if name not in recipe_names():
        load_recipe(name)  # raises, and names the nearest recipe
    if not places:
        where = f"--book {book} has no folder reproduce/" if book else "no folder book/reproduce here or above"
        where += f" that is yours ({strange[0]} is another user's)" if not book and strange else ""
        raise InputError(
            f"the recipe '{name}' is there, its notebook is not: {where}; the notebooks come with the "
            "repository, not with the installed package: run inside a clone of it, or pass --book PATH/TO/CLONE/book"
        )
    known = sorted(p.stem for place in places for p in place.glob("*.ipynb"))
    raise InputError(
        f"the recipe '{name}' is there, its notebook {name}.ipynb is not{nearest(name, known)}; "
        f"notebooks here are {some(known) or 'none'}"
    )


def _of_another_user(folder: Path) -> bool:
    """Neither this user's nor the system's. A superuser works with the files of others, as in a container."""
    return hasattr(os, "geteuid") and os.geteuid() != 0 and os.stat(folder).st_uid not in (0, os.geteuid())


def _notebook(place: Path, name: str) -> Path:
    own, shared = place / f"{name}.ipynb", place / f"{name.partition('-')[0]}.ipynb"
    return shared if name in recipe_names() and not own.is_file() else own


def notebook_parameters(notebook: Path) -> dict[str, str]:
    """Names and annotated types of a notebook's parameters, from its cell with the tag `parameters`."""
    import nbformat
    from papermill.translators import PythonTranslator

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return {p.name: p.inferred_type_name for cell in tagged for p in PythonTranslator.inspect(cell)}


_TYPES = {"int": int, "float": (int, float), "bool": bool, "str": str, "dict": dict, "list": list}


def _typed(key: str, text: str, kind: str) -> Any:
    value = text if kind == "str" else scalar(text)
    wrong = not isinstance(value, _TYPES.get(kind, object)) or (isinstance(value, bool) and kind in ("int", "float"))
    if wrong:
        raise InputError(f"-p {key}={text}: the notebook's {key} is of type {kind}")
    return value


def plan(request: Request, notebook: Path) -> tuple[Run, dict[str, Any]]:
    """The checked run and the values for the notebook's parameters cell; nothing is written.

    `notebook` is what `find_notebook` found. Raises InputError as `prepare` does, and for parameters that the notebook
    does not have or that are of another type there.
    """
    types = notebook_parameters(notebook)
    missing = [key for key in ("PROFILE", "SEED", "DEVICE", "OUT", "RESUME", "PARAMETERS") if key not in types]
    if missing:
        raise InputError(f"{notebook.name}: its cell with the tag 'parameters' lacks {', '.join(missing)}")
    own, recipe_keys = {}, {}
    for key, text in request.given.items():
        if key in _SET_BY_RUNNER:
            raise InputError(f"-p {key}={text}: {key} is set by {_SET_BY_RUNNER[key]}")
        if key in types:
            own[key] = _typed(key, text, types[key])
        elif key == "seed":
            own["SEED"] = _typed(key, text, "int")
        elif key == key.upper():
            raise InputError(f"-p {key}={text}: {notebook.name} has no parameter '{key}'{nearest(key, list(types))}")
        else:
            recipe_keys[key] = text
    if "SEED" in request.given and "seed" in request.given:
        raise InputError("-p SEED and seed are the same; keep one")
    seed = own.pop("SEED", None)
    seed = load_recipe(request.name, request.profile).seed if seed is None else seed
    device = own.pop("DEVICE", "auto")
    run = prepare(request.name, request.profile or "lite", seed, device, None, recipe_keys, root=request.root, **own)
    values = {"PROFILE": run.recipe.profile, "SEED": seed, "DEVICE": device, "OUT": run.out.as_posix(), **own}
    values["PARAMETERS"] = {key: value for key, value in run.parameters.items() if key not in own}
    if "RECIPE" in types:
        values["RECIPE"] = run.name
    for what, value in {"the notebook": str(notebook), "its parameter OUT": values["OUT"], **run.parameters}.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{what} is {shown(value, 200)}, which is no text in UTF-8, and a run is written down in UTF-8; rename "
                "the folder or the file, or give a link to it that has another name"
            ) from None
    return run, values


# --------------------------------------------------------------------------------------------------------- the run


def files_at_hand(recipe: Recipe) -> None:
    """InputError when a manifest or a file of weights that the recipe names is missing, or a variable in its paths:
    found here, where the notebook will run, before there is a run folder, and before an earlier one is deleted."""
    lists = [recipe.data.manifest, recipe.data.validation, recipe.evaluate.manifests]
    lists += [recipe.adapt.manifest, recipe.adapt.validation] if recipe.adapt else []
    for path in [path for paths in lists for path in expand_all(paths)]:
        if not path.is_file():
            raise InputError(f"{path}: no such manifest; the scripts of data_scripts/ write them, or give another path")
    weights = [recipe.pretrain.weights, recipe.evaluate.weights]
    if recipe.neighbour:
        stage = getattr(recipe, recipe.neighbour)
        weights += [stage.weights, getattr(stage, "teacher", None)]
    for name in filter(None, weights):
        path = expand(name)
        if not str(name).startswith("hf:"):  # what a hub has is fetched when it is needed
            from mpc_lite.network.weights import located, pretrained_names  # with torch, for those who need it

            located(name if name in pretrained_names() else path)


def reproduce(
    request: Request,
    resume: bool = False,
    force: bool = False,
    quiet: bool = False,
    cwd: str | Path | None = None,
) -> Path:
    """Execute the notebook of a recipe and return the run folder, with results.json, report.html and notebook.ipynb.

    Args:
        request: of one run, `over` is left aside.
        resume: go on from the checkpoint of an interrupted run. force: start anew, and delete the earlier run when the
            new one has ended; where it fails without a checkpoint, the earlier one is put back.
        quiet: show no progress. cwd: the working folder of the notebook, by default that of this process.
    Raises:
        InputError: anything wrong with the names, values or folders, before a kernel starts or from inside it; another
            run in that folder.
        KernelStopped: stopped by a signal or the file `stop` in the run folder; no kernel is left.
        KernelDied, ProcessDied: the kernel ended by itself, or a process that the notebook works with.
    """
    notebook = find_notebook(request.name, request.book)
    run, values = plan(request, notebook)
    if resume and force:
        raise InputError("--resume and --force exclude each other: go on with the old run, or delete it")
    aside = f" (in {EARLIER} there is the one that --force set aside)" if (run.out / EARLIER).is_dir() else ""
    if resume and not holds_run(run.out):
        raise InputError(
            f"nothing to resume: {run.out} holds no run{aside}; check -p and --profile, or start without --resume"
        )
    if not holds_run(run.out):  # a mistake leaves no folder
        files_at_hand(run.recipe)
    with locked(run.out):
        if holds_run(run.out) and not (resume or force):
            raise InputError(
                f"{run.out} holds a run already{aside}; go on with --resume, or delete it and start anew with --force"
            )
        files_at_hand(run.recipe)
        if force:
            set_aside(run.out)
        (run.out / "stop").unlink(missing_ok=True)
        values["RESUME"] = resume
        try:
            with contextlib.nullcontext(lambda text: None) if quiet else following(run.log) as show:
                show(f"{run.command}\nnotebook {notebook}\nrun folder {run.out}")
                execute(notebook, run.out / "notebook.ipynb", values, run.out / "stop", show, cwd)
        except BaseException as error:
            way = f"go on with: {run.command} --resume"
            if put_back(run.out):
                text = f"the new run left no checkpoint: the earlier one is back in {run.out}, beside failed.ipynb"
                warnings.warn(text, stacklevel=2)
                way = f"start anew with: {run.command} --force"
            if isinstance(error, KernelStopped):
                raise KernelStopped(f"{error}; {way}", error.number) from None
            if isinstance(error, KernelDied | ProcessDied):
                what = str(error).partition("; go on with --resume")[0]  # of a stage by itself
                raise type(error)(f"{what}; {way}") from error
            if isinstance(error, OSError) and error.errno in REFUSED:
                error = InputError(refused(error))
            told = "resume" in str(error)  # it says itself how to go on, or why not
            if isinstance(error, InputError) and holds_run(run.out) and not told:  # else the same command is refused
                raise type(error)(f"{error}{MENDED}{way}") from None
            raise error
        drop_earlier(run.out)
    return run.out
