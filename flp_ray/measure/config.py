"""Settings of the measuring: which tasks, how many items, how often."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator

from flp_ray.core.records import DEFAULT_EMERGENCE_MARGIN
from flp_ray.core.text import ItemKind


class TaskConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """One benchmark: a built-in, or a task of lm-evaluation-harness by its name there."""

    builtin: ItemKind | None = None
    domain: str | None = Field(
        default=None, description="built-ins: the domain whose held-out documents are asked about"
    )
    lm_eval: str | None = Field(default=None, description="name of a task of lm-evaluation-harness")
    lm_eval_path: str | None = Field(default=None, description="folder of own lm-eval YAML files")
    metric: str = Field(default="acc", description="the lm-eval metric that is the score")
    shots: int = Field(default=0, ge=0)
    items: int = Field(default=640, gt=0, description="items at a run's final checkpoint")
    random_performance: float | None = Field(default=None, ge=0, le=1, description="chance level; known for built-ins")
    emergence_margin: float = Field(default=DEFAULT_EMERGENCE_MARGIN, ge=0, le=1)
    weight: float = Field(default=1.0, ge=0, description="weight in the mean over tasks")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.builtin is None) == (self.lm_eval is None):
            raise ValueError("needs exactly one of builtin and lm_eval")
        if self.builtin is not None and self.domain is None:
            raise ValueError(f"built-in task {self.builtin} needs a domain")
        if self.lm_eval is not None and self.random_performance is None:
            raise ValueError(f"task {self.lm_eval} needs random_performance (its chance level, 0 to 1)")
        return self


class MeasureConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What is measured at each kept checkpoint."""

    tasks: dict[str, TaskConfig] = Field(min_length=1)
    intermediate_items: int | None = Field(
        default=None, gt=0, description="items a task at checkpoints before the last; default: all items"
    )
    intermediate_sequences: int | None = Field(
        default=None, gt=0, description="sequences a domain at checkpoints before the last; default: all"
    )
    batch_tokens: int = Field(default=8192, gt=0, description="tokens of one forward pass at most, padding included")
