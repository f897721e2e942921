"""The losses: MPC's contrastive loss in two formulations, and the focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mpc_lite.contrast.image_by_image import image_by_image, numbered
from mpc_lite.contrast.infonce import log_sum_exp, masked_sum, mean_positive_infonce
from mpc_lite.contrast.sampling import check_cap, check_temperature
from mpc_lite.contrast.views import (
    Term,
    check_maps,
    chosen_terms,
    draw_terms,
    label_pyramid,
    unit_vectors,
)


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
    attraction = log_sum_exp(term.anchors, term.positives, temperature, skip_self)
    repulsion = log_sum_exp(term.anchors, term.negatives, temperature)
    per_anchor = repulsion - attraction + positives.clamp_min(1).to(repulsion.dtype).log().unsqueeze(1)
    return masked_sum(per_anchor, term.anchors.valid & present.unsqueeze(1)) / n.clamp_min(1), present


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
    check_cap(max_pixels, 2, "(an anchor and its positive), or None for all")
    labels = label_pyramid(mask, maps_a)
    counted, names = counted_images(labels[0], formulation), chosen_terms(terms)
    draws = labels, formulation, max_pixels, generator, path
    on_host = maps_a[0].device.type == "cpu" and not torch.compiler.is_compiling()
    if formulation == "official" and on_host and path != "fixed":
        return _official_on_host(maps_a, maps_b[0], draws, names, counted, temperature), counted
    views_a, views_b = [unit_vectors(m) for m in maps_a], [unit_vectors(m) for m in maps_b[:1]]
    losses = {}
    for name in names:  # one view at a time: what is drawn for it goes before the next is drawn
        contrasts = draw_terms(views_a, views_b, *draws, [name])[name]
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


def _official_on_host(
    maps_a: Sequence[torch.Tensor],
    map_b: torch.Tensor,
    draws: tuple,
    names: Sequence[str],
    counted: torch.Tensor,
    temperature: float,
) -> dict[str, torch.Tensor]:
    """`mpc_loss_per_image` of the official formulation on the CPU; the same draws, values and gradients.

    draws: labels, formulation, max_pixels, generator and path, as for `draw_terms`."""
    # What no term looks at is not handed on, so that it gets no gradient at all, and no zeros.
    first = list(maps_a if "cross_scale" in names else maps_a[:1])
    used = [*first, map_b] if "cross_modality" in names else first
    numbers = numbered(used)
    drawn = [draw_terms(numbers[: len(first)], numbers[-1:], *draws, [name])[name] for name in names]

    def contrast(anchors: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        return mean_positive_infonce(anchors, negatives, temperature, reduction="none")

    return dict(zip(names, image_by_image(used, drawn, counted, contrast), strict=True))


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
    Raises InputError for anything but tensors, shapes that do not fit together or are empty, maps not of floating
    point, mask values other than 0, 1 and 255 (on the CPU), an unknown formulation or term, and a temperature or cap
    out of range.
    Source: released code, stage-1 losses ("official"; it counts one-class images as 0 in the mean, we leave them out);
    MPC Eqs. 1-4 ("paper").
    """
    losses, counted = mpc_loss_per_image(
        maps_a, maps_b, mask, formulation, temperature, max_pixels, generator, terms=terms
    )
    means = {name: values.sum() / counted.sum().clamp_min(1) for name, values in losses.items()}
    return {**means, "total": sum(means.values())}
