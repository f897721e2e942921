"""Lets today's benchmarks run on a checkout whose modules still lay flat in `mpc_lite/`, without rooms.

After `bridge()` a module of a room, `mpc_lite.contrast.infonce`, is what the checkout has in its place,
`mpc_lite.infonce`; where one took over from several, it has the names of all of them. A checkout with rooms is left
alone but for the module that moved into one since.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

# Today's module -> the flat ones that had what it has.
MOVED = {
    "contrast.infonce": "infonce",
    "contrast.loss": "loss",
    "contrast.sampling": "sampling",
    "contrast.views": "views",
    "cost.roofline": "roofline",
    "data.augment.official": "augment_official",
    "data.augment.on_device": "augment",
    "data.augment.pixels": "augment_pixels",
    "data.epoch": "entries",
    "data.loader": "data",
    "data.manifest": "manifest",
    "data.stream": "data",
    "errors": "config",
    "evaluation.evaluate": "evaluate",
    "evaluation.robustness": "robustness",
    "files": "config weights",
    "forgeries.scenes": "scenes",
    "forgeries.synth": "synth",
    "inference.localizer": "localizer",
    "network.devices": "processes",
    "network.folding": "folding",
    "network.hrformer": "hrformer",
    "network.model": "model",
    "network.weights": "weights",
    "provenance": "results",
    "recipes.load": "config reproduce",
    "training.cached_maps": "features",
    "training.finetune": "finetune loss",
    "training.pretrain": "pretrain",
    "training.processes": "processes",
}
MOVED_SINCE = {"network.devices": "devices"}  # of checkouts with rooms
ROOMS = {name.split(".")[0] for name in MOVED if "." in name} | {"data.augment"}


class _Flat(MetaPathFinder, Loader):
    def __init__(self, package: Path, moved: dict[str, str]):
        self.package, self.moved = package, moved

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        outer, _, name = fullname.partition(".")
        if outer != "mpc_lite":
            return None
        file = self.package / f"{name}.py"
        if name in self.moved and not file.is_file():
            return ModuleSpec(fullname, self)
        if name in ROOMS and file.is_file():  # a module then, a room now: it is both here
            return importlib.util.spec_from_file_location(fullname, file, submodule_search_locations=[])
        if name in ROOMS and not (self.package / name).is_dir():
            return ModuleSpec(fullname, None, is_package=True)
        return None

    def exec_module(self, module: ModuleType) -> None:
        for name in self.moved[module.__name__.partition(".")[2]].split():
            flat = import_module(f"mpc_lite.{name}")
            for key in dir(flat):
                if not key.startswith("__"):
                    setattr(module, key, getattr(flat, key))
        if module.__name__ == "mpc_lite.provenance":
            module.record = lambda **facts: {**facts, "versions": module.versions(), "commit": module.commit()}


def bridge() -> bool:
    """Whether the checkout in use is a flat one, and bridged now. To be called before any of its modules is imported,
    once in a process."""
    package = Path(importlib.util.find_spec("mpc_lite").submodule_search_locations[0])
    flat = not (package / "contrast").is_dir()
    if flat or not (package / "network" / "devices.py").is_file():
        sys.meta_path.insert(0, _Flat(package, MOVED if flat else MOVED_SINCE))
    return flat
