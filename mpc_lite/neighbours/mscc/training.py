"""MSCCNet as it is trained here: its head on MPC's encoder, three cross-entropies, one stage of the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpc_lite.contrast.views import IGNORE, check_labels, wide
from mpc_lite.data.augment.on_device import augment
from mpc_lite.errors import InputError
from mpc_lite.files import expand
from mpc_lite.neighbours.mscc.network import MSCCNet, tampered_logit
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.finetune import Finetuning


def mscc_loss(
    outputs: dict[str, Tensor], mask: Tensor, label: Tensor | None = None, reduction: str = "mean"
) -> dict[str, Tensor]:
    """MSCCNet's loss: cross-entropy of the mask, of the coarse map and of the image, each with weight 1.

        L = CE(mask↑, y) + CE(coarse↑, y) + CE(image, y_image)          ↑: bilinear, to the size of y

    outputs:   of `MSCCHead`: "mask" and "coarse" (B,2,h,w), "image" (B,2). The sums are formed in fp32 or wider.
    mask:      y (B,H,W), any dtype, 1 tampered, 0 authentic, 255 ignored.
    label:     y_image (B,), 0 or 1; None: an image with a tampered pixel is tampered.
    reduction: "mean" over the pixels that are not ignored, and over the images that have such pixels. "sum" over those
               pixels, where each image's term counts once for each of its pixels, so that several batches share one
               mean: the sum divided by the number of pixels. Without ignored pixels both are the released code's loss.
    Returns {"mask", "coarse", "image", "total"}: scalars. A batch whose pixels are all ignored gives zeros that stay
    attached to the graph; an image of one class is an image like others.
    Raises InputError for shapes that do not fit together, K ≠ 2, an unknown reduction and, on the CPU, other values.
    Source: released code, FF++ configuration.
    """
    if reduction not in ("mean", "sum"):
        raise InputError(f"reduction {reduction!r}: expected mean or sum")
    image_margin = tampered_logit(outputs["image"])[:, 0]
    if mask.ndim != 3 or len(mask) != len(image_margin):
        raise InputError(f"mask {tuple(mask.shape)} with {len(image_margin)} images: expected (B, H, W), equal B")
    check_labels(mask, "mask")
    tampered = mask == 1
    known = tampered | (mask == 0)
    pixels = known.flatten(1).sum(1)
    label = tampered.flatten(1).any(1) if label is None else label == 1
    sums = {}
    for name in ("mask", "coarse"):
        margin = tampered_logit(outputs[name])
        margin = F.interpolate(margin.to(wide(margin.dtype)), size=mask.shape[1:], mode="bilinear", align_corners=False)
        sums[name] = torch.where(known, _cross_entropy(margin[:, 0], tampered), 0).sum()
    image = _cross_entropy(image_margin.to(wide(image_margin.dtype)), label)
    if reduction == "sum":
        sums["image"] = (image * pixels).sum()
    else:
        sums = {name: value / pixels.sum().clamp_min(1) for name, value in sums.items()}
        sums["image"] = torch.where(pixels > 0, image, 0).sum() / (pixels > 0).sum().clamp_min(1)
    return {**sums, "total": sum(sums.values())}


def _cross_entropy(margin: Tensor, tampered: Tensor) -> Tensor:
    """−log softmax of the true one of two classes, from z₁ − z₀. Resizing is linear: it may follow the difference."""
    return F.softplus(torch.where(tampered, -margin, margin))


class ClassCenterStep(nn.Module):
    """One micro-batch as a module, so that DDP sees a single forward: network and loss."""

    def __init__(self, model: MSCCNet):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """batch: as for `on_device.augment` -> the terms of `mscc_loss` and their "total", sums over known pixels."""
        images, masks = augment(batch)
        outputs = self.model.outputs((images.float() / 255).contiguous(memory_format=torch.channels_last))
        return mscc_loss(outputs, masks, reduction="sum")


class ClassCenterTraining(Finetuning):
    """MSCCNet's one stage (`loop.Stage`): encoder and head learn together from full masks, as the recipe's section
    `mscc` says. Validation is that of stage 2."""

    name, output = "mscc", "model.safetensors"

    def __init__(self, model: MSCCNet, recipe: Recipe):
        self.settings, self.model = recipe.mscc, model
        self.network = ClassCenterStep(model)

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path | str | None:
        return recipe.mscc.weights and expand(recipe.mscc.weights)

    def count(self, batch: dict[str, Tensor]) -> int:
        """The pixels of a batch that are not ignored."""
        return int((batch["mask"] != IGNORE).sum())  # turning moves pixels and loses none

    def training_set(self, data: Dataset, *_: Any) -> Dataset:
        """The images: they must pass through the encoder, which learns."""
        return data
