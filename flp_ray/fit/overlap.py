"""The treatment of ratio 0: sources overlap, so a little of each source is in all others.

Eq. 5 is singular where a source has no FLOPs. The paper's own grid has such runs and the paper does not say
what it does with them; it says that the sources overlap. Here a share e of each source leaks evenly into
the others,

    r'_k = (1 - e) r_k + e * mean of r_j over j != k,

which for two sources is r' = (1 - e) r + e (1 - r), and keeps r' on the simplex for any number of sources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

LOWEST_OVERLAP, HIGHEST_OVERLAP = 1e-4, 0.3
"""Bounds of the fitted overlap: below, an absent source outweighs all; above, sources lose their meaning."""

Array = NDArray[Any]


def leak(ratios: Array, overlap: float) -> Array:
    """Effective ratios r' of the mixtures.

    Args:
        ratios: Mixing ratios, (n, K), rows sum to 1.
        overlap: Share of each source that leaks into the others, 0 to 1/2.

    Returns:
        (n, K); rows sum to 1. A single source stays as it is.
    """
    sources = ratios.shape[1]
    if sources == 1:
        return ratios
    others = (ratios.sum(axis=1, keepdims=True) - ratios) / (sources - 1)
    effective: Array = (1 - overlap) * ratios + overlap * others
    return effective


def profile_overlap(squared_residual: Callable[[float], float]) -> float:
    """The overlap with the smallest pooled squared log residual.

    A coarse scan in log e finds the valley, a bounded one-dimensional search its floor.

    Args:
        squared_residual: Sum of squared log residuals over domains and runs at a given overlap.
    """
    grid = np.geomspace(LOWEST_OVERLAP, HIGHEST_OVERLAP, 25)
    values = [squared_residual(float(e)) for e in grid]
    best = int(np.argmin(values))
    low, high = np.log(grid[max(0, best - 1)]), np.log(grid[min(len(grid) - 1, best + 1)])
    found = minimize_scalar(
        lambda x: squared_residual(float(np.exp(x))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(np.exp(found.x)) if found.fun < values[best] else float(grid[best])
