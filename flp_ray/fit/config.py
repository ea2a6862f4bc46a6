"""Settings of the fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flp_ray.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What a fit of FLP-M needs beside the records.

    Attributes:
        members: Networks in the ensemble of stage 2; each has its own seed and its own resample of runs.
        steps: Adam steps of each network (the paper: 2,000).
        seed: Seeds resampling and initialisation.
        overlap: Share of each source that leaks into the others, 0 to 1/2; None fits it.
        weights: Weight of each task in the mean; tasks not named weigh 1.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # for the study file, which embeds this

    members: int = 64
    steps: int = 2000
    seed: int = 0
    overlap: float | None = None
    weights: dict[str, float] | None = None


def check_settings(settings: FitSettings) -> None:
    """Refuses settings out of range.

    Raises:
        ConfigError: Names the setting.
    """
    for name, least in (("members", 2), ("steps", 1)):
        if getattr(settings, name) < least:
            raise ConfigError(f"fit.{name} must be at least {least}, received {getattr(settings, name)}.")
