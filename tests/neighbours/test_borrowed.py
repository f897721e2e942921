"""The borrowed ideas: each has a case in which it must say exactly nothing, and one in which it must say something."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpc_lite.data.augment.on_device import dihedral
from mpc_lite.errors import InputError
from mpc_lite.neighbours.borrowed import (
    AsymmetricScale,
    PixelContextGate,
    equivariance,
    pixel_distillation,
    position_contrast,
    turned,
    view_pair,
)
from mpc_lite.neighbours.pclmix.queue import ClassQueue
from mpc_lite.network.model import MPC


def unit(*shape, seed=0, dim=1):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=dim)


# ------------------------------------------------------------------------------------------------- distillation


@pytest.mark.parametrize(("m", "tau"), [(3, 0.2), (5, 0.5)])
def test_a_perfect_student_before_orthogonal_negatives(m, tau):
    teacher = torch.zeros(2, 8, 3, 3, dtype=torch.float64)
    teacher[:, 0] = 2.5
    loss = pixel_distillation(teacher, teacher, torch.eye(8, dtype=torch.float64)[1 : m + 1], tau)
    assert loss.item() == pytest.approx(math.log(1 + m * math.exp(-1 / tau)), rel=1e-12)


def test_a_network_distilled_from_itself_is_the_minimum():
    teacher, queue = unit(2, 6, 4, 4), unit(9, 6, seed=1)
    student = (3 * teacher).requires_grad_()
    loss = pixel_distillation(student, teacher, queue, targets="soft")
    assert abs(loss.item()) < 1e-12 and torch.autograd.grad(loss, student)[0].abs().max() < 1e-12
    for seed in range(5):
        other = teacher + 0.1 * unit(2, 6, 4, 4, seed=seed + 2)
        assert pixel_distillation(other, teacher, queue, targets="soft") > 1e-6
    hard = torch.autograd.grad(pixel_distillation(student, teacher, queue), student)[0]
    assert hard.abs().max() > 1e-6  # PCD's own form pushes on: its minimum is another point


def test_distillation_learns_the_teacher_and_never_moves_it():
    teacher, queue = unit(1, 6, 4, 4).requires_grad_(), unit(9, 6, seed=1)
    student = unit(1, 6, 4, 4, seed=2).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    losses, before = [], F.cosine_similarity(student, teacher).mean()
    for _ in range(100):
        optimizer.zero_grad()
        losses.append(pixel_distillation(student, teacher, queue, targets="soft"))
        losses[-1].backward()
        optimizer.step()
    assert teacher.grad is None and losses[-1] < 1e-2 * losses[0]
    assert F.cosine_similarity(student, teacher).mean() > before + 0.5


def test_the_queue_of_image_vectors_is_a_class_queue_of_one_class():
    queue, maps = ClassQueue(1, 4, 6), unit(2, 6, 4, 4).float()
    queue.update(maps, torch.zeros(2, 4, 4))
    assert torch.allclose(queue.entries[0, :2], F.normalize(maps.mean((2, 3)), dim=1), atol=1e-6)
    assert pixel_distillation(maps, maps, queue.entries[0, :2]).isfinite()


# --------------------------------------------------------------------------------------------------------- gate


def test_a_new_gate_is_the_identity_bit_by_bit_and_learns():
    gate, x = PixelContextGate(8), torch.randn(2, 8, 5, 7)
    assert torch.equal(gate(x), x)
    gate(x).square().sum().backward()
    assert gate.combine.weight.grad.any() and gate.combine.bias.grad.any()


def test_groups_of_channels():
    x = torch.randn(2, 8, 5, 7)
    assert torch.allclose(PixelContextGate(8, (1,)).context(x), x.mean(1, keepdim=True), atol=1e-6)
    assert torch.equal(PixelContextGate(8, (8,)).context(x), x)
    assert PixelContextGate(8, (1, 2, 4)).context(x).shape == (2, 7, 5, 7)


def test_a_gate_knows_pixels_and_no_places():
    gate, x = PixelContextGate(8), torch.randn(2, 8, 5, 7)
    nn.init.normal_(gate.combine.weight)
    order = torch.randperm(35)
    moved = x.flatten(2)[..., order].view_as(x)
    assert not torch.allclose(gate(x), x)
    assert torch.allclose(gate(moved), gate(x).flatten(2)[..., order].view_as(x), atol=1e-5)


# ------------------------------------------------------------------------------------------------ scale contrast


def test_position_contrast_closed_forms():
    ones = torch.ones(2, 3, 4, 5)
    assert position_contrast(ones, ones).item() == pytest.approx(math.log(2 * 20 - 1), rel=1e-6)
    assert position_contrast(ones, ones, max_positions=6).item() == pytest.approx(math.log(11), rel=1e-6)
    places = torch.eye(9, dtype=torch.float64).view(1, 9, 3, 3)  # every place its own direction
    expected = math.log(1 + 16 * math.exp(-1 / 0.1))
    assert position_contrast(places, places).item() == pytest.approx(expected, rel=1e-9)
    assert position_contrast(places, places.flip(3)) > 1


def test_scales_of_an_encoder_that_commutes_with_averaging():
    torch.manual_seed(0)
    pixelwise = nn.Conv2d(3, 6, 1)

    def encode(images):  # stride 4, as the finest of MPC's maps
        return [F.avg_pool2d(pixelwise(images), 4)]

    module, images = AsymmetricScale(6), torch.randn(2, 3, 32, 48)
    terms = module(encode, images)
    assert terms["equivariance"] < 1e-6
    assert module(lambda x: [encode(x)[0].relu()], images)["equivariance"] > 1e-3
    terms["contrast"].backward()
    assert all(p.grad is not None for p in module.decoder.parameters())


def test_scales_of_mpc():
    model = MPC.build("nano").eval()
    channels = model.encode(torch.zeros(1, 3, 32, 32))[0].shape[1]
    terms = AsymmetricScale(channels)(model.encode, torch.rand(2, 3, 64, 96))
    assert all(value.isfinite() for value in terms.values()) and terms["equivariance"] > 0


# -------------------------------------------------------------------------------------------------------- views


@pytest.mark.parametrize("code", range(8))
def test_turns_are_those_of_the_augmentation(code):
    x = torch.randn(2, 3, 6, 6)
    expected, _ = dihedral(x, torch.zeros(2, 6, 6), torch.full((2,), code))
    assert torch.equal(turned(x, code), expected)
    twice = turned(turned(x, code), code)
    assert torch.equal(twice, x) == (code not in (5, 6))  # mirrors and half turns undo themselves, quarter turns do not
    assert torch.equal(turned(turned(twice, code), code), x)


@pytest.mark.parametrize(("turn", "scale"), [*itertools.product(range(8), (1, 2))])
def test_an_equivariant_map_has_nothing_to_learn(turn, scale):
    torch.manual_seed(0)
    pixelwise = nn.Conv2d(3, 5, 1, bias=False).double()
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    assert equivariance(view_pair(pixelwise, images, turn, scale)).item() < 1e-24
    aware = nn.Conv2d(3, 5, 3, padding=1).double()
    assert (equivariance(view_pair(aware, images, turn, scale)) > 1e-3).item() == bool(turn or scale > 1)


def test_views_of_mpc():
    model = MPC.build("nano").eval()
    images = torch.rand(1, 3, 64, 128)
    assert equivariance(view_pair(model.encode, images)).item() == 0  # the same images twice
    pairs = view_pair(model.encode, images, turn=4, scale=2)
    assert [tuple(a.shape[2:]) for a, _ in pairs] == [(16, 8), (8, 4), (4, 2), (2, 1)]
    loss = equivariance(pairs)
    loss.backward()
    assert 0 < loss.item() < 2 and any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: pixel_distillation(x, x[:, :4], torch.ones(3, 8)), "project the student"),
        (lambda x: pixel_distillation(x, x, torch.ones(3, 4)), r"\(M,D\)"),
        (lambda x: pixel_distillation(x, x, torch.ones(3, 8), targets="some"), "hard or soft"),
        (lambda x: pixel_distillation(x, x, torch.ones(3, 8), -1.0), "temperature"),
        (lambda x: PixelContextGate(8, (3,)), "divisors of 8"),
        (lambda x: PixelContextGate(8, ()), "divisors"),
        (lambda x: position_contrast(x, x[..., :2]), "one shape"),
        (lambda x: position_contrast(x[..., :1, :1], x[..., :1, :1]), "1 place"),
        (lambda x: AsymmetricScale(8)(nn.Identity(), torch.ones(1, 8, 16, 40)), "multiples of 16"),
        (lambda x: turned(x, 8), "0 to 7"),
        (lambda x: view_pair(nn.AvgPool2d(2, ceil_mode=True), x, scale=2), "pad or crop"),
        (lambda x: view_pair(nn.Identity(), x, scale=0), "scale 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.ones(1, 8, 10, 6))


def test_on_a_gpu_nothing_comes_back_to_the_host(fake_gpu):
    with fake_gpu:
        maps = torch.randn(2, 8, 16, 16, device="cuda", requires_grad=True)
        queue = torch.randn(5, 8, device="cuda")
        with torch.device("cuda"):
            gate, scale, encode = PixelContextGate(8), AsymmetricScale(8), nn.Conv2d(8, 8, 1)
        losses = [pixel_distillation(maps, maps, queue, targets=t) for t in ("hard", "soft")]
        losses += [gate(maps).sum(), position_contrast(maps, maps), *scale(lambda x: [encode(x)], maps).values()]
        losses += [equivariance(view_pair(encode, maps, 5, 2))]
        assert all(loss.device.type == "cuda" and loss.requires_grad and loss.ndim == 0 for loss in losses)
