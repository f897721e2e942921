"""What each of two processes does: one call from test_pppc_stage.py, one from test_recipes.py (`torchrun FILE FOLDER`).

In a file of its own, so that little is imported there.
"""

import sys
from pathlib import Path

import torch

from mpc_lite.neighbours.pppc.gaussians import GaussianPrototypes, Gaussians

TRAINED = ("mscc", "pppc", "pclmix", "borrowed-distillation")
STEPS = 2


def take_in_share(index: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=index, world_size=2)
    pixels, labels = torch.load(f"{folder}/batches.pt")[index]
    prototypes = GaussianPrototypes(2, 3)
    prototypes.update(Gaussians(*pixels), labels)
    torch.save(prototypes.state_dict(), f"{folder}/{index}.pt")
    torch.distributed.destroy_process_group()


def train_arms(folder: Path) -> None:
    """Two steps of each method in bfloat16, into FOLDER/NAME."""
    from mpc_lite.neighbours.stages import train_neighbour
    from mpc_lite.recipes.load import load_recipe

    for name in TRAINED:
        section = load_recipe(name).neighbour
        few = {"data.scenes": ["dead_leaves"], "data.validation_images": 4}
        few |= {f"{section}.{key}": value for key, value in {"steps": STEPS, "batch": 2, "precision": "bf16"}.items()}
        train_neighbour(load_recipe(name, "smoke", few), folder / name, device="cpu")


if __name__ == "__main__":
    train_arms(Path(sys.argv[1]))
