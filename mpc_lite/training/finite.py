"""A loss or a weight that is not finite is found before anything is saved, together with the images that were read; and
moments that are not of their weights' shape, before a step uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpc_lite.errors import InputError
from mpc_lite.files import write_atomic
from mpc_lite.training.processes import Processes


class Watch:
    """Looks at the losses of all steps since the last look, and at what a checkpoint would hold.

    Looking waits for the device, so losses are only taken down at each step, and looked at when one waits anyway.

    images: what the steps read, with `names(position)`. batch: images of a micro-batch; accumulate: micro-batches of a
    step in each process. learner: what a checkpoint holds, modules and an optimiser among it.
    """

    def __init__(
        self,
        file: Path,
        stage: str,
        images: Dataset,
        batch: int,
        accumulate: int,
        processes: Processes,
        learner: dict[str, Any],
    ):
        self.file, self.stage, self.images, self.processes, self.learner = file, stage, images, processes, learner
        self.accumulate, self.per_step = accumulate, batch * accumulate * processes.number
        self.losses: list[Tensor] = []

    def add(self, total: Tensor) -> None:
        """Take down the loss of one micro-batch of this process, on the device."""
        self.losses.append(total.detach().float())

    def look_at_losses(self, step: int) -> None:
        """step: the last one done. InputError: a loss since the last look is not finite; the images of the first such
        step stand in `file` then."""
        if not self.losses:
            return
        losses = torch.stack(self.losses).view(-1, self.accumulate)
        bad = self.processes.sum((~losses.isfinite()).any(1).double()).nonzero()
        self.losses = []
        if len(bad):
            self._tell("loss", step - len(losses) + 1 + int(bad[0]))

    def look(self, step: int) -> None:
        """As `look_at_losses`, and at all that a checkpoint would hold; so before anything is measured or saved."""
        self.look_at_losses(step)
        bad = [~tensor.isfinite().all() for tensor in _tensors(self.learner)]
        if self.processes.sum(torch.stack(bad).sum()[None]).item():
            self._tell("network", step)

    def _tell(self, what: str, step: int) -> None:
        positions = range((step - 1) * self.per_step, step * self.per_step)
        names = [name for position in positions for name in self.images.names(position)]
        content = {"stage": self.stage, "step": step, "not finite": what, "images": names}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        self.processes.first(lambda: write_atomic(self.file, text.encode()))
        raise InputError(
            f"{self.stage}: the {what} is not finite at step {step}, whose images {self.file} names; nothing of it was "
            "saved. Mend a bad image and resume, or start anew with a lower learning rate or a clip"
        )


def check_moments(state: Any, optimizer: torch.optim.Optimizer) -> None:
    """ValueError for what was read of an optimiser and does not fit its parameters: torch takes any, and a fused step
    writes as far as a parameter is long, whatever its moments are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, values in state.items():
        for name, value in values.items():
            shape = () if name == "step" else parameters[place].shape
            if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape != shape:
                found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name} of parameter {place} is {found}, expected floats {tuple(shape)}")


def _tensors(learner: dict[str, Any]) -> Iterator[Tensor]:
    for part in learner.values():
        if isinstance(part, torch.optim.Optimizer):
            values = [value for state in part.state.values() for value in state.values()]
        else:
            values = part.state_dict().values() if isinstance(part, torch.nn.Module) else []
        yield from (value for value in values if isinstance(value, Tensor) and value.is_floating_point())
