"""Stage 1: the encoder learns embeddings in which authentic and tampered pixels of an image lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpc_lite.contrast.loss import counted_images, mpc_loss_per_image
from mpc_lite.contrast.views import finest_labels, resize_mask
from mpc_lite.data.augment.on_device import augment, turned_mask
from mpc_lite.evaluation.metrics import count, f1, iou
from mpc_lite.files import expand
from mpc_lite.network.folding import folded
from mpc_lite.network.model import MPC
from mpc_lite.network.two_passes import two_passes
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.loop import train
from mpc_lite.training.stage import check_trains


class ContrastiveStep(nn.Module):
    """One micro-batch of stage 1 as a module, so that DDP sees a single forward: both passes and the loss."""

    def __init__(self, model: MPC, recipe: Recipe):
        super().__init__()
        self.encoder, self.settings = model.encoder, recipe.pretrain

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """batch: image (B,3,S,S) uint8, mask (B,S,S), turn (B,) -> the terms of MPC Eq. 4 and their "total", each the
        sum over the images that count (`loss.counted_images`)."""
        images, masks = augment(batch)
        images = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        s = self.settings
        # The same images twice: DropPath makes the two passes differ (the paper's "cross-modality" view). No other
        # term looks at the second pass.
        if "cross_modality" in s.terms:
            first, second = two_passes(self.encoder, images)
        else:
            first = second = self.encoder(images)
        losses, _ = mpc_loss_per_image(first, second, masks, s.formulation, s.temperature, s.max_pixels, terms=s.terms)
        sums = {name: values.sum() for name, values in losses.items()}
        return {**sums, "total": sum(sums.values())}


class Pretraining:
    name, output = "pretrain", "stage1.safetensors"
    companion = None

    def __init__(self, model: MPC, recipe: Recipe):
        self.settings, self.model = recipe.pretrain, model
        self.network = ContrastiveStep(model, recipe)
        self.partial = "cross_scale" not in self.settings.terms  # then the projections of the coarse maps learn nothing

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path | str | None:
        return recipe.pretrain.weights and expand(recipe.pretrain.weights)

    def count(self, batch: dict[str, Tensor]) -> int:
        """The images of a batch that count (`loss.counted_images`)."""
        labels = finest_labels(turned_mask(batch))  # as the loss will see them
        return int(counted_images(labels, self.settings.formulation).sum())

    def training_set(self, data: Dataset, *_: Any) -> Dataset:
        """The images: they must pass through the encoder, which learns."""
        return data

    def prepare_epoch(self) -> None:
        self.model.train()

    @torch.no_grad()
    def validate(self, model: MPC, batches: Iterable[dict], gather: Callable[[list], list] = list) -> dict[str, float]:
        """Split each tampered image's pixels into two clusters; the smaller one counts as tampered
        (released code, stage-1 validation).

        batches: image (B,3,S,S) uint8 and B masks (H,W) of any size, brought to the finest map's like the released
        code's labels. gather: see `training.Stage`.
        Returns the mean foreground F1 and IoU at the resolution of the finest map, and their mean as ``score``.
        """
        model = folded(model.eval())
        counts = []
        for batch in batches:
            maps = model.encode((batch["image"].float() / 255).contiguous(memory_format=torch.channels_last))
            size = maps[0].shape[2:]
            parts = [F.interpolate(F.normalize(m), size=size, mode="bilinear", align_corners=True) for m in maps]
            pixels = F.normalize(torch.cat(parts, dim=1)).flatten(2).transpose(1, 2).float().cpu().numpy()
            for embedding, mask in zip(pixels, batch["mask"], strict=True):
                truth = resize_mask(mask[None].cpu(), size)[0].numpy()
                if truth.any():
                    counts.append(count(minority_cluster(embedding).reshape(truth.shape), truth))
        counts = gather(counts)
        scores = {"f1": float(np.mean([f1(c) for c in counts])), "iou": float(np.mean([iou(c) for c in counts]))}
        return {**scores, "score": (scores["f1"] + scores["iou"]) / 2}


def minority_cluster(embedding: np.ndarray) -> np.ndarray:
    """(N,D) unit vectors -> (N,) float32: 1 for the smaller of two k-means clusters.

    Euclidean k-means on unit vectors stands in for the released code's cosine k-means: the distance to a pixel is
    2 - 2 cos, that to a cluster's mean differs from it by the mean's length.
    """
    marked = KMeans(2, n_init=1, random_state=0).fit_predict(embedding)
    return (marked == (marked.mean() < 0.5)).astype(np.float32)


def pretrain(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    weights: str | Path | None = None,
    device: str | None = None,
) -> Path:
    """Train the encoder with the contrastive loss; returns ``OUT/stage1.safetensors``, the best by held-out validation.

    Args:
        weights: a shipped name or a checkpoint to start from; None takes the recipe's `pretrain.weights`, and without
            those random numbers (seed of the recipe).
    Raises:
        InputError, training.Interrupted: see `training.train`.
    """
    check_trains(recipe, "pretrain")
    return train(Pretraining, recipe, Path(out), resume, weights, device)
