"""Settings of the validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field, field_validator

MAX_SEED = 2**31 - 1


class ValidationConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Whether and how proposals are trained."""

    enabled: bool = True
    seeds: int | list[int] = Field(
        default=1,
        description="trainings of each proposal, as a number or as a list of seeds; from 2 on, the best known mixture "
        "is trained as often, with fresh seeds likewise",
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        # Checked here, because a union would answer with one complaint for each of its halves.
        if type(value) is int and value >= 1:
            return value
        if not isinstance(value, list) or not value or not all(type(s) is int and 0 <= s <= MAX_SEED for s in value):
            raise ValueError(
                "must be a number of trainings, 1 or more, or a list of at least one seed between 0 and "
                f"{MAX_SEED}, e.g. 3 or [1, 2, 3]"
            )
        if len(set(value)) < len(value):
            raise ValueError(f"seeds must differ, received {value}")
        return value

    @property
    def trainings(self) -> int:
        """How often each mixture is trained."""
        return self.seeds if isinstance(self.seeds, int) else len(self.seeds)

    @property
    def both_sides(self) -> bool:
        """Whether the best known mixture is trained anew as well.

        One training a side knows nothing of the scatter between seeds, so that a second training would buy little;
        from two on, the same number on both sides tells the smallest difference for the price.
        """
        return self.trainings > 1

    def candidates(self, study_seed: int) -> Iterator[int]:
        """Seeds to take in this order: those of the list, or 1, 2, 3, ... without the study's own."""
        if isinstance(self.seeds, list):
            return iter(self.seeds)
        return (seed for seed in itertools.count(1) if seed != study_seed)
