"""The keys of the stages: what every training knows, and what stage 1, stage 2 and a third stage know beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Upper bounds. A recipe also travels inside weight files, which strangers make: no key may ask for memory or time
# without end. They lie far above what anybody trains or scores with (a side of 512, some hundred thousand steps).
SIDE, STEPS, ROWS, BATCH = 2048, 10**8, 10**9, 2**16
PositiveSteps = Annotated[int, Field(ge=1, le=STEPS)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ScheduleSection(Section):
    """`cosine`: warm-up, then one decay to `floor`. `official`: what the released code does (plateau in stage 1, a
    cosine that swings with `period` validations in stage 2)."""

    name: Literal["cosine", "official"] = "cosine"
    warmup: int = Field(default=0, ge=0, le=STEPS)
    floor: float = Field(default=1e-8, ge=0, le=100)
    period: PositiveSteps = 20


class StageSection(Section):
    steps: PositiveSteps
    batch: int = Field(default=4, ge=1, le=BATCH)
    accumulate: int = Field(default=1, ge=1, le=BATCH)
    learning_rate: float = Field(default=1e-4, gt=0, le=10_000)
    weight_decay: float = Field(default=0.01, ge=0, le=100)
    clip: float | None = Field(default=None, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_activations: bool = False
    schedule: ScheduleSection = ScheduleSection()
    validate_every: PositiveSteps = 100
    checkpoint_every: PositiveSteps = 100


TERMS = ("within_image", "cross_scale", "cross_modality")


class PretrainSection(StageSection):
    """`terms`: which of the loss's terms are summed. `weights`: where training starts; None: random numbers."""

    steps: PositiveSteps = 1000
    weights: str | None = None
    terms: list[Literal[TERMS]] = Field(default=list(TERMS), min_length=1)
    formulation: Literal["official", "paper"] = "official"
    temperature: float = Field(default=0.1, gt=0, le=1000)
    max_pixels: int | None = Field(default=5000, ge=2, le=SIDE**2)

    @model_validator(mode="after")
    def _terms_once(self):
        if len(set(self.terms)) < len(self.terms):
            raise ValueError(f"each term once, found {', '.join(self.terms)}")
        return self


class FinetuneSection(StageSection):
    """`encoder`: `frozen` (evaluation mode, no gradients), `official` (the released code: not in the optimiser, yet in
    training mode), `trained` (the whole network learns). `cache_features`: compute the encoder's maps of each image
    once and keep them in the run's folder while the stage lasts; needs a frozen encoder and images that never change.
    `contrast`: so many times the loss of stage 1, as `pretrain` states it, is added, mean over the images; the encoder
    must learn.
    """

    steps: PositiveSteps = 1000
    encoder: Literal["frozen", "official", "trained"] = "frozen"
    cache_features: bool = False
    alpha: float = Field(default=0.5, ge=0, le=1)
    gamma: float = Field(default=2.0, ge=0, le=100)
    contrast: float = Field(default=0.0, ge=0, le=1000)


class AdaptSection(FinetuneSection):
    """A third stage, the focal loss on other data: protocol 2 lets the whole network learn on split lists."""

    encoder: Literal["frozen", "official", "trained"] = "trained"
    manifest: str | list[str]
    validation: str | list[str] | None = None
