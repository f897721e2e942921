"""Who is heard, who is not, and what a second signal does; whole runs: test_loop.py, tests/reproduce/test_kernel.py."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mpc_lite.training import signals
from mpc_lite.training.signals import Stopped, answering, asked_to_stop

pytestmark = pytest.mark.trust


def test_exit_codes_are_those_of_a_shell():
    numbers = [None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    assert [Stopped("text", number).exit_code for number in numbers] == [130, 130, 143, 129]


def test_the_first_signal_asks_and_only_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    before = [signal.getsignal(number) for number in signals.ASKING]
    with asked_to_stop(tmp_path) as stop:
        assert stop() == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop() == signal.SIGTERM
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # a launcher hands its own on, within the second
            signal.raise_signal(number)
        assert stop() == signal.SIGTERM
        monkeypatch.setattr(signals, "ECHO", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a third one does not wait for Python
    assert [signal.getsignal(number) for number in signals.ASKING] == before


def test_the_file_stop_asks_as_ctrl_c_does(tmp_path):
    with asked_to_stop(tmp_path) as stop:
        (tmp_path / "stop").touch()
        assert stop() == signal.SIGINT and not (tmp_path / "stop").exists() and stop() == signal.SIGINT


def test_a_folder_by_that_name_asks_too(tmp_path):
    (tmp_path / "stop" / "within").mkdir(parents=True)
    with asked_to_stop(tmp_path) as stop:
        assert stop() == signal.SIGINT


def test_a_signal_that_was_inherited_as_ignored_stays_ignored():
    """As nohup starts a process."""
    code = (
        "import os, signal; from mpc_lite.training.signals import answering\n"
        "with answering(lambda number, frame: print(signal.Signals(number).name)):\n"
        "    os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGTERM)"
    )
    begin = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    begin += f"os.execv(sys.executable, [sys.executable, '-c', {code!r}])"
    done = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, cwd=os.getcwd())
    assert done.stdout.split() == ["SIGTERM"], done.stderr


def test_other_threads_leave_signals_to_the_main_one(tmp_path):
    seen = []

    def work():
        with answering(lambda *_: None), asked_to_stop(tmp_path) as stop:
            seen.append((stop(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, signal.getsignal(signal.SIGTERM))]
