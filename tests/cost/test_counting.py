"""Counts against arithmetic by hand, against real tensors on the CPU and against files as they are written."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mpc_lite.contrast.loss import mean_positive_infonce, mpc_loss
from mpc_lite.cost import counting
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.checkpoint import store
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.loop import make_scheduler
from mpc_lite.training.pretrain import Pretraining


def quickstart(**overrides):
    plain = {"data.size": 64, "pretrain.batch": 2, "finetune.batch": 2}
    return load_recipe("quickstart", overrides=plain | {k.replace("__", "."): v for k, v in overrides.items()})


def flops(run) -> dict[str, int]:
    with counting.flop_counter() as counter:
        run()
    return {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}


# ----------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.slow
def test_layers_of_nano_by_hand():
    """At 64 pixels the finest branch has 16x16 tokens of 16 channels, padded to 3x3 windows of 49 tokens."""
    with torch.device("meta"), torch.no_grad():
        model = MPC.build("nano").eval()
        found = flops(lambda: model(torch.empty(1, 3, 64, 64)))
    block = "MPC.encoder.stage2.0.branches.0.0"
    tokens, C, hidden = 9 * 49, 16, 48
    assert found["MPC.encoder.conv1"] == 2 * (32 * 32) * 32 * (6 * 3 * 3)  # it sees RGB and its residual
    assert found[f"{block}.attn"] == 4 * 2 * tokens * C * C + 2 * 2 * tokens * 49 * C
    assert found[f"{block}.mlp"] == 2 * 256 * (C * hidden + 9 * hidden + hidden * C)
    D = 64
    assert found["MPC.decoder"] == 2 * 256 * (4 * D * 2 * D + 2 * D * D + D * D // 2 + D // 2)
    assert found["MPC.encoder"] + found["MPC.decoder"] == found["Global"]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "published"), [(224, 15.43e9), (512, 84.67e9), (1024, 330.5e9)])
def test_base_against_an_independent_count(size, published):
    """fvcore's count of the released network, in multiply-adds. It adds norms and resizing, which are not counted here:
    two for each number that passes a batch norm, five for a layer norm. What is left of the difference is 0.25 %."""
    norms = []
    with torch.device("meta"), torch.no_grad():
        model = MPC.build("base").eval()
        for module in model.modules():
            weight = {nn.BatchNorm2d: 2, nn.LayerNorm: 5}.get(type(module), 0)
            module.register_forward_hook(lambda _, __, out, w=weight: norms.append(w * out.numel() if w else 0))
        ours = flops(lambda: model(torch.empty(1, 3, size, size)))["Global"] / 2
    assert ours < published < 1.02 * ours
    assert abs(ours + sum(norms) - published) / published < 0.003


@pytest.mark.parametrize("groups", [1, 12])
def test_backward_of_a_convolution_costs_its_forward_pass_for_each_gradient(groups):
    layer, x = nn.Conv2d(12, 24, 3, padding=1, groups=groups), torch.rand(2, 12, 5, 7)
    forward = 2 * 2 * (5 * 7) * 24 * (12 // groups) * 9
    assert flops(lambda: layer(x).sum().backward())["Global"] == 2 * forward  # of the weight only
    x.requires_grad_()
    assert flops(lambda: layer(x).sum().backward())["Global"] == 3 * forward


def unit_maps(device: str = "cpu", requires_grad: bool = True) -> list[torch.Tensor]:
    return [torch.rand(1, 64, s, s, device=device, requires_grad=requires_grad) for s in (16, 8, 4, 2)]


def half(device: str = "cpu") -> torch.Tensor:
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8, device=device)
    mask[:, 32:] = 1
    return mask


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize(
    "terms", [["within_image"], ["cross_scale"], ["within_image", "cross_scale", "cross_modality"]]
)
def test_the_loss_formula_against_the_loss(formulation, terms):
    """Twenty pixels of each class in each pool, so that every slot is filled on the CPU too."""
    recipe = quickstart(pretrain__formulation=formulation, pretrain__max_pixels=20, pretrain__terms=terms)

    def run():
        losses = mpc_loss(unit_maps(), unit_maps(), half(), formulation, max_pixels=20, terms=terms)
        losses["total"].backward()

    assert flops(run)["Global"] == counting.loss_flops(recipe)


@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_on_a_gpu_every_slot_is_computed(formulation, fake_gpu):
    """100 slots of 256 pixels, and all 84 of the three coarser maps together; the forward pass is a quarter."""
    recipe = quickstart(pretrain__formulation=formulation, pretrain__max_pixels=100)
    with fake_gpu, torch.device("cuda"), torch.no_grad():
        maps = unit_maps("cuda", False)
        found = flops(lambda: mpc_loss(maps, maps, half("cuda"), formulation, max_pixels=100))["Global"]
    pairs = counting.loss_pairs(recipe)
    assert sorted(set(pairs)) == (
        [(84, 100), (100, 84), (100, 100)] if formulation == "official" else [(100, 84), (100, 100)]
    )
    mean = 4 * 64 * sum(n for n, _ in pairs) if formulation == "official" else 0
    assert found == 2 * 64 * sum(n * m for n, m in pairs) + mean
    assert counting.loss_pairs(quickstart(pretrain__max_pixels=None))[0] == (256, 256)


# --------------------------------------------------------------------------------------------------------------- memory


def test_what_is_kept_counts_once_and_without_the_model():
    """The input of the layer, and one output for both the ReLU and, as a view, the product; no weights."""
    layer, x = nn.Linear(3, 4), torch.rand(2, 3, requires_grad=True)
    with counting.kept_for_backward(layer) as kept:
        y = layer(x).relu()
        y.view(4, 2) * y.view(4, 2)
    assert sorted(storage.nbytes() for storage in kept.values()) == [2 * 3 * 4, 2 * 4 * 4]


def kept_by_encoder(device: str, bf16: bool) -> int:
    torch.manual_seed(0)
    with torch.device(device):
        model = MPC.build("nano").train()
        images = torch.zeros(2, 3, 64, 64)
    with torch.autocast(device, torch.bfloat16, enabled=bf16), counting.kept_for_backward(model) as kept:
        maps = model.encode(images)
    assert len(maps) == 4
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.slow
def test_tensors_without_values_keep_what_real_ones_keep(fake_gpu):
    with fake_gpu:
        pretended = [kept_by_encoder(device, False) for device in ("cpu", "cuda")]
        halved = kept_by_encoder("cpu", True)
    assert pretended == 2 * [kept_by_encoder("cpu", False)]
    assert halved == pytest.approx(kept_by_encoder("cpu", True), rel=0.01)  # the dtype of small statistics differs
    assert halved < 0.8 * pretended[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Pretraining, Finetuning])
def test_a_whole_step_keeps_what_it_keeps_on_the_cpu(kind, monkeypatch):
    """By the way that a GPU and a compiler take: on the CPU alone the loss has its gradient with its value."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    recipe = quickstart(pretrain__max_pixels=40)
    found, passes = counting.activations(kind, recipe)
    torch.manual_seed(0)
    model, stage = counting.set_up(kind, recipe)
    batch = counting.micro_batch(2, 64) | {"mask": half().expand(2, -1, -1).contiguous()}
    with counting.kept_for_backward(model) as kept:
        stage.network(batch)
    assert found == pytest.approx(sum(storage.nbytes() for storage in kept.values()), rel=0.005)
    assert passes == (2 if kind is Pretraining else 1)


def test_bf16_is_cast_as_autocast_does_and_leaves_no_trace():
    layer, x = nn.Linear(3, 4), torch.rand(2, 3)
    with counting.bf16("cpu"):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


@pytest.mark.slow
def test_memory_grows_with_the_batch_and_shrinks_with_bf16_and_checkpointing():
    def kept(**more):
        return counting.activations(Pretraining, quickstart(**more))[0]

    two, four = (kept(pretrain__batch=n) for n in (2, 4))
    assert 1.5 * two < four < 2 * two
    assert kept(pretrain__precision="bf16") < 0.85 * two
    again = kept(pretrain__checkpoint_activations=True)
    assert again < 0.7 * two
    # Among it is the largest round of the encoder: without that, what is kept at the same time would be smaller still.
    model, stage = counting.set_up(Pretraining, quickstart(pretrain__checkpoint_activations=True))
    with counting.kept_for_backward(model) as inputs:
        stage.network(counting.micro_batch(2, 64))
    assert sum(storage.nbytes() for storage in inputs.values()) < 0.8 * again


class Living(TorchDispatchMode):
    """Peak of the bytes that are alive at once among the tensors made inside, views of `inputs` left out."""

    def __init__(self, *inputs):
        super().__init__()
        self.now = self.peak = 0
        self.inputs = [x.untyped_storage() for x in inputs]
        self.known = weakref.WeakSet(self.inputs)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **keywords or {})
        for tensor in (x for x in torch.utils._pytree.tree_leaves(out) if isinstance(x, torch.Tensor)):
            storage = tensor.untyped_storage()
            if storage not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.free, storage.nbytes())
                self.peak = max(self.peak, self.now)
        return out

    def free(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_working_memory_of_the_loss(precision, monkeypatch):
    """Similarities dominate here: 1500 anchors and candidates of 64 channels, chunks of 300 anchors."""
    for module in ("mpc_lite.contrast.infonce", "mpc_lite.cost.counting"):
        monkeypatch.setattr(f"{module}.CHUNK_ELEMENTS", 300 * 1500)
    recipe = quickstart(data__size=256, pretrain__max_pixels=1500, pretrain__batch=1, pretrain__precision=precision)
    a, n = (torch.rand(1500, 64, requires_grad=True) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), Living(a, n) as living:
        value = mean_positive_infonce(a, n)
        value.backward()
    assert living.peak == pytest.approx(counting.loss_memory(recipe), rel=0.25)
    assert living.peak < 1500 * 1500 * 4  # the whole matrix, of which the dense twin holds several


# ----------------------------------------------------------------------------------------------------------------- disk


@pytest.mark.parametrize("kind", [Pretraining, Finetuning])
def test_files_have_the_size_that_was_announced(kind, tmp_path):
    recipe = quickstart()
    model, stage = counting.set_up(kind, recipe)
    learning = [p for p in stage.network.parameters() if p.requires_grad]
    for p in learning:
        p.grad = torch.zeros_like(p)
    optimizer = torch.optim.AdamW(learning)
    optimizer.step()
    learner = {"model": model, "optimizer": optimizer, "scheduler": make_scheduler(optimizer, stage)}
    store(tmp_path / "x.state", recipe, processes=1, step=1, best=0.5, **learner)
    save_weights(tmp_path / "x.safetensors", model, recipe.as_dict(), stage=kind.name, step=1)
    announced = counting.checkpoint_bytes(model, learning), counting.weights_bytes(model)
    for file, size, off in zip(("x.state", "x.safetensors"), announced, (0.03, 0.005), strict=True):
        assert (tmp_path / file).stat().st_size == pytest.approx(size, rel=off), file
