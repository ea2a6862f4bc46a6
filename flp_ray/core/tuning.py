"""What is known of a study's hyperparameters: trials, the optimum of a size, the value carried to a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flp_ray.core.run import RunSpec

Hyperparameter = Literal["learning_rate", "batch_sequences", "weight_decay", "warmup_fraction"]
"""What can be tuned, under the names that the study file uses."""

TrialEvent = Literal["measured", "stopped", "diverged"]
"""What a trial has come to at a token count; the last two end it, as does a measurement at its last token."""

Edge = Literal["low", "high"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """One event of a tuning trial.

    Attributes:
        run_id: The trial; the id of its run.
        size: Its size on the ladder.
        tokens: Tokens that it had seen.
        event: What happened.
        loss: Mean validation loss over the study's domains, nats per token; None unless measured.
        reason: Why it diverged; None otherwise.
    """

    run_id: str
    size: str
    tokens: int
    event: TrialEvent
    loss: float | None = None
    reason: str | None = None

    def ends(self, train_tokens: int) -> bool:
        """Whether a trial of that many tokens is over with this event."""
        return self.event != "measured" or self.tokens >= train_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best value of one hyperparameter at one tuned size.

    Attributes:
        parameter: The hyperparameter.
        size: The size.
        params: Its parameters without embeddings.
        train_tokens: Tokens of its training.
        value: The best value.
        log_stderr: Standard error of the value's natural logarithm.
        edge: The end of the searched range that the optimum lies at or beyond; None inside.
        trials: Trials that it rests on.
        diverged: Trials that diverged; they are left out.
    """

    parameter: Hyperparameter
    size: str
    params: int
    train_tokens: int
    value: float
    log_stderr: float
    edge: Edge | None
    trials: int
    diverged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The value of one hyperparameter at one size, as the law gives it.

    Attributes:
        parameter: The hyperparameter.
        size: The size.
        train_tokens: Tokens of the training.
        value: The value that such runs are trained with.
        low: Lower end of the 80 percent interval of the size's optimum.
        high: Upper end of it.
        tuned: Whether trials of this very size are behind the law.
        stated: What the ladder or the training section says, which the value replaces.
    """

    parameter: Hyperparameter
    size: str
    train_tokens: int
    value: float
    low: float
    high: float
    tuned: bool
    stated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """A study's tuning as a report shows it.

    Attributes:
        trials: The trials, with the hyperparameters of each.
        reports: What became of them, in no order.
        optima: The optimum of each tuned size.
        carried: The values that the sizes of the study are trained with; empty before the law is fitted.
        formulas: The law by hyperparameter, as text.
        notes: What a reader should know of it, one sentence each.
    """

    trials: tuple[RunSpec, ...]
    reports: tuple[TrialReport, ...] = ()
    optima: tuple[Optimum, ...] = ()
    carried: tuple[Carried, ...] = ()
    formulas: tuple[tuple[Hyperparameter, str], ...] = ()
    notes: tuple[str, ...] = ()


def hyperparameter(spec: RunSpec, parameter: Hyperparameter) -> float:
    """The value of one hyperparameter of a run."""
    owner = spec if parameter in ("learning_rate", "batch_sequences") else spec.recipe
    return float(getattr(owner, parameter))
