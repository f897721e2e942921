"""The backbone against the released network's tensors, a loop over tokens, and its own promises."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mpc_lite.network.hrformer import (
    SIZES,
    BiasedAttention,
    Block,
    DropPath,
    HRFormer,
    Module,
    Residual,
    WindowAttention,
)
from mpc_lite.network.model import MPC

GOLDEN = Path(__file__).parents[1] / "golden"


def fill(model: torch.nn.Module) -> None:
    """The weights under which the golden numbers were computed: from the CRC of each tensor's name."""
    for name, tensor in model.state_dict().items():
        if name.endswith(("num_batches_tracked", "relative_position_index")):
            continue
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape))
        values = values.astype(np.float32)
        if name.endswith("running_var"):
            values = 1 + 0.1 * np.abs(values)
        elif values.ndim >= 2:
            values = values / math.sqrt(math.prod(values.shape[1:]))
        elif name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))


@pytest.fixture(scope="module")
def nano() -> HRFormer:
    torch.manual_seed(0)
    return HRFormer(SIZES["nano"]).eval()


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_base_has_the_official_names_and_shapes(base):
    official = json.loads((GOLDEN / "hrformer_base_state_dict.json").read_text())
    ours = {name: list(tensor.shape) for name, tensor in base.state_dict().items()}
    assert ours == official
    assert len(base.encoder.state_dict()) == 2236


@pytest.mark.slow
@pytest.mark.parametrize(("prefix", "seed", "shape"), [("", 0, (1, 3, 96, 96)), ("odd_", 1, (1, 3, 100, 76))])
def test_base_computes_what_the_released_network_computes(base, prefix, seed, shape):
    golden = np.load(GOLDEN / "hrformer_base.npz")
    images = torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))
    with torch.no_grad():
        found = {f"feature{i}": x[0, ::8] for i, x in enumerate(base.encode(images), start=1)}
        found["logits"] = base(images)
    for name, value in found.items():
        expected = torch.from_numpy(golden[prefix + name])
        assert value.shape == expected.shape, name
        assert (value - expected).norm() / expected.norm() < 1e-5, name


def test_parameter_counts(base):
    assert parameters(base) == 45_035_227
    assert parameters(base.encoder) == 44_342_234
    assert parameters(base.decoder) == 692_993
    with torch.device("meta"):
        assert parameters(MPC.build("base", head="5conv")) == 45_043_547
        assert parameters(MPC.build("nano")) <= 1_000_000
        assert parameters(MPC.build("nano", head="5conv")) <= 1_000_000


@pytest.mark.parametrize(("size", "expected"), [("base", 41_832_963), ("small", 8_154_017)])
def test_the_papers_parameter_counts_leave_out_two_kinds_of_tensors(size, expected):
    """The paper's 41.8 M and 8.2 M, to the digit, are what its counting tool sees: all but these two kinds."""
    with torch.device("meta"):
        model = MPC.build(size)
    unseen = ("out_proj.weight", "out_proj.bias", "relative_position_bias_table")
    assert sum(p.numel() for name, p in model.named_parameters() if not name.endswith(unseen)) == expected


def test_drop_path_rates_rise_linearly_with_depth_and_are_shared_by_the_branches(base):
    rates = {}
    for stage in (2, 3, 4):
        for m, module in enumerate(getattr(base.encoder, f"stage{stage}")):
            for branch in module.branches:
                for b, block in enumerate(branch):
                    rates.setdefault((stage, m, b), set()).add(round(block.drop_path.rate, 9))
    assert [sorted(r) for r in rates.values()] == [[round(0.2 * k / 13, 9)] for k in range(14)]


def test_windows_are_attended_to_as_in_a_loop_over_tokens():
    """Explicit padding, windows, softmax and bias for each token, in float64; the map is no multiple of 7."""
    torch.manual_seed(1)
    B, H, W, C, heads = 2, 9, 5, 6, 2
    layer = WindowAttention(C, heads).double()
    attn = layer.attn
    torch.nn.init.normal_(attn.relative_position_bias_table)
    x = torch.randn(B, H, W, C, dtype=torch.float64)

    padded = torch.zeros(B, 14, 7, C, dtype=torch.float64)
    top, left = (14 - H) // 2, (7 - W) // 2
    padded[:, top : top + H, left : left + W] = x
    expected = torch.zeros_like(padded)
    size = C // heads
    for b in range(B):
        for y0 in (0, 7):
            tokens = [(y0 + i, j) for i in range(7) for j in range(7)]
            q, k, v = (
                torch.stack([project(padded[b, y, x]) for y, x in tokens])
                for project in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
            for n, (yn, xn) in enumerate(tokens):
                mixed = []
                for h in range(heads):
                    part = slice(h * size, (h + 1) * size)
                    bias = attn.relative_position_bias_table[
                        [(yn - ym + 6) * 13 + (xn - xm + 6) for ym, xm in tokens], h
                    ]
                    scores = k[:, part] @ q[n, part] / math.sqrt(size) + bias
                    weights = scores.exp() / scores.exp().sum()
                    mixed.append(weights @ v[:, part])
                expected[b, yn, xn] = attn.out_proj(torch.cat(mixed))
    expected = expected[:, top : top + H, left : left + W]

    found = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(found)
    ours = torch.autograd.grad((found * direction).sum(), list(layer.parameters()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(layer.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_a_block_sees_beyond_its_window_only_through_the_depthwise_convolution():
    torch.manual_seed(0)
    block = Block(8, 2, 2, 0.0).eval()
    x = torch.randn(1, 8, 14, 14)
    other = x.clone()
    other[:, 0, 13, 13] += 1  # in one channel: a shift of all of them is what LayerNorm takes away
    with torch.no_grad():
        changed = (block(x) - block(other)).abs().sum(1)[0] > 0
    assert changed[7:, 7:].all()  # its own window
    assert changed[6, 6:].any() and changed[6:, 6].any()  # one token across the border
    assert not changed[:6].any() and not changed[:, :6].any()


def test_fusion_sums_every_branch_at_every_scale():
    """With one branch non-zero at a time, all outputs answer: no path of the exchange is missing."""
    torch.manual_seed(0)
    module = Module(SIZES["nano"], 4, [0.0]).eval()
    shapes = [(25, 19), (13, 10), (7, 5), (4, 3)]
    zeros = [torch.zeros(1, c, *s) for c, s in zip(SIZES["nano"].channels, shapes, strict=True)]
    with torch.no_grad():
        still = module(zeros)
        for source in range(4):
            maps = list(zeros)
            maps[source] = torch.randn_like(zeros[source])
            moved = module(maps)
            assert [tuple(m.shape[2:]) for m in moved] == shapes
            assert all((a - b).abs().max() > 0 for a, b in zip(still, moved, strict=True)), source


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    drop = DropPath(0.3).train()
    out = drop(torch.ones(20_000, 2, 3))
    values = out.flatten(1)
    assert torch.equal(values.min(1).values, values.max(1).values)  # one decision per sample
    kept = values[:, 0]
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert abs(kept.mean().item() - 1) < 0.02  # standard error 0.0046
    assert abs((kept == 0).float().mean().item() - 0.3) < 0.015
    assert drop.eval()(torch.ones(4, 2)).eq(1).all()


def test_the_two_residuals_of_a_block_are_dropped_independently():
    """Attention adds 1 and the MLP adds 2, so that the sum tells which of them a sample kept."""
    torch.manual_seed(0)
    block = Block(2, 1, 2, 0.5).train()
    block.attn.forward = torch.ones_like
    block.mlp.forward = lambda x: torch.full_like(x, 2.0)
    sums = block(torch.zeros(4000, 2, 1, 1))[:, 0, 0, 0] / 2  # kept ones are divided by 1/2
    seen, counts = sums.unique(return_counts=True)
    assert seen.tolist() == [0, 1, 2, 3]
    assert (counts / 4000 - 0.25).abs().max() < 0.04


def test_two_training_passes_differ_and_without_drop_path_they_are_identical():
    torch.manual_seed(0)
    model = HRFormer(SIZES["nano"]).train()
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        assert all((a != b).any() for a, b in zip(model(images), model(images), strict=True))
        for module in model.modules():
            if isinstance(module, DropPath):
                module.rate = 0.0
        assert all(torch.equal(a, b) for a, b in zip(model(images), model(images), strict=True))


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = HRFormer(SIZES["nano"]).train()
    sum((m * torch.randn_like(m)).sum() for m in model(torch.rand(8, 3, 64, 64))).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle
    # A bias before batch norm (fc1, dw3x3, fc2) and the bias of the keys cancel out; all the others must move.
    cancels = ("fc1.bias", "dw3x3.bias", "fc2.bias", "k_proj.bias")
    still = [name for name, p in model.named_parameters() if not name.endswith(cancels) and p.grad.abs().max() == 0]
    assert not still


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 140), width=st.integers(1, 140), batch=st.integers(1, 2))
def test_sizes_follow_the_ceil_rule(nano, height, width, batch):
    with torch.no_grad():
        maps = nano(torch.rand(batch, 3, height, width))
    D = SIZES["nano"].embedding
    assert [tuple(m.shape) for m in maps] == [
        (batch, D, math.ceil(height / s), math.ceil(width / s)) for s in (4, 8, 16, 32)
    ]
    assert all(m.isfinite().all() for m in maps)


def test_memory_format_of_the_input_does_not_matter_and_maps_are_channels_last(nano):
    images = torch.rand(2, 3, 70, 45)
    with torch.no_grad():
        plain, last = nano(images), nano(images.to(memory_format=torch.channels_last))
    for a, b in zip(plain, last, strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous(memory_format=torch.channels_last)


def test_the_residual_is_blind_to_smooth_content_and_truncates_edges():
    """A constant and a ramp leave nothing, noise of one grey level shows, an edge stops at 1; base sees only RGB."""
    torch.manual_seed(0)
    ramp = torch.arange(16.0).expand(16, 16) * 0.02
    smooth = (0.3 + ramp + ramp.T).expand(1, 3, 16, 16)
    noisy = smooth + torch.randn(1, 3, 16, 16) / 255
    image, residual = Residual()(smooth).split(3, dim=1)
    assert torch.equal(image, smooth)
    assert residual[..., 1:-1, 1:-1].abs().max() < 1e-5
    assert 0.05 < Residual()(noisy)[:, 3:].std() < 0.5
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4, 4] = 1
    assert Residual()(edge)[:, 3:].abs().max() == 1
    assert HRFormer(SIZES["nano"]).conv1.in_channels == 6 and HRFormer(SIZES["base"]).conv1.in_channels == 3


def test_bf16_stays_near_fp32(nano):
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        exact = nano(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = nano(images)
    for a, b in zip(exact, rough, strict=True):
        assert (a - b.float()).norm() / a.norm() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_no_tensor_leaves_a_cuda_device(training):
    """Fake tensors have a device but no data: a CPU tensor in between, or a look at a value, raises."""
    with FakeTensorMode(), torch.device("cuda"):
        model = MPC.build("nano").train(training)
        images = torch.empty(2, 3, 100, 76)
        maps, logits = model.encode(images), model(images)
    assert [tuple(m.shape[2:]) for m in maps] == [(25, 19), (13, 10), (7, 5), (4, 3)]
    assert {m.device.type for m in [*maps, logits]} == {"cuda"}


def test_the_attention_bias_index_is_the_official_one():
    """Row for the pair (query, key): (dy + 6)·13 + dx + 6, with dy, dx from key to query."""
    index = BiasedAttention(2, 1).relative_position_index
    for n in range(49):
        for m in range(49):
            assert index[n, m] == (n // 7 - m // 7 + 6) * 13 + (n % 7 - m % 7 + 6)


@torch.no_grad()
def test_one_copy_between_the_map_and_attention():
    """Cutting windows rearranges the map once; heads are read with strides, and nothing else is copied on the way."""

    class Names(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            self.seen.append(function._overloadpacket.__name__)
            return function(*arguments, **keywords or {})

    layer, x = WindowAttention(16, 2), torch.rand(1, 14, 21, 16)
    with Names() as names:
        layer(x)
    attention = next((i for i, name in enumerate(names.seen) if "scaled_dot_product" in name), None)
    if attention is None and torch.__version__.startswith("2.6."):
        pytest.skip(f"torch {torch.__version__} takes attention apart, with copies of its own, when it is watched")
    copies = {"clone", "copy_", "contiguous", "constant_pad_nd", "_to_copy", "cat", "index_select"}
    assert [name for name in names.seen[:attention] if name in copies] == ["clone"]
    assert [name for name in names.seen[attention:] if name in copies] == ["clone"]  # the windows, put back in place
