"""Coarse maps and class centres of MSCC in two sweeps over a few groups at a time, and their gradients in two more.

The plain way keeps the modulated features and three more tensors of their size for the backward pass. Here one is kept,
y = W₁ s before the batch norm; the rest is formed again from it and from X, a piece at a time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 128  # channels in one piece: few enough for the cache, enough for a product of matrices


def maps_and_centers(x: Tensor, bank: Tensor, head: nn.Sequential, groups: int) -> tuple[Tensor, Tensor]:
    """M = head(x ⊙ bank) for each group of channels and Z = M · (x ⊙ bank).

    x: (B,C,H,W). bank: (Q,H,W), Q a divisor of C. head: as `mscc.pixel_classifier` makes it, shared by the groups; in
    training its batch norm sees B·n·H·W values of a channel, and its running statistics are updated.
    Returns maps (B,n,K,HW) and centres (B,n,K,c).
    """
    conv, norm, _, dropout, last = head
    images, (width, pixels) = len(x), (x.shape[1] // groups, x.shape[2] * x.shape[3])
    noise = x.new_ones(images * groups, width, 1, 1)
    noise = F.dropout2d(noise, dropout.p, dropout.training).view(images, groups, width, 1)
    wave = torch.arange(x.shape[1], device=x.device) // (x.shape[1] // len(bank))
    maps, centers, mean, variance = _MapsAndCenters.apply(
        x.reshape(images, groups, width, pixels),
        bank.flatten(1),
        wave.view(groups, width),
        noise,
        conv.weight.flatten(1),
        norm.weight,
        norm.bias,
        last.weight.flatten(1),
        last.bias,
        None if norm.training else (norm.running_mean, norm.running_var),
        norm.eps,
    )
    if norm.training:
        count = images * groups * pixels
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum)
    return maps, centers


class _MapsAndCenters(torch.autograd.Function):
    """s = x ⊙ bank, y = W₁ s, h = noise · ReLU(BN(y)), M = W₂ h + b, Z = M sᵀ."""

    @staticmethod
    def forward(ctx, x, bank, wave, noise, first, weight, bias, last, offset, statistics, eps):
        images, groups, width, pixels = x.shape
        y = x.new_empty(groups, images, width, pixels)  # groups first, so that a piece lies in one place
        for part in _pieces(groups, width):
            torch.matmul(first, _spectral(x, bank, wave, part), out=y[part])
        if statistics is None:
            variance, mean = torch.var_mean(y, (0, 1, 3), correction=0)
        else:
            mean, variance = (t.clone() for t in statistics)
        scale = weight * torch.rsqrt(variance + eps)
        maps = x.new_empty(groups, images, len(last), pixels)
        centers = x.new_empty(groups, images, len(last), width)
        for part in _pieces(groups, width):
            hidden = _hidden(y[part], mean, scale, bias).mul_(noise.transpose(0, 1)[part])
            torch.add(torch.matmul(last, hidden), offset[:, None], out=maps[part])
            torch.matmul(maps[part], _spectral(x, bank, wave, part).mT, out=centers[part])
        ctx.training, ctx.eps = statistics is None, eps
        ctx.save_for_backward(x, bank, wave, noise, first, weight, bias, last, mean, variance, y, maps)
        ctx.mark_non_differentiable(mean, variance)
        return maps.transpose(0, 1), centers.transpose(0, 1), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_maps, grad_centers, *_):
        x, bank, wave, noise, first, weight, bias, last, mean, variance, y, maps = ctx.saved_tensors
        images, groups, width, pixels = x.shape
        noise, grad_maps, grad_centers = (t.transpose(0, 1) for t in (noise, grad_maps, grad_centers))
        rate = torch.rsqrt(variance + ctx.eps)
        scale = weight * rate
        grad_last, grad_first = torch.zeros_like(last), torch.zeros_like(first)
        grad_offset, grad_bias, grad_weight = (torch.zeros_like(t) for t in (last[:, 0], bias, bias))
        # Holds the gradient of the batch norm's result first, then piece by piece that of x: one large tensor, not two.
        grad_x = torch.empty_like(y)
        for part in _pieces(groups, width):
            grad = grad_maps[part] + grad_centers[part] @ _spectral(x, bank, wave, part)
            hidden = _hidden(y[part], mean, scale, bias)
            open_ = hidden > 0
            grad_last += (grad @ hidden.mul_(noise[part]).mT).sum((0, 1))
            grad_offset += grad.sum((0, 1, 3))
            # Before the ReLU; what the norm's own gradient needs is a sum over all pieces.
            torch.matmul(last.mT, grad, out=grad_x[part]).mul_(noise[part]).mul_(open_)
            grad_bias += grad_x[part].sum((0, 1, 3))
            grad_weight += torch.sub(y[part], mean[:, None], out=hidden).mul_(grad_x[part]).sum((0, 1, 3))
        grad_weight *= rate
        # d y = scale · (d − mean(d) − ŷ mean(d ŷ)) for batch statistics: slope · y + level is what it subtracts.
        count = images * groups * pixels if ctx.training else float("inf")
        slope = scale * grad_weight * rate / count
        level = scale * grad_bias / count - slope * mean
        for part in _pieces(groups, width):
            grad = grad_x[part].mul_(scale[:, None]).sub_(torch.addcmul(level[:, None], y[part], slope[:, None]))
            spectral = _spectral(x, bank, wave, part)
            grad_first += (grad @ spectral.mT).sum((0, 1))
            torch.matmul(first.mT, grad, out=spectral).add_(grad_centers[part].mT @ maps[part])
            torch.mul(spectral, bank[wave[part]][:, None], out=grad_x[part])
        return grad_x.transpose(0, 1), None, None, None, grad_first, grad_weight, grad_bias, grad_last, grad_offset, None, None


def _pieces(groups: int, width: int) -> list[slice]:
    step = max(1, CHUNK // width)
    return [slice(start, start + step) for start in range(0, groups, step)]


def _spectral(x: Tensor, bank: Tensor, wave: Tensor, part: slice) -> Tensor:
    """The modulated features of some groups: (g,B,c,HW)."""
    return x.transpose(0, 1)[part] * bank[wave[part]][:, None]


def _hidden(y: Tensor, mean: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """ReLU of the batch norm of y (g,B,c,HW)."""
    return torch.addcmul((bias - mean * scale)[:, None], y, scale[:, None]).relu_()
