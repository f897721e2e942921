"""In the style of PCLMix: two decoders that learn from scribbles, from each other and from pasted pictures.

PCLMix (Lei et al., arXiv 2405.06288) segments cardiac images. One step: both decoders see the images (`certainty_
labels`, then the contrast of `queue`); a rectangle of each image is pasted into another (`mixing`); both
decoders see the result; `pclmix_terms` and `total` add up. `training` holds network and stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mpc_lite.contrast.views import IGNORE, wide
from mpc_lite.neighbours.pclmix.mixing import Mixed, check_labelled
from mpc_lite.neighbours.pclmix.queue import check_preset

CERTAINTY = 0.75, 0.25  # the threshold's share of the highest entropy at the start, and what is added until the end
RELEASED_CONTRAST_AFTER = 1000, 60000  # iterations without contrast, of so many
RELEASED_CONSISTENCY_EPOCHS = 600  # length of its consistency's ramp; the released data end it after about 476


class Weights(NamedTuple):
    """Of the terms. Defaults: the release's command; its parser says 1.0 and 0.13 for the first two, its scripts 0.1 or
    0.3 and 0.13."""

    auxiliary: float = 0.4
    contrast: float = 0.1
    mixed: float = 1.0
    pseudo: float = 1.0
    consistency: float = 1.0


def ramp(progress: float) -> float:
    """exp(−5 (1 − t)²) with t = progress in [0,1]: from 0.0067 to 1."""
    return math.exp(-5 * (1 - min(max(progress, 0.0), 1.0)) ** 2)


def contrast_ramp(progress: float) -> float:
    """t^0.9 with t = progress in [0,1]."""
    return min(max(progress, 0.0), 1.0) ** 0.9


def certainty_threshold(progress: float, classes: int = 2) -> float:
    """θ = (0.75 + 0.25·ramp(t)) · ln K, in nats. The release keeps ln 2 for its four classes, which `classes=2` gives.
    With K = 2 it first rejects pixels whose larger probability is below 0.785, in the end none."""
    return (CERTAINTY[0] + CERTAINTY[1] * ramp(progress)) * math.log(classes)


def mean_entropy(main: Tensor, auxiliary: Tensor) -> Tensor:
    """U = −Σ_k p̄_k log(p̄_k + 1e-6) of the mean p̄ of both decoders' probabilities: logits (B,K,H,W) twice -> (B,H,W)."""
    return _entropy(_mean_probability(main, auxiliary))


def _entropy(probability: Tensor) -> Tensor:
    return -(probability * (probability + 1e-6).log()).sum(1)


def _mean_probability(main: Tensor, auxiliary: Tensor) -> Tensor:
    fine = wide(main.dtype)
    return (main.to(fine).softmax(1) + auxiliary.to(fine).softmax(1)) / 2


@torch.no_grad()
def certainty_labels(main: Tensor, auxiliary: Tensor, scribble: Tensor, threshold: float) -> Tensor:
    """The class of the decoders' mean probability where its entropy is at most `threshold`; scribbles override it.

    main, auxiliary: logits (B,K,H,W). scribble: (B,H,W), 0…K−1 or 255. threshold: nats, `certainty_threshold`.
    Returns (B,H,W) uint8, 255 for "not certain". InputError: shapes that differ, a scribble of another class.
    Source: PCLMix, released code.
    """
    check_labelled(main, auxiliary, scribble)
    mean = _mean_probability(main, auxiliary)
    labels = mean.argmax(1).to(torch.uint8).masked_fill(_entropy(mean) > threshold, IGNORE)
    return torch.where(scribble == IGNORE, labels, scribble.to(torch.uint8))


def partial_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, the mean over the labelled pixels: logits (B,K,H,W), labels (B,H,W) 0…K−1 or 255 -> scalar.

    In fp32 (double stays double). Without a labelled pixel, a zero attached to the graph.
    """
    logits, labels = logits.to(wide(logits.dtype)), labels.long()
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp_min(1)


def consistency(main: Tensor, auxiliary: Tensor, preset: str = "lite") -> Tensor:
    """Mean squared difference of two decoders, logits (B,K,H,W) twice -> scalar: of probabilities, or under "released"
    of logits, which has no bound and no scale."""
    check_preset(preset)
    main, auxiliary = main.to(wide(main.dtype)), auxiliary.to(wide(auxiliary.dtype))
    return F.mse_loss(main, auxiliary) if preset == "released" else F.mse_loss(main.softmax(1), auxiliary.softmax(1))


def pclmix_terms(
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    scribble: Tensor,
    mixed: Mixed,
    contrast: Tensor,
    preset: str = "lite",
) -> dict[str, Tensor]:
    """The terms of a step, scalars without weights: for each decoder the scribbles of the images, those of the mixture
    and the other decoder's classes there; contrast; consistency of both passes.

    first, second: logits (B,K,H,W) of the main and the auxiliary decoder, on the images and on the mixture.
    contrast: from `queue_contrast`, which `preset` does not touch here; it chooses the kind of `consistency`.
    Returns {"scribble_main", "scribble_auxiliary", "mixed_main", …, "pseudo_main", …, "contrast", "consistency"}.
    Source: PCLMix, released code.
    """
    check_labelled(*first, scribble)
    check_labelled(*second, mixed.scribble)
    terms = {}
    for k, name in enumerate(("main", "auxiliary")):
        terms[f"scribble_{name}"] = partial_cross_entropy(first[k], scribble)
        terms[f"mixed_{name}"] = partial_cross_entropy(second[k], mixed.scribble)
        terms[f"pseudo_{name}"] = partial_cross_entropy(second[k], mixed.pseudo)
    return {**terms, "contrast": contrast, "consistency": consistency(*first, preset) + consistency(*second, preset)}


def total(
    terms: Mapping[str, Tensor], weights: Weights, contrast_weight: float = 1.0, consistency_weight: float = 1.0
) -> Tensor:
    """L = L_main + λ_a L_auxiliary + λ_c r_c L_contrast + λ_h r_h L_consistency, where L_decoder = scribble + λ_m mixed
    + λ_u pseudo. contrast_weight, consistency_weight: the ramps r_c (`contrast_ramp`) and r_h (`ramp`)."""
    decoders = [
        terms[f"scribble_{name}"] + weights.mixed * terms[f"mixed_{name}"] + weights.pseudo * terms[f"pseudo_{name}"]
        for name in ("main", "auxiliary")
    ]
    contrast = weights.contrast * contrast_weight * terms["contrast"]
    return (
        decoders[0]
        + weights.auxiliary * decoders[1]
        + contrast
        + (weights.consistency * consistency_weight * terms["consistency"])
    )
