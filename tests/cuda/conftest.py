"""What only a GPU can show. Without one all of these tests skip, for one reason.

With MPC_LITE_CUDA_TESTS=cpu they run on the CPU as far as it can: a dry run, so that a GPU's minutes are not spent on
misspelt names. `tests/benchmarks/gpu.sh` calls them either way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden"
PRECISIONS = ("fp32", "tf32", "bf16")


@pytest.fixture
def device() -> torch.device:
    name = os.environ.get("MPC_LITE_CUDA_TESTS", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here: tests/benchmarks/gpu.sh runs these tests on one")
    return torch.device(name)


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """For what a CPU has no counterpart to."""
    if device.type != "cuda":
        pytest.skip("dry run on a CPU, which has nothing like it")
    return device


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions in fp32, in fp32 with operands cut to TF32's 10 bits, or under bf16 autocast."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖, on the CPU in double."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return ((found - expected).norm() / expected.norm()).item()
