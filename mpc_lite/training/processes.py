"""What the processes of one run tell each other: counts, wishes to stop, mistakes, scores, running statistics.

It goes from host to host (gloo); only gradients go from device to device, which is DDP's business. So nothing here
makes a process wait for its GPU, and one process alone talks to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from mpc_lite.errors import InputError, ProcessDied

# What gloo, NCCL and the store of addresses say in the processes that are left.
_GONE = re.compile("by peer|Broken pipe|remote process|remote server shutdown")
# What torch says of a loader's worker: that it was killed, or what it raised itself.
_KILLED = re.compile("DataLoader worker .*(killed by signal|exited unexpectedly)")
_RAISED = re.compile("Caught .* in DataLoader worker process")
_UNSHARED = re.compile("(shared memory|file </torch_).*No space left on device")


@contextmanager
def deaths_told() -> Iterator[None]:
    """A process that dies, a loader's worker or another that trains, becomes an InputError: torch tells it from
    wherever the step is at that moment."""
    try:
        yield
    except RuntimeError as error:
        raised = _RAISED.match(str(error))
        full = raised and _UNSHARED.search(str(error))
        if raised and "Too many open files" in str(error):
            raise ProcessDied(
                "a process that reads images may open no more files; raise the limit (ulimit -n), or take a smaller "
                "data.workers; go on with --resume, from the last checkpoint if there is one"
            ) from error
        if full or (not raised and _KILLED.search(str(error))):
            shared = full or "bus error" in f"{error} {error.__cause__}".lower()
            cause = "shared memory (/dev/shm; a container's --shm-size)" if shared else "memory"
            how = "ended, because" if full else "was killed, most often because"
            raise ProcessDied(
                f"a process that reads images {how} {cause} ran out; go on with --resume, from the last checkpoint if "
                "there is one, with a smaller data.workers (0 reads in the process that trains) or more memory"
            ) from error
        if raised or not _GONE.search(str(error)):
            raise
        raise ProcessDied(
            "another process of this run has died, most often because memory ran out; see what it said itself, if "
            "anything, and go on with --resume, all processes together, from the last checkpoint if there is one"
        ) from error


class Processes:
    """The processes that `accelerate launch` or `torchrun` started together. Each of them makes one, at the same time,
    and calls the same methods in the same order.

    index: which one this is, 0 to `number` - 1. Files are written, and people told, by number 0.
    """

    def __init__(self, accelerator: Accelerator):
        self.index, self.number = accelerator.process_index, accelerator.num_processes
        own = self.number > 1 and dist.get_backend() != "gloo"
        self.group = dist.new_group(backend="gloo") if own else None

    def sum(self, values: list[float] | Tensor) -> Tensor:
        """The sum over the processes, (N,) float64 on the CPU."""
        total = torch.as_tensor(values, dtype=torch.float64, device="cpu").clone()
        if self.number > 1:
            dist.all_reduce(total, group=self.group)
        return total

    def gather(self, items: list) -> list:
        """The lists of all processes, one after another."""
        if self.number == 1:
            return items
        lists: list[Any] = [None] * self.number
        dist.all_gather_object(lists, items, group=self.group)
        return [item for part in lists for item in part]

    def together(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, which each process does for itself; an InputError of one is raised in all."""
        result, mistake = None, None
        try:
            result = work()
        except InputError as error:
            mistake = error
        messages = self.gather([] if mistake is None else [str(mistake)])
        if messages:
            raise mistake or InputError(messages[0])
        return result

    def first(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, which process 0 does for all; the others wait, and share its InputError."""
        result = self.together(work if self.index == 0 else lambda: None)
        return self.gather([result])[0]

    def average_statistics(self, model: nn.Module) -> None:
        """Give batch norm's running means and variances, which each process collects from its own images, their mean
        over the processes."""
        if self.number == 1:
            return
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        buffers = [buffer for m in norms for buffer in (m.running_mean, m.running_var)]
        mean = self.sum(torch.cat(buffers)) / self.number
        for buffer, part in zip(buffers, mean.split([len(b) for b in buffers]), strict=True):
            buffer.copy_(part)
