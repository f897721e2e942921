"""Where has this photograph been changed? A trained network applied to photographs of any size.

`Localizer` turns one photograph into a score map of its own size; `predict.predict` does so for many and writes files.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.errors import InputError
from mpc_lite.inference.calibration import Calibration, authentic_scores
from mpc_lite.inference.forward import (
    check_shape,
    device_of,
    images_at_once,
    mirrored,
    network_scores,
    pixels_of,
    resized,
    stretch_map,
)
from mpc_lite.inference.score_map import ScoreMap, image_score
from mpc_lite.network.checks import check_calibration
from mpc_lite.network.devices import scoring_device, side_by_side
from mpc_lite.network.hub import at_revision
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import fingerprint, read_facts

MODES = ("stretch", "pad", "tiles")
BACKENDS = ("torch", "onnx")
_MIRRORS = ((slice(None), slice(None, None, -1)), (slice(None, None, -1),), (slice(None, None, -1),) * 2)
_PIXELS_AT_ONCE = 16 * 192 * 192  # in tiles: eight of 192² in each of two threads take two thirds of the time of two
_MOST_PIXELS = 4 * 512**2  # though four tiles of more would keep four threads busy: weights may ask for 2048²


@dataclass(frozen=True, eq=False)
class Hit:
    """What the network says about one photograph. score_map: (H,W) float32 in [0,1], 1 = tampered, at native size.
    calibration: what the scores of authentic photographs were, where the weights carry it. confidence_map: (H,W)
    float32 in [0,1], where it was asked for: 1 where the network answers the same in whatever mirror it sees the place.
    """

    score_map: np.ndarray
    calibration: Calibration | None = None
    confidence_map: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """(H,W) bool: score above 0.5."""
        return self.score_map > 0.5

    @cached_property
    def score(self) -> float:
        """Image-level score in [0,1]: maximum of the map after 8×8 mean pooling; one odd pixel does not decide."""
        return image_score(self.score_map)

    @property
    def authentic_above(self) -> float | None:
        """The share of authentic photographs that score as high, in (0,1]; None without a calibration."""
        return self.calibration and self.calibration.authentic_above(self.score)

    @property
    def verdict(self) -> str | None:
        """`authentic_above` in words: look here, unsure, or cannot tell; None without a calibration."""
        return self.calibration and self.calibration.verdict(self.score)


class Localizer:
    """Network plus the way a photograph is fed to it.

    mode `stretch`: the paper's way, resized to size×size whatever its shape, the map resized back; small regions of a
    large photo vanish. `pad`: the whole photo at native size, mirrored at its right and lower border up to a multiple
    of 32 (mirroring makes no edge that looks like a splice, zeros would); memory grows with the photo. `tiles`: native
    size in tiles of size×size that overlap by `overlap` pixels and are blended smoothly; memory stays that of `batch`
    tiles (by default 16 of 192², so many pixels of others, at least 4 up to 512², at least one), a band of one tile's
    height, and the map. Photos smaller than a tile are mirrored up to one.

    What is not given comes from the checkpoint's recipe (`model.recipe["evaluate"]`), or else is stretch at 512; tiles
    overlap by a quarter unless the recipe itself uses tiles. `model` maps (B,3,h,w) in [0,1] to logits (B,1,·,·), at
    any stride. `facts`: of its weight file (`weights.read_facts`), which may carry a calibration. Raises InputError for
    a mode, size or overlap that cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: str | None = None,
        size: int | None = None,
        overlap: int | None = None,
        batch: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ):
        if not all(number is None or isinstance(number, Integral) for number in (size, overlap, batch)):
            raise InputError(f"size {size!r}, overlap {overlap!r}, batch {batch!r}; expected whole numbers")
        recipe = (getattr(model, "recipe", None) or {}).get("evaluate", {})
        self.mode = mode or recipe.get("mode", "stretch")
        self.size = recipe.get("size", 512) if size is None else int(size)
        if overlap is None:
            overlap = recipe.get("overlap", 0) if recipe.get("mode") == "tiles" and size is None else self.size // 4
        self.overlap = overlap
        pixels = max(1, self.size) ** 2
        self.batch = max(_PIXELS_AT_ONCE // pixels, min(4, _MOST_PIXELS // pixels), 1) if batch is None else batch
        if self.mode not in MODES:
            raise InputError(f"mode '{self.mode}' is unknown; choose one of {', '.join(MODES)}")
        if self.size < 32 or not 0 <= self.overlap < self.size or self.batch < 1:
            raise InputError(
                f"size {self.size}, overlap {self.overlap}, batch {self.batch}; expected a size of at least 32, "
                f"an overlap from 0 to size - 1, and a batch of at least 1"
            )
        self.model = model.to(memory_format=torch.channels_last)
        check_calibration("facts", facts or {})
        self.calibration = Calibration.of(facts or {}, self.mode, self.size, self.overlap)

    @classmethod
    def from_pretrained(
        cls,
        name_or_file: str = "lite2",
        mode: str | None = None,
        device: str | None = None,
        backend: str = "torch",
        revision: str | None = None,
    ):
        """A localizer from shipped weights (`lite2`, `lite`), a checkpoint, or `hf://OWNER/NAME` of a revision.

        By default it is on the device that trains; `mpc_lite.network.hub` says what a name on a hub may ask for.
        backend `onnx`: onnxruntime computes the same maps on the CPU, 1.5 times as fast; it also takes a file by
        `mpc-lite export`. InputError for another backend, for `onnx` on another device or without its packages.
        """
        if backend not in BACKENDS:
            raise InputError(f"backend '{backend}' is unknown; choose one of {', '.join(BACKENDS)}")
        name_or_file = at_revision(name_or_file, revision)
        if backend == "onnx":
            if device not in (None, "auto", "cpu"):
                raise InputError(f"device '{device}'; backend 'onnx' computes on the CPU alone: leave the device out")
            from mpc_lite.inference.onnx_backend import OnnxNetwork  # an optional extra

            network = OnnxNetwork.from_pretrained(name_or_file)
            return cls(network, mode, facts=network.facts)
        device = scoring_device(device)
        return cls(MPC.from_pretrained(name_or_file).to(device), mode, facts=read_facts(name_or_file))

    @property
    def bears_threads(self) -> bool:
        """Whether several photos may be scored at a time; then PyTorch's threads are better spent so."""
        return images_at_once(self.model) > 1

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides a score map: weights, mode, size and overlap. Computed anew at each call, because
        the network may have been trained on since."""
        facts = f"{fingerprint(self.model)} {self.mode} {self.size} {self.overlap}"
        return hashlib.sha256(facts.encode()).hexdigest()

    def __call__(self, photo: str | Path | np.ndarray, shape: tuple[int, int] | None = None) -> Hit:
        """Score a photo: a path (read by `read_image`, upright) or (H,W,3) uint8 RGB.

        shape: (H,W) of the map where the photo itself was resized, by default the photo's: where the network is fed by
        stretching its map goes straight there, any other is resized bilinearly from the photo's size.
        Raises InputError for a file that cannot be read, anything but such an array, and a network that answers NaN.
        """
        image = pixels_of(photo)
        check_shape(shape)
        if self.mode == "stretch":
            score_map = stretch_map(self.model, image, self.size, shape)
        else:
            score_map = resized(self._padded(image) if self.mode == "pad" else self._tiled(image), shape)
        hit = Hit(score_map, self.calibration)
        if not math.isfinite(hit.score):
            raise InputError("the network's answer is not a number; the checkpoint is damaged or training diverged")
        return hit

    def with_confidence(self, photo: str | Path | np.ndarray) -> Hit:
        """The hit of a call, with a confidence map: 1 − 2σ, σ the standard deviation of the score over four mirrors.

        The photo is scored as it is, mirrored left to right, top to bottom, and both: four times the work. What is
        tampered does not depend on it, so where the answers differ, one of them is wrong. Scores lie in [0,1], so σ is
        at most ½. Equal answers may all be wrong: the map bounds trust from above. Raises InputError as a call does.
        """
        image = pixels_of(photo)
        hit = self(image)
        mean, squares = hit.score_map.copy(), np.zeros_like(hit.score_map)  # running, as Welford has it
        for count, mirror in enumerate(_MIRRORS, start=2):
            score_map = self(np.ascontiguousarray(image[mirror])).score_map[mirror]
            step = score_map - mean
            mean += step / count
            squares += step * (score_map - mean)
        deviation = np.sqrt(squares / (len(_MIRRORS) + 1))
        return Hit(hit.score_map, self.calibration, np.clip(1 - 2 * deviation, 0, 1))

    def calibrate(
        self,
        photos: Iterable[str | Path | np.ndarray],
        photographs: str | None = None,
        say: Callable[[str], None] = warnings.warn,
    ) -> Calibration:
        """Score authentic photographs that the network was not trained on; `photographs` says what they are.

        Its scores hold for this network fed in this way. Equal bytes count once, and what cannot be scored is left out:
        `say` is told. InputError when nothing is left.
        """
        scores = authentic_scores(lambda photo: self(photo).score, photos, say)
        what = photographs or f"{len(scores)} authentic photographs"
        return Calibration(scores, what, self.mode, self.size, self.overlap)

    def _padded(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        padded = mirrored(image, math.ceil(height / 32) * 32, math.ceil(width / 32) * 32)
        return self._scores(padded[None])[0, :height, :width].cpu().numpy().copy()

    def _tiled(self, image: np.ndarray) -> np.ndarray:
        """Blend the tiles' maps, one row of tiles after the other.

        The tiles lie on a grid and the window is a product w(y)·w(x), so the sum of the weights at a pixel is the
        product of two one-dimensional sums: dividing by those makes the weights sum to 1 without a second map.
        """
        native = image.shape[:2]
        image = mirrored(image, max(native[0], self.size), max(native[1], self.size))
        height, width = image.shape[:2]
        tops, lefts = (tile_starts(side, self.size, self.overlap) for side in (height, width))
        down, across = (blend_weights(s, self.size) for s in (tops, lefts))
        score_map = np.empty((height, width), np.float32)
        band = np.zeros((self.size, width))  # float64: a constant stays the constant
        threads = min(images_at_once(self.model), self.batch)
        share = self.batch // threads
        firsts = range(0, len(lefts), share)
        parts = [(i, range(first, min(first + share, len(lefts)))) for i in range(len(tops)) for first in firsts]

        def scores_of(part: tuple[int, range]) -> np.ndarray:
            top = tops[part[0]]
            tiles = [image[top : top + self.size, lefts[j] : lefts[j] + self.size] for j in part[1]]
            return self._scores(np.stack(tiles)).cpu().numpy()

        for (i, columns), tiles in zip(parts, side_by_side(scores_of, parts, threads), strict=True):
            for j, scores in zip(columns, tiles, strict=True):
                band[:, lefts[j] : lefts[j] + self.size] += down[i][:, None] * across[j] * scores
            if columns.stop < len(lefts):
                continue
            top = tops[i]
            done = (tops[i + 1] if i + 1 < len(tops) else height) - top  # rows that no later tile touches
            score_map[top : top + done] = band[:done]
            for row in range(self.size - done):  # one by one, or a copy of the band would be made on the way
                band[row] = band[row + done]
            band[self.size - done :] = 0
        return np.ascontiguousarray(score_map[: native[0], : native[1]])

    def _scores(self, images: np.ndarray) -> Tensor:
        """images (B,h,w,3) uint8 -> scores (B,h,w) float32: sigmoid first, then bilinear to the images' size."""
        batch = torch.tensor(np.ascontiguousarray(images), device=device_of(self.model))
        scores = network_scores(self.model, batch.permute(0, 3, 1, 2).float().div_(255))  # channels_last already
        return F.interpolate(scores, size=images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover `length` >= size pixels: every size - overlap, the last one moved inside.

    A stride that is a multiple of 8 keeps the JPEG grid where it is in every tile but the last.
    """
    return [*range(0, length - size, size - overlap), length - size]


def blend_weights(starts: list[int], size: int) -> np.ndarray:
    """Weights (len(starts), size) float64 > 0 of tiles along one axis: raised cosine, divided by their sum per pixel.

    w_i(t) = sin²(π(t + ½)/size) / Σ_k sin²(π(t + s_i - s_k + ½)/size), over the tiles k that cover the pixel.
    """
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    total = np.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += window
    return np.stack([window / total[start : start + size] for start in starts])


def map_of(model: nn.Module | ScoreMap, photo: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Score map of a photo, (H,W,3) uint8 RGB -> (H,W) float in [0,1], from whatever finds forgeries.

    model: a network (fed by `stretch_map` at 512), a Localizer, or a callable whose answer is a map of the photo's size
    or an object with such a `score_map`. shape: (H,W) of the map where the photo itself was resized, as for a
    Localizer. Raises InputError for a callable's map of another size than the photo, and as the Localizer does.
    """
    if isinstance(model, nn.Module):
        return stretch_map(model, photo, shape=shape)
    if isinstance(model, Localizer):
        return model(photo, shape).score_map
    answer = model(photo)
    answer = getattr(answer, "score_map", answer)
    score_map = np.asarray(answer.detach().float().cpu() if isinstance(answer, Tensor) else answer)
    if score_map.shape != photo.shape[:2]:
        raise InputError(f"score map {score_map.shape}, image {photo.shape[:2]}; give maps of the image's size")
    return resized(score_map, shape)
