"""Whole steps of both stages on a GPU: from the batch on the device to the optimiser's step nobody waits for it."""

from contextlib import contextmanager

import pytest
import torch

from mpc_lite.network.devices import choose_accelerator
from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.pretrain import Pretraining
from tests.cuda.conftest import apart, computing_in

pytestmark = pytest.mark.cuda

STAGES = {
    "stage 1": (Pretraining, {}),
    "stage 1, 100 pixels": (Pretraining, {"pretrain.max_pixels": 100}),
    "stage 1, paper": (Pretraining, {"pretrain.formulation": "paper"}),
    "stage 2, frozen": (Finetuning, {"finetune.encoder": "frozen"}),
    "stage 2, official": (Finetuning, {"finetune.encoder": "official"}),
    "stage 2, trained": (Finetuning, {"finetune.encoder": "trained"}),
    "stage 2, contrast": (Finetuning, {"finetune.encoder": "trained", "finetune.contrast": 0.1}),
}


@contextmanager
def nobody_waits(device: torch.device):
    """On a GPU an operation that makes the host wait for the device raises."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def batch(images: int = 4, side: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(images, side, side, dtype=torch.uint8)
    mask[:, : side // 2, side // 4 :] = 1
    return {
        "image": torch.randint(0, 256, (images, 3, side, side), generator=generator, dtype=torch.uint8),
        "mask": mask,
        "turn": torch.arange(images) % 8,
        "quality": torch.tensor([80, 0] * (images // 2)),
    }


def made(kind, overrides, device):
    torch.manual_seed(0)
    stage = kind(MPC.build("nano"), load_recipe("lite-gpu", "smoke", overrides))
    stage.model.to(device, memory_format=torch.channels_last)
    return stage


def moved(content: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    held = {k: v.pin_memory() for k, v in content.items()} if device.type == "cuda" else content
    return {k: v.to(device, non_blocking=True) for k, v in held.items()}


def test_a_look_at_a_value_would_be_noticed(gpu):
    value = torch.ones(3, device=gpu)
    with nobody_waits(gpu), pytest.raises(RuntimeError, match="synchroniz"):
        value.sum().item()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", STAGES)
def test_a_step_never_waits_for_the_device(device, name, precision):
    stage = made(*STAGES[name], device)
    accelerator = choose_accelerator(device.type, precision)
    trained = [p for p in stage.network.parameters() if p.requires_grad]
    network, optimizer = accelerator.prepare(stage.network, torch.optim.AdamW(trained, 1e-3, fused=True))
    stage.prepare_epoch()
    before, content, totals = [p.detach().clone() for p in trained], batch(), []
    counted = stage.count(content)

    def step():
        sums = network(moved(content, device))
        (sums["total"] / counted).backward()
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        totals.append(sums["total"].detach())

    step()  # libraries start, and a frozen encoder is folded
    with nobody_waits(device):
        step()
        step()
    assert torch.stack(totals).isfinite().all()
    assert any(not torch.equal(p, old) for p, old in zip(trained, before, strict=True))
    assert all(p.isfinite().all() for p in trained)


@pytest.mark.parametrize(("kind", "part"), [(Pretraining, "encoder"), (Finetuning, "decoder")])
def test_a_step_without_chance_is_that_of_the_cpu(device, kind, part):
    """Both in evaluation mode, where DropPath drops nothing, and with all pixels: equal sums, equal gradients."""
    found = []
    for place in (device, torch.device("cpu")):
        stage = made(kind, {"finetune.encoder": "frozen"}, place)
        stage.model.eval()
        with computing_in("fp32", place):
            total = stage.network(moved({**batch(), "quality": torch.zeros(4, dtype=torch.int64)}, place))["total"]
            total.backward()
        pulls = [p.grad.flatten() for p in getattr(stage.model, part).parameters() if p.grad is not None]
        found.append((total, torch.cat(pulls)))
    (total, pull), (expected, expected_pull) = found
    assert apart(total, expected) < 1e-4 and apart(pull, expected_pull) < 1e-3
