"""Two training passes over the same images, in which what cannot differ is computed once.

DropPath alone makes the passes differ, and its rate rises from 0 with depth. As long as it is 0, both passes compute
the same numbers from the same batch: in `nano` that is all up to the end of stage 2, where the maps are largest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mpc_lite.network.hrformer import DropPath, HRFormer


def two_passes(encoder: HRFormer, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """`(encoder(images), encoder(images))`: equal maps, gradients, draws and running statistics, up to rounding.

    images (B,3,H,W) in [0,1] -> two lists of four maps, as `HRFormer` gives them.
    """
    stem = (encoder.conv1, encoder.bn1, encoder.conv2, encoder.bn2, encoder.layer1)
    parts = [*stem, encoder.transition1, encoder.stage2]  # what `begin` runs
    if any(m.rate for part in parts for m in part.modules() if isinstance(m, DropPath)):
        return encoder(images), encoder(images)
    with _counted_twice(parts):
        shared = encoder.begin(images)
    return encoder.finish(shared), encoder.finish(shared)


@contextmanager
def _counted_twice(parts: list[nn.Module]) -> Iterator[None]:
    """Batch norm's running statistics take the batch's twice: r <- (1-m)((1-m) r + m s) + m s."""
    norms = [m for part in parts for m in part.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    momenta = [m.momentum for m in norms]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = 1 - (1 - momentum) ** 2
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked += 1
