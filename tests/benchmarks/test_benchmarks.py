"""The benchmarks run, compare before they time, and write what chapter 16 reads. At these sizes no number counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
QUICK = {
    "loss": (["--quick"], {"one_term", "whole_loss", "growth"}),
    "backbone": (["--quick"], {"forward", "stage-1 step", "forward, by kind", "stage-1 step, by kind", "peaks"}),
    "localizer": (["--quick"], {"sizes", "spread"}),
    "mscc": (["--quick"], {"attention", "attention, convolved", "module"}),
    "pclmix": (["--quick"], {"queue_contrast"}),
    "onnx_backend": (["--quick"], {"sizes", "rounds"}),
    "levers": (["--quick"], {"side", "stages", "halves"}),
    "freed_memory": (["--quick"], {"work"}),
    "threads": (["--quick"], {"quiet", "busy"}),
    "growth": (["--quick"], {"reading", "bytes a row", "check", "evaluate", "start"}),
    "stage2": (["--size", "nano", "--pixels", "64", "--batch", "2"], {"rows"}),
}


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_prints_a_table_and_writes_its_results(name, tmp_path):
    options, keys = QUICK[name]
    target = tmp_path / "out.json"
    call = [sys.executable, str(HERE / f"{name}.py"), *options, "--json", str(target)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=HERE.parents[1], env=os.environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    assert found["schema"] == 1 and keys <= set(found) and {"command", "device", "versions", "commit"} <= set(found)
    assert len(done.stdout.splitlines()) >= 3


def versus(*options, target):
    """This checkout against itself, in miniature."""
    call = [sys.executable, str(HERE / "versus.py"), str(HERE.parents[1]), "--quick", "--json", str(target), *options]
    done = subprocess.run(call, capture_output=True, text=True, cwd=target.parent, env=os.environ)
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text())["work"]


@pytest.mark.usefixtures("forked")
def test_a_checkout_is_compared_with_itself(tmp_path):
    names = ("stage-2", "evaluate", "localizer", "forgery", "manifest")  # stage-1: see threads
    found = versus("--rounds", "1", "--work", ",".join(names), target=tmp_path / "out.json")
    assert tuple(found) == names
    for name, work in found.items():
        assert work["same_result"] and work["measures"], name
        for row in work["measures"].values():
            assert row["other"] > 0 and row["this"] > 0
            times = row["times_faster"]
            assert times["low"] <= times["median"] <= times["high"]


@pytest.mark.usefixtures("forked")
def test_a_benchmark_is_compared_by_its_seconds_and_bytes(tmp_path):
    options = ("--rounds", "1", "--script", "localizer.py", "--", "--quick")
    found = versus(*options, target=tmp_path / "out.json")
    assert {"sizes.6.seconds_per_megapixel", "sizes.6.beyond_map"} <= set(found["localizer.py"]["measures"])


FLAT = """
import flat_layout
assert flat_layout.bridge()
from mpc_lite.contrast.infonce import mean_positive_infonce
from mpc_lite.data.stream import datasets
from mpc_lite.data.loader import loader
from mpc_lite.training.pretrain import pretrain
from mpc_lite.files import expand, write_atomic
from mpc_lite.provenance import record
assert (mean_positive_infonce(), datasets(), loader(), pretrain(), expand(), write_atomic()) == (1, 2, 3, 4, 5, 6)
assert record(a=1) == {"a": 1, "versions": {}, "commit": "none"}
"""


def test_a_checkout_without_rooms_has_todays_names(tmp_path):
    """As the package lay once: a module in the place of each room, and names that moved between modules."""
    modules = {
        "__init__": "",
        "infonce": "def mean_positive_infonce(): return 1",
        "data": "def datasets(): return 2\ndef loader(): return 3",
        "training": "loop = True",
        "pretrain": "from mpc_lite.training import loop\ndef pretrain(): return 4",
        "config": "def expand(): return 5",
        "weights": "def write_atomic(): return 6",
        "results": "def versions(): return {}\ndef commit(): return 'none'",
    }
    (tmp_path / "mpc_lite").mkdir()
    for name, text in modules.items():
        (tmp_path / f"mpc_lite/{name}.py").write_text(text)
    paths = os.pathsep.join([str(tmp_path), str(HERE)])
    call, environment = [sys.executable, "-c", FLAT], {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_checkout_with_rooms_has_what_moved_into_one_since(tmp_path):
    """Else what keeps freed memory was not called in the older checkout, and today's seemed faster by that."""
    for file, text in (("devices", "def keep_freed_memory(): return 1"), ("network/model", "MPC = 2")):
        (tmp_path / "mpc_lite" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mpc_lite" / f"{file}.py").write_text(text)
    for folder in (".", "contrast", "network"):
        (tmp_path / "mpc_lite" / folder).mkdir(exist_ok=True)
        (tmp_path / "mpc_lite" / folder / "__init__.py").touch()
    code = "import flat_layout\nassert not flat_layout.bridge()\nfrom mpc_lite.network.model import MPC\n"
    code += "from mpc_lite.network.devices import keep_freed_memory\nassert (MPC, keep_freed_memory()) == (2, 1)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
def test_the_script_for_a_gpu_runs_dry_and_leaves_its_files(tmp_path):
    """Each part tries what it can without a GPU; none fails, and every file that a GPU would fill is there."""
    call = ["bash", str(HERE / "gpu.sh"), "--dry", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "MPC_LITE_DATA": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(" after")[0] for line in (tmp_path / "parts.txt").read_text().splitlines()] == [
        f"{part}: exit code 0" for part in ("tests", "table", "training")
    ]
    assert "passed" in (tmp_path / "tests.log").read_text() and (tmp_path / "tests.xml").is_file()
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["dry"] and not table["failed"] and table["cuda"] == "not measured"
    assert {"one term", "whole loss", "stage 1", "stage 2", "localizer", "pretended"} == set(table["parts"])
    assert set(table["parts"]["pretended"]) == {"stage 1", "stage 2"}
    left = {path.name for path in (tmp_path / "lite-gpu").iterdir()}
    assert {"training.json", "log.jsonl", "stage1.safetensors", "model.safetensors"} <= left


def test_without_a_gpu_the_script_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    done = subprocess.run(["bash", str(HERE / "gpu.sh"), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "no CUDA device" in done.stderr
