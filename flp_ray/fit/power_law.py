"""The laws with one number of FLOPs and no mixture: FLP's Eq. 1 and 2, FP's Eq. 3.

Notation
    C  training FLOPs        L  loss, nats per token       P  score, 0 to 1
    Eq. 1, Eq. 3   value = (C / C_0) ** alpha      alpha: `exponent`, -alpha log C_0: `log_scale`
    Eq. 2          P = w0 + w1 L                   w0: `intercept`, w1: `slope`

Both power laws are fitted as lines in log space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.errors import NotEnoughDataError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A fitted straight line.

    Attributes:
        intercept: Value at x = 0.
        slope: Change of the value per unit of x.
        observations: Points it was fitted on.
        x_range: Smallest and largest x among them.
        residual: Standard deviation of the residuals, degrees of freedom counted; 0 for two points.
    """

    intercept: float
    slope: float
    observations: int
    x_range: tuple[float, float]
    residual: float

    def at(self, x: Array | float) -> Array:
        """The line's value at x."""
        return np.asarray(self.intercept + self.slope * np.asarray(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """A fitted power law (C / C_0) ** alpha.

    Attributes:
        log_scale: Natural logarithm of the value at 1 FLOP.
        exponent: alpha.
        observations: Points it was fitted on.
        flops_range: Smallest and largest FLOPs among them.
        residual: Standard deviation of the log residuals.
    """

    log_scale: float
    exponent: float
    observations: int
    flops_range: tuple[float, float]
    residual: float

    def at(self, flops: Array | float) -> Array:
        """The law's value at these FLOPs."""
        return np.asarray(np.exp(self.log_scale + self.exponent * np.log(flops)))


def fit_line(x: Array, y: Array) -> Line:
    """Least squares, Eq. 2 where x is the loss and y the score.

    Args:
        x: (n,).
        y: (n,).

    Raises:
        NotEnoughDataError: Fewer than two points, or all at one x.

    Reference: Chen et al. 2024, Eq. 2.
    """
    if len(x) < 2 or np.ptp(x) <= 1e-12 * max(1.0, float(np.abs(x).max())):
        raise NotEnoughDataError(
            f"A line needs two points at different places, received {len(x)}. Add runs or checkpoints."
        )
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residuals = y - y.mean() - slope * centred
    return Line(
        intercept=float(y.mean() - slope * x.mean()),
        slope=slope,
        observations=len(x),
        x_range=(float(x.min()), float(x.max())),
        residual=float(np.sqrt(residuals @ residuals / max(1, len(x) - 2))),
    )


def fit_power_law(flops: Array, values: Array) -> PowerLaw:
    """A power law by least squares in log space.

    Args:
        flops: Training FLOPs, positive, (n,).
        values: Losses (Eq. 1) or scores (Eq. 3), positive, (n,).

    Raises:
        NotEnoughDataError: Fewer than two points, or all at the same FLOPs.

    Reference: Chen et al. 2024, Eq. 1 and Eq. 3.
    """
    line = fit_line(np.log(flops), np.log(values))
    return PowerLaw(
        log_scale=line.intercept,
        exponent=line.slope,
        observations=len(flops),
        flops_range=(float(np.min(flops)), float(np.max(flops))),
        residual=line.residual,
    )
