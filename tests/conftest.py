"""What several test files share, and what keeps a test's outcome from hanging on the shell, the order or chance."""

import gc
import os
import random
import signal
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings

from tests.forked import forking

# What a shell may have set and no test may notice: folders of a user, colours and width of a terminal, ranks of a
# launcher. MPC_LITE_DATA and MPC_LITE_BROWSER stay: they say what can be tested here.
for name in (
    *("MPC_LITE_SETS", "MPC_LITE_WEIGHTS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "LINES"),
):
    os.environ.pop(name, None)

# Several processes share the cores, and a thread that waits sleeps.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The same examples in every run; `pytest --hypothesis-profile search` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("fixed")

# A script in the background hands on an ignored Ctrl-C, nohup an ignored SIGHUP: what tests start would inherit both.
if threading.current_thread() is threading.main_thread():
    for name, default in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more process than cores: many tests wait, for processes that they start or for a limit of time, and a core
    would wait with each of them."""
    return (os.cpu_count() or 1) + 1


gc.disable()  # until all test files and what they import are there: next to nothing of it is ever garbage


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was loaded before the tests is not searched for garbage, and what they make not as often as usual: that took
    a fifteenth of the time."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(10_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no process then begins a long file when the others have nothing left to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test draws the same random numbers, and so do the fixtures made for it, in whatever order tests run."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def fake_gpu():
    """A mode in which tensors on "cuda" have no data: reading a value or mixing in a CPU tensor raises."""
    import torch
    from torch._subclasses import FakeTensorMode

    mode = FakeTensorMode()
    if torch.__version__.startswith("2.6."):  # a few of its operations ask for a driver even so
        try:
            with mode:
                torch.empty(2, device="cuda").uniform_()
        except RuntimeError as error:
            pytest.skip(f"torch {torch.__version__}: tensors without data need a CUDA driver ({str(error)[:50]})")
    return mode


@pytest.fixture
def forked():
    """The Python processes that a test starts begin as forks of one that has imported torch and the like."""
    with forking():
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real photographs and forgeries; tests skip without MPC_LITE_DATA and fail with a wrong one."""
    folder = os.environ.get("MPC_LITE_DATA")
    if not folder:
        pytest.skip("MPC_LITE_DATA is not set: it names the folder with forged.csv and photos.csv (real photographs)")
    if not Path(folder).is_dir():
        pytest.fail(f"MPC_LITE_DATA is set to {folder}, which is not a folder; correct or unset it")
    return Path(folder)


def pytest_terminal_summary(terminalreporter):
    """The figures of `pytest -m trust`, which tests record as the property `trust`; the status page shows them."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    lines = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "trust"]
    if lines:
        terminalreporter.section("trust")
        for line in sorted(lines):
            terminalreporter.write_line(line)
