"""What a recipe costs, before it runs: parameters, arithmetic, GPU memory, disk and hours, without a GPU or the data.

arithmetic   what `counting.flop_counter` counts. Of a step: forward once, backward the same again for the gradients
             of the inputs and again for those of the weights, where each is needed. In stage 1 the encoder runs
             twice, its common beginning once, and the loss comes on top (`counting.loss_flops`). Once more forward,
             nearly, with checkpointed activations.
memory       of one GPU: weights (parameters and buffers), 4 bytes of gradient and 8 of AdamW's moments for each
             parameter that learns, `counting.activations` of a micro-batch, `counting.loss_memory`.
disk         `counting.weights_bytes`, `counting.checkpoint_bytes`.
hours        FLOPs of a step · steps / (peak · 0.30) / 3600. The peak is published, the 30 % are an assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mpc_lite.cost import counting
from mpc_lite.data.stream import datasets
from mpc_lite.errors import InputError
from mpc_lite.files import expand_all
from mpc_lite.network.model import MPC
from mpc_lite.network.two_passes import two_passes
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.finetune import Adaptation, Finetuning
from mpc_lite.training.loop import Stage
from mpc_lite.training.pretrain import Pretraining

GPU = "NVIDIA A100 or A800"
PEAK = {"bf16": 312e12, "fp32": 19.5e12}  # FLOP/s, dense, as published; fp32 without TF32
UTILISATION = 0.30  # of the peak; assumed, not measured


@dataclass(frozen=True)
class StageCost:
    """One stage on one GPU. Bytes and FLOPs are whole numbers, hours are at `UTILISATION` of the GPU's peak."""

    name: str  # pretrain, finetune or adapt
    precision: str
    batch: int  # images in memory together
    accumulate: int  # micro-batches of an optimiser step
    steps: int  # of the recipe
    learning: int  # parameters
    flops: int  # of an optimiser step
    memory: dict[str, int]  # bytes, by what they hold
    checkpoint: int  # bytes of the file a stopped run resumes from
    entries: int | None  # images of an epoch; None: unknown

    def hours(self, steps: float) -> float:
        return self.flops * steps / (PEAK[self.precision] * UTILISATION) / 3600

    @property
    def epoch_steps(self) -> float | None:
        return None if self.entries is None else self.entries / (self.batch * self.accumulate)

    def as_dict(self) -> dict[str, Any]:
        """The fields, and memory_total, hours_per_1000_steps, hours, steps_per_epoch, hours_per_epoch."""
        epoch = self.epoch_steps
        return {
            **asdict(self),
            "memory_total": sum(self.memory.values()),
            "hours_per_1000_steps": self.hours(1000),
            "hours": self.hours(self.steps),
            "steps_per_epoch": epoch,
            "hours_per_epoch": None if epoch is None else self.hours(epoch),
        }


@dataclass(frozen=True)
class Cost:
    recipe: str
    profile: str
    choice: dict[str, str]
    size: str
    head: str
    pixels: int  # side of the square that images are squashed to
    parameters: dict[str, int]  # encoder, head
    forward_flops: dict[str, int]  # encoder, head: one image, evaluation mode
    weights_file: int  # bytes
    stages: tuple[StageCost, ...]  # none for a recipe that scores given weights

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the fields, each stage's `as_dict`, and the assumptions behind the hours."""
        assumed = {"gpu": GPU, "peak_flops": PEAK, "utilisation": UTILISATION, "utilisation_measured": False}
        return {**asdict(self), "stages": [stage.as_dict() for stage in self.stages], "assumptions": assumed}


def cost(recipe: Recipe) -> Cost:
    """Count what a recipe costs on one GPU. Takes seconds, for the full model too, and no memory to speak of.

    Raises:
        InputError: a manifest that is there but broken; a recipe of a neighbour, whose stage is not counted.
    """
    if recipe.neighbour:
        raise InputError(
            f"recipe {recipe.name} trains {recipe.neighbour}, whose costs are not counted: only MPC's stages are; "
            "its log.jsonl tells the seconds of each step"
        )
    with torch.device("meta"):
        model = MPC.build(recipe.model.size, recipe.model.head).eval()
        images = torch.empty(1, 3, recipe.data.size, recipe.data.size)
        with torch.no_grad(), counting.flop_counter() as counter:
            model(images)
    counts = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    parts = {"encoder": model.encoder, "head": model.decoder}
    kinds = [] if recipe.evaluate.weights else [Pretraining, Finetuning, *([Adaptation] if recipe.adapt else [])]
    return Cost(
        recipe=recipe.name,
        profile=recipe.profile,
        choice=recipe.choice,
        size=recipe.model.size,
        head=recipe.model.head,
        pixels=recipe.data.size,
        parameters={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        forward_flops={"encoder": counts["MPC.encoder"], "head": counts["MPC.decoder"]},
        weights_file=counting.weights_bytes(model),
        stages=tuple(stage_cost(kind, recipe) for kind in kinds),
    )


def stage_cost(kind: type[Stage], recipe: Recipe) -> StageCost:
    """One stage of a recipe; kind: Pretraining, Finetuning or Adaptation."""
    with torch.device("meta"):
        model, stage = counting.set_up(kind, recipe)
    settings, first = stage.settings, kind is Pretraining
    learning = [p for p in stage.network.parameters() if p.requires_grad]
    numbers = sum(p.numel() for p in learning)
    activations, passes = counting.activations(kind, recipe)
    with torch.device("meta"), counting.flop_counter() as counter:
        images = torch.empty(settings.batch, 3, recipe.data.size, recipe.data.size)
        if first:  # the loss has its formula; here the encoder, with a stand-in that reaches the maps the loss reads
            maps = two_passes(model.encoder, images) if passes > 1 else [model.encode(images)]
            read = list(maps[0] if "cross_scale" in settings.terms else maps[0][:1])
            read += [later[0] for later in maps[1:] if "cross_modality" in settings.terms]
            sum(x.sum() for x in read).backward()
        else:
            model(images).sum().backward()
    flops = counter.get_total_flops() + (settings.batch * counting.loss_flops(recipe) if first else 0)
    return StageCost(
        name=kind.name,
        precision=settings.precision,
        batch=settings.batch,
        accumulate=settings.accumulate,
        steps=settings.steps,
        learning=numbers,
        flops=flops * settings.accumulate,
        memory={
            "weights": counting.state_bytes(model),
            "gradients": 4 * numbers,
            "moments of AdamW": 8 * numbers,
            "kept for backward": activations,
            "at work in the loss": counting.loss_memory(recipe) if first else 0,
        },
        checkpoint=counting.checkpoint_bytes(model, learning),
        entries=epoch_entries(recipe, kind.name),
    )


def epoch_entries(recipe: Recipe, stage: str = "pretrain") -> int | None:
    """Images of an epoch: what `data.datasets` makes of the manifests, where all of them are at hand; else the recipe's
    `data.epoch` (not for adapt, which has data of its own); else None, as for generated forgeries, which never end."""
    lists = recipe.adapt if stage == "adapt" else recipe.data
    try:
        files = [*expand_all(lists.manifest), *expand_all(lists.validation)]
    except InputError:  # a variable that is not set on this machine
        files = []
    if lists.manifest and files and all(file.is_file() for file in files):
        return datasets(recipe, stage)[0].epoch
    return None if stage == "adapt" else recipe.data.epoch


# ----------------------------------------------------------------------------------------------------------------- text


def format_cost(found: Cost) -> str:
    """The text of `mpc-lite info RECIPE --cost`: at most 100 columns, with the assumptions at its end."""
    choice = "".join(f", {name} {taken}" for name, taken in found.choice.items())
    both = [{**part, "together": sum(part.values())} for part in (found.parameters, found.forward_flops)]
    lines = [
        f"cost of {found.recipe}, profile {found.profile}{choice}",
        f"network {found.size}, head {found.head}, images of {found.pixels}x{found.pixels} pixels",
        "",
        _line("", both[0]),
        _line("parameters", [f"{n:,}" for n in both[0].values()]),
        _line("forward pass of one image", [scaled(n, "FLOP") for n in both[1].values()]),
    ]
    lines += ["", *_stage_lines(found.stages)] if found.stages else []
    lines += [
        "",
        f"Disk: {scaled(found.weights_file, 'B')} a file of weights. A checkpoint is written beside the one before,",
        "so there are two for a moment; the last goes with its stage. Data and score maps come on top.",
        "Arithmetic: convolutions, matrix products and attention; a multiply-add counts as 2 FLOP.",
        "Memory: of one GPU; gradients on their way back, workspaces and CUDA itself come on top.",
    ]
    if found.stages:
        used = sorted({stage.precision for stage in found.stages})
        peaks = ", ".join(f"{PEAK[precision] / 1e12:g} TFLOP/s {precision}" for precision in used)
        lines += [
            f"Time: one {GPU} at {UTILISATION:.0%} of its published peak, {peaks}.",
            f"The {UTILISATION:.0%} are assumed, not measured; narrow layers may well reach less.",
            "Reading images, validation and tests are left out.",
        ]
    return "\n".join(lines)


def _stage_lines(stages: tuple[StageCost, ...]) -> list[str]:
    def row(label: str, value: Callable[[StageCost], str]) -> str:
        return _line(label, [value(stage) for stage in stages])

    def epoch(value: Callable[[StageCost], float]) -> Callable[[StageCost], str]:
        return lambda s: "unknown" if s.entries is None else f"{value(s):,.0f}"

    return [
        row("", lambda s: s.name),
        row("precision", lambda s: s.precision),
        row("parameters that learn", lambda s: f"{s.learning:,}"),
        row("images of a step", lambda s: f"{s.batch * s.accumulate} ({s.batch} at a time)"),
        row("arithmetic of a step", lambda s: scaled(s.flops, "FLOP")),
        row("GPU memory of a step", lambda s: scaled(sum(s.memory.values()), "B")),
        *(row(f"  {part}", lambda s, part=part: scaled(s.memory[part], "B")) for part in stages[0].memory),
        row("checkpoint on disk", lambda s: scaled(s.checkpoint, "B")),
        row("time of 1000 steps", lambda s: duration(s.hours(1000))),
        row("images of an epoch", epoch(lambda s: s.entries)),
        row("steps of an epoch", epoch(lambda s: s.epoch_steps)),
        row("time of an epoch", lambda s: "unknown" if s.entries is None else duration(s.hours(s.epoch_steps))),
        row("steps of the recipe", lambda s: f"{s.steps:,}"),
        row("time of the recipe", lambda s: duration(s.hours(s.steps))),
    ]


def _line(label: str, values: Iterable[str]) -> str:
    return f"{label:<30}" + "".join(f"{value:>20}" for value in values)


def scaled(value: float, unit: str) -> str:
    """Three digits and a prefix: 83427370408 FLOP -> 83.4 GFLOP."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while float(f"{value:.3g}") >= 1000:
        value /= 1000
        prefixes.pop(0)
    return f"{value:#.3g}".rstrip(".") + f" {prefixes[0]}{unit}"


def duration(hours: float) -> str:
    """0.0002 -> 0.72 s; 0.017 -> 1.02 min; 3.25 -> 3.25 h; 1234.5 -> 1,234 h."""
    seconds = hours * 3600
    value, unit = (seconds, "s") if seconds < 60 else (seconds / 60, "min") if hours < 1 else (hours, "h")
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:#.3g} {unit}"
