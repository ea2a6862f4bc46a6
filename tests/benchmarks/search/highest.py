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
    """The ratios in the middle of the bounds: all alike where there are none."""
    low, high = np.array(bounds.low), np.array(bounds.high)
    middle = (low + np.minimum(high, 1.0)) / 2
    free = 1 - low.sum()
    taken = (middle - low) / (middle - low).sum() * free
    for _ in range(len(low)):  # what a bound cuts off goes to the others
        over = np.maximum(low + taken - high, 0)
        room = high - low - taken + over
        taken = taken - over + over.sum() * room / max(room.sum(), 1e-12)
    return np.asarray(low + taken)


def mixture_of(bounds: Bounds, ratios: Array) -> Mixture:
    """A mixture of these ratios, (K,), rounding errors removed."""
    clipped = np.clip(ratios, 0, 1)
    return Mixture.of(dict(zip(bounds.sources, (clipped / clipped.sum()).tolist(), strict=True)))
