"""The stage that trains MPC's network on masks with one borrowed idea beside the focal loss, or with none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpc_lite.contrast.views import IGNORE, resize_mask, unit_vectors
from mpc_lite.data.augment.on_device import augment
from mpc_lite.errors import InputError
from mpc_lite.files import expand
from mpc_lite.neighbours.borrowed import AsymmetricScale, equivariance, pixel_distillation, turned
from mpc_lite.neighbours.pclmix.queue import ClassQueue
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.neighbour_keys import BorrowedSection
from mpc_lite.training.finetune import Finetuning, focal_loss

TURNS = 8


class Distillation(nn.Module):
    """`pixel_distillation` of the finest map, projected to the teacher's channels. The teacher stays as loaded."""

    def __init__(self, channels: int, teacher: MPC, queue: int):
        super().__init__()
        width = _channels(teacher)
        self.teacher = teacher.requires_grad_(False).eval()
        self.project, self.queue = nn.Conv2d(channels, width, 1), ClassQueue(1, queue, width)

    def train(self, mode: bool = True) -> Distillation:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor, maps: list[Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self.teacher.encode(images)[0]
        # Entries not yet filled are zero vectors: candidates that neither network comes near to.
        # Cloned: the backward pass reads them after the update.
        entries = self.queue.entries[0].clone()
        loss = pixel_distillation(self.project(maps[0]), wanted, entries, targets="soft")
        pixels = unit_vectors(wanted.float())
        self.queue.update(pixels, torch.zeros_like(pixels[:, 0]))
        return {"distillation": loss}


class BorrowedStep(nn.Module):
    """One micro-batch: the focal loss, and the idea's."""

    def __init__(self, model: MPC, settings: BorrowedSection):
        super().__init__()
        self.model, self.settings, self.helper = model, settings, None
        if settings.idea == "distillation":
            teacher = MPC.from_pretrained(str(expand(settings.teacher)))
            self.helper = Distillation(_channels(model), teacher, settings.queue)
        elif settings.idea == "scale":
            self.helper = AsymmetricScale(_channels(model))

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """batch: image (B,3,S,S) uint8, mask (B,S,S), turn (B,) -> {"focal", the idea's terms, "total"}: "focal" summed
        over the pixels of the score maps that are not ignored, the others' means times the number of those."""
        s, (images, masks) = self.settings, augment(batch)
        images = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        maps = self.model.encode(images)
        target = resize_mask(masks, maps[0].shape[2:])[:, None]
        sums = {"focal": focal_loss(self.model.localize(maps), target, s.alpha, s.gamma, reduction="sum")}
        counted = (target != IGNORE).sum()
        terms = {name: value * counted for name, value in self._idea(images, maps).items()}
        return {**sums, **terms, "total": sums["focal"] + s.idea_weight * sum(terms.values())}

    def _idea(self, images: Tensor, maps: list[Tensor]) -> dict[str, Tensor]:
        if self.settings.idea == "distillation":
            return self.helper(images, maps)
        if self.settings.idea == "scale":
            return self.helper(self.model.encode, images)
        if self.settings.idea == "views":
            turn = int(torch.randint(1, TURNS, ()))  # one for the batch, on the host: nothing waits for the device
            pairs = zip(self.model.encode(turned(images, turn)), maps, strict=True)
            return {"equivariance": equivariance([(a, turned(b, turn)) for a, b in pairs])}
        return {}


def _channels(model: MPC) -> int:
    """D of the maps that `model.encode` gives."""
    return SIZES[model.size].embedding


class Borrowed(Finetuning):
    """The stage, a `training.loop.Stage`; its recipe has a section `borrowed`. Counted and validated as stage 2 is."""

    name, output = "borrowed", "model.safetensors"

    def __init__(self, model: MPC, recipe: Recipe):
        super().__init__(model, recipe)
        if self.settings.idea == "scale" and recipe.data.size % 16:
            raise InputError(f"data.size {recipe.data.size}: idea 'scale' needs a multiple of 16")
        self.network = BorrowedStep(model, self.settings)
        self.companion = self.network  # its projections; the model is in it once more, with the same values

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path | str | None:
        return recipe.borrowed.weights and expand(recipe.borrowed.weights)

    def prepare_epoch(self) -> None:
        self.network.train()
