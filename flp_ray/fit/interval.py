"""80 percent prediction intervals: what the members disagree on, and what none of them can know.

The first part is the spread of the members, each fitted on its own resample of the runs. The second is the
noise of a single run: the residuals of the final checkpoints, each predicted only by the members that did
not see its run. These residuals hold the run's own noise and the evaluation noise of its score. Where they
come out smaller than the evaluation noise that was recorded (few runs, by luck), the latter is taken.
The evaluation noise of a share of right answers p goes with p (1 - p); it is taken at the predicted score, since
a large model's scores lie where the small ones' do not. All parts are combined as independent, and the interval
is that of Student's t with as many degrees of freedom as runs had a residual.

None of this holds what a law of another form would do: in a planted world whose losses have a floor
(`synthetic.losses_with_a_floor`), losses at 7B lie 7 percent above the power law and outside all intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # not scipy.stats, which takes half a second to import

from flp_ray.core.prediction import INTERVAL_COVERAGE

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Spread of single runs around the prediction.

    Attributes:
        spread: Standard deviation; of log losses, or of scores.
        residuals: Runs that it was measured on.
        relative_error: Mean relative error of these held-out predictions; None where there are none.
        evaluation: Of scores, the variance of evaluating one per unit of p (1 - p), which is one over the number
            of questions; 0 where no error was recorded.
        rest: What of `spread` the evaluation does not explain.
    """

    spread: float
    residuals: int
    relative_error: float | None
    evaluation: float
    rest: float

    @property
    def width(self) -> float:
        """Half an 80 percent interval in standard deviations."""
        return float(stdtrit(max(3, self.residuals), 0.5 + INTERVAL_COVERAGE / 2))

    def evaluated(self, scores: Array) -> Array:
        """Variance of evaluating these true scores."""
        sure = np.clip(scores, 0, 1)
        return np.asarray(self.evaluation * sure * (1 - sure))

    def half(self, members: Array, evaluated: Array | float = 0.0) -> Array:
        """Half the interval.

        Args:
            members: Predictions of the members, (M, ...), in the unit of `spread`.
            evaluated: Variance of evaluating the predicted value, (...).

        Returns:
            (...).
        """
        half: Array = self.width * np.sqrt(members.var(axis=0) + self.rest**2 + evaluated)
        return half


def out_of_bag_noise(
    predicted: Array, actual: Array, unseen: Array, *, logs: bool, errors: Array | None = None
) -> Noise:
    """The noise of single runs, from predictions by members that did not see them.

    Args:
        predicted: Predictions of the final checkpoints, (M, R).
        actual: Measured values, NaN where missing or not to be judged, (R,).
        unseen: Which members did not see which run, (M, R).
        logs: Measure residuals of logarithms (losses).
        errors: Standard errors of the measured values, 0 where not known, (R,); the noise cannot be below them.
    """
    errors = np.zeros(len(actual)) if errors is None else errors
    seers = unseen.sum(axis=0)
    judged = np.isfinite(actual) & (seers > 0)
    if not judged.any():
        floor = _typical(errors)
        return Noise(spread=floor, residuals=0, relative_error=None, evaluation=0.0, rest=floor)
    mean = np.where(unseen, predicted, 0.0).sum(axis=0)[judged] / seers[judged]
    truth = actual[judged]
    residuals = np.log(mean) - np.log(truth) if logs else mean - truth
    positive = truth > 0
    relative = np.abs(mean[positive] - truth[positive]) / truth[positive]
    found, floor = float(np.sqrt((residuals**2).mean())), _typical(errors[judged])
    return Noise(
        spread=max(floor, found),
        residuals=int(judged.sum()),
        relative_error=float(relative.mean()) if positive.any() else None,
        evaluation=_per_question(truth, errors[judged]),
        rest=float(np.sqrt(max(0.0, found**2 - floor**2))),
    )


def _typical(errors: Array) -> float:
    known = errors[errors > 0]
    return float(np.sqrt((known**2).mean())) if known.size else 0.0


def _per_question(scores: Array, errors: Array) -> float:
    """Variance of evaluation per unit of p (1 - p), from recorded standard errors."""
    known = (errors > 0) & (scores > 0) & (scores < 1)
    if not known.any():
        return 0.0
    return float((errors[known] ** 2).sum() / (scores[known] * (1 - scores[known])).sum())
