"""Execute a notebook in a kernel of this very Python, so that it can be stopped and no kernel is ever left behind.

A kernel leads its own process group, so Ctrl-C on the terminal reaches only this process. When this process is killed,
the kernel sees that its parent is gone and ends within a second. Another process, on another machine that sees the
folder, stops a run with the file `stop`: see `execute`.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpc_lite.errors import mistakes
from mpc_lite.run_folder import unshare
from mpc_lite.training.signals import Stopped, answering

# What a disk or a folder may answer to somebody who did nothing wrong in the call but the choice of the place.
REFUSED = {
    errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.ENOTDIR, errno.EFBIG, errno.ENAMETOOLONG,
}  # fmt: skip

SOCKET_PATH = 103  # bytes that the path of a socket file may have, on macOS; 107 on Linux

# Ended kernels log the interrupt that ends them as an error, and now and then that their sockets closed while they
# still answered; what goes wrong in a cell stands in the notebook.
_ROOT = str(Path(__file__).resolve().parents[2])  # the kernel shall have this very package, which may be a clone's
LAUNCH = (
    "import sys; sys.path[0] == '' and sys.path.pop(0); "  # the working folder may hold any logging.py
    # Behind Python's own modules, whose names this folder may hold too, and before what is installed.
    f"from os.path import realpath; root = {_ROOT!r}; "
    "after = [i for i, path in enumerate(sys.path) if path.endswith(('site-packages', 'dist-packages'))]; "
    "root in map(realpath, sys.path) or sys.path.insert(min(after, default=len(sys.path)), root); "
    "import logging, runpy; logging.getLogger('tornado.general').setLevel(50); "
    "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
)

SAFE, OURS = "PYTHONSAFEPATH", "mpc-lite"  # what workers of a sweep start with; any value says yes
AT_ONCE = "at once"  # in the file `stop`: wait for no step or cell


class KernelStopped(Stopped):
    """The notebook was stopped by its user."""


class KernelDied(Exception):
    """The process that executed the notebook ended by itself or was killed from outside."""


def execute(
    notebook: Path,
    output: Path,
    values: dict[str, Any],
    stop: Path,
    say: Callable[[str], None],
    cwd: str | Path | None = None,
) -> None:
    """Execute a notebook with papermill; returns or raises only when no kernel is left.

    papermill works in a thread; this thread waits and answers signals. The first Ctrl-C, SIGTERM or SIGHUP creates the
    file `stop`, for which the training loop looks after each step, and ends the run after the cell at hand where none
    trains; a Ctrl-C after that kills the kernel. Whoever else creates `stop` has the first, and with the text AT_ONCE
    in it the second.

    Args:
        values: for the notebook's parameters cell. say: shows a text to the user. cwd: the notebook's working folder.
    Raises:
        KernelStopped, KernelDied: see there. InputError: raised in the notebook; so is an OSError by which a disk or a
        folder REFUSED. papermill's PapermillExecutionError, with the notebook's traceback, for any other error in it.
    """
    from papermill import PapermillExecutionError, execute_notebook

    unshare(output)  # papermill writes into what is there
    sockets = tempfile.mkdtemp(prefix="mpc-lite-")
    Manager, kernels = _kernel_manager(cwd, sockets)
    signals: list[int] = []
    at_once = False
    failure: list[BaseException] = []

    def before_cell(**_: Any) -> None:
        if signals or stop.exists():
            raise KernelStopped("stopped between two cells of the notebook")

    def work() -> None:
        try:
            execute_notebook(
                _no_format(notebook),
                _no_format(output),
                values,
                kernel_name="python3",
                language="python",
                kernel_manager_class=Manager,
                start_timeout=300,  # many kernels that start together on a busy machine take their time
                on_cell_start=before_cell,
                progress_bar=False,
            )
        except BaseException as error:
            failure.append(error)

    def on_signal(number: int, frame: Any) -> None:
        if not signals:
            signals.append(number)
            say("finishing this step or cell… (Ctrl-C again: stop at once)")
        elif number == signal.SIGINT:
            signals.append(number)
            _kill(kernels)

    thread = threading.Thread(target=work, name="papermill")
    with answering(on_signal):
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
                if signals and not stop.exists():
                    stop.touch()  # a stage that had just ended took it: the next one must see it too
                at_once = at_once or len(signals) > 1 or _at_once(stop)
                if at_once:
                    _kill(kernels)  # also a kernel that was only just starting
        finally:
            _kill(kernels)
            thread.join()
            shutil.rmtree(sockets, ignore_errors=True)
    with contextlib.suppress(OSError):  # on a disk that refuses, what failed is to be told
        stop.unlink()
    if not failure:
        return
    error = failure[0]
    kind = error.ename if isinstance(error, PapermillExecutionError) else type(error).__name__
    number = signals[0] if signals else None
    if isinstance(error, KernelStopped):
        raise KernelStopped(str(error), number)
    if kind == "Interrupted":
        raise KernelStopped("stopped after the step at hand, its checkpoint is written", number)
    died = kind == "DeadKernelError" or str(error).startswith("Kernel died before replying")
    if at_once or len(signals) > 1 or (signals and died):  # who asks the whole job asks the kernel too
        raise KernelStopped("stopped at once", number)
    if kind in mistakes():
        raise mistakes()[kind](error.evalue)
    if isinstance(error, PapermillExecutionError) and (refusal := _refusal(kind, error.evalue)):
        raise refusal
    if isinstance(error, OSError) and error.errno in REFUSED and not error.filename:  # papermill's own
        error.filename = str(output)
    _remove_half(output)
    if died:
        began = kind == "DeadKernelError"
        how = ", often because memory ran out (smaller: -p pretrain.batch=…)" if began else " before it answered"
        raise KernelDied(f"the notebook's kernel died{how}") from error
    raise error


def _remove_half(notebook: Path) -> None:
    """papermill does not write atomically; half a notebook alone in a folder would look like a run."""
    try:
        json.loads(notebook.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        with contextlib.suppress(OSError):
            notebook.unlink()
    except OSError:  # there is none
        pass


def _refusal(kind: str, text: str) -> OSError | None:
    """The OSError that a notebook's error was, from its type's name and text, if a disk or a folder REFUSED."""
    match = re.match(r"\[Errno (\d+)\] (.*?)(?:: '(.*)')?$", text)
    cell_error = getattr(builtins, kind, None)
    if not match or not (isinstance(cell_error, type) and issubclass(cell_error, OSError)):
        return None
    number, reason, file = match.groups()
    return OSError(int(number), reason, file) if int(number) in REFUSED else None


def _no_format(path: Path) -> str:
    """papermill puts parameters into braces of paths: double them, so that a folder may be called `{a}`."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _at_once(stop: Path) -> bool:
    try:
        return stop.read_text() == AT_ONCE
    except OSError:  # nobody asked
        return False


def _kernel_manager(cwd: str | Path | None, folder: str) -> tuple[type, list[int]]:
    """A kernel manager that starts this very Python, whatever kernelspec is installed, and the list of its kernels.

    It talks with the kernel through socket files in `folder`: of two kernels that start together, both may be told that
    the same port is free. Ports only where there are no such sockets or the folder's path is too long for them.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    kernels: list[int] = []
    argv = [sys.executable, "-c", LAUNCH, "-f", "{connection_file}", "--log-level=50", "--IPKernelApp.ignore_cwd=True"]

    class ThisPython(AsyncKernelManager):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            if hasattr(socket, "AF_UNIX") and len(os.fsencode(f"{folder}/kernel-ipc-5")) <= SOCKET_PATH:
                self.transport = "ipc"
                self.connection_file = f"{folder}/kernel.json"
            self._kernel_spec = KernelSpec(argv=argv, display_name="Python 3", language="python")

        async def start_kernel(self, **settings: Any) -> None:
            environment = dict(settings.get("env") or os.environ)
            if environment.get(SAFE) == OURS:
                del environment[SAFE]
            environment.pop("MPLBACKEND", None)  # meant for windows, or unknown here: ipykernel sets one of its own
            try:
                Path.home()
            except RuntimeError:  # a user whom the system does not know: IPython needs a home to start
                environment["HOME"] = folder
            await super().start_kernel(**{**settings, "env": environment, **({"cwd": str(cwd)} if cwd else {})})
            kernels.append(self.provisioner.pid)

    return ThisPython, kernels


def _kill(kernels: list[int]) -> None:
    """Kill what is left of the kernels and of the processes they started: a kernel leads a process group."""
    for pid in kernels:
        with contextlib.suppress(OSError):  # nothing is left
            os.killpg(pid, signal.SIGKILL) if hasattr(os, "killpg") else os.kill(pid, signal.SIGTERM)
