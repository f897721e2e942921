"""Mean-positive InfoNCE, exact and in small memory: negatives go by in chunks, and no similarity matrix is ever whole.

Three implementations with equal values and gradients. They differ in when the gradient is formed:

dense     whole matrices, left to autograd: the formula, read from top to bottom.
chunked   a chunk of similarities at a time; the backward pass forms each chunk again. Four matrix products.
fused     a chunk at a time; its share of the gradient is formed while the chunk is there. Three matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from mpc_lite.contrast.sampling import PixelSet, check_temperature, check_tensors
from mpc_lite.contrast.views import differentiable_once, wide
from mpc_lite.errors import InputError

CHUNK_ELEMENTS = 2**22  # similarities held at a time: 16 MB in fp32
IMPLEMENTATIONS = ("fused", "chunked", "dense")


class _LogSumExp(torch.autograd.Function):
    """lse[b,i] = log Σ_j exp(a_i·c_j / τ) over the valid candidates j, (B,N), never holding all (B,N,M) products.

    The forward pass keeps one number per anchor. The backward pass forms each chunk again: with the softmax weights
    w_ij = exp(a_i·c_j/τ − lse_i), d lse_i/d a_i = Σ_j w_ij c_j / τ and d lse_i/d c_j = w_ij a_i / τ.
    Products in `dtype` (the autocast dtype), everything that is summed in fp32 or wider.
    """

    @staticmethod
    def forward(ctx, anchors, candidates, valid, temperature, skip_self, blocks, dtype):
        # Anchors outside every block (padding, or an image without candidates) keep the sum over nothing, log 0.
        lse = anchors.new_full(anchors.shape[:2], -math.inf, dtype=wide(anchors.dtype))
        ctx.options = (temperature, skip_self, blocks, dtype)
        for images, rows, _, _, logits in _chunks(anchors, candidates, valid, *ctx.options):
            top, total = _exponentials(logits)
            lse[images, rows] = top + total.log()
            del logits
        ctx.save_for_backward(anchors, candidates, valid, lse)
        return lse

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        anchors, candidates, valid, lse = ctx.saved_tensors
        lse = lse.masked_fill(lse == -math.inf, 0)  # there exp(−∞ − 0) gives weights 0, where −∞ + ∞ would give NaN
        grad = grad.unsqueeze(2) / ctx.options[0]
        d_anchors = torch.zeros_like(anchors, dtype=lse.dtype)
        d_candidates = torch.zeros_like(candidates, dtype=lse.dtype)
        for images, rows, count, c, logits in _chunks(anchors, candidates, valid, *ctx.options):
            weights = logits.sub_(lse[images, rows, None]).exp_().to(c.dtype)
            d_anchors[images, rows] = torch.bmm(weights, c) * grad[images, rows]
            pushed = (anchors[images, rows] * grad[images, rows]).to(c.dtype)
            _add_product(d_candidates[images, :count], weights.transpose(1, 2), pushed)
            del weights, logits
        return d_anchors.to(anchors.dtype), d_candidates.to(candidates.dtype), None, None, None, None, None


class _Fused(torch.autograd.Function):
    """The loss of each image, (B,), and in the same sweep its gradient: a chunk is used for both before it goes.

    The loss is a mean over anchors, so what comes from above is one number an image, which scales a gradient that is
    already there. With ℓ_i the loss of anchor i, u_i = 1 − e^{−ℓ_i} and w_ij = u_i·softmax_j(a_i·n_j/τ):

        dL/dn_j = 1/(nτ) Σ_i w_ij a_i
        dL/da_i = 1/(nτ) [ Σ_j w_ij n_j − u_i (S − a_i)/(n − 1) − (Σ_k u_k a_k − u_i a_i)/(n − 1) ],    S = Σ_k a_k

    Between the passes it keeps these two and not its inputs.
    """

    @staticmethod
    def forward(ctx, anchors, negatives, anchor_valid, negative_valid, temperature, blocks, dtype, wanted):
        fine = wide(anchors.dtype)
        usable = usable_anchors(anchor_valid, negative_valid)
        n = anchor_valid.sum(1, keepdim=True).to(fine)
        positive = _positives(anchors, anchor_valid, temperature)
        losses, pull = torch.zeros_like(positive), torch.zeros_like(positive)
        d_anchors = torch.zeros_like(anchors, dtype=fine) if wanted[0] else None
        d_negatives = torch.zeros_like(negatives, dtype=fine) if wanted[1] else None
        for images, rows, m, c, logits in _chunks(
            anchors, negatives, negative_valid, temperature, False, blocks, dtype
        ):
            top, total = _exponentials(logits)
            p = positive[images, rows]
            loss = torch.logaddexp(p, top + total.log()) - p
            losses[images, rows] = loss = torch.where(usable[images, rows], loss, 0)
            pull[images, rows] = u = -torch.expm1(-loss) / (n[images] * temperature)
            weights, scale = logits.to(c.dtype), (u / total.clamp_min(torch.finfo(fine).tiny)).unsqueeze(2)
            if wanted[0]:
                d_anchors[images, rows] = torch.bmm(weights, c) * scale
            if wanted[1]:
                pushed = (anchors[images, rows] * scale).to(c.dtype)
                _add_product(d_negatives[images, :m], weights.transpose(1, 2), pushed)
            del weights, logits
        if wanted[0]:
            a, pull = anchors.to(fine), pull.unsqueeze(2)
            crowd, called = torch.bmm(anchor_valid.to(fine).unsqueeze(1), a), torch.bmm(pull.transpose(1, 2), a)
            towards = (pull * (crowd - 2 * a) + called) / (n - 1).clamp_min(1).unsqueeze(2)
            d_anchors -= towards.masked_fill_(~usable.unsqueeze(2), 0)
        ctx.save_for_backward(d_anchors, d_negatives)
        ctx.dtypes = anchors.dtype, negatives.dtype
        return losses.sum(1) / n.squeeze(1).clamp_min(1)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        grad = grad[:, None, None]
        scaled = [d if d is None else (d * grad).to(t) for d, t in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return *scaled, None, None, None, None, None, None


def _chunks(anchors, candidates, valid, temperature, skip_self, blocks, dtype) -> Iterator[tuple]:
    """Yield (images, rows, M, c, logits (b,rows,M) in fp32 or wider) for chunks of anchors that fit the budget.

    Who has used a chunk deletes it, or two would be in memory, and in the cache, while the next one is formed.
    """
    for images, n, m, padded in blocks:
        c = candidates[images, :m].to(dtype)
        step = max(1, CHUNK_ELEMENTS // (c.shape[0] * m))
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            # The anchors take the temperature: dividing them costs far less than dividing all similarities.
            a = (anchors[images, rows] / temperature).to(dtype)
            logits = torch.bmm(a, c.transpose(1, 2)).to(wide(anchors.dtype))
            if padded:
                logits.masked_fill_(~valid[images, None, :m], -math.inf)
            if skip_self:  # anchor number start + r meets itself in column start + r
                logits.diagonal(offset=start, dim1=1, dim2=2).fill_(-math.inf)
            yield images, rows, m, c, logits
            del logits


def _exponentials(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn logits, in place, into e^{logit − top} with top the largest of the row; returns top and the rows' sums."""
    top = logits.amax(2, keepdim=True).clamp_min_(torch.finfo(logits.dtype).min)  # −∞ − (−∞) would be NaN
    logits.sub_(top).exp_()
    return top.squeeze(2), logits.sum(2)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left @ right; in one call where the types allow it."""
    if total.dtype == left.dtype:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)


def _blocks(anchor_valid: torch.Tensor, valid: torch.Tensor) -> list[tuple[slice, int, int, bool]]:
    """What to compute together: (images, number of anchors, of candidates, is a candidate among them invalid?)."""
    # On the CPU each image by itself, cut after its last valid row, so that padding costs nothing. Elsewhere reading
    # those counts would make the host wait for the device, and the batch is one block.
    (batch, n), m = anchor_valid.shape, valid.shape[1]
    if n == 0 or m == 0:
        return []
    if valid.device.type != "cpu" or torch.compiler.is_compiling():
        return [(slice(0, batch), n, m, True)]
    ends = [(v * torch.arange(1, v.shape[1] + 1)).amax(1).tolist() for v in (anchor_valid, valid)]
    counts = valid.sum(1).tolist()
    return [
        (slice(i, i + 1), *sizes, sizes[1] > counts[i]) for i, sizes in enumerate(zip(*ends, strict=True)) if all(sizes)
    ]


def _product_dtype(embeddings: torch.Tensor) -> torch.dtype:
    """What matrix products are computed in: under autocast its dtype, doubles stay doubles."""
    device = embeddings.device.type
    if torch.is_autocast_enabled(device) and embeddings.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return embeddings.dtype


def _twice(anchors: PixelSet, candidates: PixelSet) -> torch.Tensor:
    """The candidates' embeddings; torch.compile takes no tensor twice, so anchors come back as a view."""
    same = candidates.embeddings is anchors.embeddings
    return anchors.embeddings.view_as(anchors.embeddings) if same else candidates.embeddings


def log_sum_exp(anchors: PixelSet, candidates: PixelSet, temperature: float, skip_self: bool = False) -> torch.Tensor:
    """log Σ_j exp(a_i·c_j / τ) over the valid candidates of the anchor's image, (B,N), in chunks; −∞ without any.

    skip_self: candidate number i is anchor i itself and is left out.
    """
    a, c, dtype = anchors.embeddings, _twice(anchors, candidates), _product_dtype(anchors.embeddings)
    blocks = _blocks(anchors.valid, candidates.valid)
    return _LogSumExp.apply(a, c, candidates.valid, temperature, skip_self, blocks, dtype)


def _positives(anchors: torch.Tensor, valid: torch.Tensor, temperature: float) -> torch.Tensor:
    """p_i / τ, (B,N): the mean similarity to the other anchors. p_i = (a_i·S − a_i·a_i)/(n − 1) needs no N×N matrix."""
    a = anchors.to(wide(anchors.dtype))
    with torch.autocast(a.device.type, enabled=False):
        total = torch.bmm(valid.to(a.dtype).unsqueeze(1), a)  # S, (B,1,D)
        others = (valid.sum(1, keepdim=True) - 1).clamp_min(1)
        return (torch.bmm(a, total.transpose(1, 2)).squeeze(2) - a.square().sum(2)) / others / temperature


def _fused(anchors: PixelSet, negatives: PixelSet, temperature: float) -> torch.Tensor:
    """Loss of each image, (B,)."""
    a, c, grads = anchors.embeddings, _twice(anchors, negatives), torch.is_grad_enabled()
    wanted = grads and a.requires_grad, grads and c.requires_grad
    blocks = _blocks(anchors.valid, negatives.valid)
    return _Fused.apply(a, c, anchors.valid, negatives.valid, temperature, blocks, _product_dtype(a), wanted)


def _chunked(anchors: PixelSet, negatives: PixelSet, temperature: float) -> torch.Tensor:
    """Loss of each anchor, (B,N): the mean through S, the negatives through `log_sum_exp`."""
    positive = _positives(*anchors, temperature)
    return torch.logaddexp(positive, log_sum_exp(anchors, negatives, temperature)) - positive


def _dense(anchors: PixelSet, negatives: PixelSet, temperature: float) -> torch.Tensor:
    """Loss of each anchor, (B,N), from whole similarity matrices: the formula, read from top to bottom."""
    a, valid = anchors
    pairs = valid.unsqueeze(1) & ~torch.eye(a.shape[1], dtype=torch.bool, device=a.device)
    similarity = torch.bmm(a, a.transpose(1, 2)).to(wide(a.dtype)) / temperature
    positive = (similarity * pairs).sum(2) / pairs.sum(2).clamp_min(1)
    logits = torch.bmm(a, negatives.embeddings.transpose(1, 2)).to(wide(a.dtype)) / temperature
    logits = logits.masked_fill(~negatives.valid.unsqueeze(1), -math.inf)
    return torch.logsumexp(torch.cat([positive.unsqueeze(2), logits], 2), 2) - positive


def mean_positive_infonce(
    anchors: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float = 0.1,
    anchor_valid: torch.Tensor | None = None,
    negative_valid: torch.Tensor | None = None,
    implementation: str = "fused",
    reduction: str = "mean",
) -> torch.Tensor:
    """InfoNCE whose positive logit is an anchor's mean similarity to the other anchors.

        loss = mean_i −log [ e^{p_i/τ} / (e^{p_i/τ} + Σ_j e^{a_i·n_j/τ}) ],    p_i = mean_{k≠i} a_i·a_k

    anchors:        (N,D) or (B,N,D) unit vectors, floating point. Doubles stay doubles; all else is summed in fp32.
    negatives:      (M,D) or (B,M,D) unit vectors, same dtype. An anchor meets only the rows of its own image.
    temperature:    τ > 0.
    anchor_valid:   (N,) or (B,N) bool, negative_valid: (M,) or (B,M) bool; None means all rows are valid.
    implementation: "fused" holds a few MB of similarities at a time and forms the gradient on the way; "chunked" forms
                    them again in the backward pass, and keeps only its inputs until then; "dense" is the readable twin
                    with whole matrices. Same values, same gradients.
    reduction:      "mean" gives a scalar: the mean over the images that have two valid anchors and a valid negative, a
                    zero attached to the graph when there are none. "none" gives (B,) with attached zeros for the images
                    without (a scalar for input without a batch axis).
    Raises InputError for shapes that do not fit together, a temperature that is not positive, unknown names.
    Source: released code, stage-1 losses.
    """
    check_temperature(temperature, learns=implementation == "dense")
    if reduction not in ("mean", "none"):
        raise InputError(f"reduction {reduction!r}: expected mean or none")
    if implementation not in IMPLEMENTATIONS:
        raise InputError(f"implementation {implementation!r}: expected one of {', '.join(IMPLEMENTATIONS)}")
    first = _pixel_set(anchors, anchor_valid, "anchors")
    second = _pixel_set(negatives, negative_valid, "negatives")
    (batch, _, channels), other = first.embeddings.shape, second.embeddings.shape
    if anchors.ndim != negatives.ndim or (batch, channels) != (other[0], other[2]):
        shapes = f"anchors {tuple(anchors.shape)} with negatives {tuple(negatives.shape)}"
        raise InputError(f"{shapes}: expected (N,D) with (M,D) or (B,N,D) with (B,M,D)")
    usable = usable_anchors(first.valid, second.valid)
    if implementation == "fused":
        values = _fused(first, second, temperature)
    else:
        per_anchor = (_chunked if implementation == "chunked" else _dense)(first, second, temperature)
        values = masked_sum(per_anchor, usable) / first.valid.sum(1).clamp_min(1)
    if reduction == "mean":
        return values.sum() / usable.any(1).sum().clamp_min(1)
    return values if anchors.ndim == 3 else values[0]


def usable_anchors(anchor_valid: torch.Tensor, negative_valid: torch.Tensor) -> torch.Tensor:
    """(B,N) bool: the valid anchors of the images that have two of them and a valid negative."""
    counts = (anchor_valid.sum(1) >= 2) & negative_valid.any(1)
    return anchor_valid & counts.unsqueeze(1)


def _pixel_set(embeddings: torch.Tensor, valid: torch.Tensor | None, name: str) -> PixelSet:
    check_tensors(**{name: embeddings})
    if embeddings.ndim not in (2, 3):
        raise InputError(f"{name} {tuple(embeddings.shape)}: expected (N,D) or (B,N,D)")
    if valid is None:
        valid = torch.ones(embeddings.shape[:-1], dtype=torch.bool, device=embeddings.device)
    if valid.dtype != torch.bool or valid.shape != embeddings.shape[:-1]:
        dtype_and_shape, expected = (valid.dtype, tuple(valid.shape)), (torch.bool, tuple(embeddings.shape[:-1]))
        raise InputError(f"validity of {name} {dtype_and_shape}: expected {expected}")
    return PixelSet(embeddings, valid) if embeddings.ndim == 3 else PixelSet(embeddings[None], valid[None])


def masked_sum(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Sum over the valid entries of each row, (B,N) to (B,); the others, NaN and ∞ included, are attached zeros."""
    return torch.where(valid, values, 0).sum(1)
