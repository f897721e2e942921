"""One training loop for both stages, on `accelerate`: any device, any number of processes, and no step is lost.

A stage says what one step computes (`Stage`); the loop does the rest: warm-up and schedule, precision, accumulation,
clipping, the log, validation, the best weights, checkpoints from which a run goes on exactly where it stopped.

A stop is asked for with Ctrl-C or by creating the file ``stop`` in the run's folder (that works from another process).
The step in hand is finished, a checkpoint written, and `Interrupted` raised.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from mpc_lite.checkpoint import identity, restore, same_run, store
from mpc_lite.config import InputError, Recipe
from mpc_lite.data import Positions, datasets, loader
from mpc_lite.model import MPC
from mpc_lite.sections import StageSection
from mpc_lite.weights import load_weights, save_weights, write_atomic


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and `resume=True` goes on from it."""


class Stage(Protocol):
    name: str  # "pretrain" or "finetune": names the log's lines and the checkpoint
    output: str  # the file of the best weights
    settings: StageSection
    network: nn.Module  # what the optimiser trains: called with a batch on the device, returns scalars, one is "total"

    def prepare_epoch(self) -> None: ...

    def validate(self, model: MPC, batches: list[dict[str, Tensor]]) -> dict[str, float]: ...


def choose_accelerator(device: str | None, precision: str, accumulate: int = 1, **more) -> Accelerator:
    """device: None takes the best there is; ``cpu`` or ``cuda`` insist. InputError when there is no such device."""
    if device not in (None, "auto", "cpu", "cuda"):
        raise InputError(f"device '{device}' is unknown; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this torch sees no CUDA device; choose 'cpu' or leave the device out")
    mixed = "bf16" if precision == "bf16" else "no"
    AcceleratorState._reset_state()  # the second stage of a process may want another precision
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed, gradient_accumulation_steps=accumulate, **more)


def train(stage: Stage, model: MPC, recipe: Recipe, out: Path, resume: bool, device: str | None) -> Path:
    """Run a stage to its end; returns the file of its best weights in `out`.

    Args:
        model: the network that `stage.network` trains a part of.
        resume: go on from ``OUT/NAME.state`` when it is there; a finished stage is skipped.
    Raises:
        Interrupted: asked to stop. InputError: bad data, bad device, an output folder that cannot be written,
        a checkpoint of another recipe, an earlier run in `out` without `resume`.
    """
    out = Path(out)
    target, state_file = out / stage.output, out / f"{stage.name}.state"
    done = out / f"{stage.name}.done"
    if not resume and (target.exists() or state_file.exists()):
        raise InputError(f"{out} holds an earlier run ({target.name}); resume it or choose another folder")
    if done.exists():
        same_run(done.read_text(encoding="utf-8"), recipe, done)
        return target
    settings = stage.settings
    tracker = {"log_with": "tensorboard", "project_dir": str(out)} if recipe.tracker == "tensorboard" else {}
    accelerator = choose_accelerator(device, settings.precision, settings.accumulate, **tracker)
    if tracker:
        accelerator.init_trackers(stage.name)
    train_set, validation_set, n_validation = datasets(recipe)
    model.to(accelerator.device, memory_format=torch.channels_last)
    trained = [p for p in stage.network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scheduler = make_scheduler(optimizer, stage)
    network, optimizer = accelerator.prepare(stage.network, optimizer)

    step, best = 0, -math.inf
    if resume and state_file.exists():
        step, best = restore(state_file, recipe, model, optimizer, scheduler)
    log = Log(out, stage.name, settings.steps, step, accelerator)
    chunks = [list(range(i, min(i + 16, n_validation))) for i in range(0, n_validation, 16)]
    validation = [_readable(batch) for batch in loader(validation_set, chunks, recipe.data.workers)]
    if not any((batch["mask"] == 1).any() for batch in validation):
        raise InputError(
            f"none of the {n_validation} validation images is tampered, so no step can be called the best; "
            "raise data.validation_images, or mark tampered rows of the manifest 'validation'"
        )

    per_step = settings.accumulate  # an optimiser step reads this many micro-batches
    positions = Positions(
        step * per_step, settings.steps * per_step, settings.batch, accelerator.process_index, accelerator.num_processes
    )
    micro, sums, asked = 0, {}, False
    with _asked_to_stop(out) as stop:
        stage.prepare_epoch()
        for batch in loader(train_set, positions, recipe.data.workers):
            if isinstance(batch, str) and accelerator.is_main_process:
                store(state_file, recipe, step, best, model, optimizer, scheduler)
            batch = _to(_readable(batch), accelerator.device)
            with accelerator.accumulate(network):
                terms = network(batch)
                accelerator.backward(terms["total"])
                if accelerator.sync_gradients and settings.clip:
                    accelerator.clip_grad_norm_(trained, settings.clip)
                optimizer.step()
                optimizer.zero_grad()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
            micro += 1
            if micro % per_step:
                continue
            step += 1
            if settings.schedule.name == "cosine":
                scheduler.step()
            if step % log.every == 0 or step in (1, settings.steps):
                log.losses(step, {k: v / micro for k, v in sums.items()}, optimizer.param_groups[0]["lr"])
                micro, sums = 0, {}
            if step % settings.validate_every == 0 or step == settings.steps:
                scores = stage.validate(model, [_to(b, accelerator.device) for b in validation])
                stage.prepare_epoch()
                if not math.isfinite(scores["score"]):
                    raise InputError(
                        f"{stage.name}: no validation image has a tampered region left at the map's stride of 4; "
                        "give validation images with larger regions, or raise data.size"
                    )
                log.validation(step, scores)
                if settings.schedule.name == "official":
                    _step_per_validation(scheduler, scores["score"])
                if scores["score"] > best and accelerator.is_main_process:
                    best = scores["score"]
                    facts = {"stage": stage.name, "step": step, "validation": scores}
                    save_weights(target, model, recipe.as_dict(), **facts)
            asked = stop()
            if (step % settings.checkpoint_every == 0 or asked) and accelerator.is_main_process:
                store(state_file, recipe, step, best, model, optimizer, scheduler)
            if asked and step < settings.steps:
                raise Interrupted(
                    f"{stage.name} stopped after step {step} of {settings.steps}; the checkpoint is written"
                )
    if accelerator.is_main_process:
        write_atomic(done, identity(recipe).encode())
        state_file.unlink(missing_ok=True)
    if tracker:
        accelerator.end_training()
    return target


def make_scheduler(optimizer: torch.optim.Optimizer, stage: Stage):
    """`cosine`: linear warm-up, then one half-cosine to the floor, counted in steps. `official`, the released code's:
    counted in validations, halving on a plateau in stage 1, a cosine that swings with 2 * `period` in stage 2."""
    plan, settings = stage.settings.schedule, stage.settings
    if plan.name == "official":
        if stage.name == "pretrain":
            return torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, "max", factor=0.5, patience=3, min_lr=plan.floor
            )
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


def _readable(batch: dict[str, Tensor] | str) -> dict[str, Tensor]:
    """A loader's worker hands a bad row on as its message: raised there, it would arrive wrapped in a traceback."""
    if isinstance(batch, str):
        raise InputError(batch)
    return batch


def _to(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def starting_model(recipe: Recipe, weights: str | Path | None) -> MPC:
    """A network of the recipe's size and head: from `weights`, or new from the recipe's seed.

    Raises:
        InputError: weights of another size or head.
    """
    torch.manual_seed(recipe.seed)
    wanted = (recipe.model.size, recipe.model.head)
    if weights is None:
        return MPC.build(*wanted)
    model = load_weights(str(weights))
    if (model.size, model.head) != wanted:
        raise InputError(
            f"{weights} holds {model.size}/{model.head}, the recipe asks for {'/'.join(wanted)}; "
            "change model.size and model.head or the weights"
        )
    return model


# --- log and stop -----------------------------------------------------------------------------------------------------


class Log:
    """``OUT/log.jsonl``: one JSON object a line. Reading a loss waits for the device, so that is done every N steps."""

    def __init__(self, out: Path, stage: str, steps: int, first: int, accelerator: Accelerator):
        self.path, self.stage, self.steps, self.accelerator = out / "log.jsonl", stage, steps, accelerator
        self.every = max(1, min(10, steps // 20))
        self.begun, self.first = time.monotonic(), first
        self.main = accelerator.is_main_process
        try:
            out.mkdir(parents=True, exist_ok=True)
            kept = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error.strerror}; choose another output folder") from None
        kept = [x for x in kept if _keep(x, stage, first)]
        if self.main:
            write_atomic(self.path, "".join(f"{x}\n" for x in kept).encode())

    def losses(self, step: int, terms: dict[str, Tensor], rate: float) -> None:
        seconds = time.monotonic() - self.begun
        left = seconds / (step - self.first) * (self.steps - step)
        values = {("loss" if k == "total" else k): round(float(v), 6) for k, v in terms.items()}
        self._write(step, {**values, "lr": rate, "seconds": round(seconds, 1), "seconds_left": round(left, 1)})
        if not math.isfinite(values["loss"]):
            raise InputError(
                f"{self.stage}: the loss is {values['loss']} at step {step}; lower the learning rate or clip"
            )

    def validation(self, step: int, scores: dict[str, float]) -> None:
        self._write(step, {"validation": {k: round(float(v), 6) for k, v in scores.items()}})

    def _write(self, step: int, content: dict) -> None:
        flat = {k: v for k, v in content.get("validation", content).items() if isinstance(v, float)}
        self.accelerator.log({f"{self.stage}/{k}": v for k, v in flat.items()}, step=step)
        if self.main:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": self.stage, "step": step, "steps": self.steps, **content}) + "\n")


def _keep(line: str, stage: str, first: int) -> bool:
    """Lines of steps that will be done again go, so that curves show every step once; so does one cut off by a kill."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False
    return entry["stage"] != stage or entry["step"] <= first


@contextmanager
def _asked_to_stop(out: Path):
    """Gives a function that tells whether somebody asked; Ctrl-C asks instead of breaking the step in hand."""
    asked = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGINT, lambda *_: asked.set()) if main else None

    def stop() -> bool:
        if (out / "stop").exists():
            (out / "stop").unlink(missing_ok=True)
            asked.set()
        return asked.is_set()

    try:
        yield stop
    finally:
        if main:
            signal.signal(signal.SIGINT, previous)
