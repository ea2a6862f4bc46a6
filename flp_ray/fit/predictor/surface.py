"""Loss in size, tokens and mixture: a floor law times a mixture surface, the surface a trend and a Gaussian process.

    log L(N, D, r) = log(A / N^a + B / D^b + E) + trend(r) + f(r)

    trend   linear in log effective ratios (the mixture part of Eq. 5); left out where there are enough mixtures
            for f to find the whole surface by itself
    f       a Gaussian process on the cube roots of the ratios, fitted to what the others leave

Size and mixture are fitted in turns. Each member refits the floor law and the trend on its weights of the runs,
and moves along its own draw of what the process leaves uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.gaussian_process import GaussianProcess, fit_gaussian_process
from flp_ray.fit.predictor.floor_law import FloorLaw, fit_floor_law
from flp_ray.fit.predictor.power_forms import MixtureTrend, fit_trend
from flp_ray.fit.predictor.runs import Queries

TURNS = 3
ENOUGH_MIXTURES = 10
"""Mixtures a source above which no trend is needed (cross-validated on RegMix's sampling runs)."""

FEWEST_MIXTURES = 8
"""Mixtures below which the process is left out: the trend takes all that they tell."""

REUSE = 150
"""Runs above which a roll-out keeps the length scales of the fit to all runs, instead of searching them anew."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceLaw:
    """The fitted law of S series and M members.

    Attributes:
        floor: Size and tokens.
        trend: Linear part of the mixture; None where it is left out.
        processes: What they leave, by series; empty where it is left out.
        draws: Standard normal draw of each member and series, the first member's 0, (M, S).
    """

    floor: FloorLaw
    trend: MixtureTrend | None
    processes: tuple[GaussianProcess, ...]
    draws: Array

    def members(self, queries: Queries) -> Array:
        """Every member's value, (M, n, S)."""
        logs = np.log(self.floor.members(queries))
        if self.trend is not None:
            logs = logs + self.trend.members(queries.ratios)
        inputs = np.cbrt(queries.ratios)
        for s, process in enumerate(self.processes):
            mean, spread = process.predict(inputs, noisy=False)
            logs[:, :, s] += mean + self.draws[:, s, None] * spread
        return np.asarray(np.exp(logs))


def fit_surface(
    queries: Queries, values: Array, weights: Array, *, seed: int, like: SurfaceLaw | None = None
) -> SurfaceLaw:
    """Fits every series and every member.

    Args:
        queries: The runs, R of them.
        values: Values at the end of each run, NaN where missing, (R, S).
        weights: Weight of each run in each member, (M, R).
        seed: Seeds the members' priors and draws.
        like: A fit of the same series to more runs; its length scales are kept.
    """
    mixtures, sources = len(np.unique(queries.ratios.round(9), axis=0)), queries.ratios.shape[1]
    with_trend = 1 < mixtures < ENOUGH_MIXTURES * sources
    logs = np.log(values)
    trend: MixtureTrend | None = None
    moved = np.zeros((len(weights), *values.shape))
    floor = fit_floor_law(queries, values, weights, seed=seed)
    for _ in range(TURNS if with_trend else 0):
        trend = fit_trend(queries.ratios, logs - np.log(floor.members(queries)), weights)
        moved = trend.members(queries.ratios)
        floor = fit_floor_law(queries, np.exp(logs - moved[0]), weights, seed=seed)
    left = logs - np.log(floor.members(queries)[0]) - moved[0]
    processes: tuple[GaussianProcess, ...] = ()
    if mixtures >= FEWEST_MIXTURES:
        inputs = np.cbrt(queries.ratios)
        processes = tuple(
            _process(inputs, left[:, s], like.processes[s] if like and like.processes else None)
            for s in range(values.shape[1])
        )
    return SurfaceLaw(floor=floor, trend=trend, processes=processes, draws=_draws(len(weights), values.shape[1], seed))


def _process(inputs: Array, left: Array, like: GaussianProcess | None) -> GaussianProcess:
    known = np.isfinite(left)
    if like is None:
        return fit_gaussian_process(inputs[known], left[known])
    factors = dict(zip(map(bytes, like.inputs), like.noise_factors.tolist(), strict=True))
    return GaussianProcess.of(
        inputs[known],
        left[known],
        length_scales=like.length_scales,
        signal=like.signal,
        noise=like.noise,
        noise_factors=np.array([factors.get(bytes(row), 1.0) for row in inputs[known]]),
    )


def _draws(members: int, series: int, seed: int) -> Array:
    """Draws with mean 0 and variance 1 over the members but the first, so that their spread is the process's own."""
    drawn = np.random.default_rng([seed, 13]).standard_normal((members, series))
    rest = drawn[1:]
    if len(rest) > 1:
        drawn[1:] = (rest - rest.mean(axis=0)) / rest.std(axis=0)
    drawn[0] = 0.0
    return drawn
