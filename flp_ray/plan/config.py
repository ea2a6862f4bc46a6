"""Settings of the plan: ladder, grid, budget."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator


class SizeConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """One rung of a ladder: a shape and how it is trained."""

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    ffn: int = Field(gt=0)
    train_tokens: int = Field(gt=0)
    batch_sequences: int = Field(gt=0)
    learning_rate: float = Field(gt=0)


class LadderConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The sizes that are trained: a preset, own shapes, or both (own ones win)."""

    preset: Literal["paper", "demo"] | None = None
    shapes: dict[str, SizeConfig] = Field(default={}, description="own shapes by name")
    sizes: list[str] | None = Field(default=None, min_length=1, description="sizes of the sampling grid; default: all")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.preset is None and not self.shapes:
            raise ValueError("needs a preset (paper, demo) or own shapes")
        return self


class ExtraRuns(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Runs of one size at chosen mixtures."""

    size: str
    mixtures: list[dict[str, float]] = Field(min_length=1)


class GridConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The mixtures that every size is trained at: ratios of all sources but one, or whole mixtures."""

    ratios: dict[str, list[float]] = Field(
        default={},
        description="ratios by source; the one source left out takes the rest; combinations above 1 drop out",
    )
    mixtures: list[dict[str, float]] = Field(default=[], description="whole mixtures, instead of or beside ratios")
    extra: list[ExtraRuns] = Field(default=[], description="single sampling runs beside the grid")
    targets: list[ExtraRuns] = Field(default=[], description="runs that are predicted and compared, never fitted on")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.ratios or self.mixtures):
            raise ValueError("needs ratios or mixtures")
        return self


class BudgetConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Limits that a plan must keep; none by default."""

    flops: float | None = Field(default=None, gt=0)
    device_hours: float | None = Field(default=None, gt=0)
    disk_bytes: float | None = Field(default=None, gt=0)
