"""MSCC's equations written down one after the other, each result a tensor of its own: what the benchmark compares with.

Fixed, and not part of the package. The bank is formed for one grid and all channels when the module is made, as the
released code does.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def plain_bank(channels: int, height: int, width: int, bases: int = 8) -> torch.Tensor:
    def wave(u, n):
        t = torch.arange(n, dtype=torch.float64)
        return torch.cos(math.pi * u * (t + 0.5) / n) * (math.sqrt(2) if u else 1) / math.sqrt(n)

    waves = [torch.outer(wave(u, height), wave(v, width)) for u in range(bases) for v in range(bases)]
    return torch.stack(waves).repeat_interleave(channels // len(waves), 0).float()


class PlainMSCC(nn.Module):
    def __init__(self, channels: int, outputs: int, height: int, width: int, k: int = 2, dropout: float = 0.1):
        super().__init__()
        self.groups = k * k
        c = channels // self.groups
        hidden = nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(), nn.Dropout2d(dropout)
        self.coarse = nn.Sequential(*hidden, nn.Conv2d(c, 2, 1))
        self.fuse = nn.Conv2d(self.groups, 1, 1)
        self.mix_groups = nn.Conv2d(self.groups, self.groups, 1, bias=False)
        self.mix_channels = nn.Linear(c, c, bias=False)
        conv = nn.Conv2d(2 * channels, outputs, 3, padding=1, bias=False)
        self.bottleneck = nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())
        self.register_buffer("bank", plain_bank(channels, height, width), persistent=False)

    def take(self, other: nn.Module) -> "PlainMSCC":
        """The weights of an `mscc.MSCC`, whose convolution of [X, O] is kept as two."""
        state = {name: value.clone() for name, value in other.state_dict().items()}
        halves = [state.pop(f"on_{name}.weight") for name in ("pixels", "centers")]
        state["bottleneck.0.weight"] = torch.cat(halves, 1)
        self.load_state_dict({name.replace("normalise.0", "bottleneck.1"): value for name, value in state.items()})
        return self

    def attention(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B,C,H,W) -> O (B,C,H,W) and the fused coarse map (B,2,H,W)."""
        b, _, h, w = x.shape
        n = self.groups
        s = x * self.bank
        s_groups = s.reshape(b * n, -1, h, w)
        m = self.coarse(s_groups)
        coarse = self.fuse(m.reshape(b, n, 2, h * w)).reshape(b, 2, h, w)
        z = torch.matmul(m.flatten(2), s_groups.flatten(2).transpose(1, 2)).reshape(b, n, 2, -1)
        z = F.relu(z + self.mix_groups(z))
        z = self.mix_channels(z)
        pixels = x.reshape(b, n, -1, h * w).transpose(2, 3)
        p = torch.softmax(torch.matmul(pixels, z.transpose(2, 3)), dim=-1)
        o = torch.matmul(p, z).transpose(2, 3).reshape(b, -1, h, w)
        return o, coarse

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        o, coarse = self.attention(x)
        return self.bottleneck(torch.cat([x, o], dim=1)), coarse
