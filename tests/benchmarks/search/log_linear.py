"""Olmix's regression, c + exp(b + t . x) of the mixing ratios x, one a metric.

Fitted by L-BFGS on the Huber loss of the residuals (delta 0.02) from a few starts, as in the published code of data
mixing laws that Olmix builds on; c stays above 0 and below the lowest target, which that code leaves open.

Reference: Ye et al. 2024 (data mixing laws), Chen et al. 2026 (Olmix), github.com/allenai/olmix, type log_linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[Any]

DELTA = 0.02
"""Residual beyond which the Huber loss is linear, nats (their setting)."""

STARTS = (0.5, 0.9)
"""First values of c, as shares of the lowest target."""

RIDGE = 1e-6
"""Holds t where the ratios, which sum to 1, leave it open."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogLinear:
    """One fitted law: `floor` c, `offset` b, `slopes` t, (K,)."""

    floor: float
    offset: float
    slopes: Array

    def predict(self, ratios: Array) -> Array:
        """At ratios (m, K), (m,)."""
        return np.asarray(self.floor + np.exp(self.offset + ratios @ self.slopes))


def fit_log_linear(ratios: Array, targets: Array) -> LogLinear:
    """Fits the law.

    Args:
        ratios: Mixing ratios, (n, K).
        targets: Losses or errors, above 0, (n,).
    """
    lowest = float(targets.min())
    best, value = None, np.inf
    for share in STARTS:
        floor = share * lowest
        design = np.column_stack([np.ones(len(ratios)), ratios])
        start = np.linalg.lstsq(design, np.log(targets - floor + 1e-9), rcond=None)[0]
        found = minimize(
            _loss,
            np.concatenate([[floor], start]),
            args=(ratios, targets),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, lowest), *[(None, None)] * (ratios.shape[1] + 1)],
            options={"maxiter": 500},
        )
        if found.fun < value:
            best, value = found.x, found.fun
    assert best is not None
    return LogLinear(floor=float(best[0]), offset=float(best[1]), slopes=best[2:])


def _loss(parameters: Array, ratios: Array, targets: Array) -> tuple[float, Array]:
    """Huber loss in units of delta squared, and its gradient."""
    risen = np.exp(np.clip(parameters[1] + ratios @ parameters[2:], -50, 50))
    residual = (parameters[0] + risen - targets) / DELTA
    pull = np.clip(residual, -1, 1)
    value = float((pull * residual - pull**2 / 2).sum() + RIDGE * (parameters[2:] ** 2).sum())
    scaled = pull / DELTA
    gradient = np.concatenate([[scaled.sum(), scaled @ risen], (scaled * risen) @ ratios + 2 * RIDGE * parameters[2:]])
    return value, gradient
