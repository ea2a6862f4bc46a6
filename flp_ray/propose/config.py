"""Settings of the search on the surrogate."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class SearchConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What is sought: the best mixture for one size, for single tasks or their weighted mean."""

    target_size: str | None = Field(default=None, description="size that proposals are made for; default: the largest")
    objectives: list[str] = Field(default=["mean"], min_length=1, description="`mean` or names of tasks")
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    trials: int = Field(default=200, ge=1, description="mixtures that Optuna tries on the surrogate, an objective")
    ratio_step: float = Field(default=0.01, gt=0, le=0.5, description="proposals are rounded to this step")
    min_ratios: dict[str, float] = Field(default={}, description="lower bounds by source")
    max_ratios: dict[str, float] = Field(default={}, description="upper bounds by source")
