"""Settings of the search: what is sought, within which limits, and for which budget."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

Ratio = Annotated[float, Field(ge=0, le=1)]


class ObjectiveConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """An objective put together from tasks."""

    name: str = Field(min_length=1, description="shown in tables; neither `mean` nor a task's name")
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1, description="weight by task")
    keep: dict[str, Ratio] = Field(
        default={},
        description="by task, how far its score (0 to 1) may fall below what is expected of search.present",
    )


class SearchConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What is sought: the best mixture for one training, for single tasks, weighted means or several at once."""

    target_size: str | None = Field(default=None, description="size that proposals are made for; default: the largest")
    target_tokens: int | None = Field(
        default=None, gt=0, description="tokens of that training; default: what the ladder says of the size"
    )
    objectives: list[str | ObjectiveConfig] = Field(
        default=["mean"], min_length=1, description="`mean`, names of tasks, or own weights"
    )
    pareto: list[str] = Field(default=[], description="`mean` or tasks whose Pareto front is shown, at least two")
    present: dict[str, float] | None = Field(default=None, description="the mixture in use now")
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    trials: int = Field(default=200, ge=1, description="mixtures that Optuna tries on the surrogate, an objective")
    ratio_step: float = Field(default=0.01, gt=0, le=0.5, description="proposals are rounded to this step")
    min_ratios: dict[str, float] = Field(default={}, description="lower bounds by source")
    max_ratios: dict[str, float] = Field(default={}, description="upper bounds by source")
    pinned: dict[str, float] = Field(default={}, description="sources whose ratio is given")
    available_tokens: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="tokens there are for the target, by source; default: text.sources.SOURCE.tokens"
    )
    max_epochs: Annotated[float, Field(gt=0)] | dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="how often the target may repeat a source, or by source; default: text.max_epochs"
    )
    prior: dict[str, float] | None = Field(default=None, description="mixture that proposals should stay near")
    prior_weight: float = Field(
        default=0.0, ge=0, description="score (0 to 1) that a nat of KL divergence from the prior must be worth"
    )

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Names of the objectives, each once."""
        return tuple(dict.fromkeys(o if isinstance(o, str) else o.name for o in self.objectives))

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.pareto) == 1:
            raise ValueError("pareto needs at least two objectives")
        if self.prior_weight > 0 and self.prior is None:
            raise ValueError("prior_weight needs a prior: the mixture that proposals should stay near")
        for objective in self.objectives:
            if isinstance(objective, ObjectiveConfig) and objective.keep and self.present is None:
                raise ValueError(
                    f"objective {objective.name} keeps tasks at what they are at the present mixture; "
                    "give it as search.present"
                )
        return self


class RoundsConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """A search in rounds: each next run is chosen by what it is expected to take off the regret per FLOP."""

    budget_flops: float = Field(gt=0, description="training FLOPs of the whole study, validation included")
    tolerance: float = Field(
        default=0.002, gt=0, lt=1, description="the search ends once the expected regret (score 0 to 1) is below it"
    )
    sizes: list[str] | None = Field(default=None, min_length=1, description="sizes it may train; default: ladder.sizes")
    start_mixtures: int | None = Field(
        default=None,
        ge=3,
        description="mixtures of the first runs; default: 5 for two sources, else twice the sources",
    )
    max_runs: int | None = Field(default=None, ge=1, description="sampling runs at most, the first ones included")
