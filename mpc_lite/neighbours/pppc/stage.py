"""PPPC as a stage of the loop: labelled source images, unlabelled target images, and how they are told apart.

For forgeries the source are clean images with masks; the target are other images of the same kind after a `Shift`:
made smaller, saved as JPEG. The masks of the target are never in a training batch; validation uses them to score, and
not to choose the best step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpc_lite.data.stream import Forgeries, ManifestImages
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import degrade
from mpc_lite.files import expand
from mpc_lite.neighbours.pppc.step import AdaptationStep
from mpc_lite.network.model import MPC
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.neighbour_keys import Shift
from mpc_lite.training.finetune import Finetuning

# ------------------------------------------------------------------------------------------------------------ the data


def shifted(image: Tensor, ratio: float, quality: int) -> Tensor:
    """(3,S,S) uint8 -> the same made smaller by `ratio`, saved as JPEG and brought back to its size; a new tensor."""
    small = degrade(image.permute(1, 2, 0).numpy(), (("resize_ratio", ratio), ("jpeg_quality", quality)))
    back = cv2.resize(small, tuple(image.shape[:0:-1]), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(back.transpose(2, 0, 1)))


class DomainPairs(Dataset):
    """Items of a training set with a target image beside each: image, mask, turn, target (3,S,S) uint8.

    Of generated forgeries position 2p is source and 2p + 1 target; of a manifest's rows every other one is target, in
    all epochs, so no image that the teacher has to label is ever shown with its mask. `twins`: the target is the source
    image itself. The shift is a function of (seed, position).

    Raises:
        InputError: a manifest with a single training row, which cannot be both.
    """

    split = "train"

    def __init__(self, images: Forgeries | ManifestImages, shift: Shift, seed: int, twins: bool = False):
        self.shift, self.seed, self.twins, self.paired = shift, seed, twins, images.epoch is None
        self.source = self.target = images
        if not self.paired and not twins:
            rows = np.unique(images.entries)  # which may occur repeatedly in an epoch
            if len(rows) < 2:
                raise InputError("one training row: PPPC needs one for the source and another for the target; add rows")
            self.source, self.target = (copy.copy(images) for _ in "ab")
            for part, first in ((self.source, 0), (self.target, 1)):
                part.entries = images.entries[np.isin(images.entries, rows[first::2])]
                part.epoch = len(part.entries)
        self.epoch = self.source.epoch

    def _places(self, position: int) -> tuple[int, int]:
        """The positions of the source image and the target image, each in its own set."""
        return (2 * position, 2 * position + 1) if self.paired and not self.twins else (position, position)

    def names(self, position: int) -> list[str]:
        """What the images of a position are called: the source, and the target where it is another one."""
        source, target = self._places(position)
        return self.source.names(source) + ([] if self.twins else self.target.names(target))

    def __getitem__(self, position: int) -> dict[str, Tensor] | str:
        source, target = self._places(position)
        item = self.source[source]
        other = item if self.twins else self.target[target]
        if isinstance(item, str) or isinstance(other, str):
            return item if isinstance(item, str) else other
        rng = np.random.default_rng([self.seed, position, 5])  # 1 to 4: `mpc_lite.data`
        ratio, (low, high) = rng.uniform(*self.shift.ratio), self.shift.quality
        return {**item, "target": shifted(other["image"], ratio, int(rng.integers(low, high + 1)))}


# ----------------------------------------------------------------------------------------------------------- the stage


class DomainAdaptation(Finetuning):
    """PPPC as a stage: the whole network learns. Its weights are those of MPC's network: heads and teacher stay behind.

    `validate` scores images as they are, which decides, and the same images shifted.
    """

    name, output = "pppc", "model.safetensors"
    partial = True  # the Gaussian heads learn nothing before the contrast begins

    def __init__(self, model: MPC, recipe: Recipe):
        self.settings, self.model, self.seed = getattr(recipe, self.name), model, recipe.seed
        self.network = AdaptationStep(model, self.settings)
        self.companion = self.network.guidance

    @staticmethod
    def start(recipe: Recipe, out: Path) -> Path | None:
        return recipe.pppc.weights and expand(recipe.pppc.weights)

    def count(self, batch: dict[str, Tensor]) -> int:
        """The images of a batch: a micro-batch's losses are means over its own pixels and classes."""
        return len(batch["image"])

    def training_set(self, data: Dataset, *_: Any) -> Dataset:
        return DomainPairs(data, self.settings.shift, self.seed, self.settings.mix_label_rule == "intra")

    def prepare_epoch(self) -> None:
        self.network.train()

    def validate(self, model: MPC, batches: Iterable[dict], gather: Callable[[list], list] = list) -> dict[str, float]:
        """Scores as `Finetuning.validate` gives them, and "target_…" after the shift in the middle of its ranges.

        "score" is that of the images as they are: masks of the target must not choose the weights.
        """
        batches, shift = list(batches), self.settings.shift
        ratio, quality = sum(shift.ratio) / 2, sum(shift.quality) // 2
        target = [{**b, "image": torch.stack([shifted(x, ratio, quality) for x in b["image"].cpu()])} for b in batches]
        target = [{**b, "image": b["image"].to(a["image"].device)} for a, b in zip(batches, target, strict=True)]
        after = super().validate(model, target, gather)
        return {**super().validate(model, batches, gather), **{f"target_{k}": v for k, v in after.items()}}
