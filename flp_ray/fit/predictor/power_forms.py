"""Power laws of loss in FLOPs and mixture: Eq. 1, and the candidate forms M1 to M4 of the paper's Table 3.

Notation
    C  FLOPs of the training    r_k  ratio of source k    r'_k  effective ratio (flp_ray.fit.overlap)
    C_k = r'_k C                K    sources

    M1   (C / C_T) ** a                                Eq. 1 of FLP, whatever the mixture
    M2   prod_k (C_k / C_k0) ** a_k
    M3   (sum_k w_k C_k / C_T) ** a                    weights w_k above 0, sum K
    M4   (C / C_T) ** a  *  prod_k (C_k / C_k0) ** a_k    Eq. 5

In log space M1, M2 and M4 are linear. M3 is fitted by Levenberg-Marquardt, with the true ratios: it has a
value at ratio 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.mixture_law import SAME_SIZE, member_solutions
from flp_ray.fit.overlap import LOWEST_OVERLAP, leak, profile_overlap
from flp_ray.fit.predictor.marquardt import Quadratic, minimise
from flp_ray.fit.predictor.runs import Queries

Form = Literal["m1", "m2", "m4"]

WEIGHT_SPREAD = 3.0
"""Prior standard deviation of M3's log weights: holds the direction that the data leave open."""

RESIDUAL = 0.01
"""Log residual of one standard deviation in M3, beside that prior."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerForm:
    """M1, M2 or M4 of S series and M members.

    Attributes:
        form: Which.
        overlap: Share of each source that leaks into the others.
        centre: Mean of each column, (q,).
        scale: Spread of each column; 0 leaves it out, (q,).
        coefficients: Of the scaled columns, the intercept first, (M, S, 1 + q).
    """

    form: Form
    overlap: float
    centre: Array
    scale: Array
    coefficients: Array

    def members(self, queries: Queries) -> Array:
        """Every member's value, (M, n, S)."""
        rows = _scaled(_columns(self.form, queries, self.overlap), self.centre, self.scale)
        values: Array = np.exp(np.matmul(rows, self.coefficients.transpose(0, 2, 1)))
        return values


def fit_power_form(form: Form, queries: Queries, values: Array, counts: Array) -> PowerForm:
    """Fits every series and every member by least squares in log space.

    Args:
        form: Which.
        queries: The runs, R of them.
        values: Positive values at the end of each run, NaN where missing, (R, S).
        counts: How often each member drew each run, (M, R).
    """
    logs = np.log(values)

    def design(overlap: float) -> tuple[Array, Array, Array]:
        columns = _columns(form, queries, overlap)
        scale = columns.std(axis=0)
        scale[np.ptp(columns, axis=0) < (SAME_SIZE if form == "m1" else 1e-9)] = 0.0
        if form == "m4" and np.ptp(columns[:, 0]) < SAME_SIZE:
            scale[0] = 0.0
        return columns.mean(axis=0), scale, _scaled(columns, columns.mean(axis=0), scale)

    varied = queries.ratios.shape[1] > 1 and np.ptp(queries.ratios, axis=0).max() > 1e-9
    overlap = LOWEST_OVERLAP if queries.ratios.shape[1] > 1 else 0.0
    if varied and form != "m1":
        overlap = profile_overlap(lambda e: _squared_residual(design(e)[2], logs))
    centre, scale, rows = design(overlap)
    return PowerForm(
        form=form, overlap=overlap, centre=centre, scale=scale, coefficients=member_solutions(rows, logs, counts)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixtureTrend:
    """The mixture part of M4 alone: linear in log effective ratios, of S series and M members.

    Attributes:
        overlap: Share of each source that leaks into the others.
        centre: Mean of each column, (K,).
        scale: Spread of each column; 0 leaves it out, (K,).
        coefficients: Of the scaled columns, the intercept first, (M, S, 1 + K).
    """

    overlap: float
    centre: Array
    scale: Array
    coefficients: Array

    def members(self, ratios: Array) -> Array:
        """Every member's logarithm, (M, n, S), without the intercept, which belongs to the size."""
        rows = _scaled(np.log(leak(ratios, self.overlap)), self.centre, self.scale)
        return np.asarray(np.matmul(rows[:, 1:], self.coefficients[..., 1:].transpose(0, 2, 1)))


def fit_trend(ratios: Array, logs: Array, counts: Array) -> MixtureTrend:
    """Fits the trend to what another law leaves.

    Args:
        ratios: (R, K).
        logs: Log values less the other law of every member, NaN where missing, (M, R, S).
        counts: Weight of each run in each member, (M, R).
    """

    def design(overlap: float) -> tuple[Array, Array, Array]:
        columns = np.log(leak(ratios, overlap))
        scale = columns.std(axis=0)
        scale[np.ptp(columns, axis=0) < 1e-9] = 0.0
        return columns.mean(axis=0), scale, _scaled(columns, columns.mean(axis=0), scale)

    overlap = profile_overlap(lambda e: _squared_residual(design(e)[2], logs[0]))
    centre, scale, rows = design(overlap)
    solved = [member_solutions(rows, own, count[None])[0] for own, count in zip(logs, counts, strict=True)]
    return MixtureTrend(overlap=overlap, centre=centre, scale=scale, coefficients=np.array(solved))


def _columns(form: Form, queries: Queries, overlap: float) -> Array:
    log_flops = np.log(queries.flops)[:, None]
    if form == "m1":
        return log_flops
    log_ratios = np.log(leak(queries.ratios, overlap))
    return log_ratios + log_flops if form == "m2" else np.concatenate([log_flops, log_ratios], axis=1)


def _squared_residual(rows: Array, logs: Array) -> float:
    """Pooled squared residual of the fit to all runs, for rows (R, 1 + q) and log values (R, S)."""
    fitted = np.matmul(rows, member_solutions(rows, logs, np.ones((1, len(rows))))[0].T)
    return float(np.nansum((logs - fitted) ** 2))


def _scaled(columns: Array, centre: Array, scale: Array) -> Array:
    moved = columns - centre
    scaled = np.divide(moved, scale, out=np.zeros_like(moved), where=scale > 0)
    return np.concatenate([np.ones((len(columns), 1)), scaled], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightedPower:
    """M3 of S series and M members.

    Attributes:
        centre: Mean log FLOPs of the runs.
        parameters: Log value at the centre, a, and K log weights, (M, S, 2 + K).
    """

    centre: float
    parameters: Array

    def members(self, queries: Queries) -> Array:
        """Every member's value, (M, n, S)."""
        p = self.parameters[:, None]
        weighted = np.log(np.matmul(np.exp(self.parameters[..., 2:]), queries.ratios.T)).swapaxes(1, 2)
        moved = np.log(queries.flops)[None, :, None] - self.centre
        values: Array = np.exp(p[..., 0] + p[..., 1] * (moved + weighted))
        return values


def fit_weighted_power(queries: Queries, values: Array, counts: Array) -> WeightedPower:
    """Fits M3 to every series and every member; arguments as in `fit_power_form`."""
    logs = np.log(values)
    centre = float(np.log(queries.flops).mean())
    moved = np.log(queries.flops) - centre
    members, series, sources = len(counts), values.shape[1], queries.ratios.shape[1]
    parameters = np.empty((members, series, 2 + sources))
    for s in range(series):
        known = np.isfinite(logs[:, s])
        problem = moved[known], logs[known, s], queries.ratios[known], counts[:, known]
        x, y = problem[:2]
        slope = float(x @ y / (x @ x)) if np.ptp(x) > SAME_SIZE else -0.05
        start = np.array([y.mean(), min(slope, -0.01), *[0.0] * sources])
        parameters[:, s], _ = minimise(partial(_quadratic, problem=problem), np.tile(start, (members, 1)))
    return WeightedPower(centre=centre, parameters=parameters)


def _quadratic(p: Array, problem: tuple[Array, Array, Array, Array]) -> Quadratic:
    x, y, ratios, weights = problem
    raised = np.exp(p[:, None, 2:]) * ratios  # (B, R, K)
    total = raised.sum(axis=-1)
    argument = x + np.log(total)
    residual = (p[:, :1] + p[:, 1:2] * argument - y) / RESIDUAL
    logits = p[:, 1, None, None] * raised / total[..., None]
    jacobian = np.concatenate([np.ones_like(argument)[..., None], argument[..., None], logits], axis=-1) / RESIDUAL
    scaled = jacobian * weights[..., None]
    prior = p[:, 2:] / WEIGHT_SPREAD
    cost = 0.5 * ((weights * residual**2).sum(axis=1) + (prior**2).sum(axis=1))
    gradient = (scaled * residual[..., None]).sum(axis=1)
    gradient[:, 2:] += prior / WEIGHT_SPREAD
    matrix = np.matmul(scaled.swapaxes(1, 2), jacobian)
    np.einsum("bii->bi", matrix)[:, 2:] += 1 / WEIGHT_SPREAD**2
    return cost, gradient, matrix
