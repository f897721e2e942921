"""PCLMix's contrast: drawn pixels against a memory of class means, one mean for each image and class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.sampling import check_temperature
from mpc_lite.contrast.views import differentiable_once, wide
from mpc_lite.errors import InputError

PRESETS = ("lite", "released")
RELEASED_BASE_TEMPERATURE = 0.07  # the release multiplies its loss by τ/0.07, which is 1 only at its own τ
RELEASED_EPSILON = 1e-5  # added to the number of positives before dividing by it
SOFTPLUS_LIMIT = 40.0  # above it log(1 + e^x) is x in double too; torch's own limit, 20, is for fp32
CHUNK_ELEMENTS = 2**18  # similarities held at a time, 1 MB in fp32: they stay in a core's cache


def check_preset(preset: str) -> None:
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r}: expected {' or '.join(PRESETS)}")


class ClassQueue(nn.Module):
    """The memory: for each of K classes the last M class means, unit vectors of D numbers.

    `entries` (K,M,D), `filled` (K,M) bool and `pointer` (K,) int64, the next slot, are buffers: saved and loaded with a
    module, no gradient. Each process of a distributed run fills its own.

    preset "lite" holds all classes and starts empty. "released" starts full of random unit vectors, is never given
    anything of class 0, and has zero vectors for it when it is read (`queue_contrast`): in forgery data class 0 is all
    that is authentic.
    """

    def __init__(self, classes: int, length: int, channels: int, preset: str = "lite"):
        super().__init__()
        check_preset(preset)
        if classes < 1 or length < 1 or (preset == "released" and classes < 2):
            raise InputError(f"a queue of {classes} classes and {length} entries: expected two classes, an entry")
        self.preset = preset
        random = F.normalize(torch.randn(classes, length, channels), dim=2)
        self.register_buffer("entries", random if preset == "released" else torch.zeros_like(random))
        self.register_buffer("filled", torch.full((classes, length), preset == "released"))
        self.register_buffer("pointer", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def update(self, embedding: Tensor, labels: Tensor) -> None:
        """Write the mean of each class in each image over the oldest entries; classes that an image lacks write none.

        embedding: (B,D,h,w), unit vectors over D. labels: (B,h,w), 0…K−1, any other value for none. The mean is
        brought to length 1 again. No value is read back to the host. InputError: more images than a class has entries.
        Source: PCLMix, released code.
        """
        classes, length, _ = self.entries.shape
        if len(labels) > length:
            raise InputError(f"{len(labels)} images for a queue of {length} entries a class; lengthen it")
        member = labels.flatten(1).unsqueeze(1) == torch.arange(classes, device=labels.device)[:, None]
        present = member.any(2)  # (B,K)
        if self.preset == "released":
            present[:, 0] = False
        with torch.autocast(embedding.device.type, enabled=False):
            pixels = embedding.flatten(2).transpose(1, 2).to(self.entries.dtype)
            means = F.normalize(torch.bmm(member.to(pixels.dtype), pixels), dim=2)  # a sum has its mean's direction
        # Slots in turn, first to the images that have the class: the others write what is there already.
        rank = torch.where(present, present.cumsum(0) - 1, present.sum(0) + (~present).cumsum(0) - 1)
        slot, label = (self.pointer + rank) % length, torch.arange(classes, device=labels.device).expand_as(rank)
        self.entries[label, slot] = torch.where(present[..., None], means, self.entries[label, slot])
        self.filled[label, slot] |= present
        self.pointer.copy_((self.pointer + present.sum(0)) % length)


def queue_contrast(
    anchors: Tensor,
    labels: Tensor,
    entries: Tensor,
    filled: Tensor | None = None,
    temperature: float = 0.07,
    preset: str = "lite",
    valid: Tensor | None = None,
    number: Tensor | None = None,
    implementation: str = "fused",
) -> Tensor:
    """InfoNCE of each anchor with every entry of its class, the entries of the other classes as negatives.

        L = mean_i 1/|P_i| Σ_{p∈P_i} log(1 + Σ_{n∈N_i} e^{(a_i·q_n − a_i·q_p)/τ})

    anchors:  (N,D) unit vectors, floating point. labels: (N,) int64, 0…K−1.
    entries:  (K,M,D), `ClassQueue.entries`. filled: (K,M) bool, which of them count; None: all.
    preset:   "lite" leaves anchors without a positive or a negative entry out of the mean. "released" is what the
              release computes: class 0 has M zero vectors for entries; with the columns of class 1, …, K−1, 0 side by
              side anchor number i never has column i for a positive; |P_i| + 1e-5 in place of |P_i|; the loss times
              τ / `RELEASED_BASE_TEMPERATURE`.
    valid:    (N,) bool, None: all. number: (N,) int64, `Anchors.number`; None: 0…N−1. Used by "released" alone.
    implementation: "fused" holds 1 MB of similarities at a time and forms the gradient on the way, "dense" is the
              readable twin with whole matrices. Same values, same gradients.
    Returns a scalar in fp32 (double stays double); an attached zero without a usable anchor.
    Raises InputError for shapes that do not fit, a temperature that is not positive, unknown names, on the CPU labels
    outside 0…K−1, and under "released" more anchors than columns.
    Source: PCLMix, released code; "lite" is ours.
    """
    check_preset(preset)
    check_temperature(temperature, learns=implementation == "dense")
    if implementation not in ("fused", "dense"):
        raise InputError(f"implementation {implementation!r}: expected fused or dense")
    if anchors.ndim != 2 or entries.ndim != 3 or anchors.shape[1:] != entries.shape[2:]:
        raise InputError(f"anchors {tuple(anchors.shape)}, entries {tuple(entries.shape)}: expected (N,D) and (K,M,D)")
    (n, _), (classes, length, _) = anchors.shape, entries.shape
    if labels.shape != (n,) or (filled is not None and filled.shape != (classes, length)):
        raise InputError(f"labels {tuple(labels.shape)} or filled: expected {(n,)} and {(classes, length)}")
    on_host = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_host and ((labels < 0) | (labels >= classes)).any():
        raise InputError(f"labels {labels.min().item()} to {labels.max().item()}: expected 0 to {classes - 1}")
    valid = torch.ones_like(labels, dtype=torch.bool) if valid is None else valid
    own = None
    if preset == "released":
        if on_host and int(valid.sum()) > classes * length:
            raise InputError(
                f"{int(valid.sum())} anchors for {classes} x {length} entries: the release strikes out entry number i "
                "for anchor number i, and there are not so many; lengthen the queue, draw fewer anchors, or take "
                "preset='lite', which strikes out nothing"
            )
        number = torch.arange(n, device=labels.device) if number is None else number
        # Column i of the release is slot i mod M of class 1 + ⌊i/M⌋, class 0 last.
        own = torch.where((1 + number // length) % classes == labels, number % length, -1)
        entries = torch.cat([torch.zeros_like(entries[:1]), entries[1:]])
    else:
        held = filled.sum(1) if filled is not None else torch.full((classes,), length, device=labels.device)
        valid = valid & (held[labels] > 0) & (held.sum() > held[labels])
    weight = valid.to(wide(anchors.dtype)) / valid.sum().clamp_min(1)
    epsilon = RELEASED_EPSILON if preset == "released" else 0.0
    if implementation == "dense":
        loss = _dense(anchors, labels, entries, filled, own, weight, temperature, epsilon)
    else:
        grads = torch.is_grad_enabled()
        wanted = grads and anchors.requires_grad, grads and entries.requires_grad
        loss = _Fused.apply(anchors, entries, labels, filled, own, weight, temperature, epsilon, wanted)
    return loss * (temperature / RELEASED_BASE_TEMPERATURE) if preset == "released" else loss


def _positives(labels: Tensor, filled: Tensor | None, own: Tensor | None, length: int) -> Tensor:
    """(N,M) bool: which entries of an anchor's class are its positives."""
    shape = len(labels), length
    chosen = torch.ones(shape, dtype=torch.bool, device=labels.device) if filled is None else filled[labels]
    return chosen if own is None else chosen & (torch.arange(length, device=labels.device) != own[:, None])


def _dense(anchors, labels, entries, filled, own, weight, temperature, epsilon) -> Tensor:
    """The formula, read from top to bottom, with whole (N,K,M) similarities."""
    with torch.autocast(anchors.device.type, enabled=False):
        entries = entries.to(weight.dtype)
        logits = torch.einsum("nd,kmd->nkm", anchors.to(weight.dtype) / temperature, entries)
    same = labels[:, None, None] == torch.arange(len(entries), device=labels.device)[:, None]  # (N,K,1)
    out = same if filled is None else same | ~filled
    repulsion = logits.masked_fill(out, -math.inf).flatten(1).logsumexp(1)
    attraction = (logits * same).sum(1)
    positives = _positives(labels, filled, own, entries.shape[1])
    losses = torch.where(positives, F.softplus(repulsion[:, None] - attraction, threshold=SOFTPLUS_LIMIT), 0).sum(1)
    return (torch.where(weight > 0, losses / (positives.sum(1, dtype=losses.dtype) + epsilon), 0) * weight).sum()


class _Fused(torch.autograd.Function):
    """The loss and, in the same sweep over chunks of anchors, its gradient; between the passes it keeps that alone.

    With ν_i = log Σ_n e^{a_i·q_n/τ} and s_ip = σ(ν_i − a_i·q_p/τ), the gradient with respect to the similarities over τ
    is −s_ip/|P_i| for a positive and Σ_p s_ip/|P_i| times softmax_n for a negative.
    """

    @staticmethod
    def forward(ctx, anchors, entries, labels, filled, own, weight, temperature, epsilon, wanted):
        classes, length, channels = entries.shape
        fine, columns = weight.dtype, classes * length
        flat = entries.reshape(columns, channels).to(fine)
        value = weight.new_zeros(())
        d_anchors = torch.zeros_like(anchors, dtype=fine) if wanted[0] else None
        d_entries = torch.zeros_like(flat) if wanted[1] else None
        step = max(1, CHUNK_ELEMENTS // columns)
        with torch.autocast(anchors.device.type, enabled=False):
            for start in range(0, len(anchors), step):
                rows = slice(start, start + step)
                a, label = anchors[rows].to(fine) / temperature, labels[rows]
                logits = (a @ flat.T).view(-1, classes, length)
                column = label[:, None, None].expand(-1, 1, length)
                attraction = logits.gather(1, column).squeeze(1)
                logits.scatter_(1, column, -math.inf)
                if filled is not None:
                    logits.masked_fill_(~filled, -math.inf)
                top = logits.amax((1, 2), keepdim=True).clamp_min_(torch.finfo(fine).min)  # −∞ − (−∞) would be NaN
                total = logits.sub_(top).exp_().sum((1, 2))
                margin = (top.flatten() + total.log())[:, None] - attraction
                positives = _positives(label, filled, None if own is None else own[rows], length)
                share = weight[rows] / (positives.sum(1, dtype=fine) + epsilon).clamp_min(epsilon or 1)
                value += (F.softplus(margin, threshold=SOFTPLUS_LIMIT).mul_(positives).sum(1) * share).sum()
                if not any(wanted):
                    continue
                pull = margin.sigmoid_().mul_(positives).mul_(share[:, None])
                logits *= (pull.sum(1) / total.clamp_min(torch.finfo(fine).tiny))[:, None, None]
                logits.scatter_(1, column, pull.neg_().unsqueeze(1))
                slopes = logits.flatten(1)
                if wanted[0]:
                    d_anchors[rows] = (slopes @ flat).div_(temperature)
                if wanted[1]:
                    d_entries.addmm_(slopes.T, a)
        ctx.save_for_backward(d_anchors, d_entries)
        ctx.types = anchors.dtype, entries.dtype, entries.shape
        return value

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        d_anchors, d_entries = ctx.saved_tensors
        a, e, shape = ctx.types
        d_anchors = None if d_anchors is None else (d_anchors * grad).to(a)
        d_entries = None if d_entries is None else (d_entries * grad).to(e).view(shape)
        return d_anchors, d_entries, None, None, None, None, None, None, None
