"""Settings of the training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from flp_ray.core.run import Recipe

KeepCheckpoints = Literal["none", "last", "kept"]
"""What stays of a finished run's model: nothing, the trained model, or every checkpoint that was measured."""


class TrainingConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How every run is optimised; batch and learning rate belong to the sizes of the ladder."""

    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    warmup_fraction: float = Field(default=0.02, ge=0, le=1)
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoints: int = Field(default=30, ge=1)
    keep_checkpoints: KeepCheckpoints = Field(
        default="none", description="what stays of a run's weights: none, the last, or kept: all that were measured"
    )

    def recipe(self) -> Recipe:
        """The part that defines a run."""
        return Recipe(**self.model_dump(exclude={"keep_checkpoints"}))
