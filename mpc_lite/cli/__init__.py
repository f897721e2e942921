"""The command line: `mpc-lite …`, a thin shell over the package.

Exit codes: 0 done; 1 done, but some rows or photos failed; 2 a mistake in the call or its input, told in one message;
70 an error in the package, with its traceback; 130 interrupted (Ctrl-C, or the file `stop`), 143 by SIGTERM, 129 by
SIGHUP, with a checkpoint written. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import traceback

import typer

from mpc_lite.cli import doctor, prepare, runs, score, train
from mpc_lite.cli.options import BUG, DONE, MISTAKE
from mpc_lite.cli.terminal import any_letter_prints, at_end, speaks, tell
from mpc_lite.errors import InputError, ProcessDied, out_of_memory, refused, shown
from mpc_lite.reproduce.kernel import REFUSED, KernelDied, KernelStopped
from mpc_lite.training.signals import Stopped, ending

app = typer.Typer(
    name="mpc-lite",
    help="Find where photographs were changed: train, measure and use MPC networks.\n\n"
    "Start with: mpc-lite reproduce quickstart\n\n"
    "Exit codes: 0 done, 1 some rows or photos failed and the rest was done, 2 a mistake in the call or its input, "
    "70 an error in the package, 130 interrupted (143 by SIGTERM, 129 by SIGHUP): "
    "a training writes its checkpoint first.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for group in (runs, prepare, train, score, doctor):
    app.add_typer(group.commands)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns its exit code. Unless the user chose, OMP_WAIT_POLICY is PASSIVE from here on."""
    # OpenMP's threads spin where they wait, and beside another busy process a training then takes many times as long.
    # It is read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault(
        "OPENCV_LOG_LEVEL", "SILENT"
    )  # of what it meets when it begins, as an IPP that is switched off
    any_letter_prints()
    if (code := sys.getfilesystemencoding()) != "utf-8":  # LC_ALL=POSIX with PYTHONUTF8=0, or an old locale
        tell(
            f"note: file names are read as {code} here; those with other letters are not found: set PYTHONUTF8=1", True
        )
    if arguments is None:  # the process ends with the command: what its memory holds need not be searched once more
        atexit.register(gc.freeze)
    code = _run(list(map(with_home, sys.argv[1:] if arguments is None else arguments)))
    if code != BUG:  # after one, the other processes of a run may still wait, and this one would for them
        leave_the_others()
    return at_end(code, MISTAKE)


def leave_the_others() -> None:
    """Take down what several processes of a run talk through: its threads can abort a process that ends with them."""
    if _joined():
        sys.modules["torch.distributed"].destroy_process_group()


def _joined() -> bool:
    """Has this process met those that were started with it?"""
    dist = sys.modules.get("torch.distributed")
    return bool(dist and dist.is_available() and dist.is_initialized())


def _run(arguments: list[str]) -> int:
    asked: list[int] = []
    try:
        _refuse_empty(arguments)
        _refuse_twice(arguments)
        _refuse_no_folder()
        with ending() as asked:
            code = app(arguments, standalone_mode=False)
        if asked:  # typer makes a code of KeyboardInterrupt, 130
            raise KeyboardInterrupt
        return code if isinstance(code, int) else DONE
    except InputError as mistake:
        died = isinstance(mistake, ProcessDied) and _joined()
        if speaks():
            tell(f"error: {mistake}", error=True)
        elif died or not _joined():  # the first one waits for this one, and cannot know why
            tell(f"error in process {shown(os.environ['RANK'])}: {mistake}", error=True)
        if died:  # to take down what they talked through, or to end in order, may be to wait for those that are gone
            os._exit(at_end(MISTAKE, MISTAKE))
        return MISTAKE
    except OSError as error:
        if error.errno not in REFUSED:
            return _other(error)
        tell(f"error: {refused(error)}", error=True)
        return MISTAKE
    except (KeyboardInterrupt, typer.Abort):
        tell("interrupted", error=True)
        return Stopped("", *asked[:1]).exit_code
    except Exception as error:
        why, name = shown(error, 200) or type(error).__name__, getattr(error, "name", "") or ""
        # One of others, missing or half installed; typer itself imports pydantic before a command begins.
        foreign = isinstance(error, ImportError) and not name.startswith("mpc_")
        if foreign or (isinstance(error, SystemError) and "pydantic" in why):
            tell(f"error: a package cannot be imported ({why}); see mpc-lite doctor, or install anew", error=True)
            return MISTAKE
        if out_of_memory(error) and not _joined():  # of several processes the others may wait: see `main`
            tell(f"error: the memory does not suffice ({why}); smaller sizes or batches need less", error=True)
            return MISTAKE
        return _other(error)


def with_home(argument: str) -> str:
    """An argument in which ~ is the home folder, which shells say of words alone: not of --out=~/x, nor in quotes."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if value[:1] != "~" or os.path.lexists(value):
        return argument
    return f"{option}{equals}{os.path.expanduser(value)}"


def _refuse_empty(arguments: list[str]) -> None:
    """InputError for an argument without a letter: as a path it would be the current folder, as an option none."""
    for place, argument in enumerate(arguments):
        option = argument.startswith("--") and argument.endswith("=")
        if argument and not (option and argument.count("=") == 1):
            continue
        before = argument[:-1] or "".join(arguments[place - 1 : place])
        where = before if before.startswith("-") else f"argument {place + 1}"
        raise InputError(
            f"{where} is empty, expected a name or a value; is a variable of the shell not set? Else leave it out"
        )


def _refuse_twice(arguments: list[str]) -> None:
    """InputError for a second list of images or network, of which only the last would be scored, without a word."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    names = [argument.partition("=")[0] for argument in arguments[:end]]
    for name in ("--pairs", "--manifest", "--split", "--weights", "--photos"):
        if names.count(name) > 1:
            raise InputError(f"{name} is given {names.count(name)} times, and one is taken; run the command for each")


def _refuse_no_folder() -> None:
    """InputError where the working folder was deleted: paths lead nowhere then, and libraries end the process."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the working folder is not there ({error.strerror}); change to another with cd") from None


def _other(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's, which newer versions of typer bring along
        text = io.StringIO()
        error.show(text)  # with words of the command line, which a file's name may be among
        tell(text.getvalue().rstrip(), error=True)
        return MISTAKE
    if isinstance(error, KernelStopped | KernelDied):
        tell(error, error=True)
        return error.exit_code if isinstance(error, KernelStopped) else BUG
    traceback.print_exception(error)
    return BUG
