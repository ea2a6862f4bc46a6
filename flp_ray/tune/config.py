"""Settings of the tuning: at which sizes, which hyperparameters, over which ranges, with how many trials."""

from __future__ import annotations

from typing import Self, get_args

from pydantic import BaseModel, Field, model_validator

from flp_ray.core.tuning import Hyperparameter


class RangeConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """A range that is searched on a logarithmic scale."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, received low {self.low:g} and high {self.high:g}")
        return self


class TuningConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Tuning on small sizes before the grid is trained; what is not named here keeps its stated value."""

    sizes: list[str] = Field(min_length=1, description="sizes of the ladder that are tuned, two or more")
    mixture: dict[str, float] | None = Field(default=None, description="what trials train on; default: even ratios")
    trials: int = Field(default=8, description="trials a size")
    rungs: int = Field(default=3, ge=1, le=5, description="times that a trial is measured, and may be stopped")
    reduction_factor: int = Field(default=2, ge=2, le=8, description="a rung keeps about one in so many trials")
    sequences: int | None = Field(default=64, gt=0, description="validation sequences a domain; null: all")
    learning_rate: RangeConfig
    batch_sequences: list[int] | None = Field(default=None, min_length=3, description="batches to choose from")
    weight_decay: RangeConfig | None = None
    warmup_fraction: RangeConfig | None = None

    @property
    def parameters(self) -> tuple[Hyperparameter, ...]:
        """What is tuned."""
        return tuple(name for name in get_args(Hyperparameter) if getattr(self, name) is not None)

    def bounds(self, parameter: Hyperparameter) -> tuple[float, float]:
        """The ends of what is searched of one hyperparameter."""
        searched = getattr(self, parameter)
        if isinstance(searched, RangeConfig):
            return searched.low, searched.high
        return float(min(searched)), float(max(searched))

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if repeated := sorted({size for size in self.sizes if self.sizes.count(size) > 1}):
            raise ValueError(f"sizes names {', '.join(repeated)} more than once")
        batches = self.batch_sequences or []
        if len(set(batches)) < len(batches) or any(batch < 1 for batch in batches):
            raise ValueError(f"batch_sequences needs different numbers of at least 1, received {batches}")
        if self.warmup_fraction is not None and self.warmup_fraction.high > 1:
            raise ValueError(
                f"warmup_fraction is a share of the steps, at most 1: high is {self.warmup_fraction.high:g}"
            )
        least = 1 + 2 * len(self.parameters)
        if self.trials < least:
            raise ValueError(
                f"{self.trials} trials a size cannot show an optimum of {', '.join(self.parameters)}: a curve in each "
                f"takes at least {least} trials"
            )
        return self
