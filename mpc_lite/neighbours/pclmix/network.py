"""PCLMix on MPC's network: two decoders on one encoder. The main one is MPC's own head, so what is kept after training
is an `MPC` like any other."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.views import unit_vectors
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC


class EmbeddingHead(nn.Module):
    """1×1 conv, BN, ReLU, 1×1 conv, length 1: (B,C,h,w) -> (B,D,h,w). Source: PCLMix, released code."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, embedding, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return unit_vectors(self.layers(x))


class AttentionDecoder(nn.Module):
    """The auxiliary decoder: four maps (B,D,h,w) … (B,D,h/8,w/8) -> logits (B,1,h,w) of class 1.

    From coarse to fine, each map is projected and added to what came from below; on the two coarsest grids every pixel
    then attends to all others, on the finer ones a 3×3 convolution mixes neighbours. So it errs otherwise than MPC's
    head, which sees pixels one by one. Our choice: the release has a Swin decoder here, whose position embeddings it
    neither trains nor saves; this one has none.
    """

    def __init__(self, channels: int, width: int = 32, heads: int = 4):
        super().__init__()
        self.project = nn.ModuleList([nn.Conv2d(channels, width, 1) for _ in range(4)])
        self.attend = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(2)
            ]
        )
        self.smooth = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(2)]
        )
        self.score = nn.Conv2d(width, 1, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = None
        for level in (3, 2, 1, 0):
            here = self.project[level](maps[level])
            x = here if x is None else here + F.interpolate(x, size=here.shape[2:], mode="bilinear")
            if level >= 2:
                tokens = self.attend[level - 2](x.flatten(2).transpose(1, 2))
                x = tokens.transpose(1, 2).unflatten(2, here.shape[2:])
            else:
                x = self.smooth[level](x)
        return self.score(x)


class Outputs(NamedTuple):
    """Logits (B,2,H,W) of both decoders at the images' size, and unit embeddings (B,D,h,w)."""

    main: Tensor
    auxiliary: Tensor
    embedding: Tensor


class DualDecoder(nn.Module):
    """`model` with an auxiliary decoder and an embedding head on its maps. Use `model` alone when training is over: it
    never depended on either."""

    def __init__(self, model: MPC, embedding: int = 64, level: int = 1):
        super().__init__()
        channels = SIZES[model.size].embedding
        self.model, self.level = model, level
        self.auxiliary, self.embed = AttentionDecoder(channels), EmbeddingHead(channels, embedding)

    def forward(self, images: Tensor) -> Outputs:
        """images (B,3,H,W) in [0,1]."""
        maps, size = self.model.encode(images), images.shape[2:]
        main, auxiliary = self.model.localize(maps), self.auxiliary(maps)
        return Outputs(two_logits(main, size), two_logits(auxiliary, size), self.embed(maps[self.level]))


def two_logits(logit: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,1,h,w) -> (B,2,H,W), (0, logit) at that size: the softmax of two is the sigmoid of their difference."""
    logit = F.interpolate(logit, size=tuple(size), mode="bilinear")
    return torch.cat([torch.zeros_like(logit), logit], 1)
