"""Stage 2: a small head learns to turn the embeddings into a score map. A third stage goes on with other data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpc_lite.contrast.loss import mpc_loss_per_image
from mpc_lite.contrast.sampling import check_tensors
from mpc_lite.contrast.views import check_labels, finest_labels, resize_mask, wide
from mpc_lite.data.augment.on_device import augment, turned_mask
from mpc_lite.errors import InputError
from mpc_lite.evaluation.metrics import count, f1, iou
from mpc_lite.images import IGNORE
from mpc_lite.network.folding import folded
from mpc_lite.network.model import MPC
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.stage_keys import FinetuneSection, PretrainSection
from mpc_lite.training.cached_maps import MapCache
from mpc_lite.training.loop import Interrupted, train
from mpc_lite.training.processes import Processes
from mpc_lite.training.stage import check_trains
from mpc_lite.training.starts import earlier_result


class LocalizationStep(nn.Module):
    """One micro-batch of stage 2 as a module, so that DDP sees a single forward: network, focal loss, and where the
    recipe asks for it the contrastive loss of stage 1 on the same maps."""

    def __init__(self, model: MPC, settings: FinetuneSection, contrastive: PretrainSection | None = None):
        """contrastive: what the loss of stage 1 is, where `settings.contrast` adds it."""
        super().__init__()
        self.model, self.settings, self.contrastive = model, settings, contrastive

    def encode(self, batch: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """batch: as for `augment.augment` -> the four maps and the target (B,h,w) uint8."""
        images, masks = _augmented(batch)
        maps = self._maps(images)
        return maps, resize_mask(masks, maps[0].shape[2:])

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """batch: as for `encode`, or of `features.MapCache`: maps (B,h,w,D), mask (B,h,w) -> {"total": the focal loss,
        MPC Eq. 5, summed over the pixels of the score maps that are not ignored}. With `contrast` the parts stand
        beside it; the contrastive one counts each pixel of an image alike, so that its mean is that over images."""
        if "maps" in batch:
            maps, target = [x.permute(0, 3, 1, 2) for x in batch["maps"]], batch["mask"]
            return {"total": self._focal(maps, target)}
        if not self.settings.contrast:
            return {"total": self._focal(*self.encode(batch))}
        images, masks = _augmented(batch)
        maps, s = self._maps(images), self.contrastive
        second = self._maps(images) if "cross_modality" in s.terms else maps
        losses, _ = mpc_loss_per_image(maps, second, masks, s.formulation, s.temperature, s.max_pixels, terms=s.terms)
        height, width = maps[0].shape[2:]
        contrast = height * width * sum(values.sum() for values in losses.values())
        focal = self._focal(maps, resize_mask(masks, (height, width)))
        return {"focal": focal, "contrast": contrast, "total": focal + self.settings.contrast * contrast}

    def _maps(self, images: Tensor) -> list[Tensor]:
        return (folded(self.model.encoder) if self.model.encoder_frozen else self.model.encoder)(images)

    def _focal(self, maps: list[Tensor], target: Tensor) -> Tensor:
        logits = self.model.localize(maps)
        return focal_loss(logits, target[:, None], self.settings.alpha, self.settings.gamma, reduction="sum")


def _augmented(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Images in [0,1] as the encoder takes them, and their masks (B,S,S)."""
    images, masks = augment(batch)
    return (images.float() / 255).contiguous(memory_format=torch.channels_last), masks


class Finetuning:
    name, output, partial = "finetune", "model.safetensors", False
    companion = None

    def __init__(self, model: MPC, recipe: Recipe):
        self.settings, self.model, self.workers = getattr(recipe, self.name), model, recipe.data.workers
        if self.settings.contrast and self.settings.encoder != "trained":
            raise InputError(
                f"{self.name}.contrast {self.settings.contrast} teaches the encoder, but {self.name}.encoder is "
                f"'{self.settings.encoder}'; set it to trained, or leave the contrast out"
            )
        if self.settings.encoder == "frozen":
            model.freeze_encoder()
        elif self.settings.encoder == "official":
            # The released code gives only the head to the optimiser but leaves the encoder in training mode: its
            # statistics drift and DropPath stays on. Gradients it would throw away are not computed here.
            model.encoder.requires_grad_(False)
        self.network = LocalizationStep(model, self.settings, recipe.pretrain)

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path:
        return earlier_result(out / "stage1.safetensors", "pretrain")

    def count(self, batch: dict[str, Tensor]) -> int:
        """The pixels of a batch's score maps that are not ignored."""
        # As the loss will see them; masks that come with maps are of the score maps' size already.
        target = batch["mask"] if "maps" in batch else finest_labels(turned_mask(batch))
        return int((target != IGNORE).sum())

    def training_set(
        self, data: Dataset, folder: Path, accelerator: Accelerator, processes: Processes, stop: Callable[[], int]
    ) -> Dataset:
        """The images, or with `cache_features` their maps, which are computed first; see `training.Stage`."""
        if not self.settings.cache_features:
            return data
        cache = MapCache(data, self.model.encoder, folder, self.settings.precision)

        def encode(batch: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
            with accelerator.autocast():  # computed as in a step
                return self.network.encode({k: v.to(accelerator.device) for k, v in batch.items()})

        # As many images together as in a step, so that the rounding is the same.
        if not cache.fill(encode, self.settings.batch, self.workers, processes, stop):
            text = f"{self.name} stopped before its first step; the maps computed so far are kept"
            raise Interrupted(text, stop())
        return cache

    def prepare_epoch(self) -> None:
        self.model.train()

    @torch.no_grad()
    def validate(self, model: MPC, batches: Iterable[dict], gather: Callable[[list], list] = list) -> dict[str, float]:
        """Mean foreground F1 and IoU at threshold 0.5 of the tampered images, their mean as ``score``, and how much of
        the authentic images is marked.

        batches: image (B,3,S,S) uint8 and B masks (H,W) of any size; a score map is brought to its mask's size, as in
        the released code's evaluation. gather: see `training.Stage`.
        """
        model = folded(model.eval())
        counts, false_share = [], []
        for batch in batches:
            logits = model((batch["image"].float() / 255).contiguous(memory_format=torch.channels_last))
            for score_map, mask in zip(logits[:, 0].float().sigmoid().cpu().numpy(), batch["mask"], strict=True):
                mask = mask.cpu().numpy()
                score_map = cv2.resize(score_map, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
                if mask.any():
                    counts.append(count(score_map, mask))
                else:
                    false_share.append(float((score_map > 0.5).mean()))
        counts, false_share = gather(counts), gather(false_share)
        scores = {"f1": float(np.mean([f1(c) for c in counts])), "iou": float(np.mean([iou(c) for c in counts]))}
        marked = float(np.mean(false_share)) if false_share else 0.0
        return {**scores, "score": (scores["f1"] + scores["iou"]) / 2, "authentic_marked": marked}


class Adaptation(Finetuning):
    """The third stage of protocol 2: stage 2's loss, by default for the whole network, on images of its own."""

    name, output = "adapt", "adapted.safetensors"

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path:
        return earlier_result(out / "model.safetensors", "finetune")


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
    check_trains(recipe, "finetune")
    return train(Finetuning, recipe, Path(out), resume, weights, device)


def adapt(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    weights: str | Path | None = None,
    device: str | None = None,
) -> Path:
    """Go on training with the images of the recipe's `adapt`; returns ``OUT/adapted.safetensors``, the best by
    validation.

    Args:
        weights: a shipped name or a checkpoint to start from; None takes ``OUT/model.safetensors``.
    Raises:
        InputError: a recipe without `adapt`; no stage-2 weights; see also `training.train`.
        training.Interrupted: asked to stop.
    """
    check_trains(recipe, "adapt")
    if recipe.adapt is None:
        raise InputError(f"recipe {recipe.name} has no section 'adapt'; name its manifest there, see protocol2")
    return train(Adaptation, recipe, Path(out), resume, weights, device)


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
    Raises InputError for anything but tensors, when shapes differ, alpha or gamma is out of range, the reduction is
    unknown, or (on the CPU) a target has another value.
    Source: MPC Eq. 5; released code, stage-2 loss (alpha 0.5, gamma 2).
    """
    check_tensors(logits=logits, target=target)
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
