"""How many questions a task has, read off its scores where nobody recorded standard errors.

An accuracy over n questions is k / n, so the scores of many checkpoints give n away; with n comes the binomial
standard error. Metrics that are no share of right answers (means over groups, averages over seeds) give no n.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_SCORES = 10
"""Distinct scores needed: a few may be multiples of the same number by chance."""

MOST_QUESTIONS = 20_000
"""Beyond it the noise of questions is below 0.4 points, and rounding hides n."""

ROUNDING = 1e-7
"""How far a score may be from a fraction: tables are often written in single precision."""

Array = NDArray[Any]


def standard_errors(errors: Array, scores: Array, all_scores: Array) -> Array:
    """Standard errors of scores, those that are missing filled in for tasks whose number of questions shows.

    Args:
        errors: What was recorded, NaN where nothing, (R, T).
        scores: The scores in question, (R, T).
        all_scores: Scores of all checkpoints, (P, T).
    """
    filled = errors.copy()
    for t in range(scores.shape[1]):
        if np.isfinite(errors[:, t]).any():
            continue
        questions = number_of_questions(all_scores[:, t])
        if questions is not None:
            filled[:, t] = np.sqrt(np.clip(scores[:, t] * (1 - scores[:, t]), 0, None) / questions)
    return filled


def number_of_questions(scores: Array) -> int | None:
    """The smallest n for which all scores are k / n; None where there is none, or too few scores to tell."""
    distinct = np.unique(scores[np.isfinite(scores)])
    if len(distinct) < FEWEST_SCORES:
        return None
    # No n below 1 / (smallest gap) can tell two neighbours apart.
    apart = np.diff(distinct)
    least = max(1, int(np.floor(0.999 / apart[apart > 4 * ROUNDING].min(initial=1.0))))
    numbers = np.arange(least, MOST_QUESTIONS + 1)
    for score in distinct:
        times = numbers * score
        numbers = numbers[np.abs(times - np.round(times)) < ROUNDING * numbers + 1e-9]
        if not len(numbers):
            return None
    return int(numbers[0])
