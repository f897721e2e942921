"""`mpc-lite doctor`: what is well, what would fail, and what to do then."""

import subprocess
import sys

import pytest

from mpc_lite.cli import doctor, main
from mpc_lite.cli.packages import Finding
from mpc_lite.files import FOLDERS, RAISED
from mpc_lite.network import weights

pytestmark = pytest.mark.trust


def found(check):
    return list(check())


def test_a_sound_machine_passes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FOLDERS:
        monkeypatch.delenv(name, raising=False)
    for limit in ("MEMORY", "DISK", "SHARED"):
        monkeypatch.setattr(doctor, limit, 0)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("torch 2", "cores", "free", "sha256 772d32762d02", "nothing here would fail"))
    assert not list(tmp_path.iterdir())


def test_what_would_fail_is_said_with_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MPC_LITE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(doctor, "CHECKS", [doctor.data])
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "fails  MPC_LITE_DATA=" in shown and "→ correct or unset it" in shown and "1 of 3 checks fail" in shown


def test_folders_that_are_none_are_told_and_the_others_looked_at(monkeypatch, tmp_path, capsys):
    for name, value in zip(FOLDERS, ("~nobody-of-this-name/x", "a" * 5000, str(tmp_path)), strict=False):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "CHECKS", [doctor.data])
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("is no folder") == 2 and "install mpc-lite anew" not in shown
    assert f"={tmp_path}: 0 .csv files" in shown.replace("\n", "")


def test_a_number_of_pixels_that_is_none_is_told(monkeypatch, capsys):
    """With it every picture fails."""
    monkeypatch.setattr(doctor, "CHECKS", [check for check in doctor.CHECKS if check.__name__ == "pictures"])
    monkeypatch.setenv(RAISED, "1e9")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert f"fails  {RAISED} is '1e9'; expected a number of pixels" in shown and "→ correct or unset" in shown
    monkeypatch.setenv(RAISED, "1000")
    [finding] = found(doctor.pictures)
    assert finding.state == "ok" and "up to 1000 pixels" in finding.what
    monkeypatch.delenv(RAISED)
    assert found(doctor.pictures) == []


def test_a_check_that_stumbles_is_a_finding_and_the_others_go_on(monkeypatch, capsys):
    def broken():
        yield Finding("ok", "half")
        raise RuntimeError("no such library")

    monkeypatch.setattr(doctor, "CHECKS", [broken, lambda: [Finding("ok", "the other")]])
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "half" in shown and "broken: RuntimeError: no such library" in shown and "the other" in shown
    assert "→ mend what fails above; if nothing does, install mpc-lite anew" in shown


def test_too_little_is_told_in_figures(monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 1.5e9)
    first = found(doctor.memory)[0]
    assert first.state == "fails" and first.what == "memory: 1.5 GB, 4 GB are wanted" and "pretrain.batch" in first.do


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
@pytest.mark.parametrize(("option", "name", "wanted"), [("-v", "RLIMIT_AS", 5.3), ("-d", "RLIMIT_DATA", 1.5)])
def test_a_limit_to_what_a_process_may_map_is_told_before_anything_is_loaded(option, name, wanted):
    """As grid schedulers and login nodes set it. What libraries do there is theirs: some abort, one waits for ever."""
    code = f"import resource as r; r.setrlimit(r.{name}, (10**9, 10**9)); "
    code += "import sys; from mpc_lite.cli import main; c = main(['doctor']); print('torch' in sys.modules, c)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    first, do, _, count, end = done.stdout.splitlines()
    what = f"a process may use 1.0 GB here (ulimit {option}), {wanted} GB are wanted; the rest was not looked at"
    assert first == f"fails  {what}"
    assert "h_vmem" in do and count == "1 of 1 checks fail" and end == "False 1" and not done.stderr


def test_other_weights_than_the_model_card_says_are_told(monkeypatch, tmp_path):
    for file in weights.PRETRAINED.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with open(tmp_path / "lite.safetensors", "ab") as file:
        file.write(b"!")
    (tmp_path / "lite-initial.safetensors").unlink()
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    assert [finding.state for finding in found(doctor.weights)] == ["fails", "ok", "fails", "ok"]


def test_threads_that_contradict_each_other_are_told(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert [each.state for each in found(doctor.threads)] == ["ok"]
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    [finding] = found(doctor.threads)
    assert finding.state == "note" and "unset it, or set it to 4" in finding.do
    for number in ("abc", "0", "-1", "٣"):
        monkeypatch.setenv("OMP_NUM_THREADS", number)
        [finding] = found(doctor.threads)
        assert finding.state == "note" and f"OMP_NUM_THREADS={number} is no number of threads" in finding.what
    monkeypatch.setenv("OMP_NUM_THREADS", " 1,2 ")  # of nested levels
    assert [each.state for each in found(doctor.threads)] == ["ok"]
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    assert "OMP_NUM_THREADS=8" in found(doctor.threads)[0].do


LAUNCHED = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "states", "words"),
    [
        ({}, [], ""),
        ({"WORLD_SIZE": "1"}, [], ""),
        ({"LOCAL_RANK": "-1"}, [], ""),
        ({"WORLD_SIZE": "abc"}, ["fails"], "WORLD_SIZE is 'abc' in the environment"),
        ({"WORLD_SIZE": "2"}, ["fails"], "WORLD_SIZE=2, and RANK, MASTER_PORT, MASTER_ADDR missing or no number"),
        ({"PMI_SIZE": "2"}, ["note"], "PMI_SIZE=2: with --device cpu a training starts only together with others"),
        ({"LOCAL_RANK": "0"}, ["fails"], "LOCAL_RANK=0, and WORLD_SIZE, RANK, MASTER_PORT, MASTER_ADDR missing or"),
        ({**LAUNCHED, "LOCAL_RANK": "abc"}, ["fails"], "LOCAL_RANK=abc, and LOCAL_RANK missing or no number"),
        ({**LAUNCHED, "WORLD_SIZE": "1"}, [], ""),
        (LAUNCHED, ["note"], "a training waits until all 2 processes are there"),
    ],
)
def test_what_a_launcher_left_in_the_environment_is_told(monkeypatch, variables, states, words):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    findings = found(doctor.processes)
    assert [finding.state for finding in findings] == states and all(words in finding.what for finding in findings)
