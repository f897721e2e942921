"""The stage that trains PCLMix's two decoders on scribbles alone.

What is saved is an `MPC` like any other: the auxiliary decoder, the embedding head and the queue only help to train it
and live in the stage's network, beside the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpc_lite.contrast.views import IGNORE
from mpc_lite.data.augment.on_device import augment, jpeg
from mpc_lite.errors import InputError
from mpc_lite.files import expand
from mpc_lite.neighbours.pclmix.anchors import LITE_QUOTA, RELEASED_QUOTA, Quota, draw_anchors, embeddings_at
from mpc_lite.neighbours.pclmix.losses import (
    Weights,
    certainty_labels,
    certainty_threshold,
    contrast_ramp,
    pclmix_terms,
    ramp,
)
from mpc_lite.neighbours.pclmix.losses import total as weighted_total
from mpc_lite.neighbours.pclmix.mixing import draw_mix, mix
from mpc_lite.neighbours.pclmix.network import DualDecoder, Outputs
from mpc_lite.neighbours.pclmix.queue import ClassQueue, queue_contrast
from mpc_lite.neighbours.pclmix.scribbles import scribbles
from mpc_lite.network.model import MPC
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.neighbour_keys import PCLMixSection
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.processes import Processes

CLASSES = 2
COPY_QUALITY = 50, 95  # of the JPEG copies that the rule "intra" pastes from


class PCLMixStep(nn.Module):
    """One micro-batch: first pass, contrast with the queue, mixture, second pass. One shared pass for both decoders,
    where the release runs its network once for each."""

    def __init__(self, model: MPC, settings: PCLMixSection):
        super().__init__()
        s = self.settings = settings
        released = s.preset == "released"
        if released and s.anchors > CLASSES * s.queue:
            raise InputError(
                f"preset 'released' strikes out queue entry i for anchor i, so {s.anchors} anchors need as many of the "
                f"{CLASSES} x {s.queue} entries; raise pclmix.queue, lower pclmix.anchors, or take preset 'lite'"
            )
        cells = RELEASED_QUOTA.cells - RELEASED_QUOTA.views + s.views if released else LITE_QUOTA.cells
        self.quota = Quota(s.anchors, s.views, cells)
        self.network = DualDecoder(model, s.embedding, s.level)
        self.queue = ClassQueue(CLASSES, s.queue, s.embedding, s.preset)
        self.weights = Weights(s.auxiliary_weight, s.contrast_weight, consistency=s.consistency_weight)
        self.passes = 0  # micro-batches seen, on the host: the ramps' clock

    def get_extra_state(self) -> int:
        return self.passes

    def set_extra_state(self, state: int) -> None:
        self.passes = state

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """batch: image (B,3,S,S) uint8, mask (B,S,S) the scribbles, 0, 1 and 255, turn (B,) -> the terms of
        `pclmix_terms`, "labelled", the labelled share of the pixels, and "total", each the micro-batch's mean times its
        number of images."""
        s, (pixels, scribble) = self.settings, augment(batch)
        progress = self.passes // s.accumulate / s.steps
        if self.training:
            self.passes += 1
        images = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
        first = self.network(images)
        contrast = self._contrast(first, scribble, progress)
        copies = None
        if s.mix_label_rule == "intra":
            low, high = COPY_QUALITY
            copies = jpeg(pixels, torch.randint(low, high + 1, pixels.shape[:1], device=pixels.device)).float() / 255
        draw = draw_mix(len(images), tuple(images.shape[2:]), images.device)
        mixed = mix(images, scribble, first.main, first.auxiliary, draw, s.mix_label_rule, copies)
        second = self.network(mixed.images.contiguous(memory_format=torch.channels_last))
        terms = pclmix_terms(first[:2], second[:2], scribble, mixed, contrast, s.preset)
        terms["total"] = weighted_total(terms, self.weights, contrast_ramp(progress), ramp(progress))
        terms["labelled"] = (scribble != IGNORE).float().mean()
        return {name: value * len(images) for name, value in terms.items()}

    def _contrast(self, first: Outputs, scribble: Tensor, progress: float) -> Tensor:
        """The queue contrast, after which the queue learns the batch; before its time a zero on the graph."""
        s, size = self.settings, first.embedding.shape[2:]
        if progress < s.contrast_after:
            return first.embedding.sum() * 0
        certain = certainty_labels(first.main, first.auxiliary, scribble, certainty_threshold(progress, CLASSES))
        certain, predicted = (
            F.interpolate(x[:, None].float(), size=size, mode="nearest")[:, 0]
            for x in (certain, first.main.detach().argmax(1))
        )
        anchors, queue = draw_anchors(certain, predicted, CLASSES, self.quota), self.queue
        rows = embeddings_at(first.embedding, anchors.index)
        held = queue.entries, queue.filled  # the fused loss keeps neither for its backward pass
        loss = queue_contrast(rows, anchors.label, *held, s.temperature, s.preset, anchors.valid, anchors.number)
        queue.update(first.embedding.detach(), certain)
        return loss


class Scribbled(Dataset):
    """Training images with scribbles in place of their dense masks, the same in every epoch: no step sees a mask. The
    other attributes are those of `data`."""

    def __init__(self, data: Dataset, settings: PCLMixSection, seed: int):
        self.data, self.settings, self.seed = data, settings, seed

    def __getattr__(self, name: str) -> Any:
        if name == "data":  # not yet there while a worker unpickles
            raise AttributeError(name)
        return getattr(self.data, name)

    def __getitem__(self, position: int) -> dict[str, Tensor] | str:
        item = self.data[position]
        if isinstance(item, str):
            return item
        row = self.data.row(position) if hasattr(self.data, "row") else position
        s = self.settings
        labels = scribbles(item["mask"].numpy(), (self.seed, row), s.strokes, s.stroke_length)
        return {**item, "mask": torch.from_numpy(labels)}


class PCLMix:
    """The stage, a `training.loop.Stage`; its recipe has a section `pclmix`. Validation scores dense masks as stage 2's
    does, so the choice of the best step, and nothing else, has seen any."""

    name, output, partial = "pclmix", "model.safetensors", False
    validate = Finetuning.validate

    def __init__(self, model: MPC, recipe: Recipe):
        self.settings, self.model, self.seed = recipe.pclmix, model, recipe.seed
        self.network = PCLMixStep(model, self.settings)
        # Auxiliary decoder, embedding head, queue and ramp clock; the model is in it once more, with the same values.
        self.companion = self.network

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path | str | None:
        return recipe.pclmix.weights and expand(recipe.pclmix.weights)

    def count(self, batch: dict[str, Tensor]) -> int:
        """The images of a batch: means over a micro-batch's pixels are shared out by its images."""
        return len(batch["image"])

    def training_set(
        self, data: Dataset, folder: Path, accelerator: Accelerator, processes: Processes, stop: Callable[[], int]
    ) -> Dataset:
        return Scribbled(data, self.settings, self.seed)

    def prepare_epoch(self) -> None:
        self.network.train()
