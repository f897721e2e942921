"""MSCCNet: every pixel looks at the centres of the two classes, seen through fixed cosine waves.

X (B,C,H,W) is split into n = k² groups of c = C/n channels. Each channel is multiplied by one wave of an orthonormal
DCT bank, S = X ⊙ B. A small shared head turns S into coarse class maps M, supervised themselves, and

    Z_g = M_g · S_g        centres, (K,c) for each group g: one DCT coefficient of (class map × feature) per channel
    Z'  = ReLU(Z + A Z),   Z'' = Z' Wᵀ          graph over the groups (A), then over the channels of a group (W)
    P_g = softmax_K(X_g · Z''_gᵀ),   O_g = P_g · Z''_g         each pixel of the unmodulated X attends to the K centres
    out = ReLU(BN(Conv3×3([X, O])))

The waves do not add up to X, and no channel meets more than one of them: this is a modulation, not a filter bank that
splits the features into bands. With n groups of patches instead of channels it is the attention of PCAA (CVPR 2022).

Source: Miao et al., arXiv 2305.10794; released code (commit e99309d). Chapter 17.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.views import wide
from mpc_lite.errors import InputError
from mpc_lite.neighbours.mscc.centers import maps_and_centers

CLASSES = 2  # authentic, tampered


def dct_bank(height: int, width: int, bases: int = 8, dtype=torch.float32, device=None) -> Tensor:
    """The `bases` × `bases` lowest waves of the orthonormal two-dimensional DCT-II of a height×width grid.

        B_uv(h,w) = β_u(h) β_v(w),   β_u(t) = a_u cos(π u (t + ½) / N) / √N,   a_0 = 1, a_u = √2 for u > 0

    Returns (bases², height, width), wave (u,v) at u·bases + v.
    Raises InputError for a grid smaller than `bases`: a wave with u ≥ N is zero or repeats another one. (The released
    code goes on with it.)
    Source: released code, frequency layer; FcaNet's filter bank.
    """
    if min(height, width) < bases:
        raise InputError(
            f"grid {height}×{width}: the {bases}×{bases} waves need {bases} cells along each side; "
            f"give larger images, or build the module with bases={min(height, width)} or fewer"
        )

    def waves(n: int) -> Tensor:
        u, t = torch.arange(bases, device=device)[:, None], torch.arange(n, device=device)
        # In whole numbers to below a full turn: the cosine of a large angle loses digits in fp32.
        angle = (u * (2 * t + 1) % (4 * n)).to(dtype) * (math.pi / (2 * n))
        return torch.cos(angle) * torch.where(u == 0, 1, 2).to(dtype).div(n).sqrt()

    return (waves(height)[:, None, :, None] * waves(width)[None, :, None, :]).flatten(0, 1)


def check_channels(channels: int, groups: int, waves: int) -> None:
    """Raise InputError unless each wave gets equally many channels, at least one, and each group equally many waves."""
    if channels < waves or channels % waves:
        raise InputError(
            f"{channels} channels for {waves} waves: expected a multiple of {waves}, since each wave gets a run of "
            "equally many channels (the released code multiplies the rest by zero); change channels, or bases, whose "
            "square is the number of waves"
        )
    if groups < 1 or waves % groups:
        raise InputError(
            f"{waves} waves in {groups} groups: expected a divisor of {waves}, so that a group holds whole waves; "
            "choose k (k² groups) from the powers of two up to bases"
        )


def modulate(x: Tensor, bank: Tensor) -> Tensor:
    """S = X ⊙ B: x (B,C,H,W), bank (Q,H,W) -> (B,C,H,W). Wave i goes to the i-th run of C/Q channels.

    Raises InputError when C is not a multiple of Q.
    """
    check_channels(x.shape[1], 1, len(bank))
    return x * bank.repeat_interleave(x.shape[1] // len(bank), 0)


def attend(x: Tensor, centers: Tensor) -> Tensor:
    """P = softmax over the classes of pixel · centre: x (B,C,H,W), centers (B,n,K,c) -> (B,n,K,H,W).

    With K = 2, P[:, :, 1] = σ(x·(z₁ − z₀)): a gate.
    """
    return (
        (centers @ x.reshape(len(x), centers.shape[1], -1, x.shape[2] * x.shape[3]))
        .softmax(2)
        .unflatten(3, x.shape[2:])
    )


def recover(attention: Tensor, centers: Tensor) -> Tensor:
    """O: to each pixel the mixture of its group's centres. (B,n,K,H,W), (B,n,K,c) -> (B,C,H,W)."""
    return torch.einsum("bgkhw,bgkc->bgchw", attention, centers).flatten(1, 2)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def pixel_classifier(channels: int, classes: int, dropout: float) -> nn.Sequential:
    """1×1 convolution, batch norm, ReLU, dropout of whole channels, 1×1 convolution to the classes."""
    hidden = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout2d(dropout)
    return nn.Sequential(*hidden, nn.Conv2d(channels, classes, 1))


class Attended(NamedTuple):
    features: Tensor  # (B,outputs,H,W)
    coarse: Tensor  # (B,K,H,W) logits of the fused coarse map


class MSCC(nn.Module):
    """The class-centre module: features (B,C,H,W) -> features (B,outputs,H,W) and the coarse map (B,K,H,W).

    channels: C, a multiple of bases². outputs: channels of the result. classes: K.
    k:        k² groups of channels, a divisor of bases². The released FF++ configuration has 2, the base one 8.
    bases:    bases² waves, whatever k (released code: 8 always).
    dropout:  of whole channels in the coarse head.
    implementation: "fused", or "plain", the readable twin: the equations as they stand, tensor after tensor.
    The sums over the grid are formed in fp32 under autocast.
    Raises InputError for channels that do not fit, an unknown implementation and, at the call, a grid below `bases`.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        classes: int = CLASSES,
        k: int = 2,
        bases: int = 8,
        dropout: float = 0.1,
        implementation: str = "fused",
    ):
        super().__init__()
        check_channels(channels, k * k, bases * bases)
        if implementation not in ("fused", "plain"):
            raise InputError(f"implementation {implementation!r}: expected fused or plain")
        self.channels, self.groups, self.bases, self.implementation = channels, k * k, bases, implementation
        width = channels // self.groups
        self.coarse = pixel_classifier(width, classes, dropout)
        self.fuse = nn.Conv2d(self.groups, 1, 1)
        self.mix_groups = nn.Conv2d(self.groups, self.groups, 1, bias=False)  # A
        self.mix_channels = nn.Linear(width, width, bias=False)  # W
        # The 3×3 convolution of [X, O] is the sum of one on each: see `mix`.
        self.on_pixels = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        self.on_centers = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        self.normalise = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Attended:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InputError(f"features {tuple(x.shape)}: expected (B, {self.channels}, H, W)")
        with torch.autocast(x.device.type, enabled=False):
            wider = x.to(wide(x.dtype))
            maps, centers = self.maps_and_centers(wider)
            coarse = self.fuse(maps)[:, 0].unflatten(2, x.shape[2:])
            centers = self.graph(centers)
            attention = attend(wider, centers)
        features = self.normalise(self.on_pixels(x) + self.mix(attention, centers))
        return Attended(features, coarse)

    def maps_and_centers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,C,H,W) -> coarse maps M (B,n,K,HW), raw logits, and centres Z (B,n,K,c)."""
        bank = dct_bank(*x.shape[2:], self.bases, x.dtype, x.device)
        # Where no gradient is asked for, nothing is kept for it, and the plain way is as good.
        if self.implementation == "fused" and x.requires_grad:
            return maps_and_centers(x, bank, self.coarse, self.groups)
        spectral = modulate(x, bank).unflatten(1, (self.groups, -1))  # (B,n,c,H,W)
        maps = self.coarse(spectral.flatten(0, 1)).unflatten(0, (len(x), self.groups)).flatten(3)
        return maps, torch.einsum("bgkp,bgcp->bgkc", maps, spectral.flatten(3))

    def graph(self, centers: Tensor) -> Tensor:
        """Z (B,n,K,c) -> Z'' of the same shape."""
        return self.mix_channels(F.relu(centers + self.mix_groups(centers)))

    def mix(self, attention: Tensor, centers: Tensor) -> Tensor:
        """The convolution of O, (B,outputs,H,W)."""
        if self.implementation == "plain":
            return self.on_centers(recover(attention, centers))
        # O has C channels but only n·K dimensions: multiplied with the centres first, the kernel has n·K channels, of
        # its own for each image, and meets P. Both products are convolutions with groups, which copy no large tensor.
        images, groups = centers.shape[:2]
        filters = centers.transpose(0, 1).flatten(0, 2)[:, :, None, None]
        kernel = F.conv2d(self.on_centers.weight, filters, groups=groups)  # (outputs, n·B·K, 3, 3)
        kernel = kernel.unflatten(1, (groups, images, -1)).permute(2, 0, 1, 3, 4, 5).flatten(2, 3).flatten(0, 1)
        mixed = F.conv2d(attention.reshape(1, -1, *attention.shape[3:]), kernel, padding=1, groups=images)
        return mixed.view(images, -1, *attention.shape[3:])


class MSCCHead(nn.Module):
    """Everything behind the encoder: levels of features -> {"mask", "coarse", "image"}, logits of K classes.

    Each level goes through a 3×3 block to `channels`, is resized to the first one (bilinear, corners aligned, as MPC's
    maps are) and all are fused by another block; then the class centres, and a small classifier of pixels. The last
    level, averaged over its grid, tells whether the image is tampered.
    inputs: channels of the levels, finest first. Other arguments as for `MSCC`.
    Returns "mask" and "coarse" (B,K,h,w) on the grid of the first level, "image" (B,K).
    Source: released code (levels 2-4 of a dilated ResNet-50, all on one grid, so that nothing is resized there).
    """

    def __init__(self, inputs: Sequence[int], channels: int, classes: int = CLASSES, dropout: float = 0.1, **options):
        super().__init__()
        self.levels = nn.ModuleList(block(i, channels) for i in inputs)
        self.aggregate = block(len(inputs) * channels, channels)
        self.mscc = MSCC(channels, channels, classes, dropout=dropout, **options)
        self.classifier = pixel_classifier(channels, classes, dropout)
        self.image = nn.Linear(inputs[-1], classes)

    def features(self, levels: Sequence[Tensor]) -> Tensor:
        """The aggregated levels X (B,channels,h,w)."""
        if len(levels) != len(self.levels):
            raise InputError(f"{len(levels)} levels of features: expected {len(self.levels)}")
        finest, *coarser = (level(x) for level, x in zip(self.levels, levels, strict=True))
        shape = finest.shape[2:]
        resized = [F.interpolate(x, size=shape, mode="bilinear", align_corners=True) for x in coarser]
        return self.aggregate(torch.cat([finest, *resized], 1))

    def forward(self, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        features, coarse = self.mscc(self.features(levels))
        return {"mask": self.classifier(features), "coarse": coarse, "image": self.image(levels[-1].mean((2, 3)))}
