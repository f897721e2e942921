"""One row of a manifest: read, map, scores. Rows know nothing of each other: several may be scored at a time."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from mpc_lite.data.manifest import Sample, check_split, manifest_rows, read_mask
from mpc_lite.errors import NO_MEMORY, InputError, UnfitImage, out_of_memory
from mpc_lite.evaluation.foreign_maps import ForeignMaps
from mpc_lite.evaluation.protocols import ImageScore, Protocol
from mpc_lite.files import place
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import map_of
from mpc_lite.inference.saved_maps import SavedMaps
from mpc_lite.inference.score_map import ScoreMap, image_score, quantise

Manifest = str | Path | Sequence[Sample]
Row = tuple[Sample | None, str | None]  # and what is wrong with it


@dataclass(frozen=True)
class RowScore:
    """error: one line where the row is left out; too_large: because memory did not suffice. Else the image's score, and
    of a tampered image those of its pixels, the network's and each baseline's, and the share that is tampered."""

    error: str | None = None
    too_large: bool = False
    image_score: float | None = None
    pixels: ImageScore | None = None
    beside: Mapping[str, ImageScore] = field(default_factory=dict)
    share: float | None = None


@dataclass(frozen=True)
class RowScores:
    """Scores a row when it is called, also from several threads at a time, if the model can be.

    model: as for `evaluate`, None where all maps are saved. baselines: {name: (map, protocol at its threshold)}.
    InputError for a map of another size or outside [0,1]; whatever else is wrong with a row is in its score.
    """

    model: nn.Module | ScoreMap | None
    saved: SavedMaps | ForeignMaps | None
    protocol: Protocol
    baselines: Mapping[str, tuple[ScoreMap, Protocol]]
    manifest: Manifest

    def __call__(self, row: Row) -> RowScore:
        sample, problem = row
        try:
            if problem:
                raise InputError(problem)
            image, mask = _read(sample)
            levels = self.saved.read(sample, mask.shape) if self.saved else None
            if levels is None and self.model is None:
                raise InputError(
                    "no score map of this image here (never written, damaged, or the image has changed since); "
                    "evaluate with the network again"
                )
        except (InputError, MemoryError) as error:
            return RowScore(self._message(sample, error), isinstance(error, MemoryError))
        try:
            if levels is None:
                levels = _levels(self.model, image, sample)
                if self.saved:
                    self.saved.write(sample, levels)
            whole = image_score(levels)
            if sample.label != 1:
                return RowScore(image_score=whole)
            pixels = self.protocol.score_image(levels, mask)
            del levels  # of a large photo as large as each baseline's
            beside = {
                name: protocol.score_image(quantise(score_map(image)), mask, ranked=False)
                for name, (score_map, protocol) in self.baselines.items()
            }
        except UnfitImage as error:
            return RowScore(self._message(sample, error))
        except (MemoryError, RuntimeError, cv2.error) as error:
            if not out_of_memory(error):
                raise
            return RowScore(self._message(sample, error), too_large=True)
        return RowScore(image_score=whole, pixels=pixels, beside=beside, share=float(mask.mean()))

    def _message(self, sample: Sample | None, error: Exception) -> str:
        """The error, with the row it belongs to and without folders: results travel to other machines."""
        text = str(error)
        if not isinstance(error, InputError):
            text = NO_MEMORY
        if sample is None:
            return text
        text = text if text.startswith(sample.where) else f"{sample.where}: {text}"
        for file in filter(None, (sample.image, sample.mask)):
            text = text.replace(f"{file.parent}{os.sep}", "")
        named = isinstance(self.manifest, str | Path)
        # Of the manifest's folder as a whole: " in ." must not be found in "ends in .npy".
        return re.sub(rf" in {re.escape(str(place(self.manifest).parent))}(?![^;,\s])", "", text) if named else text


def samples_of(manifest: Manifest, split: str | None) -> list[Row]:
    """(sample, problem) per row. Unlike `read_manifest` a bad row does not hide the others."""
    named = isinstance(manifest, str | Path)
    pairs = list(manifest_rows(manifest)) if named else [(sample, None) for sample in manifest]
    if split is None:
        return pairs
    known = (sample.split for sample, _ in pairs if sample is not None)
    check_split(split, known, place(manifest).name if named else "the list of samples")
    return [(sample, problem) for sample, problem in pairs if sample is None or sample.split == split]


def _read(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    image = read_image(sample.image)
    if sample.label == 1 and sample.mask is None:
        raise InputError(f"{sample.where}: label 1 (tampered) without a mask; only authentic images go without")
    return image, read_mask(sample, size=image.shape[:2])


def _levels(model: nn.Module | ScoreMap, image: np.ndarray, sample: Sample) -> np.ndarray:
    try:
        return quantise(map_of(model, image))
    except InputError as error:
        raise type(error)(f"{sample.where}: {error}") from None
