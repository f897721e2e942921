"""The loss on a GPU: both paths of the sampling agree."""

import pytest
import torch

from mpc_lite.contrast.loss import mpc_loss_per_image
from tests.cuda.conftest import apart

pytestmark = pytest.mark.cuda

SIDES, CHANNELS = (32, 16, 8, 4), 16


def batch(device: torch.device, images: int = 3):
    """Two passes' maps and masks of which the first holds a forgery, the second half of one, the third none."""
    generator = torch.Generator().manual_seed(0)

    def made(side):
        maps = torch.randn(images, CHANNELS, side, side, generator=generator)
        return maps.to(device).contiguous(memory_format=torch.channels_last).requires_grad_()

    mask = torch.zeros(images, 128, 128, dtype=torch.uint8)
    mask[0, 30:90, 20:100] = 1
    mask[1, :, 64:] = 1
    mask[1, :16] = 255
    return *([made(side) for side in SIDES] for _ in "ab"), mask.to(device)


def gradients(total, maps_a, maps_b):
    return torch.autograd.grad(total, [*maps_a, maps_b[0]])


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize("max_pixels", [None, 100])
def test_fixed_slots_give_what_compact_rows_give(device, formulation, max_pixels):
    maps_a, maps_b, mask = batch(device)
    found = {}
    for path in ("fixed", "compact"):
        generator = torch.Generator(device).manual_seed(7)
        terms, counted = mpc_loss_per_image(maps_a, maps_b, mask, formulation, 0.1, max_pixels, generator, path)
        found[path] = [*terms.values(), counted, *gradients(sum(v.sum() for v in terms.values()), maps_a, maps_b)]
    for fixed, compact in zip(*found.values(), strict=True):
        assert apart(fixed, compact) < 1e-5
