"""Settings of the measuring: which tasks, how many items, how often."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from flp_ray.core.records import DEFAULT_EMERGENCE_MARGIN
from flp_ray.core.text import ItemKind

CODE_TASKS = {"humaneval": "openai/openai_humaneval"}
"""Tasks whose answers are programs, run in a sandbox, and their data sets; ours, not lm-evaluation-harness's."""


class TaskConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """One benchmark: a built-in, or a task of lm-evaluation-harness by its name there."""

    builtin: ItemKind | None = None
    domain: str | None = Field(
        default=None, description="built-ins: the domain whose held-out documents are asked about"
    )
    lm_eval: str | None = Field(default=None, description="name of a task of lm-evaluation-harness")
    lm_eval_path: str | None = Field(default=None, description="folder of own lm-eval YAML files")
    metric: str = Field(default="acc", description="the lm-eval metric that is the score; pass@k for humaneval")
    shots: int = Field(default=0, ge=0)
    items: int = Field(default=640, gt=0, description="items at a run's final checkpoint")
    samples: int | None = Field(
        default=None, gt=0, description="humaneval: programs generated a problem; default: the k of pass@k"
    )
    temperature: float | None = Field(default=None, gt=0, description="humaneval: temperature of sampling; default 0.8")
    random_performance: float | None = Field(default=None, ge=0, le=1, description="chance level; known for built-ins")
    emergence_margin: float = Field(default=DEFAULT_EMERGENCE_MARGIN, ge=0, le=1)
    weight: float = Field(default=1.0, ge=0, description="weight in the mean over tasks")

    @property
    def is_code(self) -> bool:
        """Whether its answers are programs that are run."""
        return self.lm_eval in CODE_TASKS and self.lm_eval_path is None

    @property
    def pass_k(self) -> int:
        """The k of a code task's metric pass@k."""
        return int(self.metric.removeprefix("pass@"))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.builtin is None) == (self.lm_eval is None):
            raise ValueError("needs exactly one of builtin and lm_eval")
        if self.builtin is not None and self.domain is None:
            raise ValueError(f"built-in task {self.builtin} needs a domain")
        if self.lm_eval is not None and self.random_performance is None:
            raise ValueError(f"task {self.lm_eval} needs random_performance (its chance level, 0 to 1)")
        return self

    @model_validator(mode="after")
    def _samples(self) -> Self:
        if not self.is_code:
            if self.samples is not None or self.temperature is not None:
                raise ValueError(f"samples and temperature belong to {', '.join(CODE_TASKS)}")
            return self
        if re.fullmatch(r"pass@[1-9]\d*", self.metric) is None:
            raise ValueError(f"task {self.lm_eval} has the metrics pass@1, pass@10, pass@100, received {self.metric!r}")
        if self.samples is not None and self.samples < self.pass_k:
            raise ValueError(
                f"{self.metric} needs at least {self.pass_k} samples a problem, received {self.samples}; "
                "raise samples or lower the k of the metric"
            )
        if self.shots:
            raise ValueError(f"task {self.lm_eval} has no examples to show; set shots to 0, received {self.shots}")
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
    generation: Literal["hf", "vllm"] = Field(
        default="hf", description="what generates answers: the model in the process, or vLLM on an export of it"
    )
