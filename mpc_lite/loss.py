"""The losses: mean-positive InfoNCE in small memory, MPC's contrastive loss in two formulations, and the focal loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from mpc_lite.config import InputError
from mpc_lite.sampling import PixelSet
from mpc_lite.views import IGNORE, Term, check_labels, check_maps, draw_terms, label_pyramid, unit_vectors, wide

CHUNK_ELEMENTS = 2**22  # similarities held at a time: 16 MB in fp32


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
        for images, rows, _, _, _, logits in _chunks(anchors, candidates, valid, *ctx.options):
            lse[images, rows] = torch.logsumexp(logits, -1)
        ctx.save_for_backward(anchors, candidates, valid, lse)
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        anchors, candidates, valid, lse = ctx.saved_tensors
        lse = lse.masked_fill(lse == -math.inf, 0)  # there exp(−∞ − 0) gives weights 0, where −∞ + ∞ would give NaN
        grad = grad / ctx.options[0]
        d_anchors = torch.zeros_like(anchors, dtype=lse.dtype)
        d_candidates = torch.zeros_like(candidates, dtype=lse.dtype)
        for images, rows, count, a, c, logits in _chunks(anchors, candidates, valid, *ctx.options):
            weights = logits.sub_(lse[images, rows, None]).exp_().mul_(grad[images, rows, None]).to(c.dtype)
            d_anchors[images, rows] = torch.bmm(weights, c).to(lse.dtype)
            d_candidates[images, :count] += torch.bmm(weights.transpose(1, 2), a)
        return d_anchors.to(anchors.dtype), d_candidates.to(candidates.dtype), None, None, None, None, None


def _chunks(anchors, candidates, valid, temperature, skip_self, blocks, dtype) -> Iterator[tuple]:
    """Yield (images, rows, M, a, c, logits (b,rows,M) in fp32 or wider) for chunks of anchors that fit the budget."""
    for images, n, m in blocks:
        c = candidates[images, :m].to(dtype)
        hidden = ~valid[images, None, :m]
        step = max(1, CHUNK_ELEMENTS // (c.shape[0] * m))
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            a = anchors[images, rows].to(dtype)
            logits = torch.bmm(a, c.transpose(1, 2)).to(wide(anchors.dtype)).mul_(1 / temperature)
            logits.masked_fill_(hidden, -math.inf)
            if skip_self:  # anchor number start + r meets itself in column start + r
                logits.diagonal(offset=start, dim1=1, dim2=2).fill_(-math.inf)
            yield images, rows, m, a, c, logits


def _blocks(anchor_valid: torch.Tensor, valid: torch.Tensor) -> list[tuple[slice, int, int]]:
    """What to compute together: (images, number of anchors, number of candidates)."""
    # On the CPU each image by itself, cut after its last valid row, so that padding costs nothing. Elsewhere reading
    # those counts would make the host wait for the device, and the batch is one block.
    (batch, n), m = anchor_valid.shape, valid.shape[1]
    if n == 0 or m == 0:
        return []
    if valid.device.type != "cpu" or torch.compiler.is_compiling():
        return [(slice(0, batch), n, m)]
    ends = [(v * torch.arange(1, v.shape[1] + 1)).amax(1).tolist() for v in (anchor_valid, valid)]
    return [(slice(i, i + 1), n, m) for i, (n, m) in enumerate(zip(*ends, strict=True)) if n and m]


def _log_sum_exp(anchors: PixelSet, candidates: PixelSet, temperature: float, skip_self: bool = False) -> torch.Tensor:
    a, c, dtype = anchors.embeddings, candidates.embeddings, anchors.embeddings.dtype
    c = a.view_as(a) if c is a else c  # torch.compile takes no tensor twice
    if torch.is_autocast_enabled(a.device.type) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(a.device.type)
    blocks = _blocks(anchors.valid, candidates.valid)
    return _LogSumExp.apply(a, c, candidates.valid, temperature, skip_self, blocks, dtype)


def _chunked(anchors: PixelSet, negatives: PixelSet, temperature: float) -> torch.Tensor:
    """Loss of each anchor, (B,N). The mean similarity p_i needs no N×N matrix: p_i = (a_i·S − a_i·a_i)/(n − 1)."""
    a, valid = anchors.embeddings.to(wide(anchors.embeddings.dtype)), anchors.valid
    with torch.autocast(a.device.type, enabled=False):
        total = torch.bmm(valid.to(a.dtype).unsqueeze(1), a)  # S, (B,1,D)
        others = (valid.sum(1, keepdim=True) - 1).clamp_min(1)
        positive = (torch.bmm(a, total.transpose(1, 2)).squeeze(2) - a.square().sum(2)) / others / temperature
    return torch.logaddexp(positive, _log_sum_exp(anchors, negatives, temperature)) - positive


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
    implementation: str = "chunked",
    reduction: str = "mean",
) -> torch.Tensor:
    """InfoNCE whose positive logit is an anchor's mean similarity to the other anchors.

        loss = mean_i −log [ e^{p_i/τ} / (e^{p_i/τ} + Σ_j e^{a_i·n_j/τ}) ],    p_i = mean_{k≠i} a_i·a_k

    anchors:        (N,D) or (B,N,D) unit vectors, floating point. Doubles stay doubles; all else is summed in fp32.
    negatives:      (M,D) or (B,M,D) unit vectors, same dtype. An anchor meets only the rows of its own image.
    temperature:    τ > 0.
    anchor_valid:   (N,) or (B,N) bool, negative_valid: (M,) or (B,M) bool; None means all rows are valid.
    implementation: "chunked" holds a few MB of similarities at a time and forms them again in the backward pass;
                    "dense" is its readable twin with whole matrices. Same values, same gradients.
    reduction:      "mean" gives a scalar: the mean over the images that have two valid anchors and a valid negative, a
                    zero attached to the graph when there are none. "none" gives (B,) with attached zeros for the images
                    without (a scalar for input without a batch axis).
    Raises InputError for shapes that do not fit together, a temperature that is not positive, unknown names.
    Source: released code, stage-1 losses.
    """
    check_temperature(temperature)
    if reduction not in ("mean", "none"):
        raise InputError(f"reduction {reduction!r}: expected mean or none")
    if implementation not in ("chunked", "dense"):
        raise InputError(f"implementation {implementation!r}: expected chunked or dense")
    first = _pixel_set(anchors, anchor_valid, "anchors")
    second = _pixel_set(negatives, negative_valid, "negatives")
    (batch, _, channels), other = first.embeddings.shape, second.embeddings.shape
    if anchors.ndim != negatives.ndim or (batch, channels) != (other[0], other[2]):
        found = f"anchors {tuple(anchors.shape)} with negatives {tuple(negatives.shape)}"
        raise InputError(f"{found}: expected (N,D) with (M,D) or (B,N,D) with (B,M,D)")
    per_anchor = (_chunked if implementation == "chunked" else _dense)(first, second, temperature)
    n = first.valid.sum(1)
    usable = (n >= 2) & second.valid.any(1)
    values = _masked_sum(per_anchor, first.valid & usable.unsqueeze(1)) / n.clamp_min(1)
    if reduction == "mean":
        return values.sum() / usable.sum().clamp_min(1)
    return values if anchors.ndim == 3 else values[0]


def _pixel_set(embeddings: torch.Tensor, valid: torch.Tensor | None, name: str) -> PixelSet:
    if embeddings.ndim not in (2, 3):
        raise InputError(f"{name} {tuple(embeddings.shape)}: expected (N,D) or (B,N,D)")
    if valid is None:
        valid = torch.ones(embeddings.shape[:-1], dtype=torch.bool, device=embeddings.device)
    if valid.dtype != torch.bool or valid.shape != embeddings.shape[:-1]:
        found, expected = (valid.dtype, tuple(valid.shape)), (torch.bool, tuple(embeddings.shape[:-1]))
        raise InputError(f"validity of {name} {found}: expected {expected}")
    return PixelSet(embeddings, valid) if embeddings.ndim == 3 else PixelSet(embeddings[None], valid[None])


def _masked_sum(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Sum over the valid entries of each row, (B,N) to (B,); the others, NaN and ∞ included, are attached zeros."""
    return torch.where(valid, values, 0).sum(1)


def check_temperature(temperature: float) -> None:
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature {temperature}: expected a positive number, such as 0.1")


def paper_contrast(term: Term, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """MPC's loss as printed, averaged over the anchors of one class: −log of mean e^{positives} over Σ e^{negatives}.

        L_x = −log [ (1/|P_x|) Σ_{x⁺} e^{x·x⁺/τ} / Σ_{x⁻} e^{x·x⁻/τ} ]

    The denominator holds the negatives only, so the loss may be negative.
    Returns (B,) values and (B,) bool, which images have an anchor with a positive and a negative; the others are zero.
    Source: MPC Eqs. 1-3; unit vectors and τ = 0.1 are our choices.
    """
    skip_self = term.positives is term.anchors
    positives = term.positives.valid.sum(1) - int(skip_self)
    n = term.anchors.valid.sum(1)
    present = (n > 0) & (positives > 0) & term.negatives.valid.any(1)
    attraction = _log_sum_exp(term.anchors, term.positives, temperature, skip_self)
    repulsion = _log_sum_exp(term.anchors, term.negatives, temperature)
    per_anchor = repulsion - attraction + positives.clamp_min(1).to(repulsion.dtype).log().unsqueeze(1)
    return _masked_sum(per_anchor, term.anchors.valid & present.unsqueeze(1)) / n.clamp_min(1), present


def mpc_loss_per_image(
    maps_a: Sequence[torch.Tensor],
    maps_b: Sequence[torch.Tensor],
    mask: torch.Tensor,
    formulation: str = "official",
    temperature: float = 0.1,
    max_pixels: int | None = None,
    generator: torch.Generator | None = None,
    path: str = "auto",
    terms: Sequence[str] | None = None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """MPC's three terms for each image, before the batch mean.

    Arguments as in `mpc_loss`, `path` as in `sample_pixels`.
    Returns ({"within_image", "cross_scale", "cross_modality"}: (B,) each, counted (B,) bool, see `counted_images`).
    Images that do not count are attached zeros. In an image that counts, a term without pixels (a forgery that no
    coarse map shows) is an attached zero.
    Several processes share one mean through the sum of these values and the all-reduced sum of `counted`.
    """
    check_maps(maps_a, maps_b)
    check_temperature(temperature)
    if max_pixels is not None and max_pixels < 2:
        raise InputError(f"max_pixels {max_pixels}: expected at least 2 (an anchor and its positive), or None for all")
    labels = label_pyramid(mask, maps_a)
    views_a, views_b = [unit_vectors(m) for m in maps_a], [unit_vectors(m) for m in maps_b[:1]]
    counted = counted_images(labels[0], formulation)
    losses = {}
    drawn = draw_terms(views_a, views_b, labels, formulation, max_pixels, generator, path, terms)
    for name, contrasts in drawn.items():
        if formulation == "official":
            value = sum(
                mean_positive_infonce(a, n, temperature, a_valid, n_valid, reduction="none")
                for (a, a_valid), _, (n, n_valid) in contrasts
            )
        else:
            pairs = [paper_contrast(t, temperature) for t in contrasts]
            values, present = (torch.stack(x) for x in zip(*pairs, strict=True))
            value = values.sum(0) / present.sum(0).clamp_min(1)
        losses[name] = torch.where(counted, value, 0)
    return losses, counted


def counted_images(labels: torch.Tensor, formulation: str = "official") -> torch.Tensor:
    """Which images the mean is taken over: labels (B,h,w) of the finest map -> (B,) bool.

    An image counts when it holds both classes; the official formulation, whose authentic anchors need company, asks for
    two authentic pixels.
    """
    authentic, tampered = ((labels == target).sum((1, 2)) for target in (0, 1))
    return (authentic >= (2 if formulation == "official" else 1)) & (tampered >= 1)


def mpc_loss(
    maps_a: Sequence[torch.Tensor],
    maps_b: Sequence[torch.Tensor],
    mask: torch.Tensor,
    formulation: str = "official",
    temperature: float = 0.1,
    max_pixels: int | None = None,
    generator: torch.Generator | None = None,
    terms: Sequence[str] | None = None,
) -> dict[str, torch.Tensor]:
    """MPC's contrastive loss of two passes over one batch: within-image + cross-scale + cross-modality.

    "official", with authentic anchors only, InfoNCE(a | n) as in `mean_positive_infonce`, A authentic, T tampered:
        within_image   = InfoNCE(A(X1) | T(X1))
        cross_scale    = InfoNCE(A(X1) | T(X2∪X3∪X4)) + InfoNCE(A(X2∪X3∪X4) | T(X1))
        cross_modality = InfoNCE(A(X1) | T(Y1)) + InfoNCE(A(Y1) | T(X1))
    "paper": anchors of both classes from X1, mean over anchors, then over the classes present; see `paper_contrast`.

    maps_a, maps_b: the lists `model.encode` returns for two passes, (B,D,h,w) each, finest first, not normalised: L2
                    normalisation over the channels happens here. Two maps or more; of maps_b only the first is used.
    mask:           (B,H,W) 1 tampered, 0 authentic, 255 ignored, any size and dtype; see `views.label_pyramid`.
    temperature:    τ > 0.
    max_pixels:     cap on the pixels of a class drawn from a pool, at least 2 (released code: 5000); None for all.
    generator:      random numbers of the draws, on the device of the maps; None takes the global one.
    terms:          those to compute and add up, the names below; None takes all three (MPC, Table 8 leaves some out).
    Returns {"within_image", "cross_scale", "cross_modality", "total"}: scalars, in fp32 unless the maps are double.
    They are means over the images that hold both classes (`mpc_loss_per_image`); a batch without such an image gives
    zeros that stay attached to the graph.
    Raises InputError for shapes that do not fit together, mask values other than 0, 1 and 255 (on the CPU), an unknown
    formulation or term, and a temperature or cap out of range.
    Source: released code, stage-1 losses ("official"; it counts one-class images as 0 in the mean, we leave them out);
    MPC Eqs. 1-4 ("paper").
    """
    losses, counted = mpc_loss_per_image(
        maps_a, maps_b, mask, formulation, temperature, max_pixels, generator, terms=terms
    )
    means = {name: values.sum() / counted.sum().clamp_min(1) for name, values in losses.items()}
    return {**means, "total": sum(means.values())}


def focal_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    alpha: float = 0.5,
    gamma: float = 2.0,
    ignore: int = IGNORE,
    reduction: str = "mean",
) -> torch.Tensor:
    """Focal loss of a score map, the mean over the pixels that are not ignored.

        L = −α (1−p)^γ y log p − (1−α) p^γ (1−y) log(1−p),    p = sigmoid(logit)

    With γ = 0 it is binary cross-entropy weighted by α and 1 − α. Computed from logits in fp32 (double stays double),
    so it stays finite for any finite logit.
    logits: any shape, floating point. target: same shape, any dtype, 1 tampered, 0 authentic, `ignore` left out.
    alpha:  weight of the tampered class, in [0,1]. gamma: ≥ 0, how strongly well-classified pixels are discounted.
    reduction: "mean", or "sum" for a mean that several batches share.
    Returns a scalar; a zero attached to the graph when every pixel is ignored.
    Raises InputError when shapes differ, alpha or gamma is out of range, the reduction is unknown, or (on the CPU) a
    target has another value.
    Source: MPC Eq. 5; released code, stage-2 loss (alpha 0.5, gamma 2).
    """
    if logits.shape != target.shape:
        raise InputError(f"logits {tuple(logits.shape)} with target {tuple(target.shape)}: expected equal shapes")
    if not 0 <= alpha <= 1 or not (gamma >= 0 and math.isfinite(gamma)):
        raise InputError(f"alpha {alpha}, gamma {gamma}: expected alpha in [0,1] and gamma of at least 0")
    if reduction not in ("mean", "sum"):
        raise InputError(f"reduction {reduction!r}: expected mean or sum")
    check_labels(target, "target", ignore)
    tampered, kept = target == 1, target != ignore
    logits = logits.to(wide(logits.dtype))
    margin = torch.where(tampered, logits, -logits)  # logit of the true class: p_true = sigmoid(margin)
    weight = torch.full_like(logits, 1 - alpha).masked_fill(tampered, alpha)
    # (1 − p_true)^γ as exp(γ log(1 − p_true)): a power of an underflowed zero has no gradient for γ < 1.
    loss = -weight * torch.exp(gamma * F.logsigmoid(-margin)) * F.logsigmoid(margin)
    total = torch.where(kept, loss, 0).sum()
    return total if reduction == "sum" else total / kept.sum().clamp_min(1)
