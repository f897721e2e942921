"""The dense loss: what the benchmarks compare the contrastive loss with. Fixed: it does not follow the package.

One product of all anchors with all anchors, its diagonal removed, the mean of each row; one product of all anchors
with all negatives; both side by side, and cross-entropy with the mean as the right class. The temperature divides the
anchors and not the matrices, and nothing is copied beyond what these steps make.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dense_loss(anchors: Tensor, negatives: Tensor, temperature: float = 0.1) -> Tensor:
    """anchors (N,D), negatives (M,D), unit vectors -> scalar."""
    n, warm = len(anchors), anchors / temperature
    among = warm @ anchors.T
    # Without its first number, a row of the flat matrix n + 1 long ends with a diagonal number.
    others = among.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
    logits = torch.cat([others.mean(1, keepdim=True), warm @ negatives.T], 1)
    return F.cross_entropy(logits, torch.zeros(n, dtype=torch.long, device=logits.device))


def subtracted_loss(anchors: Tensor, negatives: Tensor, temperature: float = 0.1) -> Tensor:
    """The same with less traffic: the diagonal is subtracted from the row's sum, and no matrix without it is made."""
    n, warm = len(anchors), anchors / temperature
    among = warm @ anchors.T
    mean = (among.sum(1) - among.diagonal()) / (n - 1)
    logits = torch.cat([mean.unsqueeze(1), warm @ negatives.T], 1)
    return F.cross_entropy(logits, torch.zeros(n, dtype=torch.long, device=logits.device))


def three_products(anchors: Tensor, negatives: Tensor) -> None:
    """The three matrix products that no exact way can do without: similarities, and the gradient of either side."""
    with torch.no_grad():
        similarities = anchors @ negatives.T
        similarities @ negatives
        similarities.T @ anchors
