"""mpc_lite: pixel-contrastive image forgery localization, compact and tested.

The names below are the public ones, loaded when first used: ``mpc-lite --help`` need not wait for torch.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

__version__ = version("mpc-lite")

_HOME = {
    "InputError": "config",
    "Localizer": "localizer",
    "MPC": "model",
    "PROTOCOLS": "protocols",
    "PixelSet": "sampling",
    "Sample": "manifest",
    "evaluate": "evaluate",
    "focal_loss": "loss",
    "load_recipe": "config",
    "mean_positive_infonce": "infonce",
    "mpc_loss": "loss",
    "read_manifest": "manifest",
    "sample_pixels": "sampling",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'mpc_lite' has no attribute '{name}'")
    return getattr(import_module(f"mpc_lite.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)


class _Package(ModuleType):
    """`evaluate` is a module and its main function; the name stays the function's when the module is imported."""

    def __setattr__(self, name: str, value) -> None:
        super().__setattr__(name, value.evaluate if name == "evaluate" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
