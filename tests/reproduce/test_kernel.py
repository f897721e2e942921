"""The runner with real kernels: the right Python, clean stops, and no kernel that outlives its run."""

import ast
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from papermill import PapermillExecutionError

import mpc_lite
from mpc_lite.cli import main
from mpc_lite.errors import InputError
from mpc_lite.reproduce.kernel import LAUNCH, KernelDied, KernelStopped
from mpc_lite.reproduce.run import Request
from mpc_lite.reproduce.runner import reproduce
from tests.fake_clone import write_notebook

# What training does, without training: a log line a step, a look at OUT/stop, Interrupted.
TRAINING = """
import json, os, subprocess, sys, time
from pathlib import Path

class Interrupted(Exception):
    pass

out = Path(OUT)
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
sleeper = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
worker = subprocess.Popen([sys.executable, "-c", sleeper], **quiet)  # as a data loader has workers
(out / "facts.json").write_text(json.dumps({"pids": [os.getpid(), worker.pid], "python": sys.executable,
    "values": [PROFILE, SEED, RESUME, PARAMETERS]}))
done = out / "checkpoint"
first = int(done.read_text()) if RESUME else 0
for step in range(first + 1, 601):
    with open(out / "log.jsonl", "a") as file:
        file.write(json.dumps({"stage": "pretrain", "step": step, "steps": 600, "loss": 1.0}) + "\\n")
    time.sleep(0.05)
    if STUCK:
        time.sleep(600)
    if (out / "stop").exists():
        done.write_text(str(step))
        raise Interrupted(f"stopped after {step}")
    if RESUME and step == first + 2:
        break
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(*cells):
        write_notebook(tmp_path / "book" / "reproduce" / "quickstart.ipynb", *cells)
        return tmp_path

    return write


def alive(pid):
    """Whether a process still runs; one that ended and waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, seconds=60):
    end = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def start(folder, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mpc_lite.cli", "reproduce", "quickstart", "--profile", "smoke", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def hear(process, words):
    """Wait until a process has said this on its standard error."""
    assert any(words in line for line in process.stderr), f"it ended without saying: {words}"


def facts_of(out, process):
    end = time.monotonic() + 300
    while not (out / "log.jsonl").exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.1)
    return json.loads((out / "facts.json").read_text())


@pytest.mark.slow
def test_the_kernel_is_this_python_whatever_kernelspec_is_installed(clone, monkeypatch, capsys):
    folder = clone(
        "import json, sys, os\nprint('hello')\n"
        "json.dump([sys.executable, os.getpid(), PROFILE, SEED, RESUME, PARAMETERS, ROWS], open(OUT + '/facts', 'w'))"
    )
    spec = folder / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "broken", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    out = reproduce(Request("quickstart", "smoke", {"SEED": "2", "pretrain.steps": "3", "ROWS": "9"}, root="runs/{x}"))
    python, pid, *values = json.loads((out / "facts").read_text())
    assert python == sys.executable
    assert values == ["smoke", 2, False, {"pretrain.steps": 3}, 9]
    assert out.parts[:2] == ("runs", "{x}")  # braces are not papermill's to fill in
    assert "hello" in (out / "notebook.ipynb").read_text()
    assert gone([pid])
    assert "mpc-lite reproduce quickstart --profile smoke" in capsys.readouterr().err


def test_a_kernel_does_not_log_that_its_sockets_closed_at_its_end(clone):
    folder = clone(
        "import logging, json\n"
        "json.dump(logging.getLogger('tornado.general').isEnabledFor(40), open(OUT + '/facts', 'w'))"
    )
    for name in ("logging.py", "runpy.py", "yaml.py", "pydantic.py", "psutil.py"):
        (folder / name).write_text("raise ImportError('a file of the working folder')")
    out = reproduce(Request("quickstart", "smoke"))
    assert json.loads((out / "facts").read_text()) is False


@pytest.mark.slow
def test_a_users_mistake_in_the_notebook_is_told_without_traceback_and_a_bug_with_it(clone):
    clone("from mpc_lite.errors import InputError\nraise InputError('row 3: no mask') if SEED else ValueError('a bug')")
    way = r"; when that is mended, go on with: .* -p SEED=1 --resume"
    with pytest.raises(InputError, match=f"^row 3: no mask{way}$"):
        reproduce(Request("quickstart", "smoke", {"SEED": "1"}))
    with pytest.raises(PapermillExecutionError, match="a bug"):
        reproduce(Request("quickstart", "smoke", {"SEED": "0"}))


def command_of(seed):
    return "mpc-lite reproduce quickstart --profile smoke" + (f" -p SEED={seed}" if seed else "")


@pytest.mark.slow
@pytest.mark.trust
def test_a_process_that_died_in_the_notebook_and_weights_that_are_gone_are_told_in_one_line(clone, capsys):
    clone("from mpc_lite.errors import OtherRun, ProcessDied\nraise [ProcessDied, OtherRun][SEED]('it is gone')")
    for seed, way in enumerate(["; go on with: ", "; when that is mended, go on with: "]):
        assert main(["reproduce", "quickstart", "--profile", "smoke", "-p", f"SEED={seed}"]) == 2
        assert capsys.readouterr().err.strip().splitlines()[3:] == [
            f"error: it is gone{way}{command_of(seed)} --resume"
        ]


@pytest.mark.slow
def test_a_disk_that_refuses_in_the_notebook_is_told_in_one_line(clone, capsys):
    clone(
        "import errno, os\nnumber = [errno.ENOSPC, errno.EACCES, errno.ENOTDIR, errno.ENOENT][SEED]\n"
        "raise OSError(number, os.strerror(number), *(['runs/a: b'] if SEED else []))"
    )
    for seed, number in enumerate([errno.ENOSPC, errno.EACCES, errno.ENOTDIR]):
        assert main(["reproduce", "quickstart", "--profile", "smoke", "-p", f"SEED={seed}"]) == 2
        last = capsys.readouterr().err.strip().splitlines()[3:]  # after the command, the notebook and the run folder
        where = " (runs/a: b)" if seed else ""
        advice = "choose another folder, or free some space; when that is mended, go on with: "
        assert last == [f"error: {os.strerror(number)}{where}; {advice}{command_of(seed)} --resume"]
    assert (
        main(["reproduce", "quickstart", "--profile", "smoke", "-p", "SEED=3"]) == 70
    )  # a file that is missing: a bug
    assert "FileNotFoundError" in capsys.readouterr().err


@pytest.mark.trust
def test_a_full_disk_under_the_notebook_is_named_and_does_not_block_the_next_run(clone, monkeypatch, capsys):
    folder = clone("1 + 1")
    out = folder / "runs" / "quickstart" / "smoke" / "0"

    def full(_, output, *rest, **more):
        with open(output, "w") as file:
            file.write('{"cells": [')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("papermill.execute_notebook", full)
        for _ in range(2):
            assert main(["reproduce", "quickstart", "--profile", "smoke"]) == 2
            last = capsys.readouterr().err.strip().splitlines()[-1]
            assert last.startswith(f"error: {os.strerror(errno.ENOSPC)} (") and "smoke/0/notebook.ipynb" in last
            assert not (out / "notebook.ipynb").exists()


@pytest.mark.trust
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_notebook_that_is_a_link_is_not_written_through(clone, monkeypatch, link):
    """As in a run that `cp -al` has copied, or whose files a store of objects keeps."""
    folder = clone("1 + 1")
    output, kept = folder / "runs" / "quickstart" / "smoke" / "0" / "notebook.ipynb", folder / "kept.ipynb"
    output.parent.mkdir(parents=True)
    monkeypatch.setattr(
        "papermill.execute_notebook", lambda _, out, *rest, **more: Path(out).write_text('{"cells": []}')
    )
    kept.write_text("{}")
    link(kept, output)
    reproduce(Request("quickstart", "smoke"), resume=True)
    assert kept.read_text() == "{}" and output.read_text() == '{"cells": []}' and not output.is_symlink()
    if link is os.symlink:
        output.unlink()
        link("nowhere.ipynb", output)
        reproduce(Request("quickstart", "smoke"), resume=True)
        assert not output.is_symlink() and not output.with_name("nowhere.ipynb").exists()


@pytest.mark.slow
def test_a_kernel_that_dies_is_told_with_the_way_on(clone):
    clone("import os\nos._exit(9)")
    with pytest.raises(KernelDied, match=r"kernel died.* --profile smoke --resume"):
        reproduce(Request("quickstart", "smoke"))


@pytest.mark.slow
def test_a_user_without_a_home_has_a_kernel(clone, monkeypatch):
    """In a container an unknown number may be the user, and no HOME be set: IPython looks for one and would end."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    folder = clone("import os, pathlib\n(pathlib.Path(OUT) / 'home').write_text(os.environ['HOME'])")
    reproduce(Request("quickstart", "smoke"))
    assert "mpc-lite-" in (folder / "runs/quickstart/smoke/0/home").read_text()


@pytest.mark.slow
def test_a_backend_that_matplotlib_does_not_know_stops_no_notebook(clone, monkeypatch):
    """Start files of shells name one for windows, and keep it when matplotlib has given it up."""
    monkeypatch.setenv("MPLBACKEND", "Qt4Agg")
    folder = clone("import os, pathlib\n(pathlib.Path(OUT) / 'backend').write_text(os.environ['MPLBACKEND'])")
    reproduce(Request("quickstart", "smoke"))
    backend = (folder / "runs/quickstart/smoke/0/backend").read_text()
    assert backend == "module://matplotlib_inline.backend_inline"


@pytest.mark.slow
def test_a_stop_file_from_elsewhere_stops_the_run(clone):
    ask = "(__import__('pathlib').Path(OUT) / 'stop').touch()\n"
    folder = clone("STUCK = False", ask + TRAINING)
    with pytest.raises(KernelStopped, match=r"checkpoint is written; go on with: .* --resume"):
        reproduce(Request("quickstart", "smoke"))
    assert not (folder / "runs/quickstart/smoke/0/stop").exists()


@pytest.mark.slow
def test_a_stop_file_from_elsewhere_stops_between_cells_or_at_once(clone):
    ask = "from pathlib import Path\n(Path(OUT) / 'stop').write_text('at once' if SEED else '')\n"
    folder = clone(f"{ask}import time\ntime.sleep(600 * SEED)", "(Path(OUT) / 'second').touch()")
    for seed, how in enumerate(("between two cells", "at once")):
        with pytest.raises(KernelStopped, match=f"stopped {how}.*; go on with: .* --resume"):
            reproduce(Request("quickstart", "smoke", {"SEED": str(seed)}))
        assert not list((folder / f"runs/quickstart/smoke/{seed}").glob("s*"))


@pytest.mark.slow
def test_ctrl_c_stops_after_the_step_and_resume_goes_on(clone):
    folder = clone("STUCK = False", TRAINING)
    out = folder / "runs" / "quickstart" / "smoke" / "0"
    process = start(folder)
    pids = facts_of(out, process)["pids"]
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "finishing this step or cell" in shown and "--resume" in shown and "Traceback" not in shown, shown
    assert gone(pids)
    assert not (out / "stop").exists() and int((out / "checkpoint").read_text()) >= 1

    assert reproduce(Request("quickstart", "smoke"), resume=True).resolve() == out
    assert json.loads((out / "facts.json").read_text())["values"][2] is True


@pytest.mark.slow
def test_ctrl_c_outside_training_stops_after_the_cell_and_resume_goes_on(clone):
    """Nothing in these cells looks at OUT/stop, as while forgeries are made or a network is measured."""
    first = "from pathlib import Path\nimport json, os, time\nout = Path(OUT)\n"
    first += "(out / 'facts.json').write_text(json.dumps({'pids': [os.getpid()]}))\n(out / 'log.jsonl').touch()\n"
    first += "while not (out / 'go on').exists():\n    time.sleep(0.05)\n(out / 'first').touch()"
    folder = clone(first, "(out / 'second').touch()")
    out = folder / "runs" / "quickstart" / "smoke" / "0"
    process = start(folder)
    pids = facts_of(out, process)["pids"]
    process.send_signal(signal.SIGINT)
    hear(process, "finishing this step or cell")
    (out / "go on").touch()
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 130, shown
    assert "stopped between two cells" in shown and "--resume" in shown and "Traceback" not in shown
    assert (out / "first").exists() and not (out / "second").exists() and not (out / "stop").exists()
    assert gone(pids)
    assert reproduce(Request("quickstart", "smoke"), resume=True).resolve() == out and (out / "second").exists()


def test_a_kernel_has_this_very_package_and_python_s_own_modules_first(tmp_path):
    """In an editable install the clone is in no path: a finder knows it. `python -m` in another clone has that one."""
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "logging.py").write_text("raise ImportError('a file of the clone')")
    launch = LAUNCH.replace(repr(str(Path(mpc_lite.__file__).parents[1])), repr(str(tmp_path / "clone")))
    code = launch.partition("import logging")[0] + "import logging, sys; print([p for p in sys.path if p])"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "clone", env=environment, capture_output=True, text=True
    )
    paths = ast.literal_eval(done.stdout)
    assert str(tmp_path / "clone") in paths and not done.stderr
    assert paths.index(str(tmp_path / "clone")) < next(i for i, path in enumerate(paths) if path.endswith("-packages"))


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these terminals nor their signals")
@pytest.mark.parametrize("what", ["a window that is closed", "a pipe to tee, and Ctrl-C"])
def test_who_listens_may_go_and_costs_no_checkpoint(clone, what):
    """Nothing can be shown any more when the signal comes, and to show that it came must not end the run at once."""
    import fcntl
    import pty
    import termios

    folder = clone("STUCK = False", TRAINING)
    command = [sys.executable, "-m", "mpc_lite.cli", "reproduce", "quickstart", "--profile", "smoke"]
    ours, theirs = pty.openpty() if what.startswith("a window") else os.pipe()

    def leads_the_terminal():
        if os.isatty(1):
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=leads_the_terminal,
    )  # fmt: skip
    os.close(theirs)
    out = folder / "runs" / "quickstart" / "smoke" / "0"
    end = time.monotonic() + 300
    while not (out / "log.jsonl").exists():
        if select.select([ours], [], [], 0.1)[0]:
            os.read(ours, 1 << 16)
        assert process.poll() is None and time.monotonic() < end
    pids = json.loads((out / "facts.json").read_text())["pids"]
    os.close(ours)
    if what.startswith("a pipe"):
        process.send_signal(signal.SIGINT)
    assert process.wait(300) == (130 if what.startswith("a pipe") else 129)
    assert (out / "checkpoint").exists() and gone(pids)


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.parametrize("how", ["second Ctrl-C", "kill -9", "SIGTERM", "SIGHUP"])
def test_no_kernel_is_left_behind(clone, how):
    """STUCK: the training does not come to look at OUT/stop."""
    folder = clone(f"STUCK = {not how.startswith('SIG')}", TRAINING)
    process = start(folder)
    pids = facts_of(folder / "runs" / "quickstart" / "smoke" / "0", process)["pids"]
    if how == "kill -9":
        process.kill()
        process.communicate(timeout=300)
        assert gone(pids[:1])
        os.kill(pids[1], signal.SIGKILL)  # workers of a real loader see that the kernel is gone
        return
    number = getattr(signal, how) if how.startswith("SIG") else signal.SIGINT
    process.send_signal(number)
    if how == "second Ctrl-C":
        hear(process, "finishing this step or cell")
        assert process.poll() is None and alive(pids[0])  # one Ctrl-C leaves the kernel its step
        process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 128 + number and "--resume" in shown, shown
    assert gone(pids)
    if number == signal.SIGTERM:
        assert (folder / "runs" / "quickstart" / "smoke" / "0" / "checkpoint").exists()
