"""Arithmetic and memory of a training step, counted without a GPU: tensors of a shape and no values run through it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from mpc_lite.contrast.infonce import CHUNK_ELEMENTS
from mpc_lite.network.hrformer import SIZES, STRIDES, Module
from mpc_lite.network.model import MPC
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.loop import Stage


def set_up(kind: type[Stage], recipe: Recipe) -> tuple[MPC, Stage]:
    """A stage and its network in training, with new weights on the default device, as `training.train` makes them."""
    model = MPC.build(recipe.model.size, recipe.model.head)
    stage = kind(model, recipe)
    model.encoder.checkpoint_activations = stage.settings.checkpoint_activations
    stage.prepare_epoch()
    return model, stage


def micro_batch(batch: int, size: int) -> dict[str, Tensor]:
    square = (batch, size, size)
    return {
        "image": torch.zeros(batch, 3, size, size, dtype=torch.uint8),
        "mask": torch.zeros(square, dtype=torch.uint8),
        "turn": torch.zeros(batch, dtype=torch.int64),
    }


# ----------------------------------------------------------------------------------------------------------- arithmetic


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter of FLOPs, with the backward pass of grouped convolutions put right; `baddbmm_` and the
    CPU's attention are added.

    It counts 2·m·k·n for a product of (m,k) and (k,n) matrices, attention's two products among them (so tokens that pad
    a map to whole windows count), and 2·B·h·w·(elements of the weight) for a convolution with output (B,C,h,w). Norms,
    activations, softmax and resizing count nothing.
    """
    return FlopCounterMode(display=False, custom_mapping=FORMULAS)


def _product(total, left, right, out_shape=None, **_) -> int:
    """total (b,m,n) += left (b,m,k) @ right (b,k,n): 2·b·m·k·n."""
    return 2 * math.prod(left) * right[-1]


def _convolution_backward(gradient, images, weight, *arguments, out_shape=None, **_) -> int:
    """2·B·h·w·(elements of the weight), as forward, for each of the two gradients that is asked for.

    PyTorch's own formula lets every filter of a grouped convolution see all channels when it counts the gradient of the
    weight: for the depthwise ones of a wide branch that is thousands of times too much.
    """
    wanted = arguments[-1][:2]  # of inputs, of weights; the bias needs no products
    return 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weight) * sum(wanted)


def _attention(query, key, value, *_, out_shape=None, **__) -> int:
    """q (b,h,s,d) with k, v (b,h,t,d): q·kᵀ and its product with v, 2·b·h·s·t·d each."""
    return 4 * math.prod(query) * key[2]


def _attention_backward(gradient, query, key, *_, out_shape=None, **__) -> int:
    """Five such products: q·kᵀ once more, and the gradients of the weights, of q, of k and of v."""
    return 10 * math.prod(query) * key[2]


_aten = torch.ops.aten
FORMULAS = {
    _aten.convolution_backward: _convolution_backward,
    _aten.baddbmm_: _product,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def loss_pairs(recipe: Recipe) -> list[tuple[int, int]]:
    """(n, m) of each sum over similarities in stage 1's loss: n anchors, m candidates, for one image.

    On a GPU every class has K = min(max_pixels, pixels of the pool) slots, whatever the mask says; that is what is
    counted here. A CPU computes the filled ones only. official: X1 | X1; X1 | X2∪X3∪X4 and back; X1 | Y1 and back.
    paper: for each term two classes of anchors, each with a sum over positives and one over negatives.
    """
    settings, sides = recipe.pretrain, [-(-recipe.data.size // stride) for stride in STRIDES]
    fine, coarse = (min(settings.max_pixels or n, n) for n in (sides[0] ** 2, sum(s * s for s in sides[1:])))
    pairs = []
    for term in settings.terms:
        other = coarse if term == "cross_scale" else fine
        if settings.formulation == "paper":
            pairs += 4 * [(fine, other)]
        else:
            pairs += [(fine, other)] if term == "within_image" else [(fine, other), (other, fine)]
    return pairs


def loss_flops(recipe: Recipe) -> int:
    """Stage 1's loss for one image, forward and backward, summed over `loss_pairs`.

    official, fused: 6·n·m·D, the similarities and from each chunk the gradients of both sides; and 8·n·D for the mean
    similarity to the other anchors. paper, chunked: 8·n·m·D, because the similarities are formed once more.
    """
    width, official = SIZES[recipe.model.size].embedding, recipe.pretrain.formulation == "official"
    return sum((6 * n * m + 8 * n if official else 8 * n * m) * width for n, m in loss_pairs(recipe))


# --------------------------------------------------------------------------------------------------------------- memory


def activations(kind: type[Stage], recipe: Recipe) -> tuple[int, int]:
    """Bytes that autograd keeps for the backward pass of a micro-batch, and the number of the encoder's passes.

    The stage's own network runs forward on a GPU that is only pretended: tensors with shape, dtype and device and no
    values. Under bf16 the copies of weights that autocast makes are among what is kept. Attention is taken by its
    formula, which keeps the 49×49 weights of every head and window; a fused kernel, where one fits, keeps less.
    With checkpointed activations: what is kept, and the largest of the encoder's rounds while it is formed again.
    """
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        stack.enter_context(torch.device("cuda"))
        model, stage = set_up(kind, recipe)
        if stage.settings.precision == "bf16":
            stack.enter_context(bf16("cuda"))
        batch, passes, rounds = micro_batch(stage.settings.batch, recipe.data.size), [], [0]
        # The finest projection ends a pass; of two passes the encoder may compute the beginning once.
        hook = model.encoder.convs[0].register_forward_hook(lambda *_: passes.append(1))
        with kept_for_backward(model) as storages:
            stage.network(batch)
        hook.remove()
        if model.encoder.checkpoint_activations:
            model.encoder.checkpoint_activations = False
            with kept_for_backward(model) as whole:
                for module in filter(lambda m: isinstance(m, Module), model.encoder.modules()):
                    module.register_forward_pre_hook(lambda *_: rounds.append(-_total(whole)))
                    module.register_forward_hook(lambda *_: rounds.append(rounds.pop() + _total(whole)))
                stage.network(batch)
        return _total(storages) + max(rounds), len(passes)


def _total(storages: dict[int, torch.UntypedStorage]) -> int:
    return sum(storage.nbytes() for storage in storages.values())


@contextmanager
def kept_for_backward(model: nn.Module) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Collects the storages that autograd saves inside the block, each once; those of the model itself are left out."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views share it, and keep all of it alive
        if storage._cdata not in own:
            storages[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield storages


@contextmanager
def bf16(device: str) -> Iterator[None]:
    """`torch.autocast(device, bfloat16)`, which for CUDA switches itself off on a machine that has none."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


def loss_memory(recipe: Recipe) -> int:
    """Bytes at work in stage 1's loss beyond what is kept: similarities are held for a chunk of anchors at a time.

    For the costliest pair: E = B·m·min(n, max(1, CHUNK_ELEMENTS // (B·m))) similarities of a chunk, 4·E bytes in fp32,
    6·E in bf16 (fp32 sums, bf16 weights); and the gradients of anchors and candidates, 4·B·(n + m)·D.
    """
    batch, width = recipe.pretrain.batch, SIZES[recipe.model.size].embedding
    each = 6 if recipe.pretrain.precision == "bf16" else 4

    def working(n: int, m: int) -> int:
        rows = min(n, max(1, CHUNK_ELEMENTS // (batch * m)))
        return each * batch * m * rows + 4 * batch * (n + m) * width

    return max(working(n, m) for n, m in loss_pairs(recipe))


# ----------------------------------------------------------------------------------------------------------------- disk


def state_bytes(model: nn.Module) -> int:
    """Bytes of the parameters (fp32) and buffers (fp32 statistics, int64 counters and position indices)."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def weights_bytes(model: nn.Module) -> int:
    """Size of a file of weights: the tensors, and 115 bytes each for name, type and shape (measured)."""
    return state_bytes(model) + 115 * len(model.state_dict())


def checkpoint_bytes(model: nn.Module, learning: list[nn.Parameter]) -> int:
    """Size of a file to resume from: the tensors of the model; for each parameter that learns AdamW's two moments, 8
    bytes a number, and a counter of 4 bytes; and 300 bytes for every tensor's place in the container (measured)."""
    numbers, tensors = sum(p.numel() for p in learning), len(model.state_dict()) + 3 * len(learning)
    return state_bytes(model) + 8 * numbers + 4 * len(learning) + 300 * tensors
