"""Predictions, the proposals made from them, and what training said afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Purpose, stable_hash

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
        shares: Shares of the tasks in an objective with weights of its own; None for `mean` and single tasks.
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
    shares: dict[str, float] | None = None

    @property
    def proposal_id(self) -> str:
        """Hash of fit, objective, size and mixture."""
        return stable_hash([self.fit_id, self.objective, self.size, self.train_tokens, self.mixture.as_dict()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A proposal with what it will be held against; written down before its validation runs start.

    Attributes:
        proposal: What is proposed and expected.
        best_known: The best mixture among those that were sampled, by its prediction; None where no one said.
        best_known_expected: The objective's prediction there, at the same size; None where no one said.
        written: When this was stored, in seconds since 1970; None as long as it is not.
    """

    proposal: Proposal
    best_known: Mixture | None = None
    best_known_expected: Prediction | None = None
    written: float | None = None


Verdict = Literal["better", "worse", "not distinguishable", "same mixture", "not compared"]
"""How a proposal did beside the best known mixture; the last two where there is nothing to compare it with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceTest:
    """Whether two mixtures' mean scores differ; scores are 0 to 1, a positive difference speaks for the proposal.

    Attributes:
        difference: Mean of the proposal's trainings less that of the best known mixture's.
        low: Lower end of the difference's 80 percent interval.
        high: Upper end of it.
        p_value: Two-sided: how often chance alone would give as large a difference.
        degrees_of_freedom: Of the scatter between seeds; 0 where each side has one training.
        scatter: Standard deviation of a training around its side's mean, pooled over both; None without freedom.
        evaluation_stderr: Standard error of the difference that the recorded evaluation errors give by
            themselves; None where one is not known.
        detectable: The smallest true difference that this design tells apart in 80 percent of cases.
    """

    difference: float
    low: float
    high: float
    p_value: float
    degrees_of_freedom: int
    scatter: float | None
    evaluation_stderr: float | None
    detectable: float


OutcomeKind = Literal["objective", "performance", "domain_loss"]
"""What was predicted; `objective` is the proposal's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One predicted value beside what the proposal's trainings gave.

    Attributes:
        kind: What was predicted.
        name: The objective, the task or the domain.
        expected: What was predicted of a single training; scores 0 to 1, losses in nats per token.
        measured: Mean over the trainings, in the same unit.
        runs: Trainings that have the value.
        inside: How many of these lie in the interval. It is made for single trainings, so these are what
            should be 80 percent; the mean of several lies inside more often.
    """

    kind: OutcomeKind
    name: str
    expected: Prediction
    measured: float
    runs: int
    inside: int

    @property
    def hit(self) -> bool:
        """Whether the measured value lies in the predicted interval."""
        return self.expected.low <= self.measured <= self.expected.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A proposal's prediction beside what training at it gave, and beside the best known mixture.

    Attributes:
        proposal: What was proposed and expected.
        run_id: All validation runs behind it, the proposal's first, joined by commas.
        measured: The objective's measured value, the mean over the trainings.
        measured_stderr: Its standard error; None where it is not known.
        relative_error: abs(predicted - measured) / measured (Eq. 4); None where measured is 0.
        inside_interval: Whether the measured value lies in the predicted interval.
        best_known: The mixture it is held against; None where there is none. The best one that was sampled, by its
            prediction; in records without an `Experiment`, by its measured value (winner's curse).
        best_known_measured: The objective's measured value there; None where it was not measured.
        best_known_stderr: Its standard error; None where it is not known.
        regret: best_known_measured - measured; negative where the proposal won; None where it was not measured.
        verdict: Whether the difference is larger than its 80 percent interval, or why nothing is compared.
        note: Why nothing is compared; empty otherwise.
        test: The difference with its interval; None where nothing is compared or no error is known.
        outcomes: Every prediction of the proposal beside its measurement: the objective, tasks, domains.
        expected_difference: The difference that was predicted; None where no one said.
        runs: The proposal's trainings.
        best_known_runs: The best known mixture's trainings.
        planned: Trainings that were planned for the proposal; None where no one said.
        best_known_source: `validation` where the best known mixture was trained anew, `sampling` where its run among
            the sampling runs stands in.
        written: When the prediction was stored, in seconds since 1970; None where it is not known.
        began: When the first validation run began, likewise.
    """

    proposal: Proposal
    run_id: str
    measured: float
    measured_stderr: float | None
    relative_error: float | None
    inside_interval: bool
    best_known: Mixture | None
    best_known_measured: float | None
    best_known_stderr: float | None
    regret: float | None
    verdict: Verdict
    note: str = ""
    test: DifferenceTest | None = None
    outcomes: tuple[Outcome, ...] = ()
    expected_difference: float | None = None
    runs: int = 1
    best_known_runs: int = 1
    planned: int | None = None
    best_known_source: Purpose = "sampling"
    written: float | None = None
    began: float | None = None
