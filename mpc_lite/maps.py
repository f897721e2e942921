"""Saved score maps: written once, read again for any protocol, never taken for maps of something else."""

import hashlib
import io
import json
import re
import uuid
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import nn

from mpc_lite.baselines import ScoreMap
from mpc_lite.config import InputError
from mpc_lite.manifest import Sample
from mpc_lite.weights import write_atomic

INDEX = "index.json"


class SavedMaps:
    """A folder of score maps: 16-bit PNG files, one per image, and index.json, which says what made them.

    A file is named after its row and the image's sha256 and carries the key of its run, so a map of another network,
    of another manifest or of an image that has changed since is never taken for a good one.
    """

    def __init__(self, folder: str | Path, facts: dict):
        self.folder = Path(folder)
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def create(cls, folder: str | Path, manifest: dict, model: nn.Module | ScoreMap) -> "SavedMaps":
        """Begin a folder for the maps of `model`, or go on with it; manifest: its {name, sha256}."""
        facts = {"schema": 1, "manifest": manifest, "made_by": _identity(model)}
        write_atomic(Path(folder) / INDEX, (json.dumps(facts, indent=2) + "\n").encode())
        return cls(folder, facts)

    @classmethod
    def open(cls, folder: str | Path, manifest: dict) -> "SavedMaps":
        """A folder that `create` began. Raises InputError without a readable index or with another manifest's."""
        try:
            facts = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
            found = facts["manifest"]["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{folder}: no readable {INDEX}; evaluate with a network and maps_dir first") from None
        if found != manifest["sha256"]:
            raise InputError(
                f"{folder}: its maps were made for a manifest with sha256 {found[:12]}…, this one has "
                f"{manifest['sha256'][:12]}…; evaluate with the network again"
            )
        return cls(folder, facts)

    def _file(self, sample: Sample) -> Path:
        digest = hashlib.sha256(sample.image.read_bytes()).hexdigest()[:16]
        return self.folder / f"{sample.row:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', sample.image.stem)[:60]}-{digest}.png"

    def read(self, sample: Sample, size: tuple[int, int]) -> np.ndarray | None:
        """Levels (H,W) uint16 of a sample, or None when there is no whole map of this run and image."""
        try:
            with Image.open(self._file(sample)) as picture:
                if picture.text.get("key") != self.key or picture.size != size[::-1]:
                    return None
                return np.asarray(picture).astype(np.uint16)
        except Exception:  # missing or damaged, and decoders have many ways to say so: the map is made again
            return None

    def write(self, sample: Sample, levels: np.ndarray) -> None:
        """Keep a sample's levels (H,W) uint16."""
        text, data = PngImagePlugin.PngInfo(), io.BytesIO()
        text.add_text("key", self.key)
        Image.fromarray(levels).save(data, "PNG", pnginfo=text, compress_level=3)
        write_atomic(self._file(sample), data.getvalue())


def _identity(model: nn.Module | ScoreMap) -> dict:
    """What made a map. A callable may name itself by a `fingerprint`; without one its maps are always made anew."""
    if not isinstance(model, nn.Module):
        fingerprint = getattr(model, "fingerprint", None) or uuid.uuid4().hex
        return {"model": type(model).__qualname__, "fingerprint": fingerprint}
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return {"model": type(model).__qualname__, "fingerprint": digest.hexdigest(), "input": "stretch 512"}
