#!/usr/bin/env bash
# PyTorch on a CPU with one thread: a 1×1 convolution of fewer than 16 images takes a detour past oneDNN.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.0

"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile

print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, oneDNN: {torch.backends.mkldnn.is_available()}")
print("Guess: an image of a batch of 15 costs what one of a batch of 16 costs, and is computed by the same kernel.")

torch.manual_seed(0)
pixels = torch.randn(16, 64, 32, 32).contiguous(memory_format=torch.channels_last)
KERNELS = {"aten::_slow_conv2d_forward": "a matrix product", "aten::mkldnn_convolution": "oneDNN"}


def kernel(layer, images):
    with profile(activities=[ProfilerActivity.CPU]) as record:
        layer(images)
    return next(KERNELS[event.key] for event in record.key_averages() if event.key in KERNELS)


def an_image(layer, images):
    """Microseconds of an image, forward and backward, the median of 30."""
    times = []
    for _ in range(30):
        start = time.perf_counter()
        layer(images).sum().backward()
        times.append((time.perf_counter() - start) / len(images) * 1e6)
    return statistics.median(times)


print("\nSeen, 64 to 64 channels, 32×32 places, channels last: threads, kernel, images, what computes them, µs an image")
seen = []
for threads, side in ((1, 1), (1, 3), (2, 1)):
    torch.set_num_threads(threads)
    layer = torch.nn.Conv2d(64, 64, side, padding=side // 2).to(memory_format=torch.channels_last)
    for count in (15, 16):
        seen.append(kernel(layer, pixels[:count]))
        print(f"  {threads}  {side}×{side}  {count}  {seen[-1]:17} {an_image(layer, pixels[:count]):6.0f}")

if seen != ["a matrix product", *5 * ["oneDNN"]]:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: ATen gives a plain 1×1 convolution to oneDNN if there are 16 images or more, or more than one thread.")
print("What the detour costs hangs on the processor: an AMD EPYC took twice as long for an image. Whoever trains")
print("with one thread takes batches of 16 or more, or measures.")
PYTHON
