"""One training loop for all stages, on `accelerate`: any device, any number of processes, and no step is lost.

A stage says what one micro-batch computes (`Stage`); the loop does the rest: warm-up and schedule, precision,
accumulation, clipping, the log, validation, the best weights, checkpoints from which a run goes on where it stopped.

One optimiser step reads `accumulate` micro-batches in each process. Its loss is one sum over what counts (images with
both classes in stage 1, pixels with a known class in stage 2) in all micro-batches of all processes, divided by how
many there are. So the same micro-batches give the same gradients, however they are shared out over processes. Micro-
batch number m of the run takes its images from one global stream and its random numbers (DropPath, drawn pixels) from
a hash of (seed, stage, m): neither depends on the number of processes, and a resumed run finds both again.

Batch norm is the exception. It normalises by the statistics of the micro-batch at hand, as the released code's single
GPU does with its batch of 4 (there is no SyncBN); its running statistics are updated with every forward pass of a
process, and averaged over the processes before each validation and each checkpoint, so before anything is saved. They
do depend on how the micro-batches are shared out. The gradients of a stage do not; but validation reads running
statistics, and with it the choice of the best step, the `official` schedule of stage 1, and a stage 2 whose encoder is
frozen.

A stop is asked for with Ctrl-C, SIGTERM, SIGHUP or, from another process, by creating the file ``stop`` in the run's
folder. The step in hand is finished, a checkpoint written, and `Interrupted` raised. Every process must see the folder.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from mpc_lite.data.loader import loader
from mpc_lite.data.stream import Positions, datasets
from mpc_lite.errors import InputError
from mpc_lite.network.devices import choose_accelerator, training_threads
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights, weights_sha256
from mpc_lite.recipes.keys import Recipe
from mpc_lite.run_folder import check_held, dead_link, locked
from mpc_lite.training.checkpoint import check_best, read_done, restore, store, write_done
from mpc_lite.training.finite import Watch
from mpc_lite.training.identity import learnt_by
from mpc_lite.training.log import Log, trackers_silent
from mpc_lite.training.processes import Processes, deaths_told
from mpc_lite.training.signals import Stopped, asked_to_stop
from mpc_lite.training.stage import GO_ON, Batch, Stage
from mpc_lite.training.starts import check_own, own_start, starting_model


class Interrupted(Stopped):
    """The run was asked to stop; its checkpoint is written and `resume=True` goes on from it."""


def train(
    kind: type[Stage], recipe: Recipe, out: Path, resume: bool, weights: str | Path | None, device: str | None
) -> Path:
    """Run a stage to its end; returns the file of its best weights in `out`.

    Args:
        kind: the stage's class.
        resume: go on from ``OUT/NAME.state`` when it is there; a finished stage is skipped.
        weights: a shipped name or a file to start from, not what the stage starts from by itself; who resumes need not
            name it again, and another is refused.
    Raises:
        Interrupted: asked to stop. InputError: bad data, bad device, an output folder that cannot be written or is in
        use, weights that do not fit, a checkpoint of another recipe or another number of processes, an earlier run in
        `out` without `resume`. With several processes, what one of them is told or stumbles over is raised in all.
    """
    out, settings = Path(out), getattr(recipe, kind.name)
    tracker = {"log_with": "tensorboard", "project_dir": str(out)} if recipe.tracker == "tensorboard" else {}
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    with ExitStack() as stack, deaths_told():
        accelerator = choose_accelerator(device, settings.precision, kwargs_handlers=[ddp], **tracker)
        processes = Processes(accelerator)
        stack.enter_context(training_threads(recipe.model.size))
        processes.first(lambda: stack.enter_context(locked(out)))
        return _train(kind, recipe, out, resume, weights, accelerator, processes, ddp)


@trackers_silent()
def _train(
    kind: type[Stage],
    recipe: Recipe,
    out: Path,
    resume: bool,
    weights: str | Path | None,
    accelerator: Accelerator,
    processes: Processes,
    ddp: DistributedDataParallelKwargs,
) -> Path:
    """`train`, in a folder that is locked."""
    settings = getattr(recipe, kind.name)
    target, state, done = out / kind.output, out / f"{kind.name}.state", out / f"{kind.name}.done"
    features = out / f"{kind.name}.features"  # what the stage made of its images

    def write(work: Callable[[], None]) -> None:
        """In process 0, while the folder is this run's."""
        processes.first(lambda: check_held(out) or work())

    def finished() -> bool:
        for file in (target, state, done, out / "log.jsonl"):  # of a store that is away; else the run would begin anew
            if dead := dead_link(file):
                raise InputError(f"{dead}; bring that back, or delete the link")
        if not resume and (target.exists() or state.exists()):
            raise InputError(f"{out} holds an earlier run ({target.name}); resume it or choose another folder")
        if done.exists():
            read_done(done, recipe, target, weights, lambda: own_start(kind, recipe, out))
            if not target.is_file():
                raise InputError(f"{done} says that this stage has ended, but {target} is missing; delete {done.name}")
            clear()
        elif target.exists():
            check_own(target, recipe, state)
        return done.exists()

    def clear() -> None:
        """What only an unfinished stage needs."""
        state.unlink(missing_ok=True)
        shutil.rmtree(features, ignore_errors=True)

    if processes.first(finished):
        return target

    def begin() -> tuple[MPC, str | None]:  # a checkpoint will take the place of both
        start = None if resumed else weights or kind.start(recipe, out)
        return starting_model(recipe, start), start and weights_sha256(start)

    resumed = processes.first(lambda: resume and state.exists())
    model, start = processes.together(begin)
    stage = kind(model, recipe)
    ddp.find_unused_parameters = stage.partial
    model.encoder.checkpoint_activations = settings.checkpoint_activations
    model.to(accelerator.device, memory_format=torch.channels_last)
    trained = [p for p in stage.network.parameters() if p.requires_grad]
    # Fused: one sweep over each tensor in place of a dozen, on the CPU too.
    plan = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    optimizer = torch.optim.AdamW(trained, **plan)
    scheduler = make_scheduler(optimizer, stage)
    with warnings.catch_warnings():  # of the name that this option will have in later versions of torch
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        network, optimizer = accelerator.prepare(stage.network, optimizer)
    learner = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "companion": stage.companion}

    step, best, given = 0, -math.inf, weights is not None
    if resumed:
        parts = {**learner, "steps": settings.steps, "weights": weights, "own": lambda: own_start(kind, recipe, out)}
        step, best, start, given = processes.together(lambda: restore(state, recipe, processes.number, **parts))
        processes.first(lambda: check_best(target, best, state))
    first = step

    def keep() -> None:
        watch.look(step)
        processes.average_statistics(model)
        begun = {"start": start, "given": given}
        write(lambda: store(state, recipe, processes.number, step, best, **learner, **begun))

    log = Log(out, stage.name, settings.steps, step, accelerator, processes)
    if recipe.tracker == "tensorboard":
        log.track()
    train_set, validation = _read(recipe, stage, processes, accelerator.device.type)
    per_step = settings.accumulate
    positions = Positions(step * per_step, settings.steps * per_step, settings.batch, processes.index, processes.number)
    with asked_to_stop(out) as stop:
        train_set = stage.training_set(train_set, features, accelerator, processes, stop)
        not_finite = out / f"{stage.name}.not-finite.json"
        watch = Watch(not_finite, stage.name, train_set, settings.batch, per_step, processes, learner)
        stage.prepare_epoch()
        stream = iter(loader(train_set, positions, recipe.data.workers))
        while step < settings.steps:
            batches = [next(stream) for _ in range(per_step)]
            bad = [batch for batch in batches if isinstance(batch, str)]
            counts = [0 if bad else sum(stage.count(batch) for batch in batches), len(bad), stop() > 0]
            counted, n_bad, n_stop = processes.sum(counts).tolist()  # the one thing that all processes wait for
            if n_bad or (n_stop and step > first):
                keep()
            if n_bad:
                raise InputError(f"{processes.gather(bad)[0]}. {GO_ON}")
            if n_stop and step > first:
                text = f"{stage.name} stopped after step {step} of {settings.steps}; the checkpoint is written"
                raise Interrupted(text, stop())
            # DDP takes the mean of the processes' gradients, and we want their sum.
            share = processes.number / max(1.0, counted)
            for k, batch in enumerate(batches):
                seed_micro_batch(recipe.seed, stage.name, (step * per_step + k) * processes.number + processes.index)
                with nullcontext() if k == per_step - 1 else accelerator.no_sync(network):
                    sums = network(_to(batch, accelerator.device))
                    (sums["total"] * share).backward()
                log.add(sums)
                watch.add(sums["total"])
            if settings.clip:
                accelerator.clip_grad_norm_(trained, settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if settings.schedule.name == "cosine":
                scheduler.step()
            if log.due(step):
                watch.look_at_losses(step)
            log.step(step, counted, optimizer.param_groups[0]["lr"])
            if step % settings.validate_every == 0 or step == settings.steps:
                watch.look(step)
                processes.average_statistics(model)
                scores = stage.validate(model, (_to(b, accelerator.device) for b in validation), processes.gather)
                stage.prepare_epoch()
                if not math.isfinite(scores["score"]):
                    raise InputError(
                        f"{stage.name}: no validation image has a tampered region left at the map's stride of 4; "
                        "give validation images with larger regions, or raise data.size"
                    )
                log.validation(step, scores)
                if settings.schedule.name == "official":
                    _step_per_validation(scheduler, scores["score"])
                if scores["score"] >= best:  # of equal ones the last: early in a training all may be 0
                    best = scores["score"]
                    facts = {"stage": stage.name, "step": step, "validation": scores}
                    write(lambda facts=facts: save_weights(target, model, learnt_by(recipe), **facts))
            if step % settings.checkpoint_every == 0:
                keep()
        stop()  # who asked during the last step has what they wanted
    write(lambda: check_best(target, best, state) or write_done(done, recipe, start, given, best))
    processes.first(clear)
    log.close()
    return target


def _read(recipe: Recipe, stage: Stage, processes: Processes, device: str) -> tuple[Any, list[Batch]]:
    """The training set, and this process's share of the validation images."""
    train_set, validation_set, n = processes.together(lambda: datasets(recipe, stage.name, device))
    size = min(16, math.ceil(n / processes.number))
    chunks = [list(range(i, min(i + size, n))) for i in range(0, n, size)]
    own = loader(validation_set, chunks[processes.index :: processes.number], recipe.data.workers)
    validation = processes.together(lambda: [_readable(batch) for batch in own])
    if not any(processes.gather([mask.any().item() for batch in validation for mask in batch["mask"]])):
        raise InputError(
            f"none of the {n} validation images is tampered, so no step can be called the best; "
            "raise data.validation_images, name tampered rows in data.validation, or without it mark some 'validation'"
        )
    return train_set, validation


def seed_micro_batch(seed: int, stage: str, micro_batch: int) -> None:
    """Seed torch for one micro-batch, numbered over all steps and processes: a resumed run draws what it would have."""
    torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed} {stage} {micro_batch}".encode()).digest()[:8], "big"))


def make_scheduler(optimizer: torch.optim.Optimizer, stage: Stage):
    """`cosine`: linear warm-up, then one half-cosine to the floor, counted in steps. `official`, the released code's:
    counted in validations, halving on a plateau in stage 1, a cosine that swings with 2 * `period` in stage 2."""
    plan, settings = stage.settings.schedule, stage.settings
    if plan.name == "official":
        if stage.name == "pretrain":
            return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience=3, min_lr=plan.floor)
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.period, eta_min=plan.floor)

    def factor(step: int) -> float:
        if step < plan.warmup:
            return (step + 1) / plan.warmup
        progress = min(1.0, (step - plan.warmup) / max(1, settings.steps - plan.warmup))
        low = plan.floor / settings.learning_rate
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _step_per_validation(scheduler, score: float) -> None:
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    scheduler.step(score) if plateau else scheduler.step()


def _readable(batch: Batch | str) -> Batch:
    """A loader's worker hands a bad row on as its message: raised there, it would arrive wrapped in a traceback."""
    if isinstance(batch, str):
        raise InputError(batch)
    return batch


def _to(batch: Batch, device: torch.device) -> Batch:
    """A batch with its tensors on the device. Validation masks, a list, are looked at on the CPU and stay there."""

    def moved(value: Any) -> Any:
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return {k: [moved(x) for x in v] if k == "maps" else moved(v) for k, v in batch.items()}
