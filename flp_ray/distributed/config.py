"""Settings of the resources that runs are given."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ResourcesConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What each run gets, how many run at once, and what happens to a run that fails."""

    workers: int = Field(default=1, ge=1, description="data-parallel processes of a run")
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    max_concurrent_runs: int | None = Field(default=None, ge=1, description="default: as many as the cluster holds")
    retries: int = Field(default=2, ge=0, description="how often a failed run is tried again, from its last checkpoint")
    max_failed_fraction: float = Field(default=0.5, ge=0, le=1, description="above it the study stops")
    flops_per_s_per_device: float | None = Field(
        default=None,
        gt=0,
        description="FLOP/s of one worker over a run, measuring included; gives the expected time of the first plan",
    )
