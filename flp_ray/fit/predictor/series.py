"""What stage 1 predicts of a run, side by side: every domain loss, their mean, and bits per byte of every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.predictor.runs import Points, Queries, RunTable

FEWEST_VALUES = 3
"""Runs with a value that a series needs."""

Array = NDArray[Any]
Inputs = Literal["mean", "losses", "bpb"]
"""What a link takes: the mean domain loss, all domain losses, or bits per byte of its own task."""


class Law(Protocol):
    """A fitted law of several series."""

    def members(self, queries: Queries) -> Array:
        """Every member's value, (M, n, S)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesLaw:
    """A law of those series that have enough values.

    Attributes:
        law: The law of these series.
        fitted: Which of all series it has, (D + 1 + T,).
    """

    law: Law
    fitted: Array

    def members(self, queries: Queries) -> Array:
        """Every member's value, (M, n, D + 1 + T); NaN for a series without a law."""
        values = self.law.members(queries)
        all_series = np.full((*values.shape[:2], len(self.fitted)), np.nan)
        all_series[..., self.fitted] = values
        return all_series


def series_of(table: RunTable) -> tuple[Array, Array]:
    """Values at the end of every run, (R, D + 1 + T), and which series have enough of them, (D + 1 + T,)."""
    values = _series(table.losses, table.bpb)
    values = np.where(values > 0, values, np.nan)
    return values, np.isfinite(values).sum(axis=0) >= FEWEST_VALUES


def point_series(points: Points) -> Array:
    """The same at every checkpoint, (P, D + 1 + T)."""
    return _series(points.losses, points.bpb)


def link_inputs(series: Array, inputs: Inputs, domains: int) -> Array:
    """What a link takes of series (..., D + 1 + T): (..., T or 1, D or 1)."""
    if inputs == "mean":
        return series[..., None, domains : domains + 1]
    if inputs == "losses":
        return series[..., None, :domains]
    return series[..., domains + 1 :, None]


def _series(losses: Array, bpb: Array) -> Array:
    mean = losses.mean(axis=1, keepdims=True) if losses.shape[1] else np.full((len(losses), 1), np.nan)
    return np.concatenate([losses, mean, bpb], axis=1)
