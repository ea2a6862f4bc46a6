"""The straight part of stage 2: a ridge regression of the score on the domain losses, refitted by every member.

Notation
    x  standardised domain losses of a checkpoint, and a 1     y  its standardised score
    s  strength of the ridge                                   b  line

    b minimises mean (y - b . x)^2 + s |b|^2, the constant free

Domain losses of one study rise and fall together, so a plain regression would answer noise with slopes that
cancel inside the data and run apart beyond. The strength is the one that predicts left-out runs best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths that are tried; standardised losses have unit spread, so 1 halves even the common slope."""

Array = NDArray[Any]


def fit_lines(inputs: Array, targets: Array, emerged: Array, runs: Array, drawn: Array) -> Array:
    """Every member's line of every task.

    Args:
        inputs: Standardised losses, (n, D).
        targets: Standardised scores, (T, n).
        emerged: Points that count for each task, (T, n).
        runs: Index of each point's run, (n,).
        drawn: How often each member's law of each task takes each run, (M, T, R).

    Returns:
        Slopes and the constant last, (M, T, D + 1).
    """
    points = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    lines = np.empty((len(drawn), len(targets), points.shape[1]))
    for t, (scores, counts) in enumerate(zip(targets, emerged, strict=True)):
        sums = _sums(points[counts], scores[counts], runs[counts], drawn.shape[2])
        strength = _best_strength(points[counts], scores[counts], runs[counts], sums)
        lines[:, t] = _solved(np.tensordot(drawn[:, t], sums, axes=1), strength)
    return lines


def _sums(points: Array, scores: Array, runs: Array, number: int) -> Array:
    """Each run's products of [x, y] with itself, summed over its points, (R, D + 2, D + 2)."""
    rows = np.concatenate([points, scores[:, None]], axis=1)
    sums = np.zeros((number, rows.shape[1], rows.shape[1]))
    np.add.at(sums, runs, rows[:, :, None] * rows[:, None, :])
    return sums


def _best_strength(points: Array, scores: Array, runs: Array, sums: Array) -> float:
    """The strength with the smallest squared error on runs left out, one at a time."""
    seen = np.unique(runs)
    without = sums[seen].sum(axis=0) - sums[seen]
    place = np.searchsorted(seen, runs)
    errors = []
    for strength in STRENGTHS:
        predicted = (points * _solved(without, strength)[place]).sum(axis=1)
        errors.append(float(((scores - predicted) ** 2).sum()))
    return STRENGTHS[int(np.argmin(errors))]


def _solved(sums: Array, strength: float) -> Array:
    """Ridge lines from sums of products, (..., D + 1); the number of points is the sum of the constant's square."""
    mean = sums / sums[..., -2:-1, -2:-1]
    penalty = np.full(sums.shape[-1] - 1, strength)
    penalty[-1] = 1e-12  # the constant is free; the rounding error only keeps the system regular
    line: Array = np.linalg.solve(mean[..., :-1, :-1] + np.diag(penalty), mean[..., :-1, -1:])[..., 0]
    return line
