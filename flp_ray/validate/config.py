"""Settings of the validation."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator


class ValidationConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Whether and how proposals are trained."""

    enabled: bool = True
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default=[1],
        min_length=1,
        description="one run a seed; other seeds than the grid's keep the runs independent",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, received {self.seeds}")
        return self
