"""80 percent prediction intervals: members, noise of single runs, and a factor that the roll-outs ask for.

Half an interval is  factor * sqrt(spread of the members ** 2 + noise ** 2).  The members carry the resampling of
runs, the priors and the choice between methods; the noise is that of a single run around the fit, evaluation
noise in it. The factor is conformal: a quantile of |error| / sqrt(...) over the roll-outs. The errors of one split
come from one fit and err together, so every split weighs alike, and the finite-sample level 0.8 (G + 1) / G does
not count single values: G is the geometric mean of the number of splits (as if all tasks erred together) and of
pairs of split and task (as if none did). Folds over runs of one size interpolate, so there runs take the place
of splits. A task (or a domain) that was predicted worse than the others has its interval widened accordingly,
less so while splits are few; one that was predicted better keeps the common width, for that may be luck. Where
nothing could be rolled out the factor is Student's.

Reference: Lee, Barber and Willett 2023 (conformal prediction for grouped data).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from flp_ray.core.prediction import INTERVAL_COVERAGE
from flp_ray.fit.predictor.rollout import split_mean

FEWEST_JUDGED = 10
"""Judged values below which a quantile of them is not trusted."""

FEWEST_SPLITS = 4
"""Splits below which the factor is not below Student's."""

SMALLEST_FACTOR = 0.7

COMMON_GROUPS = 4
"""How many splits the common scale counts as beside a column's own."""

LEAST_LOSS_NOISE, LEAST_SCORE_NOISE = 0.002, 0.004
"""Noise is not below this: a log loss of one run, and a score of 15,000 items."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What turns the spread of members into intervals of one kind of value.

    Attributes:
        noise: Standard deviation of single runs, of a score or of a log loss, by column, (q,).
        factor: Width of half an interval in standard deviations, by column, (q,).
        judged: Values in the roll-outs that it comes from; 0 where it is Student's.
    """

    noise: Array
    factor: Array
    judged: int

    def half(self, spread: Array) -> Array:
        """Half the interval at a spread of the members, (n, q)."""
        return np.asarray(self.factor * np.sqrt(spread**2 + self.noise**2))


def calibrate(
    errors: Array, spread: Array, split: Array, noise: Array, *, runs: int, over_compute: bool
) -> Calibration:
    """Takes the factor from roll-outs.

    Args:
        errors: Predicted minus actual (of logarithms, for losses), NaN where not judged, (J, q).
        spread: Spread of the members there, (J, q).
        split: Split of every row, (J,).
        noise: Noise by column, (q,).
        runs: Runs in the table, for Student's t where the roll-outs say too little.
        over_compute: Whether the splits reach to larger runs; else they are folds.
    """
    judged = np.isfinite(errors)
    student = float(stdtrit(max(3, runs - 2), 0.5 + INTERVAL_COVERAGE / 2))
    if judged.sum() < FEWEST_JUDGED:
        return Calibration(noise=noise, factor=np.full(len(noise), student), judged=0)
    groups = split if over_compute else np.arange(len(split))
    ratio = np.where(judged, np.abs(errors) / np.sqrt(spread**2 + noise**2), np.nan)
    scale = _scales(ratio, groups)
    ratio = ratio[judged]
    per_group = np.bincount(groups, judged.sum(axis=1))
    weights = np.where(judged, 1.0 / np.maximum(per_group[groups], 1)[:, None], 0.0)[judged]
    order = np.argsort(ratio)
    reached = np.cumsum(weights[order]) / weights.sum()
    splits = int((per_group > 0).sum())
    rows, columns = np.nonzero(judged)
    pairs = len(set(zip(groups[rows].tolist(), columns.tolist(), strict=True)))
    level = min(1.0, INTERVAL_COVERAGE * (1 + 1 / np.sqrt(splits * pairs)))
    common = float(ratio[order][min(int(np.searchsorted(reached, level)), len(order) - 1)])
    if over_compute and splits < FEWEST_SPLITS:
        common = max(common, student)
    return Calibration(noise=noise, factor=np.maximum(SMALLEST_FACTOR, common * scale), judged=int(judged.sum()))


def _scales(ratio: Array, groups: Array) -> Array:
    """Root mean squares of the columns' ratios over that of all, drawn towards 1 and not below it, (q,)."""
    squares = split_mean(ratio**2, groups)
    number = np.array([len(np.unique(groups[np.isfinite(column)])) for column in ratio.T])
    own = np.where(number > 0, squares / max(float(np.nanmean(squares)), 1e-12), 1.0)
    return np.asarray(np.maximum(1.0, np.sqrt((COMMON_GROUPS + number * own) / (COMMON_GROUPS + number))))


def run_noise(predicted: Array, actual: Array, least: float, known: Array | None = None) -> Array:
    """Noise of single runs by column: residuals at the runs' ends, not below what evaluation alone makes.

    Args:
        predicted: At the fitted runs (logarithms, for losses), (R, q).
        actual: The same, NaN where not judged, (R, q).
        least: Smallest noise.
        known: Standard errors that were recorded, NaN where not, (R, q).
    """
    residual = predicted - actual
    count = np.isfinite(residual).sum(axis=0)
    noise = np.sqrt(np.nansum(residual**2, axis=0) / np.maximum(count, 1))
    recorded = np.zeros(len(noise))
    if known is not None:
        number = np.isfinite(known).sum(axis=0)
        recorded = np.sqrt(np.nansum(known**2, axis=0) / np.maximum(number, 1))
    return np.asarray(np.maximum(np.maximum(noise, recorded), least))
