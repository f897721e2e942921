"""The backbone: HRFormer, a transformer that keeps a high-resolution branch from the first layer to the last.

A convolutional stem brings the image to stride 4. Three stages follow with two, three and four parallel branches
(strides 4, 8, 16, 32). In a stage every branch runs window-attention blocks, then all exchange what they found. Four
1×1 projections bring the branches to the same number of channels, so that pixels of all scales can be compared.

`base` and `small` are the paper's sizes; `base` has exactly the tensor names and shapes of the released checkpoints
(without their `encoder.` prefix). `nano` is ours: the same code with fewer, narrower layers, for a laptop's CPU.

Source: HRFormer (Yuan et al., NeurIPS 2021), segmentation version; for the projections MPC and the released code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.network.recompute import recomputed

WINDOW = 7  # side of an attention window, in tokens, at every scale
STRIDES = (4, 8, 16, 32)  # pixels of the image to one of each map, finest first


@dataclass(frozen=True)
class Size:
    """Everything that tells one HRFormer from another. Tuples of 4 are per branch, tuples of 3 per stage (2, 3, 4)."""

    channels: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    modules: tuple[int, int, int]  # rounds of "blocks, then exchange"
    blocks: tuple[int, int, int]  # transformer blocks per branch in each module
    mlp_ratio: int
    stem: int  # channels of the two stem convolutions and the inner width of the bottlenecks
    bottlenecks: int
    embedding: int  # D, channels of the four maps
    drop_path: float  # stochastic-depth rate of the last block; rises linearly from 0
    residual: bool  # the stem also sees the image's truncated high-pass residual


SIZES = {
    "nano": Size((16, 32, 64, 128), (1, 2, 4, 8), (1, 1, 1), (1, 1, 1), 3, 32, 2, 64, 0.2, True),
    "small": Size((32, 64, 128, 256), (1, 2, 4, 8), (1, 4, 2), (2, 2, 2), 4, 64, 2, 256, 0.2, False),
    "base": Size((78, 156, 312, 624), (2, 4, 8, 16), (1, 4, 2), (2, 2, 2), 4, 64, 2, 256, 0.2, False),
}


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, padded to keep ceil(size / stride), and the batch norm after it."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a residual per sample with probability `rate`, divide kept ones by 1 - rate.

    This is the noise that makes two passes of one image differ (the paper's "cross-modality" view). The draw happens on
    the tensor's device, without a look at its values, so it neither waits for the GPU nor breaks a compiled graph.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, residual: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return residual
        keep = 1 - self.rate
        mask = residual.new_empty(residual.shape[0], *[1] * (residual.ndim - 1)).bernoulli_(keep)
        return residual * (mask / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4f}"


class Residual(nn.Module):
    """Image (B,3,H,W) in [0,1] -> (B,6,H,W): the image, and what a 3×3 second difference leaves of it, in [-1,1].

    The difference is zero on flat and evenly shaded parts, so that sensor noise, demosaicing and JPEG show; truncation
    at 8 grey levels keeps edges from drowning them. Standard in forensics (the spatial rich model's filter and
    truncation); `nano` has it because it starts without ImageNet weights and must not spend its steps on finding it.
    """

    GAIN = 255 / 8

    def forward(self, images: Tensor) -> Tensor:
        x = F.pad(images, (1, 1, 1, 1), mode="replicate")
        x = x[..., :-2] - 2 * x[..., 1:-1] + x[..., 2:]
        x = x[..., :-2, :] - 2 * x[..., 1:-1, :] + x[..., 2:, :]
        return torch.cat([images, (x * (self.GAIN / 4)).clamp(-1, 1)], dim=1)


class Bottleneck(nn.Module):
    """ResNet bottleneck with expansion 4: 1×1, 3×3, 1×1, each with batch norm, around a shortcut."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = conv_bn(inputs, width, 1)
        self.conv2, self.bn2 = conv_bn(width, width, 3)
        self.conv3, self.bn3 = conv_bn(width, outputs, 1)
        self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1)) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # In place wherever the pass back needs no more than the result: fresh memory costs more than the arithmetic.
        y = F.relu_(self.bn1(self.conv1(x)))
        y = F.relu_(self.bn2(self.conv2(y)))
        return F.relu_(self.bn3(self.conv3(y)) + self.downsample(x))


class BiasedAttention(nn.Module):
    """Multi-head attention inside windows of 49 tokens, with a learned bias for every relative position.

    softmax(q·kᵀ / sqrt(C / heads) + bias) · v;  channel c belongs to head c // (C / heads).
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        # The released code truncates this normal at ±2, a hundred standard deviations away: the same thing.
        nn.init.normal_(self.relative_position_bias_table, std=0.02)
        # Row of the table for each pair of tokens: (dy + 6)·13 + (dx + 6), dy and dx from -6 to 6.
        y, x = torch.arange(WINDOW**2) // WINDOW, torch.arange(WINDOW**2) % WINDOW
        dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
        index = (dy + WINDOW - 1) * (2 * WINDOW - 1) + dx + WINDOW - 1
        self.register_buffer("relative_position_index", index)
        self.k_proj, self.v_proj = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.q_proj, self.out_proj = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (windows, 49, C) -> (windows, 49, C)."""
        # Views only: attention reads the heads with strides, so nothing is copied between here and the kernel.
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in projections)
        bias = self.bias()[None].to(q.dtype)
        if bias.requires_grad and q.device.type == "cpu":
            # PyTorch's kernels learn no bias there, and its stand-in looks for rows of nothing but −∞, which a table
            # cannot hold: two more passes over every similarity, and two of their gradient.
            similarity = (q / (q.shape[-1] ** 0.5)) @ k.transpose(2, 3)
            mixed = similarity.add_(bias).softmax(3) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def bias(self) -> Tensor:
        """(heads, 49, 49): what is added to the similarity of each pair of tokens."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class WindowAttention(nn.Module):
    """Cuts a map into 7×7 windows, attends inside each, puts the map together again.

    The map is zero-padded on all sides (the smaller half left and top) to a multiple of 7. As in the released code, the
    padded tokens are not masked: they take part as keys and values equal to the projections' biases.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attn = BiasedAttention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        """x (B,H,W,C) -> (B,H,W,C)."""
        B, H, W, C = x.shape
        pad_y, pad_x = -H % WINDOW, -W % WINDOW
        top, left = pad_y // 2, pad_x // 2
        if pad_y or pad_x:
            x = F.pad(x, (0, 0, left, pad_x - left, top, pad_y - top))
        rows, columns = (H + pad_y) // WINDOW, (W + pad_x) // WINDOW
        x = x.view(B, rows, WINDOW, columns, WINDOW, C).transpose(2, 3).reshape(-1, WINDOW**2, C)
        x = self.attn(x)
        x = x.view(B, rows, columns, WINDOW, WINDOW, C).transpose(2, 3).reshape(B, H + pad_y, W + pad_x, C)
        return x[:, top : top + H, left : left + W]


class MLP(nn.Module):
    """Pointwise, depthwise 3×3, pointwise, each with bias, batch norm and GELU (after the last one too).

    The depthwise convolution is what lets neighbouring windows see each other.
    """

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        hidden = channels * ratio
        self.fc1, self.norm1 = nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden)
        self.dw3x3, self.norm2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.BatchNorm2d(hidden)
        self.fc2, self.norm3 = nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.fc1(x)))
        x = F.gelu(self.norm2(self.dw3x3(x)))
        return F.gelu(self.norm3(self.fc2(x)))


class Block(nn.Module):
    """Pre-norm transformer block; its two residuals are dropped independently of each other.

    x ← x + DropPath(attention(LN(x)));  x ← x + DropPath(MLP(LN(x))).
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: int, drop_path: float):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(channels, eps=1e-6), WindowAttention(channels, heads)
        self.norm2, self.mlp = nn.LayerNorm(channels, eps=1e-6), MLP(channels, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # in channels-last memory this, and the way back, is only a view
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2)


class Module(nn.Module):
    """One round of a stage: blocks in every branch, then each branch becomes the sum of all of them at its scale."""

    def __init__(self, size: Size, branches: int, rates: list[float]):
        super().__init__()
        channels = size.channels[:branches]
        self.branches = nn.ModuleList(
            nn.Sequential(*(Block(channels[i], size.heads[i], size.mlp_ratio, rate) for rate in rates))
            for i in range(branches)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._fuse(channels, source, target) for source in range(branches))
            for target in range(branches)
        )

    @staticmethod
    def _fuse(channels: tuple[int, ...], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:  # from coarse to fine
            up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
            return nn.Sequential(*conv_bn(channels[source], channels[target], 1), up)
        units = []
        for step in range(source + 1, target + 1):  # from fine to coarse, halving the map in each unit
            outputs = channels[target] if step == target else channels[source]
            unit = conv_bn(channels[source], channels[source], 3, stride=2, groups=channels[source])
            unit += conv_bn(channels[source], outputs, 1)
            units.append(nn.Sequential(*unit) if step == target else nn.Sequential(*unit, nn.ReLU(inplace=True)))
        return nn.Sequential(*units)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, layers in enumerate(self.fuse_layers):
            total = maps[target]
            for source, layer in enumerate(layers):
                if source != target:
                    total = total + resized_to(layer(maps[source]), maps[target].shape[2:])
            fused.append(F.relu(total))
        return fused


def resized_to(x: Tensor, shape: torch.Size) -> Tensor:
    """Bilinear, corners aligned; maps of sizes divisible by 32 already fit, so that nothing happens."""
    return x if x.shape[2:] == shape else F.interpolate(x, size=shape, mode="bilinear", align_corners=True)


class Projection(nn.Module):
    """1×1 convolution to D channels, batch norm, ReLU: the embedding that the contrastive loss compares."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv(x)))


class HRFormer(nn.Module):
    """Images (B,3,H,W) in [0,1] -> four maps (B,D,ceil(H/4),ceil(W/4)), … ceil(/8), ceil(/16), ceil(/32).

    The maps are raw (after a ReLU, not L2-normalised). D is `SIZES[name].embedding`. Any H, W >= 1 will do.
    Set `checkpoint_activations` to train in less memory: see `mpc_lite.network.recompute`.
    """

    def __init__(self, size: Size):
        super().__init__()
        self.checkpoint_activations = False
        c = size.channels
        self.residual = Residual() if size.residual else nn.Identity()
        self.conv1, self.bn1 = conv_bn(6 if size.residual else 3, size.stem, 3, stride=2)
        self.conv2, self.bn2 = conv_bn(size.stem, size.stem, 3, stride=2)
        wide = 4 * size.stem
        self.layer1 = nn.Sequential(*(Bottleneck(wide if i else size.stem, size.stem) for i in range(size.bottlenecks)))

        def step(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(*conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True))

        # A transition keeps the branches there are and starts a coarser one. Only the first also changes a width.
        self.transition1 = nn.ModuleList([step(wide, c[0], 1), nn.Sequential(step(wide, c[1], 2))])
        self.transition2 = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Sequential(step(c[1], c[2], 2))])
        self.transition3 = nn.ModuleList([*(nn.Identity() for _ in range(3)), nn.Sequential(step(c[2], c[3], 2))])

        depth = sum(m * b for m, b in zip(size.modules, size.blocks, strict=True))
        rates = iter([size.drop_path * k / max(depth - 1, 1) for k in range(depth)])

        def stage(number: int) -> nn.Sequential:
            modules, blocks = size.modules[number - 2], size.blocks[number - 2]
            return nn.Sequential(*(Module(size, number, [next(rates) for _ in range(blocks)]) for _ in range(modules)))

        self.stage2, self.stage3, self.stage4 = stage(2), stage(3), stage(4)
        self.convs = nn.ModuleList(Projection(channels, size.embedding) for channels in c)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.finish(self.begin(images))

    def begin(self, images: Tensor) -> list[Tensor]:
        """The stem and stage 2: images -> two maps, strides 4 and 8."""
        # Channels last from here on: attention then needs no transposed copies, and depthwise convolutions are fast.
        x = self.residual(images).contiguous(memory_format=torch.channels_last)
        x = F.relu_(self.bn1(self.conv1(x)))
        x = self.layer1(F.relu_(self.bn2(self.conv2(x))))
        return self._run(self.stage2, [transition(x) for transition in self.transition1])

    def finish(self, maps: list[Tensor]) -> list[Tensor]:
        """Stages 3 and 4 and the projections: what `begin` gives -> the four maps."""
        maps = self._run(self.stage3, [*maps, self.transition2[2](maps[-1])])
        maps = self._run(self.stage4, [*maps, self.transition3[3](maps[-1])])
        return [project(x) for project, x in zip(self.convs, maps, strict=True)]

    def _run(self, stage: nn.Sequential, maps: list[Tensor]) -> list[Tensor]:
        again = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        for module in stage:
            maps = recomputed(module, maps) if again else module(maps)
        return maps
