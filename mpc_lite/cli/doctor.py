"""Whether this machine can do what the package does: `mpc-lite doctor`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from mpc_lite.cli.options import DONE, SOME_FAILED, examples
from mpc_lite.cli.packages import Finding, temporary, versions
from mpc_lite.cli.terminal import tell
from mpc_lite.errors import InputError, shown
from mpc_lite.files import FOLDERS, RAISED, pixel_limit

commands = typer.Typer()

GB = 1e9
MEMORY, DISK, SHARED = 4 * GB, 2 * GB, 0.25 * GB  # bytes: with less, what the recipes of profile lite do may fail
# Bytes of one process, by the options of ulimit, with which quickstart in profile smoke ends well: torch built for CUDA
# maps three thousand million before it does anything.
ADDRESSES = {"-v": 5.3 * GB, "-d": 1.5 * GB}


@commands.command(epilog=examples("mpc-lite doctor"))
def doctor() -> None:
    """Look at this machine: versions, device, memory, disk, data, weights, threads; say what would fail and what to do.

    Nothing is changed and nothing is sent anywhere. Exit code 1 when something would fail.
    """
    findings = []
    for check in CHECKS:
        findings += _findings(check)
        if check is addresses and findings[-1:]:
            break  # what the others import may end the process, or never come to an end
    for finding in findings:
        tell(f"{finding.state:>5}  {finding.what}")
        if finding.do:
            tell(f"       → {finding.do}")
    failures = sum(finding.state == "fails" for finding in findings)
    tell(f"\n{failures} of {len(findings)} checks fail" if failures else "\nnothing here would fail")
    raise typer.Exit(SOME_FAILED if failures else DONE)


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Of one check; what it stumbles over is a finding too, and the others go on."""
    findings = []
    try:
        findings.extend(check())
    except Exception as error:
        text = f"{check.__name__}: {type(error).__name__}: {error}"
        do = "mend what fails above; if nothing does, install mpc-lite anew, in an environment of its own"
        findings.append(Finding("fails", text, do))
    return findings


def addresses() -> Iterator[Finding]:
    """How much memory one process may ask for, which nobody tells who is told of a library that cannot be loaded."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for number, how in ((resource.RLIMIT_AS, "-v"), (resource.RLIMIT_DATA, "-d")):
        limit, wanted = resource.getrlimit(number)[0], ADDRESSES[how]
        if limit != resource.RLIM_INFINITY and limit < wanted:
            what = f"a process may use {limit / GB:.1f} GB here (ulimit {how}), {wanted / GB:.2g} GB are wanted"
            do = f"ulimit {how} unlimited, or ask the scheduler for more (h_vmem); then mpc-lite doctor for the rest"
            yield Finding("fails", f"{what}; the rest was not looked at", do)
            return


def device() -> Iterator[Finding]:
    """What would train and score."""
    import torch

    if not torch.cuda.is_available():
        do = "the profiles smoke and lite are made for this; profile paper needs a GPU and a torch built for it"
        yield Finding("note", "no CUDA GPU: everything runs on the processor", do)
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        yield Finding("ok", f"GPU {i}: {facts.name}, {facts.total_memory / GB:.0f} GB")


def memory() -> Iterator[Finding]:
    """Main memory, as the container allows it, and what loader processes share."""
    from distributed.system import MEMORY_LIMIT

    smaller = "less at a time: -p pretrain.batch=4 -p pretrain.accumulate=2 -p data.workers=0"
    yield _enough("memory", MEMORY_LIMIT, MEMORY, smaller)
    if os.path.isdir("/dev/shm"):
        do = "read in the process that trains: -p data.workers=0; or start the container with --shm-size=1g"
        yield _enough("shared memory free in /dev/shm", shutil.disk_usage("/dev/shm").free, SHARED, do)


def disk() -> Iterator[Finding]:
    """The folder in which runs would be written."""
    try:
        Path.home()
    except RuntimeError:
        do = "set HOME to a folder that you may write"
        yield Finding("note", "no HOME, and the system does not know this user: ~ in a path leads nowhere", do)
    here = Path.cwd()
    yield _enough(f"disk free in {here}", shutil.disk_usage(here).free, DISK, "free some, or go to another folder")
    try:
        with tempfile.TemporaryDirectory(dir=here) as folder:
            from mpc_lite.run_folder import locked

            with locked(Path(folder)):
                pass
        yield Finding("ok", "runs can be written and locked here")
    except (OSError, InputError) as error:
        yield Finding("fails", f"{here} cannot be written ({error})", "go to a folder of your own")


def data() -> Iterator[Finding]:
    """The folders that recipes name by variables."""
    for name, purpose in FOLDERS.items():
        text = os.environ.get(name)
        if text is None:
            yield Finding("note", f"{name} is not set: {purpose}", "needed only by recipes that say so")
        elif not os.path.isdir(folder := os.path.expanduser(text)):  # False for what no system takes as a path
            yield Finding("fails", f"{name}={text} is no folder: {purpose}", "correct or unset it")
        else:
            try:
                files = os.listdir(folder)
            except OSError as error:
                yield Finding(
                    "fails", f"{name}={text} cannot be looked into: {error.strerror}", "allow it, or unset it"
                )
                continue
            counted = [f"{sum(n.endswith(end) for n in files)} {end} files" for end in (".csv", ".safetensors")]
            yield Finding("ok", f"{name}={text}: {', '.join(counted)}")


def pictures() -> Iterator[Finding]:
    """The variable that says how large a picture may be, where it is set."""
    try:
        limit = pixel_limit(0)
    except InputError as error:
        yield Finding("fails", f"{error}; until then no picture is read", f"correct or unset {RAISED}")
    else:
        if os.environ.get(RAISED):
            yield Finding("ok", f"{RAISED}: pictures of up to {limit} pixels are read")


def weights() -> Iterator[Finding]:
    """The shipped weights against the sha256 of their model cards."""
    from mpc_lite.network.weights import PRETRAINED, pretrained_file, pretrained_names

    cards = "\n".join(card.read_text(encoding="utf-8") for card in sorted(PRETRAINED.glob("*.md")))
    for name, card_digest in re.findall(r"^\| `([\w-]+)` \|.*`([0-9a-f]{64})` \|$", cards, re.M):
        if name not in pretrained_names():
            yield Finding("fails", f"the shipped weights {name} are missing", "install mpc-lite anew")
            continue
        digest = hashlib.sha256(pretrained_file(name).read_bytes()).hexdigest()
        if digest == card_digest:
            yield Finding("ok", f"weights {name}: sha256 {digest[:12]}…, as in the model card")
        else:
            do = "install mpc-lite anew; in a clone: git checkout the file, git lfs pull where it is a pointer"
            yield Finding("fails", f"weights {name}: sha256 {digest[:12]}…, expected {card_digest[:12]}…", do)


def threads() -> Iterator[Finding]:
    """How many threads compute, and what those do that wait."""
    import torch
    from dask.system import CPU_COUNT

    variables = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")}
    given = (variables["OMP_NUM_THREADS"] or "").split(",")[0].strip()  # of a list, for nested levels, the first counts
    settings = ", ".join(f"{name}={value}" for name, value in variables.items() if value) or "no variable set"
    count, what = torch.get_num_threads(), f"{CPU_COUNT} cores, torch computes with {torch.get_num_threads()} threads"
    if count > CPU_COUNT:
        yield Finding(
            "note", f"{what} ({settings})", f"more threads than cores are slower: OMP_NUM_THREADS={CPU_COUNT}"
        )
    elif given and not (given.isascii() and given.isdecimal() and int(given)):
        do = f"unset it, or set it to a number such as {CPU_COUNT}"
        yield Finding(
            "note", f"{what}: OMP_NUM_THREADS={shown(variables['OMP_NUM_THREADS'])} is no number of threads", do
        )
    elif count < CPU_COUNT and variables["MKL_NUM_THREADS"] and given not in ("", str(count)):
        do = f"MKL_NUM_THREADS counts before OMP_NUM_THREADS: unset it, or set it to {given}"
        yield Finding("note", f"{what} ({settings})", do)
    else:
        yield Finding("ok", f"{what} ({settings})")
    if (variables["OMP_WAIT_POLICY"] or "").upper() != "PASSIVE":
        do = "beside other work unset OMP_WAIT_POLICY, and these commands set PASSIVE: threads that wait then sleep"
        yield Finding("note", "threads that wait may keep a core busy", do)


def processes() -> Iterator[Finding]:
    """Whether a training here would wait for others, as a launcher or a job says in the environment."""
    from mpc_lite.network.devices import MPI, processes_started, started_by_launcher

    try:
        count = processes_started()
    except InputError as error:
        yield Finding("fails", f"no training starts: {error}")
        return
    if not (launched := started_by_launcher()) and count == 1:
        name = next((each for each in MPI if os.environ.get(each, "1") not in ("0", "1")), None)
        if name:
            what = f"{name}={shown(os.environ[name])}: with --device cpu a training starts only together with others"
            do = "unset it for runs of their own; several processes for one training start with 'accelerate launch'"
            yield Finding("note", what, do)
        return
    name, numbers = "LOCAL_RANK" if launched else "WORLD_SIZE", ["WORLD_SIZE", "RANK", "MASTER_PORT"]
    given = {key: os.environ.get(key, "") for key in [*numbers, *["LOCAL_RANK"] * launched]}
    wrong = [key for key, value in given.items() if not (value.isascii() and value.isdecimal())]
    if wrong := wrong + ["MASTER_ADDR"] * (not os.environ.get("MASTER_ADDR")):
        what = f"{name}={shown(os.environ[name])}, and {', '.join(wrong)} missing or no number: no training starts"
        yield Finding("fails", what, f"unset {name}, or start trainings with 'accelerate launch'")
    elif count > 1:
        what = f"WORLD_SIZE={count}: a training waits until all {count} processes are there"
        yield Finding("note", what, "unless a launcher starts them, unset WORLD_SIZE and LOCAL_RANK")


def book() -> Iterator[Finding]:
    """The notebooks that `mpc-lite reproduce` executes."""
    from mpc_lite.reproduce.runner import find_notebook

    try:
        yield Finding("ok", f"notebooks of mpc-lite reproduce: {find_notebook('quickstart').parent}")
    except InputError as error:
        yield Finding("note", str(error), "all other commands work without")


def _enough(what: str, amount: float, wanted: float, do: str) -> Finding:
    text = f"{what}: {amount / GB:.1f} GB"
    return Finding("ok", text) if amount >= wanted else Finding("fails", f"{text}, {wanted / GB:.2g} GB are wanted", do)


CHECKS: list[Callable[[], Iterator[Finding]]] = [
    addresses,
    temporary,
    versions,
    device,
    memory,
    disk,
    data,
    pictures,
    weights,
    threads,
    processes,
    book,
]
