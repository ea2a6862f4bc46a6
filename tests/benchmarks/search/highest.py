"""The highest point of a cheap function over the simplex, for the baselines that propose by a fitted model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.propose.simplex import Bounds, to_ratios

Array = NDArray[Any]

DRAWS = 4000
FIRST_STEP, LAST_STEP = 0.1, 0.004


def highest(value: Callable[[Array], Array], bounds: Bounds) -> Mixture:
    """Draws, corners and the even mixture; then moves between two sources in ever smaller steps.

    Args:
        value: Ratios (n, K) -> what is to be high, (n,).
        bounds: What a mixture must keep.
    """
    number = len(bounds.sources)
    drawn = to_ratios(bounds, np.random.default_rng(0).random((DRAWS, number - 1)))
    corners = [bounds.corner(s).ratios for s in bounds.sources]
    points = np.concatenate([drawn, np.array(corners), even(bounds)[None]])
    values = value(points)
    best, height = points[np.argmax(values)], values.max()
    moves = (np.eye(number)[:, None] - np.eye(number)[None]).reshape(-1, number)
    low, high, step = np.array(bounds.low), np.array(bounds.high), FIRST_STEP
    while step > LAST_STEP:
        # A move may be cut short by a bound, so that edges and corners are reached exactly.
        sizes = np.where(moves > 0, high - best, np.where(moves < 0, best - low, np.inf)).min(axis=1)
        near = best + moves * np.minimum(step, sizes)[:, None]
        values = value(near)
        if values.max() > height + 1e-9:
            best, height = near[np.argmax(values)], values.max()
        else:
            step /= 2
    return mixture_of(bounds, best)


def even(bounds: Bounds) -> Array:
    """The ratios in the middle of what the bounds allow, (K,): all alike where there are none."""
    low, high = np.array(bounds.low), np.array(bounds.high)
    least = np.maximum(low, 1 - (high.sum() - high))  # what is left when all others take their most
    most = np.minimum(high, 1 - (low.sum() - low))
    middle = (least + most) / 2
    missing = 1 - middle.sum()
    room = most - middle if missing > 0 else middle - least
    return np.asarray(middle + missing * room / max(room.sum(), 1e-12))


def mixture_of(bounds: Bounds, ratios: Array) -> Mixture:
    """A mixture of these ratios, (K,), rounding errors removed."""
    clipped = np.clip(ratios, 0, 1)
    return Mixture.of(dict(zip(bounds.sources, (clipped / clipped.sum()).tolist(), strict=True)))
