"""Coarse maps and class centres of MSCC in two sweeps over a few groups at a time, and their gradients in two more.

The plain way keeps the modulated features and three more tensors of their size for the backward pass. Here one is kept,
the result of the batch norm; the rest is formed again from it and from X, in pieces that fit the processor's cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.views import differentiable_once

PIECE = 128  # channels of one piece


def maps_and_centers(x: Tensor, bank: Tensor, head: nn.Sequential, groups: int) -> tuple[Tensor, Tensor]:
    """M = head(x ⊙ bank) for each group of channels and Z = M · (x ⊙ bank).

    x: (B,C,H,W). bank: (Q,H,W), Q a divisor of C and a multiple of `groups`. head: as `mscc.pixel_classifier` makes it,
    shared by the groups; in training its batch norm sees B·n·H·W values of a channel and updates running statistics.
    Returns maps (B,n,K,HW) and centres (B,n,K,c).
    """
    conv, norm, _, dropout, last = head
    images, width, pixels = len(x), x.shape[1] // groups, x.shape[2] * x.shape[3]
    noise = F.dropout2d(x.new_ones(images * groups, width, 1, 1), dropout.p, dropout.training)  # 0 or 1/(1 − p)
    running = None if norm.training else (norm.running_mean, norm.running_var)
    maps, centers, mean, variance = _MapsAndCenters.apply(
        # Groups first, so that those of one piece lie together.
        x.reshape(images, groups, width, pixels).transpose(0, 1),
        bank.reshape(groups, 1, -1, 1, pixels),
        noise.view(images, groups, 1, width).transpose(0, 1),
        conv.weight.flatten(1),
        norm.weight,
        norm.bias,
        last.weight.flatten(1),
        last.bias,
        running,
        norm.eps,
    )
    if norm.training:
        n = images * groups * pixels
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (n / max(1, n - 1)), norm.momentum)
    return maps.transpose(0, 1), centers.transpose(0, 1)


class _MapsAndCenters(torch.autograd.Function):
    """s = x ⊙ bank, y = (W₁s − mean) / deviation, h = ReLU(γy + β), M = W₂(noise · h) + b, Z = M sᵀ.

    x (n,B,c,P), bank (n,1,Q/n,1,P), noise (n,B,1,c) -> M (n,B,K,P), Z (n,B,K,c), mean and variance (c).
    """

    @staticmethod
    def forward(ctx, x, bank, noise, first, gamma, beta, last, offset, running, eps):
        pieces, weights = _pieces(x), last * noise
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        maps, centers = y.new_empty(*x.shape[:2], len(last), x.shape[3]), y.new_empty(*x.shape[:2], *last.shape)
        rows = y.new_empty(2, *x.shape[:3])  # mean and variance of each channel of each group and image
        for p in pieces:
            torch.matmul(first, _modulated(x[p], bank[p]), out=y[p])
            if running is None:
                rows[0, p] = y[p].mean(3)
                rows[1, p] = torch.linalg.vector_norm(y[p] - rows[0, p, ..., None], dim=3).square_() / x.shape[3]
        if running is None:
            spread, mean = torch.var_mean(rows[0], (0, 1), correction=0)
            variance = rows[1].mean((0, 1)) + spread
        else:
            mean, variance = (t.clone() for t in running)
        rate = torch.rsqrt(variance + eps)
        for p in pieces:
            hidden = y[p].sub_(mean[:, None]).mul_(rate[:, None]).mul(gamma[:, None]).add_(beta[:, None]).relu_()
            torch.matmul(weights[p], hidden, out=maps[p]).add_(offset[:, None])
            torch.matmul(maps[p], _modulated(x[p], bank[p]).mT, out=centers[p])
        ctx.training = running is None
        ctx.save_for_backward(x, bank, noise, first, gamma, beta, last, rate, y, maps)
        ctx.mark_non_differentiable(mean, variance)
        return maps, centers, mean, variance

    @staticmethod
    @differentiable_once
    def backward(ctx, grad_maps, grad_centers, *_):
        x, bank, noise, first, gamma, beta, last, rate, y, maps = ctx.saved_tensors
        pieces, weights = _pieces(x), last * noise
        grad_first, grad_gamma, grad_beta, grad_last, grad_offset = (
            torch.zeros_like(t) for t in (first, gamma, beta, last, last[:, 0])
        )
        # Holds the gradient of γy + β first, then piece by piece that of x: one large tensor, not two.
        grad_x = torch.empty_like(y)
        for p in pieces:
            grad = torch.matmul(grad_centers[p], _modulated(x[p], bank[p])).add_(grad_maps[p])
            hidden = (y[p] * gamma[:, None]).add_(beta[:, None]).relu_()
            grad_last += (torch.matmul(grad, hidden.mT) * noise[p]).sum((0, 1))
            grad_offset += grad.sum(3).sum((0, 1))
            torch.matmul(weights[p].mT, grad, out=grad_x[p])
            torch.ops.aten.threshold_backward.grad_input(grad_x[p], hidden, 0, grad_input=grad_x[p])
            grad_beta += grad_x[p].sum(3).sum((0, 1))
            grad_gamma += torch.linalg.vecdot(grad_x[p], y[p]).sum((0, 1))
        scale, n = gamma * rate, x.numel() // x.shape[2]
        for p in pieces:
            grad = grad_x[p]
            if ctx.training:  # d W₁s = scale · (d − mean(d) − y · mean(d y)), the scale follows below
                grad.sub_(y[p] * (grad_gamma / n)[:, None]).sub_((grad_beta / n)[:, None])
            spectral = _modulated(x[p], bank[p])
            grad_first += torch.matmul(grad, spectral.mT).sum((0, 1))
            torch.matmul((first * scale[:, None]).mT, grad, out=spectral)
            spectral += torch.matmul(grad_centers[p].mT, maps[p])
            grad.copy_(_modulated(spectral, bank[p]))
        grad_first *= scale[:, None]
        return grad_x, None, None, grad_first, grad_gamma, grad_beta, grad_last, grad_offset, None, None


def _pieces(x: Tensor) -> list[slice]:
    step = max(1, PIECE // x.shape[2])
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _modulated(x: Tensor, bank: Tensor) -> Tensor:
    """x (n,B,c,P) times bank (n,1,w,1,P), each wave for a run of c/w channels."""
    return (x.unflatten(2, (bank.shape[2], -1)) * bank).flatten(2, 3)
