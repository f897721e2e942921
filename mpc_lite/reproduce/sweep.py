"""Sweeps: `mpc-lite reproduce NAME --sweep KEY=a,b` = one run for each combination of values, on dask.distributed.

Each cell is the run that `mpc-lite reproduce` does for its values, in a run folder of its own, executed by a Dask
worker. The folders are all there is to know about a sweep: a cell with results.json is done, a cell with anything else
goes on from its checkpoint, also one whose results.json is damaged. So the same command, given again, does what is
missing, also after everything was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpc_lite.errors import InputError, ProcessDied
from mpc_lite.files import FOLDERS
from mpc_lite.recipes.load import recipe_name
from mpc_lite.reproduce.kernel import AT_ONCE, KernelDied, KernelStopped
from mpc_lite.reproduce.run import Request, read_results
from mpc_lite.reproduce.runner import MENDED, files_at_hand, find_notebook, plan, reproduce
from mpc_lite.reproduce.sweep_runs import Cell, check_inputs, check_own, plan_cells, short
from mpc_lite.reproduce.workers import connected, see_folder, share_threads, workers_per_host
from mpc_lite.run_folder import holds_run, locked, put_back, set_aside
from mpc_lite.training.signals import answering

TRIES = 3  # so often a cell may lose its worker, its kernel or a process of that
_LOOK = 1.0  # seconds between two looks for a free worker
_WITHOUT_WORKERS = 60.0  # seconds in which one of our own workers should have come back
_WITHOUT_ANSWER = 20.0  # seconds in which a worker should have killed its kernel


def sweep(
    request: Request,
    scheduler: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> list[Cell]:
    """Do the runs of all cells that are not finished, and return all cells with their status.

    Without `scheduler` workers are started here: one per GPU, or on a CPU as many as there are cells and cores, which
    they share. A cell that loses its worker, its kernel or a process of that is tried again from its checkpoint, three
    times in all; one that fails keeps its notebook with the traceback; the others go on. The first Ctrl-C, SIGTERM or
    SIGHUP lets each run end after the step at hand, a Ctrl-C after that kills the kernels.

    Args:
        scheduler: address of a running Dask scheduler, such as tcp://host:8786. A worker gets one cell at a time. Its
            machine needs this package, and the working folder, `root` and the book under the same paths.
            OMP_NUM_THREADS, where it is set here, counts for all; see `workers.share_threads`.
        force: set earlier runs of the cells aside, as `reproduce` does. say: shows a line.
    Raises:
        InputError: as `plan_cells`; or the scheduler does not answer, or its workers cannot do the work.
    """
    # Workers have other working folders: what they are given does not depend on it.
    book = find_notebook(request.name, request.book).parents[1]
    request = replace(request, book=str(book), root=str(Path(request.root).absolute()))
    cells = plan_cells(request)
    for cell in cells:
        if force:  # what would fail at once must not cost an earlier run
            if scheduler is None:  # else the data may lie where its workers are
                files_at_hand(cell.run.recipe)
            continue
        cell.look(files=scheduler is None)
        if cell.status == "failed":
            say(f"{cell.label}: {cell.reason}")
        elif cell.reason:
            say(f"{cell.label}: {cell.reason}; it will be run again, from its checkpoint")
    todo = [cell for cell in cells if cell.status == "waiting"]
    say(
        f"{recipe_name(request.name)}: {len(cells)} cells, {len(cells) - len(todo)} finished before, {len(todo)} to run"
    )
    if todo:
        fixed = {
            "cwd": str(Path.cwd()),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "environment": {key: os.environ[key] for key in FOLDERS if key in os.environ},
        }
        signals: list[int] = []  # the first one, and each Ctrl-C after it

        def on_signal(number: int, frame: Any) -> None:
            if not signals or number == signal.SIGINT:
                signals.append(number)

        cpu = all(cell.run.device == "cpu" for cell in todo)
        with (
            answering(on_signal),
            connected(len(todo), cpu, scheduler, say) as client,
        ):
            if force:
                _set_aside([cell.run.out for cell in cells if holds_run(cell.run.out)])
            _Sweep(todo, fixed, client, scheduler, signals, say).work()
            for cell in [cell for cell in todo if force and cell.status != "done"]:  # perhaps it never began
                with contextlib.suppress(InputError), locked(cell.run.out):
                    if put_back(cell.run.out):
                        say(f"{cell.label}: its earlier run is back in {short(cell.run.out)}")
        for cell in todo:
            cell.signal = int(signals[0]) if signals else cell.signal
    return cells


def _set_aside(folders: list[Path]) -> None:
    """All of them, or none where one belongs to a run that goes on."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder))
        for folder in folders:
            set_aside(folder)


class _Sweep:
    """The client's side: hands a cell to each worker that is free, and listens."""

    def __init__(
        self, cells: list[Cell], fixed: dict, client: Any, scheduler: str | None, signals: list[int], say: Any
    ):
        self.waiting, self.running = deque(cells), {}  # cells; future -> cell
        self.fixed, self.client, self.scheduler, self.asked, self.say = fixed, client, scheduler, signals, say
        self.topic, self.news, self.begun = f"mpc-lite-{uuid.uuid4().hex}", deque(), set()
        self.told: set[str] = set()  # what is said once
        self.asked_to_stop: set[Path] = set()
        self.worker_seen, self.kills_since = time.monotonic(), None
        self.look_again = 0.0  # for a free worker: a question to the scheduler

    def work(self) -> None:
        self.client.subscribe_topic(self.topic, lambda event: self.news.append(event[1]))
        while self.running or (self.waiting and not self.asked):
            while self.news:
                self.start(self.news.popleft())
            if self.asked:
                self.stop()
            elif time.monotonic() >= self.look_again:
                self.hand_out()
                self.look_again = time.monotonic() + _LOOK
            for future in [future for future in self.running if future.done()]:
                self.end(self.running.pop(future), future)
                self.look_again = 0.0
            time.sleep(0.2)
        for file in self.asked_to_stop:
            file.unlink(missing_ok=True)

    def hand_out(self) -> None:
        try:
            workers = len(self.client.nthreads())
        except OSError:
            return self.give_up(f"the scheduler {self.scheduler or ''} no longer answers")
        if workers or (self.running and not self.scheduler):
            self.worker_seen = time.monotonic()
        elif self.scheduler:  # also where cells were begun: without a worker nobody goes on with them
            self.once(f"waiting for a worker at {self.scheduler}: dask worker {self.scheduler} --nthreads 1")
        elif time.monotonic() - self.worker_seen > _WITHOUT_WORKERS:
            self.give_up("no worker is left, and none can be started")
        for _ in range(min(workers - len(self.running), len(self.waiting))):
            cell = self.waiting.popleft()
            cell.tries += 1
            key = f"{self.topic}: {cell.label}, {cell.tries}"
            order = {**self.fixed, "request": cell.request, "out": str(cell.run.out), "key": key, "topic": self.topic}
            if self.scheduler:  # workers of our own have their threads from the start
                order["neighbours"] = workers_per_host(self.client)
            self.running[self.client.submit(run_cell, order, key=key, pure=False)] = cell

    def start(self, key: str) -> None:
        cell = next((cell for future, cell in self.running.items() if future.key == key), None)
        if cell is not None:
            again = key in self.begun or cell.tries > 1
            self.say(f"{cell.label}: {'started again' if again else 'started'}, {short(cell.run.out)}")
        self.begun.add(key)

    def end(self, cell: Cell, future: Any) -> None:
        answer = _told(future)
        cell.status, cell.reason, cell.seconds = answer["status"], answer["reason"], answer["seconds"]
        cell.tries += answer.get("tries", 0)
        if cell.status == "died":
            if self.asked:
                cell.status = "stopped"
            elif cell.tries < TRIES:
                self.say(f"{cell.label}: {cell.reason}; it will be tried again, from its checkpoint")
                cell.status = "waiting"
                self.waiting.append(cell)
                self.worker_seen = time.monotonic()
                return
            else:
                hint = "often because memory ran out (smaller: -p pretrain.batch=…)"
                cell.status, cell.reason = "failed", f"{cell.reason}, {cell.tries} times in all, {hint}"
        took = "" if cell.seconds is None else f" after {cell.seconds:.0f} s"
        ended = cell.reason if cell.status == "stopped" else f"{cell.status}{took}"
        self.say(f"{cell.label}: {ended}{f': {cell.reason}' if cell.status == 'failed' else ''}")

    def stop(self) -> None:
        """Ask running cells to stop, anew each time: a stage that was just ending may have taken the file."""
        at_once = len(self.asked) > 1
        self.once("finishing this step or cell of each run… (Ctrl-C again: stop at once)")
        if at_once and self.kills_since is None:
            self.kills_since = time.monotonic()
        for future, cell in list(self.running.items()):
            if future.key not in self.begun:
                future.cancel()
                del self.running[future]
                cell.status = "waiting"
            elif at_once and time.monotonic() - self.kills_since > _WITHOUT_ANSWER:
                del self.running[future]
                cell.status, cell.reason = "stopped", "its worker does not answer"
            elif self.deserted():  # nobody is there who could end the step
                future.cancel()
                del self.running[future]
                cell.status, cell.reason = "stopped", "its worker is gone"
            else:
                self.asked_to_stop.add(cell.run.out / "stop")
                with contextlib.suppress(OSError):  # the run folder is not there yet
                    (cell.run.out / "stop").write_text(AT_ONCE if at_once else "")

    def deserted(self) -> bool:
        with contextlib.suppress(OSError):  # of a scheduler that went its futures tell
            return not self.client.nthreads()
        return False

    def give_up(self, reason: str) -> None:
        for cell in self.waiting:
            cell.status, cell.reason = "failed", reason
        self.waiting.clear()
        self.say(reason)

    def once(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.say(text)


def _told(future: Any) -> dict[str, Any]:
    """What became of a task: `run_cell`'s answer, or why there is none."""
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    if isinstance(error, KilledWorker):  # a scheduler elsewhere may have tried several workers by itself
        return {"status": "died", "reason": "its worker died", "seconds": None, "tries": error.allowed_failures}
    lost = "the scheduler lost it; start it and its workers again, and the same command goes on from the checkpoints"
    reason = lost if error is None else f"{type(error).__name__}: {error}"
    return {"status": "failed", "reason": reason, "seconds": None}


# ------------------------------------------------------------------------------------------------------- in a worker


def run_cell(order: dict[str, Any]) -> dict[str, Any]:
    """Do one cell in a Dask worker: {status: done, stopped, died or failed; reason; seconds}. Raises nothing."""
    from distributed import get_worker

    get_worker().log_event(order["topic"], order["key"])
    started, out = time.monotonic(), Path(order["out"])
    status, reason = "done", ""
    try:
        _run_cell(order, out)
    except KernelStopped as error:
        status, reason = "stopped", str(error).partition(";")[0]
    except (KernelDied, ProcessDied) as error:  # `_Sweep.end` says how it goes on, and what may help
        status, reason = "died", str(error).partition(";")[0].partition(",")[0]
    except Exception as error:
        status, reason = "failed", f"{type(error).__name__}: {error}"
        if hasattr(error, "ename"):  # raised in the notebook
            first = next(iter(str(error.evalue).splitlines()), "")
            notebooks = [file for name in ("notebook", "failed") if (file := out / f"{name}.ipynb").exists()]
            last = max(notebooks, key=lambda file: file.stat().st_mtime, default=out / "notebook.ipynb")
            reason = f"{error.ename}: {first} (traceback in {short(last)})"
        elif isinstance(error, InputError):
            reason = str(error).partition(MENDED)[0]  # of a cell the way on is the sweep's own command
    return {"status": status, "reason": reason, "seconds": round(time.monotonic() - started, 1)}


def _run_cell(order: dict[str, Any], out: Path) -> None:
    from distributed import get_worker

    for key, value in order["environment"].items():
        os.environ.setdefault(key, value)
    if "neighbours" in order:
        share_threads(order["threads"], order["neighbours"], get_worker().address)
    see_folder(order["cwd"])
    results = None
    with contextlib.suppress(FileNotFoundError, InputError):  # damaged ones are written anew
        results = read_results(out)
    if results is not None:
        request = order["request"]
        run = plan(request, find_notebook(request.name, request.book))[0]
        check_own(results, run)
        check_inputs(results, run)
        return
    resume = holds_run(out)
    reproduce(order["request"], resume, quiet=True, cwd=order["cwd"])
    try:
        read_results(out)
    except FileNotFoundError:
        raise InputError(
            f"the notebook ended without {short(out / 'results.json')}; is this worker's package another?"
        ) from None
