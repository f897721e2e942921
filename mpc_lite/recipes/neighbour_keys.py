"""The keys of the neighbours' stages. A recipe has one of these sections at most, and then trains that one stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mpc_lite.recipes.stage_keys import FinetuneSection, PositiveSteps, Section, StageSection

# Section of a recipe -> the heads that its stage can train.
NEIGHBOURS = {
    "mscc": ("mscc",),
    "pppc": ("4conv", "5conv"),
    "pclmix": ("4conv", "5conv"),
    "borrowed": ("4conv", "5conv", "context"),
}
# What a pasted patch is called: `neighbours.pclmix.mixing`, `neighbours.pppc.adaptation.class_mix`.
MIX_LABEL_RULES = ("released", "splice", "intra")
MANY = 2**20  # entries of a queue, anchors, channels of an embedding: far above what anybody trains with


class MSCCSection(StageSection):
    """MSCCNet, full masks. `weights`: where training starts; None: random numbers. The whole network learns."""

    steps: PositiveSteps = 1000
    weights: str | None = None


class Shift(Section):
    """How target images differ from source images: their sides times a ratio, then saved as JPEG (4:2:0). The lowest
    and the highest value of each; all between are equally likely."""

    ratio: list[Annotated[float, Field(gt=0, le=1)]] = Field(default=[0.5, 0.9], min_length=2, max_length=2)
    quality: list[Annotated[int, Field(ge=1, le=100)]] = Field(default=[50, 80], min_length=2, max_length=2)

    @model_validator(mode="after")
    def _lowest_first(self):
        for name in ("ratio", "quality"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} gives the lowest and the highest, found {[low, high]}; exchange them")
        return self


class PPPCSection(StageSection):
    """PPPC: labelled source images, unlabelled target images after a `shift`. `weights`: as for mscc.

    `mix_label_rule`: see `neighbours.pppc.adaptation.class_mix`; with `intra` the target images are the twins of the
    source images. `start`: share of the steps before the contrast begins (released: 3000 of 40 000). `crop`: side of a
    target crop, as a share of the image's. `confidence`: probability from which a pseudo-label is sure. The loss's
    options are those of `gaussians.pppc_loss`, the prototypes' those of `gaussians.GaussianPrototypes`."""

    steps: PositiveSteps = 1000
    weights: str | None = None
    shift: Shift = Shift()
    embedding: int = Field(default=64, ge=1, le=MANY)
    preset: Literal["lite", "released"] = "lite"
    reduction: Literal["mean", "sum"] | None = None
    temperature: float | None = Field(default=None, gt=0, le=1000)
    mix_label_rule: Literal[MIX_LABEL_RULES] = "released"
    start: float = Field(default=0.075, ge=0, le=1)
    sharpness: float = Field(default=1.0, ge=0, le=1000)
    crop: float = Field(default=0.75, gt=0, le=1)
    confidence: float = Field(default=0.968, ge=0.5, lt=1)
    prototype_decay: float = Field(default=0.99, ge=0, le=1)
    prototype_variance: Literal["harmonic", "posterior"] = "harmonic"


class PCLMixSection(StageSection):
    """PCLMix, scribbles alone. `weights`: as for mscc. `preset`: lite, or released for its quota, queue and
    consistency. `mix_label_rule`: see `neighbours.pclmix.mixing`. `contrast_after`: share of the steps without
    contrast. `strokes`, `stroke_length`: of the scribbles. `level`: of the encoder's maps, 0 the finest, the one whose
    pixels are contrasted."""

    steps: PositiveSteps = 1000
    weights: str | None = None
    preset: Literal["lite", "released"] = "lite"
    mix_label_rule: Literal[MIX_LABEL_RULES] = "intra"
    temperature: float = Field(default=0.07, gt=0, le=1000)
    queue: int = Field(default=500, ge=1, le=MANY)
    embedding: int = Field(default=64, ge=1, le=MANY)
    level: int = Field(default=1, ge=0, le=3)
    anchors: int = Field(default=1024, ge=1, le=MANY)
    views: int = Field(default=100, ge=1, le=MANY)
    contrast_after: float = Field(default=1 / 60, ge=0, le=1)
    auxiliary_weight: float = Field(default=0.4, ge=0, le=1000)
    contrast_weight: float = Field(default=0.1, ge=0, le=1000)
    consistency_weight: float = Field(default=1.0, ge=0, le=1000)
    strokes: int = Field(default=2, ge=1, le=1000)
    stroke_length: float = Field(default=0.5, gt=0, le=1)


class BorrowedSection(FinetuneSection):
    """`idea`: what is added to the focal loss with `idea_weight`; None: nothing. `teacher`: weights of the frozen
    network that "distillation" learns from. `queue`: image vectors it keeps. `weights`: as for mscc. The whole network
    learns; the idea of a context gate is the head "context"."""

    encoder: Literal["trained"] = "trained"
    cache_features: Literal[False] = False
    contrast: Literal[0] = 0
    weights: str | None = None
    idea: Literal["distillation", "scale", "views"] | None = None
    idea_weight: float = Field(default=0.1, ge=0, le=1000)
    teacher: str | None = None
    queue: int = Field(default=1024, ge=1, le=MANY)

    @model_validator(mode="after")
    def _distillation_has_a_teacher(self):
        if (self.idea == "distillation") != (self.teacher is not None):
            raise ValueError("idea 'distillation', and no other, needs a teacher: a shipped name or a file of weights")
        return self
