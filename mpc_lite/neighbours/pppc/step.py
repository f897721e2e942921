"""One step of PPPC: what it keeps beside the network, and its losses.

Left out of the release: colour jitter and blur, which wipe out the traces looked for here (the release applies them in
place and so harms its own source images); rare-class sampling; row masks; pairs of day and night.

Source: as for `gaussians`; crops, pseudo-labels and their quality are ours to each image, there to the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.views import IGNORE, resize_mask, wide
from mpc_lite.data.augment.on_device import augment, dihedral
from mpc_lite.neighbours.pppc.adaptation import (
    ambiguity_weights,
    class_mix,
    contrast_scale,
    crop,
    draw_classes,
    draw_corners,
    ema_update,
    most_ambiguous,
    pseudo_labels,
)
from mpc_lite.neighbours.pppc.gaussians import GaussianHead, GaussianPrototypes, pppc_loss
from mpc_lite.network.hrformer import SIZES, DropPath
from mpc_lite.network.model import MPC
from mpc_lite.recipes.neighbour_keys import PPPCSection

# --------------------------------------------------------------------------------------------------------- the network


def joined(maps: Sequence[Tensor]) -> Tensor:
    """Four maps of `MPC.encode` -> (B,4D,h,w) at the finest size, what MPC's head reads: its features here."""
    size = maps[0].shape[2:]
    resized = [F.interpolate(m, size=size, mode="bilinear", align_corners=True) for m in maps[1:]]
    return torch.cat([maps[0], *resized], dim=1)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits (B,1,h,w), weighted, the mean over the labels (B,h,w) that are not 255.

    weights: (B,h,w), None for 1 everywhere. An attached zero when every label is 255.
    """
    known = labels != IGNORE
    logits = logits[:, 0].to(wide(logits.dtype))
    losses = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), weights, reduction="none")
    return torch.where(known, losses, 0).sum() / known.sum().clamp_min(1)


class Guidance(nn.Module):
    """What PPPC trains and gathers beside the network, and a checkpoint must hold beside it: the student's Gaussian
    heads, the teacher with heads of its own, the prototypes, and how many micro-batches have been seen."""

    def __init__(self, model: MPC, dimensions: int, decay: float, variance: str):
        super().__init__()
        channels = 4 * SIZES[model.size].embedding
        self.heads = GaussianHead(channels, dimensions)
        # The first step makes it a copy of the student.
        teacher = [MPC.build(model.size, model.head), GaussianHead(channels, dimensions)]
        self.teacher = nn.ModuleList(teacher).requires_grad_(False)
        self.prototypes = GaussianPrototypes(2, dimensions, decay, variance)
        self.micro_batches = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"micro_batches": self.micro_batches}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.micro_batches = state["micro_batches"]

    def train(self, mode: bool = True) -> Guidance:
        """The teacher normalises by the batch at hand, as the release has it, and drops no path."""
        super().train(mode)
        for module in self.teacher.modules():
            if isinstance(module, DropPath):
                module.eval()
        return self


class AdaptationStep(nn.Module):
    """One micro-batch of PPPC as a module, so that DDP sees a single forward."""

    def __init__(self, model: MPC, settings: PPPCSection):
        super().__init__()
        self.model, self.settings = model, settings
        self.guidance = Guidance(model, settings.embedding, settings.prototype_decay, settings.prototype_variance)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """batch: as for `augment.augment`, and target (B,3,S,S) uint8, which `turn` turns too.

            total = CE(source) + CE(mixed) + scale(t) · [L_PPPC(source) + L_PPPC(target)],  the bracket from `start` on

        Returns {"source", "mixed", "source_contrast", "target_contrast", "total"}, each the micro-batch's mean times
        its number of images. Of masks that ignore every pixel nothing is learnt: zeros, attached.
        """
        settings, guidance = self.settings, self.guidance
        iteration, more = divmod(guidance.micro_batches, settings.accumulate)
        guidance.micro_batches += 1
        if more == 0:
            ema_update(guidance.teacher, nn.ModuleList([self.model, guidance.heads]), iteration)
        images, masks = augment(batch)
        source, target = _floats(images), _floats(dihedral(batch["target"], batch["mask"], batch["turn"])[0])
        labels = resize_mask(masks, _stride4(source))
        piece, corners, pseudo, quality = self._ask_teacher(source, labels, target)
        features = joined(self.model.encode(source))
        losses = {"source": weighted_cross_entropy(self.model.decoder(features), labels)}
        losses["mixed"] = self._mixed(source, masks, piece, corners, pseudo, quality)
        losses |= dict.fromkeys(("source_contrast", "target_contrast"), losses["source"].new_zeros(()))
        if iteration >= round(settings.start * settings.steps):
            scale = contrast_scale(iteration, settings.steps, settings.sharpness)
            losses["source_contrast"] = scale * self._contrast(features, labels)
            # Pixels without weight in the mix have no label here: of an image in which the teacher is nowhere sure.
            trusted = resize_mask(pseudo.masked_fill((quality == 0)[:, None, None], IGNORE), _stride4(piece))
            losses["target_contrast"] = scale * self._contrast(joined(self.model.encode(piece)), trusted)
        sums = {name: value * len(source) for name, value in losses.items()}
        return {**sums, "total": sum(sums.values())}

    @torch.no_grad()
    def _ask_teacher(self, source: Tensor, labels: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bring the prototypes up to date; the most ambiguous crop of each target image, where it lies (B,2), its
        pseudo-labels (B,S',S') and their quality (B,)."""
        (teacher, heads), prototypes = self.guidance.teacher, self.guidance.prototypes
        prototypes.update(heads(joined(teacher.encode(source))), labels)
        side = max(1, round(self.settings.crop * target.shape[-1]))
        guess, _ = pseudo_labels(teacher(target), target.shape[2:])
        weights = ambiguity_weights(prototypes.gaussians().log_variance)
        corners = most_ambiguous(guess, weights, draw_corners(target, side), side)
        piece = crop(target, corners, side).contiguous(memory_format=torch.channels_last)
        return piece, corners, *pseudo_labels(teacher(piece), piece.shape[2:], self.settings.confidence)

    def _mixed(
        self, source: Tensor, masks: Tensor, piece: Tensor, corners: Tensor, pseudo: Tensor, quality: Tensor
    ) -> Tensor:
        """The cross-entropy of the network on target crops into which crops of the source were pasted."""
        rule, side = self.settings.mix_label_rule, piece.shape[-1]
        if rule != "intra":  # of two scenes, each place is as good as any other
            corners = draw_corners(source, side, 1)[:, 0]
        pasted, labels = crop(source, corners, side), crop(masks, corners, side)
        mixed, labels, weights = class_mix(pasted, labels, piece, pseudo, quality, draw_classes(labels), rule)
        logits = self.model(mixed.contiguous(memory_format=torch.channels_last))
        weights = F.interpolate(weights[:, None], size=logits.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        return weighted_cross_entropy(logits, resize_mask(labels, logits.shape[2:]), weights)

    def _contrast(self, features: Tensor, labels: Tensor) -> Tensor:
        pixels, prototypes, s = self.guidance.heads(features), self.guidance.prototypes, self.settings
        options = {"preset": s.preset, "reduction": s.reduction, "temperature": s.temperature}
        return pppc_loss(pixels, prototypes.gaussians(), labels, prototypes.valid, **options)["total"]


def _floats(images: Tensor) -> Tensor:
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


def _stride4(images: Tensor) -> tuple[int, int]:
    height, width = images.shape[-2:]
    return math.ceil(height / 4), math.ceil(width / 4)
