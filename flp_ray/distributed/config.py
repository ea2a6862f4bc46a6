"""Settings of the resources that runs are given."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from flp_ray.core.accelerator import ACCELERATORS
from flp_ray.core.execution import Kernels


class EvaluatorsConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Processes that measure checkpoints beside the training."""

    count: int = Field(default=1, ge=1)
    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0, description="of each; a share of a GPU is allowed")
    waiting: int = Field(default=2, ge=1, description="checkpoints of one run that may wait; then its training waits")


class ResourcesConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What each run gets, how many run at once, and what happens to a run that fails.

    With an `accelerator`, what is not given here is chosen for each size from a model of its memory
    (`flp_ray.plan.memory`); without one, a run has one worker, ZeRO stage 0 and its whole share of the batch at once.
    """

    workers: int | Literal["auto"] = Field(default=1, description="data-parallel processes of a run, or `auto`")
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    accelerator: str | None = Field(default=None, description=f"one of {', '.join(ACCELERATORS)}")
    memory_bytes: float | None = Field(default=None, gt=0, description="memory of a device; default: the accelerator's")
    zero_stage: Literal[0, 1, 2, 3] | None = None
    micro_batch_sequences: int | None = Field(default=None, gt=0)
    activation_checkpointing: bool | None = None
    kernels: Kernels = "torch"
    max_hours_per_run: float | None = Field(
        default=None, gt=0, description="`workers: auto` takes as many workers as keep every run below it"
    )
    max_workers: int | None = Field(
        default=None,
        ge=1,
        description="workers that a cluster holds beside the evaluators once it has grown; default: those now",
    )
    max_concurrent_runs: int | None = Field(default=None, ge=1, description="default: as many as the cluster holds")
    evaluators: EvaluatorsConfig | None = Field(
        default=None, description="measure beside the training; default: in the training's own process"
    )
    retries: int = Field(default=2, ge=0, description="how often a failed run is tried again, from its last checkpoint")
    max_failed_fraction: float = Field(default=0.5, ge=0, le=1, description="above it the study stops")
    flops_per_s_per_device: float | None = Field(
        default=None,
        gt=0,
        description="FLOP/s of one worker over a run, measuring included; gives the expected time of the first plan",
    )
    utilisation: float | None = Field(
        default=None, gt=0, le=1, description="the same as a share of the accelerator's peak"
    )
    peak_flops_per_s: float | None = Field(default=None, gt=0, description="default: the accelerator's")
    text_tokens_per_core_second: float | None = Field(
        default=None, gt=0, description="tokens that a core makes of text, for the plan; measured once some is prepared"
    )
    dollars_per_device_hour: float | None = Field(default=None, gt=0)

    @field_validator("workers")
    @classmethod
    def _some_workers(cls, workers: int | str) -> int | str:
        if isinstance(workers, int) and workers < 1:
            raise ValueError("needs at least 1, or auto")
        return workers

    @field_validator("accelerator")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in ACCELERATORS:
            raise ValueError(
                f"is not known; known: {', '.join(ACCELERATORS)}. For another, leave it out and give memory_bytes "
                "and peak_flops_per_s"
            )
        return name

    @model_validator(mode="after")
    def _enough_to_choose(self) -> Self:
        if self.workers == "auto" and self.device_memory_bytes is None:
            raise ValueError("workers: auto needs an accelerator or memory_bytes, to fit runs into")
        if self.max_hours_per_run is not None and self.expected_flops_per_s is None:
            raise ValueError(
                "max_hours_per_run needs a rate: flops_per_s_per_device, or utilisation with an accelerator"
            )
        if self.utilisation is not None and self.peak is None:
            raise ValueError("utilisation needs an accelerator or peak_flops_per_s, of which it is a share")
        if self.kernels == "liger" and not self.gpus_per_worker:
            raise ValueError("kernels: liger needs gpus_per_worker; its kernels run on GPUs alone")
        return self

    @property
    def device_memory_bytes(self) -> float | None:
        """Memory of one device; None where nothing is known of it."""
        return self.memory_bytes or (ACCELERATORS[self.accelerator].memory_bytes if self.accelerator else None)

    @property
    def peak(self) -> float | None:
        """Peak FLOP/s of one device; None where nothing is known of it."""
        return self.peak_flops_per_s or (ACCELERATORS[self.accelerator].peak_flops_per_s if self.accelerator else None)

    @property
    def evaluator_devices(self) -> float:
        """GPUs that the evaluators hold as long as runs train."""
        return self.evaluators.count * self.evaluators.gpus if self.evaluators is not None else 0.0

    @property
    def expected_flops_per_s(self) -> float | None:
        """FLOP/s of one worker as stated; None where nothing is stated."""
        if self.flops_per_s_per_device is not None:
            return self.flops_per_s_per_device
        return self.utilisation * self.peak if self.utilisation is not None and self.peak is not None else None
