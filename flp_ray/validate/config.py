"""Settings of the validation."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ValidationConfig(BaseModel, extra="forbid", frozen=True):
    """Whether and how proposals are trained."""

    enabled: bool = True
    seeds: list[int] = Field(
        default=[1],
        min_length=1,
        description="one run a seed; other seeds than the grid's keep the runs independent",
    )
