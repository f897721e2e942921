"""Activations computed twice: the same loss, gradients and running statistics, in less memory."""

import pytest
import torch

from mpc_lite.network.model import MPC
from mpc_lite.network.recompute import recomputed
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.pretrain import Pretraining


def step(again, precision=None):
    """Loss, gradients and buffers of one micro-batch of stage 1, and the bytes kept for its backward pass."""
    torch.manual_seed(0)
    recipe = load_recipe("quickstart", "smoke")
    stage = Pretraining(MPC.build("nano"), recipe)
    stage.model.encoder.checkpoint_activations = again
    stage.prepare_epoch()
    batch = {"image": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8), "turn": torch.tensor([0, 5])}
    batch["mask"] = torch.zeros(2, 64, 64, dtype=torch.uint8)
    batch["mask"][:, 20:40, 10:50] = 1
    kept, inputs = {}, {}

    def note(tensor, where):
        where[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    encoder = stage.model.encoder
    for module in (*encoder.stage2, *encoder.stage3, *encoder.stage4):  # what recomputation starts from is kept too
        module.register_forward_pre_hook(lambda _, given: [note(x, inputs) for x in given[0]] and None)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: note(tensor, kept), lambda tensor: tensor),
    ):
        loss = stage.network(batch)["total"]
    bytes_kept = sum({**kept, **inputs}.values())
    loss.backward()
    gradients = {name: p.grad for name, p in stage.network.named_parameters()}
    return loss, gradients, dict(stage.model.named_buffers()), bytes_kept


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputation_changes_the_memory_and_nothing_else(precision):
    loss, gradients, buffers, kept = step(False, precision)
    again, gradients_again, buffers_again, kept_again = step(True, precision)
    assert torch.equal(loss, again)
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)
    assert all(torch.equal(buffers[name], buffers_again[name]) for name in buffers)
    assert buffers["encoder.stage4.0.branches.0.0.mlp.norm1.num_batches_tracked"] == 2  # two passes
    assert kept_again < 0.5 * kept


def test_statistics_stay_in_their_place_when_the_second_computation_fails():
    class Once(torch.nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, maps):
            self.calls += 1
            made = [self.norm(x) for x in maps]
            if self.calls == 2:
                raise RuntimeError("out of memory")
            return [x**2 for x in made]

    module, x = Once().train(), torch.randn(2, 3, 4, 4, requires_grad=True)
    owned = module.norm.running_mean
    [out] = recomputed(module, [x])
    once = owned.clone()
    with pytest.raises(RuntimeError, match="out of memory"):
        out.sum().backward()
    assert module.norm.running_mean is owned and torch.equal(owned, once) and module.norm.num_batches_tracked == 1
