#!/usr/bin/env bash
# PyTorch on an AMD processor with AVX-512: a matrix product takes twice as long as the 1×1 convolution of the same numbers.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.0

"$folder/venv/bin/python" - <<'PYTHON'
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

processor = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
print(f"Python {platform.python_version()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
if "AuthenticAMD" not in processor or "avx512f" not in processor:
    sys.exit("not an AMD processor with AVX-512: there is nothing to see here")
print("Guess: the same products and sums take the same time, whatever they are called.")

torch.set_num_threads(1)
torch.manual_seed(0)
pixels = torch.randn(16, 256, 64, 64).contiguous(memory_format=torch.channels_last)
weight = torch.randn(256, 256) / 16
tokens = pixels.permute(0, 2, 3, 1).reshape(-1, 256)  # the same memory
assert tokens.data_ptr() == pixels.data_ptr()
WAYS = {"F.linear": lambda: F.linear(tokens, weight), "F.conv2d": lambda: F.conv2d(pixels, weight[:, :, None, None])}

seconds = {name: [] for name in WAYS}
with torch.inference_mode():
    assert torch.allclose(WAYS["F.linear"]().view(16, 64, 64, 256).permute(0, 3, 1, 2), WAYS["F.conv2d"](), atol=1e-4)
    for _ in range(15):
        for name, call in WAYS.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
median = {name: statistics.median(each) for name, each in seconds.items()}
print("\nSeen, 65 536 pixels, 256 to 256 channels, one thread, medians of 15:")
for name, taken in median.items():
    print(f"  {name}  {1e3 * taken:6.1f} ms  {2 * tokens.numel() * 256 / taken / 1e9:4.0f} GFLOP/s")

if median["F.linear"] < 1.4 * median["F.conv2d"]:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: products of float32 go to MKL, which does not use AVX-512 on processors that are not Intel's;")
print("convolutions go to oneDNN, which does. What a product of this machine reaches is no ceiling of the machine.")
PYTHON
