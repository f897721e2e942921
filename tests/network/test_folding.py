"""The network without batch norm: the same answers, never those of old weights."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.folding import folded
from mpc_lite.network.hrformer import MLP, BiasedAttention
from mpc_lite.network.model import MPC
from tests.network.test_hrformer import fill


def network(size: str) -> MPC:
    model = MPC.build(size).eval()
    fill(model)  # running statistics and affine parameters of norms far from 0 and 1
    return model


@pytest.fixture
def nano() -> MPC:
    return network("nano")


def images(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("size", ["nano", "small", "base"])
def test_the_answers_are_those_of_the_network(size):
    model, x = network(size), images()
    fast = folded(model)
    for a, b in zip([*fast.encode(x), fast(x)], [*model.encode(x), model(x)], strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()
    encoder = folded(model.encoder)
    assert all(torch.equal(a, b) for a, b in zip(encoder(x), fast.encode(x), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["nano", "base"])
def test_only_the_norm_before_the_head_is_left_and_hidden_channels_fill_registers(size):
    model = network(size)
    before = copy.deepcopy(model.state_dict())
    fast = folded(model)
    assert [name for name, m in fast.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["decoder.classifier.0"]
    hidden = {m.fc1.out_channels for m in fast.modules() if hasattr(m, "fc1")}
    assert not any(isinstance(m, MLP | BiasedAttention) for m in fast.modules())
    assert all(width % 16 == 0 for width in hidden) and (320 in hidden) == (size == "base")
    assert not any(p.requires_grad for p in fast.parameters()) and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def train_a_step(model: MPC) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model.train()(images()).square().mean().backward()
    optimizer.step()
    model.eval()


CHANGES = {
    "a training step": train_a_step,
    "other weights": lambda model: model.load_state_dict(MPC.build("nano").state_dict()),
    "statistics alone": lambda model: (model.train(), torch.no_grad()(model)(images()), model.eval()),
    "another type": lambda model: model.double(),
    "a parameter replaced": lambda model: setattr(model.decoder.classifier[-1], "bias", nn.Parameter(torch.ones(1))),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_kept_until_the_network_changes(nano, change):
    fast = folded(nano)
    assert folded(nano) is fast
    CHANGES[change](nano)
    again = folded(nano)
    assert again is not fast and folded(nano) is again
    x = images().to(next(nano.parameters()).dtype)
    with torch.no_grad():
        assert (again(x) - nano(x)).norm() < 1e-5 * nano(x).norm()


def test_first_asked_for_under_inference_mode_it_serves_outside_too(nano):
    with torch.inference_mode():
        fast = folded(nano)
    assert not any(p.is_inference() for p in fast.parameters())
    head = nn.Conv2d(64, 1, 1)
    head(fast.encode(images())[0]).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.slow
def test_what_cannot_be_folded_comes_back_as_it_is(nano):
    other = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    assert folded(other) is other  # nobody says that the order of its list is the order of its calls
    assert folded(nano.train()) is nano
    nano.eval().decoder.train()
    assert folded(nano) is nano and folded(nano.encoder) is not nano.encoder
    for context in (FakeTensorMode(), torch.device("meta")):
        with context:
            hollow = MPC.build("nano").eval()
            assert folded(hollow) is hollow


@pytest.mark.slow
def test_a_localizer_follows_its_network(nano):
    localizer = Localizer(nano, mode="stretch", size=64)
    photo = (images()[0].permute(1, 2, 0) * 255).byte().numpy()
    before = localizer(photo).score_map
    train_a_step(nano)
    after = localizer(photo).score_map
    assert abs(after - before).max() > 1e-4
    assert abs(after - Localizer(copy.deepcopy(nano), mode="stretch", size=64)(photo).score_map).max() < 1e-6


# ----------------------------------------------------------------------------------------- a plain call of the network


@pytest.fixture
def folds(monkeypatch):
    """How often a network asked for its folded copy."""
    from mpc_lite.network import model as module

    asked = []
    monkeypatch.setattr(module, "folded", lambda network, **how: asked.append(network) or folded(network, **how))
    return asked


def test_a_plain_call_goes_through_the_copy_where_nothing_is_learnt(nano, folds):
    x = images()
    learning = nano(x)  # with gradients
    assert not folds and learning.requires_grad
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.equal(nano(x), folded(nano)(x))
            assert torch.equal(nano.encode(x)[0], folded(nano).encode(x)[0])
            assert (nano(x) - learning).norm() < 1e-5 * learning.norm()
    assert folds
    folds.clear()
    with torch.no_grad():
        nano.train()(x)
        nano.eval().freeze_encoder().train()(x)
    assert not folds


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_a_plain_call_never_answers_with_old_weights(nano, change):
    nano(images())
    with torch.enable_grad():
        CHANGES[change](nano)
    x = images().to(next(nano.parameters()).dtype)
    with torch.enable_grad():
        expected = nano(x)
    assert (nano(x) - expected).norm() < 1e-5 * expected.norm()
    nano.decoder.classifier[-1].bias.data.add_(1)  # leaves no mark
    assert (nano(x) - expected - 1).norm() < 1e-5 * expected.norm()


@torch.no_grad()
def test_a_plain_call_sees_values_that_change_places(nano):
    before, weight = nano(images()), nano.decoder.classifier[-1].weight.data
    weight[:] = weight.flip(1).clone()  # the same sum, and no mark
    with torch.enable_grad():
        expected = nano(images())
    assert not torch.allclose(before, expected, atol=1e-4)
    assert torch.allclose(nano(images()), expected, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_the_copy_leaves_no_trace_in_what_is_saved_or_copied(nano):
    before = pickle.dumps(nano.state_dict())
    nano(images())
    assert pickle.dumps(nano.state_dict()) == before
    for other in (copy.deepcopy(nano), pickle.loads(pickle.dumps(nano))):
        assert [*other.state_dict()] == [*nano.state_dict()] and torch.equal(other(images()), nano(images()))


@torch.no_grad()
def test_who_watches_the_network_sees_its_own_layers(nano):
    seen = []
    handle = nano.encoder.stage2[0].branches[0][0].mlp.norm1.register_forward_hook(lambda *x: seen.append(x))
    nano(images())
    assert len(seen) == 1
    with FlopCounterMode(display=False) as expected:
        nano(images())
    handle.remove()
    with FlopCounterMode(display=False) as counter:
        nano(images())
    assert counter.get_total_flops() == expected.get_total_flops() > 0


@pytest.mark.slow
@torch.no_grad()
def test_functional_calls_and_exports_compute_with_the_tensors_they_are_given(nano):
    x = images()
    nano(x)
    zeros = {name: torch.zeros_like(p) for name, p in nano.named_parameters()}
    assert torch.equal(torch.func.functional_call(nano, zeros, x), torch.zeros(2, 1, 16, 16))
    stacked = {name: torch.stack([p, p]) for name, p in nano.named_parameters()}
    both = torch.vmap(lambda p: torch.func.functional_call(nano, p, x))(stacked)
    assert (both[1] - nano(x)).norm() < 1e-5 * nano(x).norm()
    traced = torch.jit.trace(nano, x, check_trace=False)
    assert any("batch_norm" in str(node) for node in traced.inlined_graph.nodes())


@torch.no_grad()
@pytest.mark.slow  # dynamo follows every module
def test_compiled_and_exported_networks_hold_the_layers_that_they_were_made_of(nano):
    x, seen = images(), []
    expected = nano(x)

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    compiled = torch.compile(nano, backend=backend, fullgraph=True)
    assert (compiled(x) - expected).norm() < 1e-5 * expected.norm()
    assert "batch_norm" in seen[0].code and "mkldnn" not in seen[0].code
    nano.decoder.classifier[-1].bias.data.add_(1)  # leaves no mark; what was compiled reads it
    assert (compiled(x) - expected - 1).norm() < 1e-5 * expected.norm()

    program = torch.export.export(nano, (x,))
    assert any("batch_norm" in str(node.target) for node in program.graph.nodes)
    assert (program.module()(x) - expected - 1).norm() < 1e-5 * expected.norm()


@pytest.mark.slow
@torch.no_grad()
def test_distributed_data_parallel_answers_with_the_copy_of_what_it_holds(nano, folds, tmp_path):
    expected = nano(images())
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(nano)
        folds.clear()
        assert torch.equal(parallel(images()), expected)
        nano.decoder.classifier[-1].bias.add_(1)
        assert (parallel(images()) - expected - 1).norm() < 1e-5 * expected.norm()
        assert folds and not any(isinstance(x, nn.parallel.DistributedDataParallel) for x in folds)
    finally:
        torch.distributed.destroy_process_group()


def test_gradients_with_respect_to_the_images_pass_the_copy(nano):
    x = images().requires_grad_()
    ours, plain = (torch.autograd.grad(net(x).sum(), x)[0] for net in (folded(nano), nano))
    assert (ours - plain).norm() < 1e-4 * plain.norm() > 0
