"""80 percent prediction intervals: what the members disagree on, and what none of them can know.

The first part is the spread of the members, each fitted on its own resample of the runs. The second is the
noise of a single run: the residuals of the final checkpoints, each predicted only by the members that did
not see its run. These residuals hold the run's own noise and the evaluation noise of its score. Where they
come out smaller than the evaluation noise that was recorded (few runs, by luck), the latter is taken.
Both parts are combined as independent, and the interval is that of Student's t with as many degrees of
freedom as runs had a residual.
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
    """

    spread: float
    residuals: int
    relative_error: float | None

    @property
    def width(self) -> float:
        """Half an 80 percent interval in standard deviations."""
        return float(stdtrit(max(3, self.residuals), 0.5 + INTERVAL_COVERAGE / 2))

    def half(self, members: Array) -> Array:
        """Half the interval.

        Args:
            members: Predictions of the members, (M, ...), in the unit of `spread`.

        Returns:
            (...).
        """
        half: Array = self.width * np.sqrt(members.var(axis=0) + self.spread**2)
        return half


def out_of_bag_noise(predicted: Array, actual: Array, unseen: Array, *, logs: bool, floor: float = 0.0) -> Noise:
    """The noise of single runs, from predictions by members that did not see them.

    Args:
        predicted: Predictions of the final checkpoints, (M, R).
        actual: Measured values, NaN where missing or not to be judged, (R,).
        unseen: Which members did not see which run, (M, R).
        logs: Measure residuals of logarithms (losses).
        floor: A standard deviation that the noise cannot be below (the evaluation noise).
    """
    seers = unseen.sum(axis=0)
    judged = np.isfinite(actual) & (seers > 0)
    if not judged.any():
        return Noise(spread=floor, residuals=0, relative_error=None)
    mean = np.where(unseen, predicted, 0.0).sum(axis=0)[judged] / seers[judged]
    truth = actual[judged]
    residuals = np.log(mean) - np.log(truth) if logs else mean - truth
    positive = truth > 0
    relative = np.abs(mean[positive] - truth[positive]) / truth[positive]
    return Noise(
        spread=max(floor, float(np.sqrt((residuals**2).mean()))),
        residuals=int(judged.sum()),
        relative_error=float(relative.mean()) if positive.any() else None,
    )
