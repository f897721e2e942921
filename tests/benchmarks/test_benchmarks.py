"""The benchmarks run, compare before they time, and write what chapter 16 reads. At these sizes no number counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
QUICK = {
    "loss": (["--quick"], {"one_term", "whole_loss", "growth"}),
    "backbone": (["--quick"], {"forward", "stage-1 step", "forward, by kind", "stage-1 step, by kind", "peaks"}),
    "localizer": (["--quick"], {"sizes", "spread"}),
    "mscc": (["--quick"], {"attention", "attention, convolved", "module"}),
    "pclmix": (["--quick"], {"queue_contrast"}),
    "onnx_backend": (["--quick"], {"sizes", "rounds"}),
    "stage2": (["--size", "nano", "--pixels", "64", "--batch", "2"], {"rows"}),
}


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
