"""The ledger of operations: arithmetic by formula, bytes by hand, kinds by what an operation does."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpc_lite.contrast.infonce import mean_positive_infonce
from mpc_lite.cost import roofline
from mpc_lite.cost.counting import flop_counter
from mpc_lite.cost.roofline import KINDS, Ledger, Part, machine_peaks
from mpc_lite.network.model import MPC


def parts(run) -> dict[str, Part]:
    with Ledger() as ledger:
        run()
    return {kind: part for kind, part in ledger.parts.items() if part.calls}


def test_a_matrix_product_by_hand():
    a, b = torch.rand(5, 7), torch.rand(3, 7)
    found = parts(lambda: torch.mm(a, b.T))  # the transposed view costs nothing
    assert list(found) == [roofline.PRODUCTS]
    part = found[roofline.PRODUCTS]
    assert (part.calls, part.flops, part.bytes) == (1, 2 * 5 * 7 * 3, 4 * (5 * 7 + 3 * 7 + 5 * 3))
    assert part.intensity == part.flops / part.bytes and part.seconds > 0
    assert part.bound(peak=10.0, bandwidth=1e9) == 21.0 and part.bound(peak=1e9, bandwidth=10.0) == part.bytes / 10


def test_an_expanded_operand_is_read_once():
    column, matrix = torch.rand(4, 1), torch.rand(4, 1000)
    assert parts(lambda: matrix + column.expand(4, 1000))[roofline.POINTWISE].bytes == 4 * (4 + 4000 + 4000)


def convolution(channels: int, kernel: int, groups: int = 1):
    return lambda: nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups)(
        torch.rand(1, channels, 8, 8)
    )


@pytest.mark.parametrize(
    "kind, run",
    [
        (roofline.PRODUCTS, convolution(6, 1)),
        (roofline.PRODUCTS, lambda: torch.bmm(torch.rand(2, 3, 4), torch.rand(2, 4, 3))),
        (roofline.PRODUCTS, lambda: F.linear(torch.rand(5, 4), torch.rand(3, 4), torch.rand(3))),
        (roofline.DENSE, convolution(6, 3)),
        (roofline.DEPTHWISE, convolution(6, 3, groups=6)),
        (roofline.ATTENTION, lambda: F.scaled_dot_product_attention(*torch.rand(3, 1, 2, 49, 8))),
        (roofline.NORMS, lambda: nn.LayerNorm(8)(torch.rand(3, 8))),
        (roofline.NORMS, lambda: nn.BatchNorm2d(3)(torch.rand(2, 3, 4, 4))),
        (roofline.POINTWISE, lambda: F.gelu(torch.ones(5))),
        (roofline.MOVES, lambda: F.interpolate(torch.ones(1, 1, 4, 4), scale_factor=2)),
        (roofline.MOVES, lambda: torch.ones(3, 4).T.contiguous()),
    ],
)
def test_kinds(kind, run):
    with torch.no_grad():
        found = parts(run)
    assert kind in found and found[kind].bytes > 0
    assert (found[kind].flops > 0) == (
        kind in (roofline.PRODUCTS, roofline.DENSE, roofline.DEPTHWISE, roofline.ATTENTION)
    )
    assert set(found) <= {
        kind,
        roofline.POINTWISE,
        roofline.MOVES,
    }  # random numbers and zeros have to come from somewhere


def test_the_backward_pass_is_entered_too():
    x = torch.rand(5, 7, requires_grad=True)
    w = torch.rand(7, 3, requires_grad=True)
    assert parts(lambda: (x @ w).sum().backward())[roofline.PRODUCTS].flops == 3 * 2 * 5 * 7 * 3


@pytest.mark.slow
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_network_costs_what_the_counter_of_flops_says(context):
    model, x = MPC.build("nano").eval(), torch.rand(1, 3, 64, 64)
    with context(), flop_counter() as counter:
        model(x)
    with context():
        found = parts(lambda: model(x))
    assert sum(part.flops for part in found.values()) == counter.get_total_flops() > 0
    assert found[roofline.ATTENTION].flops > 0 and list(found) == list(KINDS)


@pytest.mark.parametrize("implementation, products", [("fused", 3), ("chunked", 4), ("dense", 6)])
def test_products_of_the_loss(implementation, products):
    """fused: similarities, two gradients; chunked: similarities twice; dense: two matrices, two gradients of each."""
    n, d = 40, 8
    a, b = (torch.rand(n, d, requires_grad=True) for _ in "ab")
    found = parts(lambda: mean_positive_infonce(a, b, implementation=implementation).backward())
    flops = found[roofline.PRODUCTS].flops
    assert products * 2 * n * n * d <= flops < (products + 0.5) * 2 * n * n * d  # the mean's own products are small


def test_seconds_are_those_of_the_operations():
    a = torch.rand(400, 400)
    start = time.perf_counter()
    with Ledger() as ledger:
        a @ a
        time.sleep(0.05)
    assert 0 < sum(part.seconds for part in ledger.parts.values()) < time.perf_counter() - start - 0.05


def test_peaks_of_this_machine():
    found = machine_peaks(side=64, megabytes=1, rounds=2)
    assert set(found) == {"flops_per_second", "bytes_per_second"} and all(value > 1e6 for value in found.values())
