"""The whole network: shapes, the frozen encoder, the head's names, errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.errors import InputError
from mpc_lite.network.hrformer import SIZES, DropPath
from mpc_lite.network.model import MPC


@pytest.fixture(scope="module")
def nano() -> MPC:
    torch.manual_seed(0)
    return MPC.build("nano").eval()


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_logits_follow_the_ceil_rule(nano, height, width):
    with torch.no_grad():
        logits = nano(torch.rand(2, 3, height, width))
    assert logits.shape == (2, 1, math.ceil(height / 4), math.ceil(width / 4))
    assert logits.isfinite().all()


def test_the_score_of_an_image_does_not_depend_on_its_neighbours_in_the_batch(nano):
    images = torch.rand(3, 3, 50, 70)
    with torch.no_grad():
        alone = torch.cat([nano(image[None]) for image in images])
        torch.testing.assert_close(nano(images), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64), (64, 64, 3), (1, 64, 64, 3)])
def test_images_of_another_shape_are_refused(nano, shape):
    with pytest.raises(ValueError) as error:
        nano(torch.rand(shape))
    assert str(shape) in str(error.value) and "(B, 3, H, W)" in str(error.value)


@pytest.mark.parametrize(("size", "head", "word"), [("tiny", "4conv", "nano, small, base"), ("nano", "3conv", "5conv")])
def test_unknown_size_or_head_names_the_known_ones(size, head, word):
    with pytest.raises(InputError, match=word):
        MPC.build(size, head)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "widths"), [("4conv", (4, 2, 1, 0.5)), ("5conv", (4, 2, 1, 0.5, 0.25))])
@pytest.mark.parametrize("size", ["nano", "base"])
def test_heads_have_the_official_layout_scaled_with_the_embedding(size, head, widths):
    with torch.device("meta"):
        model = MPC.build(size, head)
    D = SIZES[size].embedding
    weights = {name: p.shape for name, p in model.decoder.named_parameters() if name.endswith("weight")}
    expected = {}
    for i, width in enumerate(widths):
        c = int(width * D)
        after = int(c / 2) if i + 1 < len(widths) else 1
        expected[f"classifier.{3 * i}.weight"] = (c,)  # batch norm, then ReLU
        expected[f"classifier.{3 * i + 2}.weight"] = (after, c, 1, 1)
    assert weights == expected


def test_the_head_reads_the_four_maps_fine_to_coarse():
    """With the encoder's coarsest map alone non-zero, only the last D input channels of the head are touched."""
    model = MPC.build("nano").eval()
    D = SIZES["nano"].embedding
    maps = [torch.zeros(1, D, 16 // s, 16 // s) for s in (1, 2, 4, 8)]
    maps[3] += 1
    seen = []
    model.encoder.forward = lambda images: list(maps)
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.zeros(1, 3, 64, 64))
    assert seen[0].shape == (1, 4 * D, 16, 16)
    assert seen[0][:, : 3 * D].eq(0).all() and torch.allclose(seen[0][:, 3 * D :], torch.tensor(1.0))


def test_freezing_keeps_the_encoder_as_it_is_while_the_head_learns():
    torch.manual_seed(0)
    model = MPC.build("nano").freeze_encoder().train()
    assert not model.encoder.training and model.decoder.training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # All parameters are in the optimiser on purpose, with weight decay: those without a gradient must not move.
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        model.train()
        model(torch.rand(4, 3, 64, 64)).square().mean().backward()
        optimiser.step()
    assert all(p.grad is None and not p.requires_grad for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.decoder.parameters())
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"decoder.classifier.2.weight", "decoder.classifier.0.running_mean"} <= moved
    assert not [name for name in moved if name.startswith("encoder.")]


def test_a_frozen_encoder_is_deterministic_in_training():
    torch.manual_seed(0)
    model = MPC.build("nano").freeze_encoder().train()
    images = torch.rand(2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(model.encode(images), model.encode(images), strict=True))


def test_two_passes_update_batch_norm_statistics_twice():
    model = MPC.build("nano").train()
    images = torch.rand(2, 3, 64, 64)
    model.encode(images), model.encode(images)
    assert model.encoder.bn1.num_batches_tracked == 2


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart():
    """The gradient reaches the whole network and points the right way: nano overfits squares on noise."""
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32)
    target = torch.zeros(8, 1, 8, 8)
    for i in range(8):
        y, x = torch.randint(0, 4, (2,)).tolist()
        target[i, :, y : y + 4, x : x + 4] = 1
    model = MPC.build("nano").train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(images), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    agreement = ((model(images) > 0) == target.bool()).float().mean()
    assert agreement > 0.97, (agreement, loss)
