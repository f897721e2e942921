"""What the training loops read: a stream of positions, each a pure function of the seed.

A loader is asked for *positions* 0, 1, 2, … of an endless stream. Position p is forgery number p of the generator, or
row `permutation(epoch)[p % n]` of a manifest. So a run that stopped goes on at position `step * batch`, whatever the
number of workers, and each of several processes takes its own share of the same stream.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from mpc_lite.augment import DIHEDRAL
from mpc_lite.config import InputError, Recipe
from mpc_lite.images import read_image
from mpc_lite.manifest import Sample, read_manifest, read_mask
from mpc_lite.scenes import Scenes
from mpc_lite.synth import forge

Item = dict[str, Tensor]


class Forgeries(Dataset):
    """Generated forgeries: item p is `forge(split, seed, p)`: image (3,S,S) uint8, mask (S,S) uint8, turn 0-7."""

    def __init__(self, recipe: Recipe, split: str, size: int | None = None):
        self.recipe, self.split, self.size = recipe, split, size or recipe.data.size
        self.scenes = Scenes(split, recipe.data.scenes, recipe.data.photos)

    def __getitem__(self, position: int) -> Item:
        made = forge(self.split, self.recipe.seed, position, self.scenes, self.size, self.recipe.data.authentic_share)
        return _item(made.image, made.mask, _turn(self.recipe, self.split, position))


class ManifestImages(Dataset):
    """Rows of a manifest, squashed to (S,S) as the paper does; a fresh permutation of the rows in every epoch."""

    def __init__(self, recipe: Recipe, split: str, samples: list[Sample]):
        self.recipe, self.split, self.samples, self.size = recipe, split, samples, recipe.data.size

    def __getitem__(self, position: int) -> Item | str:
        """The item, or what is wrong with its row: the loop decides what becomes of the run."""
        epoch, place = divmod(position, len(self.samples))
        if self.split == "train":
            place = int(np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.samples))[place])
        sample = self.samples[place]
        try:
            image = read_image(sample.image)
            mask = read_mask(sample, image.shape[:2])
        except InputError as error:
            text = str(error)
            return text if text.startswith(sample.where) else f"{sample.where}: {text}"
        square = (self.size, self.size)
        image = cv2.resize(image, square, interpolation=cv2.INTER_LINEAR)
        small = cv2.resize(mask * np.uint8(255), square, interpolation=cv2.INTER_LINEAR) > 127
        return _item(image, small.astype(np.uint8), _turn(self.recipe, self.split, position))


def _item(image: np.ndarray, mask: np.ndarray, turn: int) -> Item:
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return {"image": pixels, "mask": torch.from_numpy(mask), "turn": torch.tensor(turn)}


def _turn(recipe: Recipe, split: str, position: int) -> int:
    if split != "train" or not recipe.augment.dihedral:
        return 0
    return int(np.random.default_rng([recipe.seed, position, 1]).integers(DIHEDRAL))


def held_out(samples: list[Sample], fraction: float) -> tuple[list[Sample], list[Sample]]:
    """Share rows into training and validation by a hash of each image's name; ``test`` rows are left out.

    Rows that the manifest marks ``validation`` are the validation set; only without them the hash decides.

    Raises:
        InputError: a split that is none of train, validation, test or empty.
    """
    unknown = sorted({s.split for s in samples} - {None, "", "train", "validation", "test"})
    if unknown:
        raise InputError(f"splits {', '.join(unknown)} are unknown; a manifest's splits are train, validation and test")
    named = [s for s in samples if s.split == "validation"]
    rest = [s for s in samples if s.split in (None, "", "train")]
    if named:
        return rest, named
    chosen = [zlib.crc32(s.image.stem.encode()) / 2**32 < fraction for s in rest]
    return [s for s, c in zip(rest, chosen, strict=True) if not c], [s for s, c in zip(rest, chosen, strict=True) if c]


def datasets(recipe: Recipe) -> tuple[Dataset, Dataset, int]:
    """The training and validation sets of a recipe and the number of validation images.

    Raises:
        InputError: a manifest whose rows leave one of the two sets empty.
    """
    if recipe.data.manifest is None:
        return Forgeries(recipe, "train"), Forgeries(recipe, "validation"), recipe.data.validation_images
    train, validation = held_out(read_manifest(recipe.data.manifest), recipe.data.validation_fraction)
    if not train or not validation:
        raise InputError(
            f"{recipe.data.manifest}: {len(train)} training and {len(validation)} validation rows; each needs at least "
            "one. Rows with split 'test' are never trained on; raise data.validation_fraction or mark rows 'validation'"
        )
    # Lists come sorted by label or source; the first rows would speak for one of them only.
    order = np.random.default_rng(recipe.seed).permutation(len(validation))
    validation = [validation[i] for i in order]
    count = min(len(validation), recipe.data.validation_images)
    return ManifestImages(recipe, "train", train), ManifestImages(recipe, "validation", validation), count


class Positions:
    """The batches of positions of one process: batch t holds ((t * processes + process) * B) … + B - 1."""

    def __init__(self, first: int, last: int, batch: int, process: int = 0, processes: int = 1):
        self.first, self.last, self.batch, self.process, self.processes = first, last, batch, process, processes

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        for turn in range(self.first, self.last):
            start = (turn * self.processes + self.process) * self.batch
            yield list(range(start, start + self.batch))


def loader(data: Dataset, positions: Positions | list[list[int]], workers: int) -> DataLoader:
    """Batches {image (B,3,S,S) uint8, mask (B,S,S) uint8, turn (B,) int64}, in the order of `positions`; or a message,
    for a batch with a row that cannot be read."""
    return DataLoader(
        data,
        batch_sampler=positions,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread if workers else None,
        collate_fn=_collate,
        generator=torch.Generator(),  # its own: a resumed run must find the global random numbers untouched
    )


def _collate(items: list[Item | str]) -> Item | str:
    return next((item for item in items if isinstance(item, str)), None) or default_collate(items)


def _one_thread(_: int) -> None:
    """A worker that spins up threads of its own takes the cores from the training step."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
