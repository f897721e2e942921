"""Stage 2: a small head learns to turn the embeddings into a score map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.augment import dihedral
from mpc_lite.config import InputError, Recipe
from mpc_lite.loss import focal_loss
from mpc_lite.metrics import count, f1, iou
from mpc_lite.model import MPC
from mpc_lite.training import starting_model, train
from mpc_lite.views import resize_mask


class LocalizationStep(nn.Module):
    """One step of stage 2 as a module, so that DDP sees a single forward: network and focal loss."""

    def __init__(self, model: MPC, recipe: Recipe):
        super().__init__()
        self.model, self.settings = model, recipe.finetune

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """batch: image (B,3,S,S) uint8, mask (B,S,S), turn (B,) -> {"total": the focal loss, MPC Eq. 5}."""
        images, masks = dihedral(batch["image"], batch["mask"], batch["turn"])
        logits = self.model((images.float() / 255).contiguous(memory_format=torch.channels_last))
        target = resize_mask(masks, logits.shape[2:])[:, None]
        return {"total": focal_loss(logits, target, self.settings.alpha, self.settings.gamma)}


class Finetuning:
    name, output = "finetune", "model.safetensors"

    def __init__(self, model: MPC, recipe: Recipe):
        self.settings, self.model = recipe.finetune, model
        if self.settings.encoder == "frozen":
            model.freeze_encoder()
        elif self.settings.encoder == "official":
            # The released code gives only the head to the optimiser but leaves the encoder in training mode: its
            # statistics drift and DropPath stays on. Gradients it would throw away are not computed here.
            model.encoder.requires_grad_(False)
        self.network = LocalizationStep(model, recipe)

    def prepare_epoch(self) -> None:
        self.model.train()

    @torch.no_grad()
    def validate(self, model: MPC, batches: list[dict[str, Tensor]]) -> dict[str, float]:
        """Mean foreground F1 and IoU at threshold 0.5 of the tampered images, their mean as ``score``, and how much of
        the authentic images is marked."""
        model.eval()
        counts, false_share = [], []
        for batch in batches:
            logits = model((batch["image"].float() / 255).contiguous(memory_format=torch.channels_last))
            size = batch["mask"].shape[1:]
            maps = F.interpolate(logits.float().sigmoid(), size=size, mode="bilinear", align_corners=False)[:, 0]
            for score_map, mask in zip(maps.cpu().numpy(), batch["mask"].cpu().numpy(), strict=True):
                if mask.any():
                    counts.append(count(score_map, mask))
                else:
                    false_share.append(float((score_map > 0.5).mean()))
        scores = {"f1": float(np.mean([f1(c) for c in counts])), "iou": float(np.mean([iou(c) for c in counts]))}
        marked = float(np.mean(false_share)) if false_share else 0.0
        return {**scores, "score": (scores["f1"] + scores["iou"]) / 2, "authentic_marked": marked}


def finetune(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    weights: str | Path | None = None,
    device: str | None = None,
) -> Path:
    """Train the head; returns ``OUT/model.safetensors``, the best by held-out validation.

    Args:
        weights: a shipped name or a checkpoint to start from; None takes ``OUT/stage1.safetensors``.
    Raises:
        InputError: no stage-1 weights, or weights of another size than the recipe's; see also `training.train`.
        training.Interrupted: asked to stop.
    """
    start = Path(out) / "stage1.safetensors"
    if weights is None and not start.is_file():
        raise InputError(
            f"{start} does not exist; run 'mpc-lite pretrain' with the same --out first, or give --weights"
        )
    model = starting_model(recipe, weights or start)
    return train(Finetuning(model, recipe), model, recipe, Path(out), resume, device)
