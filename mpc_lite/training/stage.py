"""What a stage of training adds to the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from mpc_lite.errors import InputError
from mpc_lite.network.model import MPC
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.stage_keys import StageSection
from mpc_lite.training.processes import Processes

Batch = dict[str, Any]  # what `data.loader` yields
GO_ON = "Nothing is lost: with the file replaced, --resume goes on; a list without its row is another run"


class Stage(Protocol):
    """What a stage adds to the loop; made from (model, recipe)."""

    name: str  # the recipe's section; names the log's lines and the checkpoint
    output: str  # the file of the best weights
    settings: StageSection
    network: nn.Module  # what the optimiser trains: a batch on the device -> sums over what counts, one of them "total"
    partial: bool  # some trained parameters get no gradient, which DDP must know
    companion: nn.Module | None  # what a checkpoint holds beside the model, such as a teacher; None: nothing

    @staticmethod
    def start(recipe: Recipe, out: Path) -> str | Path | None:
        """The weights it starts from unless others are given; None: random numbers. InputError: they are missing."""

    def count(self, batch: Batch) -> int:
        """How many items of a batch, on the CPU, the sums are over. Depends on the masks alone."""

    def training_set(
        self, data: Dataset, folder: Path, accelerator: Accelerator, processes: Processes, stop: Callable[[], int]
    ) -> Dataset:
        """What the steps read instead of the images `data`: the images themselves, or something made from them, whose
        `names(position)` are the files of all images that are read for a position.

        It may keep files in `folder`, which goes when the stage has ended. Interrupted: `stop` said so in between."""

    def prepare_epoch(self) -> None:
        """Put the network into the mode it is trained in."""

    def validate(self, model: MPC, batches: Iterable[Batch], gather: Callable[[list], list] = list) -> dict[str, float]:
        """Scores, "score" the one that decides. `gather` brings together what each process found in its batches."""


def check_trains(recipe: Recipe, stage: str) -> None:
    """InputError when the recipe trains a neighbour, which has one stage of its own, instead of that stage of MPC."""
    if recipe.neighbour:
        raise InputError(
            f"recipe {recipe.name} has a section '{recipe.neighbour}', so it trains that and no stage '{stage}'; "
            "use 'mpc-lite neighbour', or a recipe without that section"
        )
