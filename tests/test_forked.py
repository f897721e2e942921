"""A fork that stands for `python …` does as that does: the same words, folder, environment, streams, signals, end."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.elsewhere import FOLDER, HOST, elsewhere

TELL = """
import json, os, platform, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ["ASKED"], sys.path[0], os.getppid(), os.getpgid(0) == os.getpid(),
                  __name__, sys.modules["__main__"].__dict__ is globals(), sys.stdin.read(),
                  [m for m in sys.modules if m.startswith(("mpc_lite", "tests"))]]))
print("said", file=sys.stderr)
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("forked"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere no process is a fork"),
]


def python(*words, ordinary=False, **options):
    """What a process answers, says and ends with."""
    environment = {**os.environ, "ASKED": "for", **options.pop("env", {})}
    if ordinary:
        environment["COVERAGE"] = ""  # which forks are not made for
    call = [sys.executable, *map(str, words)]
    return subprocess.run(call, env=environment, capture_output=True, text=True, **options)


def measured():
    return any(name.startswith("COV") for name in os.environ)


@pytest.mark.parametrize("how", ["-c", "-m", "script"])
def test_it_is_told_what_a_process_is_told(how, tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    words = {"-c": ["-c", TELL], "-m": ["-m", "tell"], "script": ["-u", "tell.py"]}[how]
    options = {"cwd": tmp_path, "input": "given", "start_new_session": how == "-c"}
    for more in ([], ["a", "b"]):
        answers = [python(*words, *more, ordinary=ordinary, **options) for ordinary in (False, True)]
        assert json.loads(answers[0].stdout) == json.loads(answers[1].stdout)
        assert json.loads(answers[0].stdout)[4] == os.getpid() and answers[0].stderr == answers[1].stderr == "said\n"


@pytest.mark.parametrize(
    "code",
    [
        *("pass", "import sys; sys.exit(3)", "import sys; sys.exit('why')", "raise KeyboardInterrupt", "1 / 0", "def"),
        "import atexit, threading, time; atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "file = open('left', 'w'); file.write('in a buffer')",
        "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(1)']), flush=True)",
    ],
)
def test_it_ends_as_a_process_ends(code, tmp_path):
    ends = []
    for ordinary in (False, True):
        done = python("-c", code, ordinary=ordinary, cwd=tmp_path)
        left = tmp_path / "left"
        ends.append([done.returncode, done.stdout, done.stderr, left.exists() and left.read_text()])
    assert ends[0] == ends[1]


def test_it_is_a_fork_and_hears_signals():
    """And what this file compares it with is none."""
    is_fork = "import sys; print('torch' in sys.modules, flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    if not measured():
        assert python("-c", is_fork, input="").stdout == "True\n"
    assert python("-c", is_fork, input="", ordinary=True).stdout == "False\n"
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-c", is_fork], stderr=subprocess.DEVNULL, **pipes) as process:
            process.stdout.readline()
            process.send_signal(number)
            assert process.wait(60) == -number


def test_it_is_elsewhere_too(tmp_path_factory):
    folder = tmp_path_factory.mktemp(FOLDER)
    with elsewhere(folder):
        asked = "import platform, socket; print(platform.node(), socket.gethostname(), platform.uname().node)"
        names = python("-c", asked).stdout.split()
        assert names[:2] == [HOST, HOST] and (
            names[2] == HOST or measured()
        )  # coverage asks before, and Python keeps it
