"""mpc_lite: pixel-contrastive image forgery localization, compact and tested.

The names below are the public ones, loaded when first used: ``mpc-lite --help`` need not wait for torch.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("mpc-lite")

_HOME = {
    "InputError": "errors",
    "Localizer": "inference.localizer",
    "MPC": "network.model",
    "PROTOCOLS": "evaluation.protocols",
    "PixelSet": "contrast.sampling",
    "Sample": "data.manifest",
    "evaluate": "evaluation.evaluate",
    "focal_loss": "training.finetune",
    "load_recipe": "recipes.load",
    "mean_positive_infonce": "contrast.infonce",
    "mpc_loss": "contrast.loss",
    "read_manifest": "data.manifest",
    "sample_pixels": "contrast.sampling",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'mpc_lite' has no attribute '{name}'")
    return getattr(import_module(f"mpc_lite.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)
