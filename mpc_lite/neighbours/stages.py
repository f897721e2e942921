"""The one stage of a recipe that trains a neighbour, through the loop that trains MPC."""

from __future__ import annotations

from pathlib import Path

from mpc_lite.errors import InputError
from mpc_lite.neighbours.borrowed_training import Borrowed
from mpc_lite.neighbours.mscc.training import ClassCenterTraining
from mpc_lite.neighbours.pclmix.training import PCLMix
from mpc_lite.neighbours.pppc.stage import DomainAdaptation
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS
from mpc_lite.training.loop import train
from mpc_lite.training.stage import Stage

STAGES: dict[str, type[Stage]] = {
    stage.name: stage for stage in (ClassCenterTraining, DomainAdaptation, PCLMix, Borrowed)
}


def train_neighbour(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    weights: str | Path | None = None,
    device: str | None = None,
) -> Path:
    """Train what the recipe's section mscc, pppc, pclmix or borrowed says; returns ``OUT/model.safetensors``, the best
    by validation on images with dense masks.

    Args:
        weights: a shipped name or a checkpoint to start from; None takes the section's `weights`, and without those
            random numbers (seed of the recipe).
    Raises:
        InputError: a recipe without such a section; see also `training.loop.train`.
        Interrupted: see `training.loop.train`.
    """
    if recipe.neighbour is None:
        raise InputError(
            f"recipe {recipe.name} trains MPC: it has none of the sections {', '.join(NEIGHBOURS)}; use the commands "
            "pretrain and finetune, or another recipe"
        )
    return train(STAGES[recipe.neighbour], recipe, Path(out), resume, weights, device)
