"""Memory that the C library keeps instead of fetching it anew for every step, and how many processes there are."""

import os
import platform
import subprocess
import sys

import pytest

from mpc_lite.errors import InputError
from mpc_lite.network.devices import choose_accelerator

FAULTS = """
import resource, torch
from mpc_lite.network.devices import keep_freed_memory
kept = keep_freed_memory() if {keep} else None
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(20):
    if turn == 10:  # the first ones make room for each other's alignment
        before = faults()
    torch.ones(48 << 18)  # 48 MB, freed at once
print(kept, faults() - before)
"""


def run(keep: bool, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)],
        capture_output=True,
        text=True,
        check=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}, **environment},
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the switch")
def test_freed_memory_is_used_again_without_the_system():
    kept, few = run(keep=True)
    _, many = run(keep=False)
    assert kept == str(platform.libc_ver()[0] == "glibc")
    if kept == "True":
        assert many > 20 * max(few, 1), (few, many)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the switch")
def test_a_users_own_setting_is_left_alone():
    assert run(keep=True, MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


@pytest.mark.parametrize("text", ["abc", "", "0", "-1", "1.5", "²"])
def test_a_number_of_processes_that_is_none_is_told(monkeypatch, text):
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(InputError, match=f"WORLD_SIZE is '{text}' in the environment.*accelerate launch"):
        choose_accelerator("cpu", "fp32")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE says that 2 processes were started together, and they do not find each other",
        ),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK is set in the environment, as a launcher sets it, and what else it sets"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "PMI_SIZE is set in the environment, as mpiexec and srun set it, and"),
        ({"LOCAL_RANK": "abc"}, "LOCAL_RANK is set in the environment, as a launcher sets it, and what else it sets"),
    ],
)
def test_what_a_launcher_left_in_the_environment_is_told(variables, words):
    """In a process of its own: accelerate leaves a half of its state behind."""
    code = "from mpc_lite.network.devices import choose_accelerator as choose\ntry: choose('cpu', 'fp32')\n"
    code += "except ValueError as error: print(type(error).__name__, error)"
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"InputError {words}") and "'accelerate launch'" in done.stdout
