"""The sections of a recipe: every key a run knows, with its type, range and default."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mpc_lite.errors import shortened, some
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS, BorrowedSection, MSCCSection, PCLMixSection, PPPCSection
from mpc_lite.recipes.stage_keys import ROWS, SIDE, AdaptSection, FinetuneSection, PretrainSection, Section

# Held here because a recipe is checked before anything heavy is imported; a test compares it with PROTOCOLS.
PROTOCOL_NAMES = ("mpc", "mpc_legacy", "macro", "permuted", "trufor", "best_threshold", "trufor_best", "pooled")


COARSEST = 32  # pixels of an image, along a side, to one of the encoder's coarsest map


class ModelSection(Section):
    size: Literal["nano", "small", "base"] = "nano"
    head: Literal["4conv", "5conv", "mscc", "context"] = "4conv"


class RealSection(Section):
    """Real-camera forgeries (`mpc_lite.forgeries.real`) from the photographs of `lists`, CSV files with image and
    source: `share` of all generated images, the rest from simulated cameras. `sources`: only these; None: all.
    `weights`: how often a source is drawn, relative to the others, instead of the square root of its photographs."""

    lists: list[str] = Field(min_length=1)
    sources: list[str] | None = Field(default=None, min_length=1)
    share: float = Field(default=0.5, gt=0, le=1)
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})


class DataSection(Section):
    """Where images come from: forgeries made by `forgeries.synth` from `scenes`, a share of them from real photographs
    where `real` says so, or the rows of one manifest or more.

    Of a manifest's rows `tampered_only` keeps the tampered ones, for validation too; of those for training `draw` takes
    so many at random (by the seed), then `repeats` lets the rows of a source occur so many times in each epoch.
    `validation` names manifests of validation images; None holds out a fraction of the training rows. `epoch` is the
    number of entries of an epoch, for `mpc-lite info --cost` where the data are not at hand.
    """

    scenes: list[str] = Field(default=["packaged", "dead_leaves"], min_length=1)
    photos: str | None = None
    real: RealSection | None = None
    manifest: str | list[str] | None = None
    validation: str | list[str] | None = None
    tampered_only: bool = False
    draw: int | None = Field(default=None, ge=2, le=ROWS)
    repeats: dict[str, int] = Field(default={})
    epoch: int | None = Field(default=None, ge=1, le=ROWS)
    size: int = Field(default=128, ge=32, le=SIDE)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_images: int = Field(default=64, ge=2, le=ROWS)
    test_images: int = Field(default=64, ge=2, le=ROWS)
    test_size: int = Field(default=256, ge=32, le=SIDE)
    authentic_share: float = Field(default=0.2, ge=0, lt=1)
    workers: int = Field(default=1, ge=0, le=1024)

    @model_validator(mode="after")
    def _repeats_are_positive(self):
        wrong = {source: times for source, times in self.repeats.items() if not 1 <= times <= ROWS}
        if wrong:
            found = some((f"{source}: {shortened(times)}" for source, times in wrong.items()), 3)
            raise ValueError(f"repeats count how often a row occurs in an epoch, 1 to {ROWS}; found {found}")
        return self


class JpegSection(Section):
    """A `share` of the training images is saved as JPEG once more, at the size that the network sees, colour at half
    the resolution (4:2:0). `quality`: the lowest and the highest, libjpeg's scale, all between them equally likely."""

    quality: list[Annotated[int, Field(ge=1, le=100)]] = Field(default=[50, 95], min_length=2, max_length=2)
    share: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _lowest_first(self):
        if self.quality[0] > self.quality[1]:
            raise ValueError(f"quality gives the lowest and the highest, found {self.quality}; exchange them")
        return self


class AugmentSection(Section):
    """`dihedral`: turns and mirrors on the device. `pipeline` official: the released code's, in the loader's workers,
    at the size of the file; it saves as JPEG, turns and mirrors too. `jpeg`: after the pipeline, before the turns, by
    Pillow in the loader's workers where training runs on a CPU, else on the device."""

    dihedral: bool = True
    pipeline: Literal["none", "official"] = "none"
    jpeg: JpegSection | None = None


class EvaluateSection(Section):
    """How a photograph becomes a score map (`mode`, `size`, `overlap` in pixels), which protocol scores it, and where.

    `manifests`: the test images; none: forgeries of the test split. `split`: only rows so marked. `weights`: score
    these instead of training. `grids`: degradations of `mpc_lite.evaluation.degrade` to score after as well.
    """

    mode: Literal["stretch", "pad", "tiles"] = "stretch"
    size: int = Field(default=512, ge=32, le=SIDE)
    overlap: int = Field(default=0, ge=0)
    protocol: Literal[PROTOCOL_NAMES] = "mpc"
    manifests: list[str] = Field(default=[])
    split: str | None = None
    weights: str | None = None
    grids: list[str] = Field(default=[])

    @model_validator(mode="after")
    def _tiles_move_on(self):
        if self.mode == "tiles" and 4 * self.overlap > 3 * self.size:  # each pixel lies in up to 16 tiles then
            raise ValueError(f"tiles of {self.size} pixels overlap by three quarters at most, found {self.overlap}")
        return self


class Recipe(Section):
    """`tables`: what of the paper a run gives numbers for. `choice`: the alternatives taken, by name of the choice."""

    name: str
    description: str = ""
    tables: list[str] = Field(default=[])
    choice: dict[str, str] = Field(default={})
    seed: int = Field(default=0, ge=0, lt=2**63)
    tracker: Literal["none", "tensorboard"] = "none"
    profile: str = "lite"
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    pretrain: PretrainSection = PretrainSection()
    finetune: FinetuneSection = FinetuneSection()
    adapt: AdaptSection | None = None
    mscc: MSCCSection | None = None
    pppc: PPPCSection | None = None
    pclmix: PCLMixSection | None = None
    borrowed: BorrowedSection | None = None
    evaluate: EvaluateSection = EvaluateSection()

    @property
    def neighbour(self) -> str | None:
        """The section of the neighbour that is trained instead of MPC's stages; None: MPC's stages are."""
        return next((name for name in NEIGHBOURS if getattr(self, name) is not None), None)

    @model_validator(mode="after")
    def _one_neighbour_with_a_head_of_its_own(self):
        sections = [name for name in NEIGHBOURS if getattr(self, name) is not None]
        if len(sections) > 1:
            raise ValueError(f"{' and '.join(sections)} are stages of different methods; keep one of these sections")
        for name in sections:
            if self.model.head not in NEIGHBOURS[name]:
                heads = " or ".join(NEIGHBOURS[name])
                raise ValueError(f"{name} trains a network of model.head {heads}, found {self.model.head}; set it so")
        return self

    @model_validator(mode="after")
    def _batch_norm_has_two_values(self):
        for name in [self.neighbour] if self.neighbour else ["pretrain", "finetune", "adapt"]:
            stage = getattr(self, name)
            if stage is None or stage.batch > 1 or getattr(stage, "encoder", "trained") == "frozen":
                continue
            side = round(getattr(stage, "crop", 1) * self.data.size)  # of the smallest images that the encoder sees
            if side <= COARSEST:
                raise ValueError(
                    f"{name}.batch 1 with data.size {self.data.size} gives batch norm one value for a channel of the "
                    f"coarsest map, and it needs two; set {name}.batch to 2 or more, or raise data.size"
                )
        return self

    @model_validator(mode="after")
    def _cached_features_never_change(self):
        for name, stage, lists in (("finetune", self.finetune, "data"), ("adapt", self.adapt, "adapt")):
            if stage is None or not stage.cache_features:
                continue
            needs = [
                (f"{name}.encoder", stage.encoder, "frozen"),
                ("augment.dihedral", self.augment.dihedral, False),
                ("augment.pipeline", self.augment.pipeline, "none"),
                ("augment.jpeg", self.augment.jpeg and self.augment.jpeg.model_dump(), None),
            ]
            wrong = [f"{key} {json.dumps(want)} (found {json.dumps(has)})" for key, has, want in needs if has != want]
            if not getattr(self, lists).manifest:
                wrong.append(f"{lists}.manifest (found none, and generated forgeries never repeat)")
            if wrong:
                raise ValueError(
                    f"{name}.cache_features needs maps that stay the same in every epoch, so {', '.join(wrong)}; "
                    f"set what is missing, or leave {name}.cache_features out"
                )
        return self

    def as_dict(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        # Recipes stored before these keys existed stay equal to what they are today.
        if self.data.real is None:
            del values["data"]["real"]
        for stage in ("finetune", "adapt", "borrowed"):
            if values[stage] and not values[stage]["contrast"]:
                del values[stage]["contrast"]
        for name in NEIGHBOURS:
            if values[name] is None:
                del values[name]
        return values


_FILES = ("manifest", "validation", "photos", "lists", "manifests", "weights", "teacher")


def nameless(recipe: Recipe) -> str | None:
    """The first key of a file that is an empty text or list: a variable of the shell was not set, and something else
    would take its place. Recipes within weights may have such, as they could be written before."""
    for section, values in recipe.model_dump().items():
        for key, value in values.items() if isinstance(values, dict) else ():
            empty = value == "" or (isinstance(value, list) and "" in value)
            if key in _FILES and (empty or (value == [] and section == "data")):
                return f"{section}.{key}"
    return None


EPOCHS = ("epochs", "epoch", "num_epochs", "n_epochs", "max_epochs")  # training is counted in steps

# What others call a key -> it, or the end of it where several sections have it. A dotted name is one section's alone.
_OTHERS = {
    "learning_rate": "lr base_lr init_lr max_lr peak_lr",
    "weight_decay": "wd decay l2",
    "batch": "batch_size batchsize bs minibatch mini_batch train_batch_size",
    "steps": f"iters iterations num_iterations max_iters num_steps max_steps train_steps {' '.join(EPOCHS)}",
    "accumulate": "accum accumulation grad_accum accumulate_grad_batches gradient_accumulation_steps",
    "clip": "grad_clip gradient_clip clip_grad clip_norm clip_grad_norm max_grad_norm gradient_clip_val",
    "precision": "amp fp16 bf16 dtype mixed_precision",
    "checkpoint_activations": "grad_checkpointing gradient_checkpointing activation_checkpointing",
    "schedule.name": "scheduler lr_scheduler lr_schedule",
    "schedule.warmup": "warmup warmup_steps warmup_iters num_warmup_steps",
    "schedule.floor": "min_lr lr_min eta_min final_lr",
    "validate_every": "val_every val_interval eval_every eval_interval eval_steps val_check_interval",
    "checkpoint_every": "save_every save_interval save_steps checkpoint_interval",
    "pretrain.temperature": "tau temp",
    "pretrain.max_pixels": "num_samples n_samples max_samples num_negatives",
    "encoder": "freeze freeze_encoder freeze_backbone frozen",
    "model.size": "arch architecture backbone",
    "data.size": "image_size img_size input_size crop_size resolution imgsz",
    "evaluate.size": "evaluate.image_size evaluate.img_size evaluate.input_size evaluate.resolution",
    "data.epoch": "data.epochs",
    "data.workers": "num_workers n_workers",
    "data.manifest": "dataset data_root data_dir train_csv",
    "data.validation_fraction": "val_fraction val_split validation_split",
    "seed": "random_seed random_state manual_seed",
}
OTHER_NAMES = {name: key for key, names in _OTHERS.items() for name in names.split()}
