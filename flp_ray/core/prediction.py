"""Predictions, the proposals made from them, and what training said afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import stable_hash

INTERVAL_COVERAGE = 0.8
"""Nominal coverage of every interval that flp_ray prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A predicted value with its interval.

    Attributes:
        mean: The predicted value.
        low: Lower end of the 80 percent prediction interval.
        high: Upper end of it.
        extrapolated: True where the point lies outside what the fit has seen (FLOPs or ratios).
    """

    mean: float
    low: float
    high: float
    extrapolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A mixture worth training, with what the surrogate expects of it.

    Attributes:
        objective: A task's name, or `mean` for the weighted mean over tasks.
        mixture: The proposed mixture.
        size: Name of the target size.
        train_tokens: Tokens to train it for.
        flops: FLOPs of that training.
        expected: The objective's prediction.
        performance: Prediction by task.
        domain_loss: Prediction by domain, nats per token.
        fit_id: The fit that it comes from.
    """

    objective: str
    mixture: Mixture
    size: str
    train_tokens: int
    flops: float
    expected: Prediction
    performance: dict[str, Prediction]
    domain_loss: dict[str, Prediction]
    fit_id: str

    @property
    def proposal_id(self) -> str:
        """Hash of fit, objective, size and mixture."""
        return stable_hash([self.fit_id, self.objective, self.size, self.train_tokens, self.mixture.as_dict()])


Verdict = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A proposal's prediction beside what training at it gave, and beside the best of the grid.

    Attributes:
        proposal: What was proposed and expected.
        run_id: The validation run.
        measured: The objective's measured value.
        measured_stderr: Its standard error; None where it is not known.
        relative_error: abs(predicted - measured) / measured (Eq. 4); None where measured is 0.
        inside_interval: Whether the measured value lies in the predicted interval.
        grid_mixture: The best mixture of the grid at the same size, by measured value.
        grid_measured: Its measured value.
        grid_stderr: Its standard error; None where it is not known.
        regret: grid_measured - measured; negative where the proposal beats the grid.
        verdict: Whether the difference is larger than its 80 percent interval.
    """

    proposal: Proposal
    run_id: str
    measured: float
    measured_stderr: float | None
    relative_error: float | None
    inside_interval: bool
    grid_mixture: Mixture
    grid_measured: float
    grid_stderr: float | None
    regret: float
    verdict: Verdict
