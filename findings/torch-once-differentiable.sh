#!/usr/bin/env bash
# torch: a function marked as differentiable once does not refuse a second derivative of a loss; it leaves terms out of it in silence.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cat > "$folder/case.py" <<'PYTHON'
import sys

import torch
from torch.autograd.function import once_differentiable


class Energy(torch.autograd.Function):
    """Sum of squares, its derivative written by hand from saved values, as fused losses do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, incoming):
        (x,) = ctx.saved_tensors
        return 2 * x * incoming


def penalty_gradient(energy, w):
    """Of a gradient penalty: the loss is an energy of scaled weights and a small term beside it."""
    w = w.clone().requires_grad_()
    loss = energy(3 * w) + 0.05 * (w**3).sum()
    (first,) = torch.autograd.grad(loss, w, create_graph=True)
    first.square().sum().backward()
    return w.grad


w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
print(f"torch {torch.__version__}, on the CPU")
print("one would guess: an error, for the function says that it is differentiable once ('trying to differentiate twice …')")
print("                 or else the derivative that plain operations give")
plain = penalty_gradient(lambda x: (x * x).sum(), w)
try:
    marked = penalty_gradient(Energy.apply, w)
except RuntimeError as error:
    sys.exit(f"this has changed: refused, {error}")
print(f"by plain operations     {plain.tolist()}")
print(f"by the marked function  {marked.tolist()}")

# The mark does what it says where the gradient that comes in itself has a graph: a loss times a learnt weight.
weight = torch.ones((), dtype=torch.float64, requires_grad=True)
try:
    penalty_gradient(lambda x: weight * Energy.apply(x), w)
    refused = False
except RuntimeError as error:
    refused = "once_differentiable" in str(error)
print(f"with a learnt weight before the function: {'refused' if refused else 'not refused'}")
ratio = (marked / plain).abs().max().item()
seen = refused and ratio < 0.1
says = f"the mark looks at the incoming gradient alone; of this second derivative at most {ratio:.1%} was left, without a word"
print(f"seen: {says}" if seen else "this has changed")
sys.exit(not seen)
PYTHON
"$folder/venv/bin/python" "$folder/case.py"
