"""What the training loops read: a stream of positions, each a pure function of the seed.

A loader is asked for *positions* 0, 1, 2, … of an endless stream. Position p is forgery number p of the generator, or
entry `permutation(epoch)[p % n]` of the n entries that the manifests give an epoch. So a run that stopped goes on at
position `step * batch`, whatever the number of workers, and each of several processes takes its own share of the same
stream. Masks of training items have the size of their image; those of validation items keep the size of the file, the
size at which a map is scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpc_lite.data.augment import pixels as augment_pixels
from mpc_lite.data.augment.official import official_augment
from mpc_lite.data.augment.on_device import DIHEDRAL
from mpc_lite.data.epoch import Rows, check_sources, column, drawn, epoch_order, repeated, taken
from mpc_lite.data.manifest import SPLITS, Sample, good_rows, read_mask
from mpc_lite.errors import InputError, some
from mpc_lite.files import expand_all
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.forgeries.scenes import hash_share
from mpc_lite.images import IGNORE, TAMPERED_ABOVE, read_image
from mpc_lite.recipes.keys import Recipe

Item = dict[str, Tensor]


class Forgeries(Dataset):
    """Generated forgeries: item p is forgery p of a `Stream`: image (3,S,S) uint8, mask (S,S) uint8, turn 0-7.

    With `augment.jpeg` a training image is saved here where `device`, the type of the one that trains, is cpu. For any
    other the item has a quality instead, 1-100 or 0 for none, and the device saves it, see
    `mpc_lite.data.augment.on_device`.
    """

    epoch = None  # the stream has no epochs

    def __init__(self, recipe: Recipe, split: str, size: int | None = None, device: str = "cpu"):
        self.recipe, self.split, self.size, self.device = recipe, split, size or recipe.data.size, device
        self.stream = Stream(split, recipe.seed, recipe.data, self.size)
        self.scenes = self.stream.scenes  # of the simulated cameras; None where all pictures are real photographs

    def names(self, position: int) -> list[str]:
        """What the images of a position are called, for people; here it is one."""
        return [f"forgery {position} of split {self.split}, seed {self.recipe.seed}"]

    def __getitem__(self, position: int) -> Item | str:
        """The item, or what is wrong with a photograph: the loop decides what becomes of the run."""
        try:
            forgery = self.stream(position, self.size)
        except InputError as error:
            return str(error)
        return _drawn(self, position, forgery.image, forgery.mask)


class ManifestImages(Dataset):
    """Rows of manifests, squashed to (S,S) as the paper does. Training rows come in a fresh permutation in each epoch.

    `entries` are the indices of the rows that make an epoch, each row once by default; `epoch` is their number. A
    validation item is row p itself, its mask (H,W) as large as the file. `device`: see `Forgeries`.
    """

    def __init__(
        self,
        recipe: Recipe,
        split: str,
        samples: Sequence[Sample],
        entries: np.ndarray | None = None,
        device: str = "cpu",
    ):
        self.recipe, self.split, self.samples, self.size = recipe, split, samples, recipe.data.size
        self.device = device
        self.entries = np.arange(len(samples)) if entries is None else entries
        self.epoch = len(self.entries)

    def row(self, position: int) -> int:
        """The index of the row at a position of the stream."""
        epoch, place = divmod(position, self.epoch)
        if self.split == "train":
            place = epoch_order(self.recipe.seed, epoch, self.epoch)[place]
        return int(self.entries[place])

    def names(self, position: int) -> list[str]:
        """The file of the image of a position."""
        return [str(self.samples[self.row(position)].image)]

    def __getitem__(self, position: int) -> Item | str:
        """The item, or what is wrong with its row: the loop decides what becomes of the run."""
        sample = self.samples[self.row(position)]
        try:
            image = read_image(sample.image)
            mask = read_mask(sample, image.shape[:2])
            if self.split != "train":
                return _item(_square(image, mask, self.size)[0], mask, 0)
            return _drawn(self, position, image, mask)
        except InputError as error:
            text = str(error)
            return text if text.startswith(sample.where) else f"{sample.where}: {text}"


def _drawn(data: Forgeries | ManifestImages, position: int, image: np.ndarray, mask: np.ndarray) -> Item:
    """The item of a position, augmented as the recipe says; random numbers come from (seed, position, what for)."""
    recipe, training = data.recipe, data.split == "train"
    if training and recipe.augment.pipeline == "official":
        image, mask = official_augment(image, mask, np.random.default_rng([recipe.seed, position, 2]), data.size)
    image, mask = _square(image, mask, data.size)
    turn = _turn(recipe, position) if training else 0
    if not training or recipe.augment.jpeg is None:
        return _item(image, mask, turn)
    quality = _quality(recipe, position)
    if data.device != "cpu":
        return {**_item(image, mask, turn), "quality": torch.tensor(quality)}
    return _item(augment_pixels.jpeg(image, quality) if quality else image, mask, turn)


def _square(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(H,W,3) and (H,W) 0/1/255 to (S,S,3) and (S,S), bilinear without a filter (MPC, released code). As in
    `views.resize_mask`, a pixel that takes any weight from an ignored one is ignored."""
    if image.shape[:2] == (size, size):
        return image, mask
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    tampered, ignored = np.multiply(mask == 1, 255, dtype=np.uint8), mask == IGNORE
    small = (cv2.resize(tampered, (size, size), interpolation=cv2.INTER_LINEAR) > TAMPERED_ABOVE).astype(np.uint8)
    if ignored.any():  # weights as floats: in 8 bits a small one would be rounded away
        weight = cv2.resize(ignored.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        small[weight > 0] = IGNORE
    return image, small


def _item(image: np.ndarray, mask: np.ndarray, turn: int) -> Item:
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return {"image": pixels, "mask": torch.from_numpy(np.ascontiguousarray(mask)), "turn": torch.tensor(turn)}


def _quality(recipe: Recipe, position: int) -> int:
    """Of the JPEG file that an image becomes, 1-100; 0: it becomes none."""
    rng, plan = np.random.default_rng([recipe.seed, position, 4]), recipe.augment.jpeg  # 3: `epoch.drawn`
    return int(rng.integers(plan.quality[0], plan.quality[1] + 1)) if rng.random() < plan.share else 0


def _turn(recipe: Recipe, position: int) -> int:
    if not recipe.augment.dihedral:
        return 0
    return int(np.random.default_rng([recipe.seed, position, 1]).integers(DIHEDRAL))


_TRAINED = (None, "", "train")  # splits of rows that may be trained on


def held_out(samples: Sequence[Sample], fraction: float) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Share rows into training and validation by a hash of each image's name; ``test`` rows are left out.

    Rows that the manifest marks ``validation`` are the validation set; only without them the hash decides.

    Raises:
        InputError: a split that is none of train, validation, test or empty.
    """
    splits = _splits(samples)
    rest = [i for i, split in enumerate(splits) if split in _TRAINED]
    if "validation" in splits:
        held = [i for i, split in enumerate(splits) if split == "validation"]
    else:
        held = [i for i in rest if hash_share(samples[i].image.stem) < fraction]
        out = set(held)
        rest = [i for i in rest if i not in out]
    return taken(samples, rest), taken(samples, held)


def _splits(samples: Sequence[Sample]) -> list[str | None]:
    """The split of each row. InputError for names that nothing would be done with."""
    splits = column(samples, "split")
    if unknown := sorted(set(splits) - {*_TRAINED, *SPLITS}, key=str):
        raise InputError(f"splits {some(unknown)} are unknown; a manifest's splits are {', '.join(SPLITS)}")
    return splits


def datasets(recipe: Recipe, stage: str = "pretrain", device: str = "cpu") -> tuple[Dataset, Dataset, int]:
    """The training and validation sets of a stage and the number of validation images. `device`: the type of the one
    that trains, cpu, cuda or mps.

    Training rows are chosen in this order: tampered ones only (`tampered_only`, of validation rows too), without those
    held out for validation, `draw` at random, each as often as `repeats` says. Rows of manifests named in `validation`
    all count, whatever their split. The stage `adapt` has manifests of its own, without draw and repeats. Warns when an
    epoch has not as many entries as `data.epoch` says, those held out included.

    Raises:
        InputError: manifests whose rows leave one of the two sets empty, fewer rows than `draw` asks for, a source in
            `repeats` that no row has.
    """
    data, lists = recipe.data, recipe.adapt if stage == "adapt" else recipe.data
    draw, repeats = (None, {}) if stage == "adapt" else (data.draw, data.repeats)
    train: Dataset
    validation: Dataset
    count, held = data.validation_images, None
    if lists.manifest:
        rows = _rows(recipe, lists.manifest)
        if stage != "adapt":
            _compare_epoch(recipe, rows)
        if lists.validation:
            splits = _splits(rows)
            train_rows = taken(rows, [i for i, split in enumerate(splits) if split in _TRAINED])
            marked = taken(rows, [i for i, split in enumerate(splits) if split == "validation"])
        else:
            train_rows, held = held_out(rows, data.validation_fraction)
        if not train_rows or (held is not None and not held):
            sizes = f"{len(train_rows)} training" + ("" if held is None else f" and {len(held)} validation")
            raise InputError(
                f"{_names(lists.manifest)}: {sizes} rows; each needs at least one. Rows with split 'test' are never "
                "trained on, nor authentic ones with data.tampered_only; raise data.validation_fraction or mark rows "
                "'validation'"
            )
        check_sources(train_rows, repeats)
        train_rows = drawn(train_rows, draw, recipe.seed)
        train = ManifestImages(recipe, "train", train_rows, repeated(train_rows, repeats), device)
    else:
        train = Forgeries(recipe, "train", device=device)
    if lists.validation:
        held = _rows(recipe, lists.validation)
        if not held:
            raise InputError(f"{_names(lists.validation)}: no tampered row, and data.tampered_only takes no other")
        if lists.manifest and (n := len(set(marked.images()).difference(held.images()))):
            text = f"{n} rows of {_names(lists.manifest)} are marked 'validation' and not used"
            warnings.warn(f"{text}: those of {stage if stage == 'adapt' else 'data'}.validation count", stacklevel=2)
        if lists.manifest and (n := len(set(held.images()).intersection(train_rows.images()))):
            text = f"{n} of {len(held)} validation images are training images too: validation scores flatter"
            warnings.warn(text, stacklevel=2)
    if held:
        # Lists come sorted by label or source; the first rows would speak for one of them only.
        order = np.random.default_rng(recipe.seed).permutation(len(held))
        validation = ManifestImages(recipe, "validation", held.taken(order))
        count = min(len(held), count)
    else:
        validation = Forgeries(recipe, "validation")
    return train, validation, count


def _rows(recipe: Recipe, manifests: str | list[str]) -> Rows:
    """The rows of one manifest or several, one after another."""
    files = expand_all(manifests)
    if len({file.resolve() for file in files}) < len(files):
        raise InputError(
            f"a manifest is named twice: {_names(manifests)}; keep one, data.repeats lets rows occur often"
        )
    rows = (sample for path in files for sample in good_rows(path))
    return Rows(sample for sample in rows if sample.label == 1 or not recipe.data.tampered_only)


def _compare_epoch(recipe: Recipe, rows: Rows) -> None:
    """Warn when a list is not as long as the recipe says: a part too many or too few would train without a word."""
    if recipe.data.epoch is None:
        return
    trained = taken(rows, [i for i, split in enumerate(column(rows, "split")) if split in _TRAINED])
    length = recipe.data.draw or len(repeated(trained, recipe.data.repeats))
    if length != recipe.data.epoch:
        warnings.warn(
            f"the manifests give an epoch of {length} entries, the recipe expects {recipe.data.epoch}; compare the "
            "counts that the sets' scripts printed, or set data.epoch",
            stacklevel=3,
        )


def _names(manifests: str | list[str]) -> str:
    return manifests if isinstance(manifests, str) else ", ".join(manifests)


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
