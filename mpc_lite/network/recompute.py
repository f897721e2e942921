"""Activation checkpointing: keep a module's input instead of all it computed, and compute it again for the gradients.

About a third more time buys most of the memory of the activations. Gradients are those of the usual way: the second
computation draws the same random numbers (DropPath), and the running statistics of batch norm see only the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def recomputed(module: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    """`module(maps)`, its inner activations formed again in the backward pass. maps: the module's only argument."""

    def contexts() -> tuple:
        return nullcontext(), _statistics_set_aside(module)

    return checkpoint(module, maps, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_set_aside(module: nn.Module) -> Iterator[None]:
    """Let batch norm update copies of its running statistics, thrown away at the end."""
    # Taking the statistics away altogether would save other tensors than the first pass did, which autograd refuses.
    owners = [(m._buffers, name) for m in module.modules() for name in STATISTICS if m._buffers.get(name) is not None]
    values = [buffers[name] for buffers, name in owners]
    for (buffers, name), value in zip(owners, values, strict=True):
        buffers[name] = value.clone()
    try:
        yield
    finally:
        for (buffers, name), value in zip(owners, values, strict=True):
            buffers[name] = value
