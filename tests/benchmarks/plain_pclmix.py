"""PCLMix's queue contrast as its equations stand: what the benchmark compares with. Fixed: it does not follow the
package.

Whole matrices: similarities of all anchors with all entries, their exponentials, which pairs are positive and which
negative, and for each pair the logarithm of its share; the rest is left to autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor


def plain_contrast(anchors: Tensor, labels: Tensor, queue: Tensor, temperature: float = 0.07) -> Tensor:
    """anchors (N,D), queue (K,M,D), unit vectors, labels (N,) -> scalar."""
    classes, length, channels = queue.shape
    entry_labels = torch.arange(classes, device=labels.device).repeat_interleave(length)
    positive = (labels[:, None] == entry_labels[None, :]).to(anchors.dtype)
    negative = 1 - positive
    logits = anchors @ queue.reshape(-1, channels).T / temperature
    logits = logits - logits.max(1, keepdim=True).values.detach()
    exponentials = torch.exp(logits)
    negatives = (exponentials * negative).sum(1, keepdim=True)
    log_share = logits - torch.log(exponentials + negatives)
    return -((positive * log_share).sum(1) / positive.sum(1)).mean()
