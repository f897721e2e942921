"""Two passes that share what cannot differ are two passes: maps, gradients, draws, running statistics."""

import copy

import pytest
import torch

from mpc_lite.network.model import MPC
from mpc_lite.network.two_passes import two_passes


def passes(make, encoder, images):
    torch.manual_seed(1)
    first, second = make(encoder, images)
    sum((i * m.square()).sum() for i, m in enumerate(first + second[:1], 1)).backward()
    return first + second


def plain(encoder, images):
    return encoder(images), encoder(images)


@pytest.mark.slow
@pytest.mark.parametrize("deeper", [False, True], ids=["stage 2 without noise", "stage 2 with noise"])
def test_shared_passes_equal_two_passes(deeper):
    torch.manual_seed(0)
    one = MPC.build("nano").train().double().encoder
    if deeper:
        one.stage2[0].branches[0][0].drop_path.rate = 0.5
    other, images = copy.deepcopy(one), torch.rand(3, 3, 64, 64, dtype=torch.float64)
    expected, got = passes(plain, one, images), passes(two_passes, other, images)
    assert not torch.equal(got[0], got[4])
    for x, y in zip(expected, got, strict=True):
        assert torch.allclose(x, y, rtol=1e-10, atol=1e-12)
    for (name, x), y in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(x.grad, y.grad, rtol=1e-9, atol=1e-7), name
    for (name, x), y in zip(one.named_buffers(), other.buffers(), strict=True):
        assert torch.allclose(x, y, rtol=1e-10, atol=1e-12), name


def test_nothing_is_counted_in_evaluation_mode_and_momenta_come_back():
    encoder = MPC.build("nano").eval().encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.no_grad():
        two_passes(encoder, torch.rand(1, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    encoder.train()
    two_passes(encoder, torch.rand(2, 3, 32, 32))
    assert encoder.bn1.momentum == 0.1 and encoder.convs[0].bn.momentum == 0.03
    assert encoder.bn1.num_batches_tracked == encoder.convs[0].bn.num_batches_tracked == 2
