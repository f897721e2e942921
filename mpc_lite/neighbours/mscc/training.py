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
from mpc_lite.neighbours.mscc.attention import CLASSES, MSCCHead
from mpc_lite.network.hrformer import SIZES, HRFormer
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.finetune import Finetuning


def tampered_logit(logits: Tensor) -> Tensor:
    """Two-class logits (B,2,…) -> (B,1,…), the logit of "tampered": softmax over two is the sigmoid of z₁ − z₀.

    Raises InputError for another number of classes.
    """
    if logits.ndim < 2 or logits.shape[1] != CLASSES:
        raise InputError(
            f"logits {tuple(logits.shape)}: expected (B, {CLASSES}, …), authentic and tampered; "
            "one logit per pixel stands for two classes only"
        )
    return logits[:, 1:] - logits[:, :1]


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


class MSCCNet(nn.Module):
    """MPC's encoder with MSCCNet's head. Images (B,3,H,W) are RGB in [0,1], at least 32 pixels wide and high.

    All four maps of the encoder are levels, on the grid of the finest; the coarsest feeds the image's logits. Inside,
    the head has the encoder's D channels. (Released: the three deeper levels of a dilated ResNet-50, 512 channels.)
    """

    head = "mscc"

    def __init__(self, size: str, **options: Any):
        super().__init__()
        self.size = size
        self.encoder = HRFormer(SIZES[size])
        width = SIZES[size].embedding
        self.decoder = MSCCHead((width,) * 4, width, **options)
        self.recipe: dict = {}  # what the weights were trained with; set when they are loaded from a file

    @classmethod
    def build(cls, size: str, **options: Any) -> MSCCNet:
        """New network with random weights. size: nano, small or base; options: of `mscc.MSCC`. InputError otherwise."""
        if size not in SIZES:
            raise InputError(f"size {size!r} is unknown; choose one of {', '.join(SIZES)}")
        return cls(size, **options)

    def encode(self, images: Tensor) -> list[Tensor]:
        """The four maps, as `MPC.encode`. ValueError if images are not 4-D with 3 channels."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}; expected (B, 3, H, W), RGB in [0, 1]")
        return self.encoder(images)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """images -> "mask" and "coarse" (B,2,ceil(H/4),ceil(W/4)), "image" (B,2): two-class logits."""
        return self.decoder(self.encode(images))

    def localize(self, maps: list[Tensor]) -> Tensor:
        """Four maps as `encode` gives them, the finest (B,D,h,w) -> logits (B,1,h,w)."""
        return tampered_logit(self.decoder(maps)["mask"])

    def forward(self, images: Tensor) -> Tensor:
        """images (B,3,H,W) -> logits (B,1,ceil(H/4),ceil(W/4)); sigmoid gives the score map."""
        return self.localize(self.encode(images))


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
    """MSCCNet's one stage (`loop.Stage`): encoder and head learn together from full masks, with the settings of
    the recipe's `finetune`, whose alpha and gamma have no part in it. Validation is that of stage 2."""

    def __init__(self, model: MSCCNet, recipe: Recipe):
        self.settings, self.model = recipe.finetune, model
        if self.settings.encoder != "trained" or self.settings.cache_features:
            raise InputError(
                f"finetune.encoder {self.settings.encoder!r}, cache_features {self.settings.cache_features}: MSCCNet "
                "learns as a whole; set finetune.encoder to trained and leave cache_features out"
            )
        self.network = ClassCenterStep(model)

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path | str | None:
        return recipe.pretrain.weights and expand(recipe.pretrain.weights)

    def count(self, batch: dict[str, Tensor]) -> int:
        """The pixels of a batch that are not ignored."""
        return int((batch["mask"] != IGNORE).sum())  # turning moves pixels and loses none

    def training_set(self, data: Dataset, *_: Any) -> Dataset:
        """The images: they must pass through the encoder, which learns."""
        return data
