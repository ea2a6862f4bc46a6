"""What runs of one size share: a learning rate or a shape may put a whole size above or below the law.

Every resample of the runs keeps runs of all sizes, so the members agree on such deviations and would be too sure
of what lies beyond the largest size. Each member is therefore fitted as if its sizes had deviated otherwise.

Notation
    e_gi  log residual of run i of size g      s^2  its variance within sizes     t^2  variance of a size's deviation

    E sum_g n_g mean_i(e_gi)^2  =  (G - 2) s^2  +  (G - 2) n t^2       (n: runs a size; two numbers fit the sizes)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.mixture_law import RANK_TOLERANCE, SAME_SIZE

FEWEST_SIZES = 4
"""Sizes below which their deviations cannot be told from the law's own slope."""

Array = NDArray[Any]


def size_shifts(rows: Array, flops: Array, losses: Array, counts: Array, *, seed: int) -> Array:
    """What other deviations of the sizes would add to each member's coefficients; 0 on average over the members.

    Args:
        rows: The law's design, (R, q).
        flops: FLOPs of the final checkpoints, (R,).
        losses: Domain losses, NaN where missing, (R, D).
        counts: How often each member drew each run, (M, R).
        seed: The fit's seed.

    Returns:
        (M, D, q).
    """
    order = np.argsort(flops)
    group = np.empty(len(flops), dtype=np.intp)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(np.log(flops[order])) > SAME_SIZE)])
    sizes = int(group.max()) + 1
    shifts = np.zeros((len(counts), losses.shape[1], rows.shape[1]))
    drawn = np.stack(
        [np.random.default_rng([seed, m, 1]).standard_normal((sizes, losses.shape[1])) for m in range(len(counts))]
    )
    drawn -= drawn.mean(axis=0)
    for d, loss in enumerate(losses.T):
        known = np.isfinite(loss)
        deviation = size_deviation(rows[known], np.log(loss[known]), group[known])
        if deviation > 0:
            root = np.sqrt(counts[:, known])[:, :, None]
            inverse = np.linalg.pinv(root * rows[known], rcond=RANK_TOLERANCE)
            shifts[:, d] = deviation * (inverse @ (root * drawn[:, group[known], d][:, :, None]))[:, :, 0]
    return shifts


def size_deviation(rows: Array, logs: Array, group: Array) -> float:
    """Standard deviation of a size's own deviation from the law, t; 0 where none shows.

    Args:
        rows: The law's design, (R, q).
        logs: Log losses, (R,).
        group: Number of each run's size, (R,).
    """
    members = np.bincount(group)
    members = members[members > 0]
    number, sizes = len(logs), len(members)
    if sizes < FEWEST_SIZES or number <= sizes + rows.shape[1]:
        return 0.0
    residuals = logs - rows @ (np.linalg.pinv(rows, rcond=RANK_TOLERANCE) @ logs)
    means = np.bincount(group, residuals)[np.unique(group)] / members
    _, place = np.unique(group, return_inverse=True)
    within = float(((residuals - means[place]) ** 2).sum()) / (number - sizes - rows.shape[1] + 2)
    between = float((members * means**2).sum()) / (sizes - 2)
    each = (number - float((members**2).sum()) / number) / (sizes - 1)
    return float(np.sqrt(max(0.0, between - within) / each))
