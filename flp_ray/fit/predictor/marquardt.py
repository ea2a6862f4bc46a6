"""Levenberg-Marquardt for many small problems at once.

scipy.optimize.least_squares solves one problem a call; an ensemble over tasks and resamples has thousands of
the same shape, so here a step of all of them is one batch of small linear systems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 100
CONVERGED = 1e-9
"""Relative decrease of a problem's cost below which it has converged."""

Array = NDArray[Any]
Quadratic = tuple[Array, Array, Array]
"""Half the sum of squares (B,), its gradient (B, q) and the Gauss-Newton matrix (B, q, q)."""


def minimise(evaluate: Callable[[Array], Quadratic], start: Array) -> tuple[Array, Array]:
    """Minimises B sums of squares, each from its own start.

    Args:
        evaluate: Cost, gradient and Gauss-Newton matrix at parameters (B, q).
        start: (B, q).

    Returns:
        Parameters (B, q) and costs (B,).
    """
    here = start.copy()
    cost, gradient, matrix = evaluate(here)
    damping = np.full(len(here), 1e-2)
    still = np.zeros(len(here), int)
    for _ in range(MOST_STEPS):
        diagonal = np.einsum("bii->bi", matrix)
        damped = matrix.copy()
        np.einsum("bii->bi", damped)[...] += damping[:, None] * (diagonal + 1e-9)
        tried = here - np.linalg.solve(damped, gradient[..., None])[..., 0]
        new_cost, new_gradient, new_matrix = evaluate(tried)
        better = np.isfinite(new_cost) & (new_cost < cost)
        small = ~better | (cost - new_cost < CONVERGED * (cost + 1e-300))
        still = np.where(small, still + 1, 0)
        here = np.where(better[:, None], tried, here)
        gradient = np.where(better[:, None], new_gradient, gradient)
        matrix = np.where(better[:, None, None], new_matrix, matrix)
        cost = np.where(better, new_cost, cost)
        damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-9, 1e9)
        if (still >= 4).all():
            break
    return here, cost
