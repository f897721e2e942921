"""The network as it is computed where nothing is learnt: the same numbers in fewer journeys through memory.

In evaluation mode batch norm multiplies a channel by one number and adds another. A convolution can do both for free:
with s = γ / sqrt(running_var + ε), its weights become s·W and its bias s·(b − running_mean) + β. On a CPU oneDNN also
applies an activation, or adds another map, while a convolution's output is still in the cache.
"""

from __future__ import annotations

import copy
import threading
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mpc_lite.network.hrformer import MLP, BiasedAttention, Block, Bottleneck, HRFormer, Module, Projection, resized_to
from mpc_lite.network.tree import modules_of, tensors_of

LANES = 16  # numbers of fp32 in a vector register; depthwise kernels are twice as fast when channels fill it
_copies: WeakKeyDictionary[nn.Module, tuple[list, Tensor, nn.Module]] = WeakKeyDictionary()
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
_one_at_a_time = threading.RLock()  # images may be scored side by side; one of them makes the copy


def folded(network: nn.Module, read: bool = False) -> nn.Module:
    """A network that computes what `network` computes in evaluation mode, faster; equal up to rounding.

    Batch norms that follow a convolution are gone; queries, keys and values come from one product; the hidden channels
    of the MLPs are filled up to a multiple of 16 with channels that stay zero; activations and sums overwrite what
    nobody else reads. The copy cannot be trained and holds the weights a second time. It is kept, and made anew when a
    tensor of `network` has been replaced, moved or changed in place. Writing through `.data` leaves no mark: with
    `read`, the weights are added up to see it, which takes as long as reading them once.

    network: MPC or HRFormer in evaluation mode. Anything else (another kind of module, one in training mode or with
    hooks, tensors without values) comes back as it is.
    """
    if not getattr(network, "foldable", isinstance(network, HRFormer)):
        return network
    tensors = tensors_of(modules := modules_of(network))
    if any(m.training or m._forward_hooks or m._forward_pre_hooks for m in modules):
        return network
    if any(t.is_meta or t.is_inference() or isinstance(t, FakeTensor) for t in tensors):
        return network
    try:
        state = [(t.data_ptr(), t._version, t.device) for t in tensors]
    except RuntimeError:  # tensors of `torch.func`, which stand for many
        return network
    with _one_at_a_time:
        kept = _copies.get(network)
        if kept is None or kept[0] != state or (read and not torch.equal(kept[1], _marks(tensors))):
            copied = _joined(without_norms(network))
            copied.foldable = False  # it is folded
            kept = _copies[network] = state, _marks(tensors), copied
        return kept[2]


def _marks(tensors: list[Tensor]) -> Tensor:
    """What changes whenever a value does: the bits as integers, added up along rows and across them, so exactly. Sums
    of the values would round small changes away, and one sum alone would not see two values that change places."""
    marks = []
    for bits in (x.detach().view(_INTEGERS[x.itemsize]) for x in tensors):
        along = [bits.sum(tuple(range(1, bits.ndim))), bits.sum(0)] if bits.ndim > 1 else [bits.long()]
        marks += [x.flatten() for x in along]
    return torch.cat(marks)


@torch.inference_mode(False)  # a copy outlives the block that first asks for it
@torch.no_grad()
def without_norms(network: nn.Module) -> nn.Module:
    """A copy of MPC or HRFormer, both in evaluation mode, with the layers that `folded` computes, module by module."""
    network = copy.deepcopy(network).requires_grad_(False)
    for parent in network.modules():
        # In all our modules a batch norm that is listed right after a convolution normalises its output.
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
                setattr(parent, name, nn.Identity())
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BiasedAttention):
                setattr(parent, name, _OneProduct(child))
            elif isinstance(child, MLP):
                setattr(parent, name, _FilledMLP(child))
    return network.to(memory_format=torch.channels_last)


class _OneProduct(nn.Module):
    """`BiasedAttention` with q, k and v side by side in one matrix, and the bias of each pair of tokens looked up."""

    def __init__(self, attention: BiasedAttention):
        super().__init__()
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.heads, self.out_proj = attention.heads, attention.out_proj
        self.register_buffer("weight", torch.cat([part.weight for part in parts]))
        self.register_buffer("offset", torch.cat([part.bias for part in parts]))
        self.register_buffer("bias", attention.bias()[None])

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (windows, 49, C) -> (windows, 49, C)."""
        q, k, v = F.linear(tokens, self.weight, self.offset).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias.to(q.dtype))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _FilledMLP(nn.Module):
    """`MLP` without its norms; its hidden channels are filled up with zeros, which GELU leaves alone, to no effect.

    GELU overwrites its input: fresh memory for a large map costs as much as the arithmetic.
    """

    def __init__(self, mlp: MLP):
        super().__init__()
        more = -mlp.fc1.out_channels % LANES
        outputs = (0, 0) * 3 + (0, more)
        self.fc1 = _convolution(F.pad(mlp.fc1.weight, outputs), F.pad(mlp.fc1.bias, (0, more)))
        self.dw3x3 = _convolution(F.pad(mlp.dw3x3.weight, outputs), F.pad(mlp.dw3x3.bias, (0, more)), depthwise=True)
        self.fc2 = _convolution(F.pad(mlp.fc2.weight, (0, 0, 0, 0, 0, more)), mlp.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.fc1.in_channels % LANES:  # there a product of matrices is faster than a convolution
            x = F.linear(x.permute(0, 2, 3, 1), self.fc1.weight.flatten(1), self.fc1.bias)
            x = _activated(x, "gelu").permute(0, 3, 1, 2)
        else:
            x = _convolve(self.fc1, x, "gelu")
        return _convolve(self.fc2, _convolve(self.dw3x3, x, "gelu"), "gelu")


def _convolution(weight: Tensor, bias: Tensor, depthwise: bool = False) -> nn.Conv2d:
    outputs, inputs, kernel, _ = weight.shape
    groups = outputs if depthwise else 1
    convolution = nn.Conv2d(inputs * groups, outputs, kernel, padding=kernel // 2, groups=groups, device="meta")
    convolution.weight, convolution.bias = (nn.Parameter(x, requires_grad=False) for x in (weight, bias))
    return convolution.eval()


# --------------------------------------------------------------------------------------------- passes that become one


def _joined(module: nn.Module) -> nn.Module:
    """The module, with all that it holds, made of the classes below where there is one for it."""
    for name, child in list(module.named_children()):
        setattr(module, name, _joined(child))
    ways = {Block: _Block, Bottleneck: _Bottleneck, Module: _Module, Projection: _Projection, HRFormer: _Encoder}
    ways |= {nn.Sequential: _Chain}
    return ways[type(module)](module).eval() if type(module) in ways else module


def _convolve(layer: nn.Conv2d, x: Tensor, activation: str = "none", onto: Tensor | None = None) -> Tensor:
    """The layer's output, plus `onto`, which it overwrites, then the activation: none, relu or gelu."""
    if _one_pass(x):
        how = (layer.weight, layer.bias, layer.padding, layer.stride, layer.dilation, layer.groups)
        if onto is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *how, activation, [], "none")
        after = None if activation == "none" else activation
        return torch.ops.mkldnn._convolution_pointwise_.binary(onto, x, *how, "add", 1.0, after, [], None)
    y = layer(x)
    return _activated(y if onto is None else _sum(onto, y), activation)


def _one_pass(x: Tensor) -> bool:
    """Whether oneDNN's joined operations serve: they know no gradients, no other device or type, and no autocast."""
    here = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return here and not _learns(x) and not torch.is_autocast_enabled("cpu")


def _learns(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def _activated(x: Tensor, activation: str) -> Tensor:
    """In the place of x: fresh memory for a large map costs as much as the arithmetic."""
    if activation == "none":
        return x
    return torch.relu_(x) if activation == "relu" else torch.ops.aten.gelu_(x)


def _sum(x: Tensor, y: Tensor) -> Tensor:
    """In the place of x, which nobody else may read; elsewhere where a gradient needs x as it was."""
    return x + y if _learns(x, y) else x.add_(y)


class _Chain(nn.Sequential):
    """A `Sequential` in which a convolution applies the ReLU behind it, and adds to another map."""

    def __init__(self, layers: nn.Sequential):
        super().__init__(*layers)
        self._steps: list[tuple[nn.Module, str]] = []
        for layer in layers:
            before, activation = self._steps[-1] if self._steps else (None, "")
            if isinstance(layer, nn.ReLU) and activation == "none" and _plain(before):
                self._steps[-1] = before, "relu"
            elif not isinstance(layer, nn.Identity):
                self._steps.append((layer, "none"))

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """With `onto`, the sum of it and the answer, brought to its size, in its place."""
        given = x
        for layer, activation in self._steps if onto is None else self._steps[:-1]:
            if isinstance(layer, nn.ReLU) and x is not given:
                x = _activated(x, "relu")
            else:
                x = _convolve(layer, x, activation) if _plain(layer) else layer(x)
        return x if onto is None else _added(*self._steps[-1], x, onto)


def _added(layer: nn.Module, activation: str, x: Tensor, onto: Tensor) -> Tensor:
    """`onto` plus the layer's answer to x, in the place of `onto`."""
    if isinstance(layer, _Chain):
        return layer(x, onto)
    if _plain(layer) and activation == "none" and layer.kernel_size == (1, 1) and x.shape[2:] == onto.shape[2:]:
        return _convolve(layer, x, onto=onto)
    if isinstance(layer, nn.Upsample) and layer.mode == "nearest":
        (height, width), times = x.shape[2:], int(layer.scale_factor)
        if onto.shape[2:] == (height * times, width * times) and not _learns(x, onto):
            onto.unflatten(3, (width, times)).unflatten(2, (height, times)).add_(x[:, :, :, None, :, None])
            return onto
    y = _activated(layer(x), activation)
    return _sum(onto, resized_to(y, onto.shape[2:]))


def _plain(layer: nn.Module | None) -> bool:
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class _Bottleneck(nn.Module):
    """`Bottleneck` that may overwrite its input."""

    def __init__(self, layer: Bottleneck):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.downsample = layer.conv1, layer.conv2, layer.conv3, layer.downsample

    def forward(self, x: Tensor) -> Tensor:
        y = _convolve(self.conv2, _convolve(self.conv1, x, "relu"), "relu")
        return _convolve(self.conv3, y, "relu", onto=self.downsample(x))


class _Projection(nn.Module):
    def __init__(self, layer: Projection):
        super().__init__()
        self.conv = layer.conv

    def forward(self, x: Tensor) -> Tensor:
        return _convolve(self.conv, x, "relu")


class _Block(nn.Module):
    """`Block` whose output takes the place of its input."""

    def __init__(self, block: Block):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = _sum(x, self.attn(self.norm1(x)))
        x = _sum(x, self.mlp(self.norm2(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2)


class _Module(nn.Module):
    """`Module` that may overwrite its inputs."""

    def __init__(self, module: Module):
        super().__init__()
        self.branches, self.fuse_layers = module.branches, module.fuse_layers

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, layers in enumerate(self.fuse_layers):
            total = maps[target].clone() if target + 1 < len(maps) else maps[target]  # the last one has no other reader
            for source, layer in enumerate(layers):
                if source != target:
                    total = layer(maps[source], total)
            fused.append(_activated(total, "relu"))
        return fused


class _Encoder(HRFormer):
    """`HRFormer` of such parts."""

    def __init__(self, network: HRFormer):
        nn.Module.__init__(self)
        self.checkpoint_activations = False
        for name, child in network.named_children():
            setattr(self, name, child)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.residual(images).contiguous(memory_format=torch.channels_last)
        x = self.layer1(_convolve(self.conv2, _convolve(self.conv1, x, "relu"), "relu"))
        maps = self.stage2([transition(x) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2[2](maps[-1])])
        maps = self.stage4([*maps, self.transition3[3](maps[-1])])
        return [project(x) for project, x in zip(self.convs, maps, strict=True)]
