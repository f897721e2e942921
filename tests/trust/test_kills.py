"""`kill -9` at random moments of a run, again and again: nothing is lost but the step at hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trust.lives import STEPS

pytestmark = [pytest.mark.trust, pytest.mark.slow]
KILLS = 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each life is a fork of one process")
def test_a_run_that_is_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not(tmp_path, record_property):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "tests.trust.lives", str(tmp_path), str(KILLS), "0"]
    done = subprocess.run(call, cwd=root, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    kills = int(done.stdout)
    ours, theirs = (load_file(tmp_path / name / "stage1.safetensors") for name in ("killed", "whole"))
    assert list(ours) == list(theirs) and [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    losses = [
        [(line["step"], line["loss"]) for line in map(json.loads, log.read_text().splitlines()) if "loss" in line]
        for log in (tmp_path / "killed" / "log.jsonl", tmp_path / "whole" / "log.jsonl")
    ]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == list(range(1, STEPS + 1))
    assert sorted(os.listdir(tmp_path / "killed")) == sorted(os.listdir(tmp_path / "whole"))
    assert kills >= KILLS // 2  # a slow machine may come to the end before
    record_property(
        "trust",
        f"kill -9 at random moments: {kills} kills, {kills} resumed, weights and log equal to those of one life",
    )
