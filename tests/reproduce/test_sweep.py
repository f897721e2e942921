"""Sweeps with real workers and kernels: whatever dies, the others go on, nothing is lost, nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from dask.system import CPU_COUNT

from mpc_lite.cli import main
from tests.fake_clone import write_notebook
from tests.reproduce.test_kernel import TRAINING, alive, gone, hear

pytestmark = pytest.mark.slow

# What collecting reads of results.json, and the cell's own facts.
RESULTS = """
import json

results = {"name": "quickstart", "profile": PROFILE, "recipe": {"tables": [], "choice": {}}, "seed": SEED,
           "parameters": PARAMETERS, "protocol": "mpc", "device": DEVICE, "sets": {},
           "average": {"f1": SEED / 4, "iou": 0}}
with open(OUT + "/results.json", "w") as file:
    json.dump({**results, "facts": facts}, file)
"""
# A training that may go wrong by its seed: 1 has a bug, 2 loses its worker once after a checkpoint, 3 always.
CELL = """
import json, os, signal, time
from pathlib import Path

out = Path(OUT)
with open(out / "pids", "a") as file:
    file.write(f"{os.getpid()} {os.getppid()} ")
if SEED == 1:
    raise ValueError("a bug\\nwith more to say")
if SEED == 3 or (SEED == 2 and not RESUME):
    (out / "checkpoint").write_text("step 7")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
facts = {"from": (out / "checkpoint").read_text() if RESUME else None, "cwd": os.getcwd(), "rows": ROWS,
         "began": BEGAN, "ended": time.monotonic(),
         **{k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "MPC_LITE_SETS")}}
"""
BEGAN = "import time\nBEGAN = time.monotonic()\ntime.sleep(0.5)"
COMMAND = ["reproduce", "quickstart", "--profile", "smoke", "-p", "DEVICE=cpu"]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def write(*cells):
        write_notebook(tmp_path / "book" / "reproduce" / "quickstart.ipynb", *cells)
        return tmp_path

    return write


def folder_of(clone, seed):
    (folder,) = (clone / "runs" / "quickstart" / "smoke").glob(f"{seed}-*")
    return folder


def test_dead_workers_and_bugs_cost_the_others_nothing(clone, monkeypatch, capfd):
    monkeypatch.setattr("mpc_lite.reproduce.sweep.TRIES", 2)
    folder = clone(BEGAN, CELL, RESULTS)
    if sys.version_info >= (3, 11):  # the first whose workers can leave out the working folder
        for name in ("multiprocessing.py", "threading.py", "yaml.py"):
            (folder / name).write_text("raise ImportError('a file of the working folder')")
    assert main([*COMMAND, "--sweep", "SEED=0,1,2,3"]) == 1
    shown = capfd.readouterr()
    results = {seed: json.loads((folder_of(folder, seed) / "results.json").read_text()) for seed in (0, 2)}
    assert results[0]["facts"]["from"] is None and results[2]["facts"]["from"] == "step 7"
    assert results[0]["facts"]["OMP_NUM_THREADS"]  # a share, whatever the cores are
    notebook = (folder_of(folder, 1) / "notebook.ipynb").read_text()
    assert '"output_type": "error"' in notebook and "with more to say" in notebook
    assert not any((folder_of(folder, seed) / "results.json").exists() for seed in (1, 3))

    said = shown.err
    assert "SEED=1: failed after" in said and "ValueError: a bug (traceback in runs/quickstart/smoke/1-" in said
    assert said.count("SEED=2: its worker died; it will be tried again") == 1 and "SEED=2: done" in said
    assert said.count("SEED=3: its worker died; it will be tried again") == 1
    assert "SEED=3: failed: its worker died, 2 times in all" in said
    assert "distributed" not in said and "Traceback" not in said
    assert os.environ.get("PYTHONSAFEPATH") != "mpc-lite"  # Dask would leave it here, for all that starts later
    rows = {line.split()[0]: line.split()[1:] for line in shown.out.splitlines() if line.strip().startswith("SEED")}
    assert [rows[f"SEED={seed}"][0] for seed in range(4)] == ["done", "failed", "done", "failed"]
    assert rows["SEED=2"][2] == "0.500"  # F1
    pids = [int(pid) for seed in range(4) for pid in (folder_of(folder, seed) / "pids").read_text().split()]
    assert len(pids) == 2 * (1 + 1 + 2 + 2) and gone([pid for pid in pids if pid != os.getpid()])

    (folder_of(folder, 2) / "results.json").write_text('{"average": ')  # as a full disk leaves it
    assert main([*COMMAND, "--sweep", "SEED=2,0"]) == 0
    shown = capfd.readouterr()
    assert "2 cells, 1 finished before, 1 to run" in shown.err
    said = "results.json is damaged (Expecting value: line 1 column 13 (char 12)); it will be run again"
    assert said in shown.err and "SEED=2: done" in shown.err
    assert json.loads((folder_of(folder, 2) / "results.json").read_text())["average"]["f1"] == 0.5

    before = (folder_of(folder, 2) / "results.json").stat().st_mtime_ns
    assert main([*COMMAND, "--sweep", "SEED=2,0"]) == 0  # finished: no worker is started for them
    shown = capfd.readouterr()
    assert "2 cells, 2 finished before, 0 to run" in shown.err and "workers" not in shown.err
    assert (folder_of(folder, 2) / "results.json").stat().st_mtime_ns == before and "finished" in shown.out


def start(folder, *words):
    command = [sys.executable, "-m", "mpc_lite.cli", *COMMAND, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes)  # a group, as a terminal makes it


def pids_of(folder, process, seeds):
    """Kernels and their children, of runs that have begun to train."""
    end, found = time.monotonic() + 300, []
    for seed in seeds:
        while not list((folder / "runs" / "quickstart" / "smoke").glob(f"{seed}-*/log.jsonl")):
            assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
            time.sleep(0.1)
        found += json.loads((folder_of(folder, seed) / "facts.json").read_text())["pids"]
    return found


def group_of(process):
    """Every process of the sweep's own group: client, workers, Python's helpers."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) == process.pid:
                found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C twice", "kill -9"])
def test_no_process_is_left_behind(clone, how):
    folder = clone(f"STUCK = {how == 'Ctrl-C twice'}", TRAINING)
    seeds = range(CPU_COUNT + 1) if CPU_COUNT < 4 else range(2)
    waits = seeds[CPU_COUNT:]  # a worker a core
    process = start(folder, "--sweep", f"SEED={','.join(map(str, seeds))}")
    running = [seed for seed in seeds if seed not in waits]
    kernels = pids_of(folder, process, running)
    group = group_of(process)
    assert len(group) > len(running) and all(map(alive, group))
    if how == "kill -9":
        process.kill()
        process.communicate(timeout=300)
        assert gone([*group, *kernels[::2]])
        for pid in kernels[1::2]:
            os.kill(pid, signal.SIGKILL)  # workers of a real loader see that the kernel is gone
        return
    os.killpg(process.pid, signal.SIGINT)
    if how == "Ctrl-C twice":
        hear(process, "finishing this step or cell")
        assert process.poll() is None and alive(kernels[0])  # one Ctrl-C leaves the kernels their step
        os.killpg(process.pid, signal.SIGINT)
    shown, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert gone([*group, *kernels])
    assert "Traceback" not in said and "distributed" not in said
    for seed in running:
        out = folder_of(folder, seed)
        assert not (out / "stop").exists() and (out / "checkpoint").exists() == (how == "Ctrl-C")
        assert f"SEED={seed}: stopped {'at once' if how == 'Ctrl-C twice' else 'after the step at hand'}" in said
    for seed in waits:
        assert not list((folder / "runs" / "quickstart" / "smoke").glob(f"{seed}-*"))
        assert f"SEED={seed}" in shown and "not run" in shown


@pytest.mark.trust
def test_threads_of_a_worker_that_a_user_started(clone, monkeypatch, capfd):
    """As the book says to start them: `dask worker` sets one thread by a variable that torch heeds first."""
    folder = clone(
        "import json, torch\nfacts = {'threads': torch.get_num_threads()}",
        RESULTS,
    )
    file, begun = folder / "scheduler.json", []
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    try:
        words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        begun.append(subprocess.Popen([*dask, "scheduler", *words], **quiet))
        words = ["--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
        begun.append(subprocess.Popen([*dask, "worker", *words], **quiet))
        end = time.monotonic() + 60
        while not (file.exists() and file.read_text().rstrip().endswith("}")):  # there, and written to its end
            assert time.monotonic() < end
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        assert main([*COMMAND, "--sweep", "SEED=0", "--scheduler", address]) == 0, capfd.readouterr().err
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert main([*COMMAND, "--sweep", "SEED=1", "--scheduler", address]) == 0, capfd.readouterr().err
    finally:
        for process in reversed(begun):
            process.terminate()
            process.wait(30)
    facts = [json.loads((folder_of(folder, seed) / "results.json").read_text())["facts"] for seed in (0, 1)]
    assert [fact["threads"] for fact in facts] == [CPU_COUNT, 1]


def test_workers_of_a_scheduler_elsewhere_get_one_cell_at_a_time(clone, tmp_path_factory, monkeypatch, capfd):
    from distributed import LocalCluster

    folder = clone(BEGAN, CELL, RESULTS)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address="127.0.0.1:0") as cluster:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MPC_LITE_SETS", "/where/the/sets/are")
        words = ["--sweep", "SEED=0", "--sweep", "ROWS=1,2", "--scheduler", cluster.scheduler_address]
        assert main([*COMMAND, *words]) == 0, capfd.readouterr().err
        assert cluster.scheduler_info["workers"]  # is somebody else's, and goes on
    facts = [json.loads(file.read_text())["facts"] for file in sorted(folder.glob("runs/*/*/*/results.json"))]
    assert sorted(fact["rows"] for fact in facts) == [1, 2]
    assert {(fact["cwd"], fact["MPC_LITE_SETS"]) for fact in facts} == {(str(folder), "/where/the/sets/are")}
    first, second = sorted(facts, key=lambda fact: fact["began"])
    assert first["ended"] <= second["began"]
