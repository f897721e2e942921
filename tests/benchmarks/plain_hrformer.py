"""The plain HRFormer: what the benchmarks compare the backbone with. Fixed: it does not follow the package.

The same network with the same tensor names, written the obvious way: PyTorch's default memory format, attention as a
product, a softmax and a product, windows cut by copies, batch norm as a layer of its own. Only the sizes that it is
given come from the package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

W = 7


def norm_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    padding = kernel // 2
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Drop(nn.Module):
    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.conv1, self.bn1 = norm_conv(inputs, width, 1)
        self.conv2, self.bn2 = norm_conv(width, width, 3)
        self.conv3, self.bn3 = norm_conv(width, 4 * width, 1)
        self.downsample = nn.Sequential(*norm_conv(inputs, 4 * width, 1)) if inputs != 4 * width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads, self.depth = heads, channels // heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * W - 1) ** 2, heads))
        y, x = torch.meshgrid(torch.arange(W), torch.arange(W), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y + W - 1) * (2 * W - 1) + x[:, None] - x + W - 1
        self.register_buffer("relative_position_index", index)
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, name, nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, channels = x.shape
        split = (windows, tokens, self.heads, self.depth)
        q, k, v = (p(x).view(split).permute(0, 2, 1, 3) for p in (self.q_proj, self.k_proj, self.v_proj))
        weights = q @ k.transpose(2, 3) / self.depth**0.5
        weights = weights + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        mixed = weights.softmax(3) @ v
        return self.out_proj(mixed.permute(0, 2, 1, 3).reshape(windows, tokens, channels))


class Windows(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attn = Attention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        B, H, w, C = x.shape
        down, right = -H % W, -w % W
        top, left = down // 2, right // 2
        x = F.pad(x, (0, 0, left, right - left, top, down - top))
        rows, columns = (H + down) // W, (w + right) // W
        x = x.reshape(B, rows, W, columns, W, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, W * W, C)
        x = self.attn(x).reshape(B, rows, columns, W, W, C).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(B, H + down, w + right, C)[:, top : top + H, left : left + w]


class MLP(nn.Module):
    def __init__(self, channels: int, ratio: int):
        super().__init__()
        hidden = channels * ratio
        self.fc1, self.norm1 = nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden)
        self.dw3x3, self.norm2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.BatchNorm2d(hidden)
        self.fc2, self.norm3 = nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.fc1, self.norm1), (self.dw3x3, self.norm2), (self.fc2, self.norm3)):
            x = F.gelu(norm(conv(x)))
        return x


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, ratio: int, rate: float):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(channels, eps=1e-6), Windows(channels, heads)
        self.norm2, self.mlp = nn.LayerNorm(channels, eps=1e-6), MLP(channels, ratio)
        self.drop = Drop(rate)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        x = x + self.drop(self.attn(self.norm1(tokens)).permute(0, 3, 1, 2))
        tokens = self.norm2(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (x + self.drop(self.mlp(tokens.contiguous()))).contiguous()


class Module(nn.Module):
    def __init__(self, size, branches: int, rates: list[float]):
        super().__init__()
        c = size.channels
        self.branches = nn.ModuleList(
            nn.Sequential(*(Block(c[i], size.heads[i], size.mlp_ratio, rate) for rate in rates))
            for i in range(branches)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.path(c, j, i) for j in range(branches)) for i in range(branches)
        )

    @staticmethod
    def path(c, source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            up = nn.Upsample(scale_factor=2 ** (source - target))
            return nn.Sequential(*norm_conv(c[source], c[target], 1), up)
        units = []
        for step in range(source, target):
            last = step == target - 1
            unit = norm_conv(c[source], c[source], 3, 2, c[source])
            unit += norm_conv(c[source], c[target] if last else c[source], 1) + ([] if last else [nn.ReLU()])
            units.append(nn.Sequential(*unit))
        return nn.Sequential(*units)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for i, layers in enumerate(self.fuse_layers):
            moved = [layer(x) for layer, x in zip(layers, maps, strict=True)]
            size = maps[i].shape[2:]
            fitting = [
                F.interpolate(y, size, mode="bilinear", align_corners=True) if y.shape[2:] != size else y for y in moved
            ]
            fused.append(F.relu(sum(fitting)))
        return fused


class Projection(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class PlainHRFormer(nn.Module):
    """Images (B,3,H,W) -> four maps; `size` as in `mpc_lite.network.hrformer.SIZES`, one without the residual input."""

    def __init__(self, size):
        super().__init__()
        c, wide = size.channels, 4 * size.stem
        self.conv1, self.bn1 = norm_conv(3, size.stem, 3, 2)
        self.conv2, self.bn2 = norm_conv(size.stem, size.stem, 3, 2)
        self.layer1 = nn.Sequential(*(Bottleneck(wide if i else size.stem, size.stem) for i in range(size.bottlenecks)))

        def step(inputs, outputs, stride):
            return nn.Sequential(*norm_conv(inputs, outputs, 3, stride), nn.ReLU())

        keep = nn.Identity
        self.transition1 = nn.ModuleList([step(wide, c[0], 1), nn.Sequential(step(wide, c[1], 2))])
        self.transition2 = nn.ModuleList([keep(), keep(), nn.Sequential(step(c[1], c[2], 2))])
        self.transition3 = nn.ModuleList([keep(), keep(), keep(), nn.Sequential(step(c[2], c[3], 2))])
        depth = sum(m * b for m, b in zip(size.modules, size.blocks, strict=True))
        rates = [size.drop_path * k / (depth - 1) for k in range(depth)]
        for number, (modules, blocks) in enumerate(zip(size.modules, size.blocks, strict=True), 2):
            stage = [Module(size, number, [rates.pop(0) for _ in range(blocks)]) for _ in range(modules)]
            setattr(self, f"stage{number}", nn.Sequential(*stage))
        self.convs = nn.ModuleList(Projection(channels, size.embedding) for channels in c)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        maps = self.stage2([transition(x) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2[2](maps[1])])
        maps = self.stage4([*maps, self.transition3[3](maps[2])])
        return [project(x) for project, x in zip(self.convs, maps, strict=True)]
