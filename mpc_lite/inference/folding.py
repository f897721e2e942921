"""The network as it is computed where nothing is learnt: each batch norm becomes part of the convolution before it.

In evaluation mode batch norm multiplies a channel by one number and adds another. A convolution can do both for free:
with s = γ / sqrt(running_var + ε), its weights become s·W and its bias s·(b − running_mean) + β.
"""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mpc_lite.network.hrformer import MLP, BiasedAttention, HRFormer
from mpc_lite.network.model import MPC

LANES = 16  # numbers of fp32 in a vector register; depthwise kernels are twice as fast when channels fill it
_copies: WeakKeyDictionary[nn.Module, tuple[list, nn.Module]] = WeakKeyDictionary()


def folded(network: nn.Module) -> nn.Module:
    """A network that computes what `network` computes in evaluation mode, faster; equal up to rounding.

    Batch norms that follow a convolution are gone; queries, keys and values come from one product; the hidden channels
    of the MLPs are filled up to a multiple of 16 with channels that stay zero. The copy cannot be trained and holds the
    weights a second time. It is kept, and made anew when a tensor of `network` has been replaced, moved or changed in
    place (writing through `.data` is not seen).

    network: MPC or HRFormer in evaluation mode. Anything else (another kind of module, one in training mode, tensors
    without values) comes back as it is.
    """
    tensors = [*network.parameters(), *network.buffers()]
    known = isinstance(network, MPC | HRFormer) and not any(m.training for m in network.modules())
    if not known or any(t.is_meta or t.is_inference() or isinstance(t, FakeTensor) for t in tensors):
        return network
    state = [(t.data_ptr(), t._version, t.device) for t in tensors]
    if network not in _copies or _copies[network][0] != state:
        with torch.inference_mode(False):  # the copy outlives the block that first asks for it
            _copies[network] = state, _fold(copy.deepcopy(network).requires_grad_(False))
    return _copies[network][1]


@torch.no_grad()
def _fold(network: nn.Module) -> nn.Module:
    for parent in network.modules():
        # In all our modules a batch norm that is listed right after a convolution normalises its output.
        before: tuple[str, nn.Module] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None and isinstance(before[1], nn.Conv2d):
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, nn.Identity())
            before = name, child
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

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gelu_ = torch.ops.aten.gelu_
        if self.fc1.in_channels % LANES:  # there a product of matrices is faster than a convolution
            weight = self.fc1.weight.flatten(1)
            x = gelu_(F.linear(x.permute(0, 2, 3, 1), weight, self.fc1.bias)).permute(0, 3, 1, 2)
        else:
            x = gelu_(self.fc1(x))
        return gelu_(self.fc2(gelu_(self.dw3x3(x))))


def _convolution(weight: torch.Tensor, bias: torch.Tensor, depthwise: bool = False) -> nn.Conv2d:
    outputs, inputs, kernel, _ = weight.shape
    groups = outputs if depthwise else 1
    convolution = nn.Conv2d(inputs * groups, outputs, kernel, padding=kernel // 2, groups=groups, device="meta")
    convolution.weight, convolution.bias = (nn.Parameter(x, requires_grad=False) for x in (weight, bias))
    return convolution.eval()
