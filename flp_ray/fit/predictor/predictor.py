"""Any records -> methods with calibrated intervals, and their answers about trainings that were never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.prediction import Prediction
from flp_ray.core.records import Task
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.predictor.auto import CombinedMethod, candidates, combine, combine_roll_outs
from flp_ray.fit.predictor.calibration import (
    LEAST_LOSS_NOISE,
    LEAST_SCORE_NOISE,
    Calibration,
    calibrate,
    run_noise,
)
from flp_ray.fit.predictor.fitting import bayesian_bootstrap, fit_method
from flp_ray.fit.predictor.items import standard_errors
from flp_ray.fit.predictor.methods import AUTO, RECIPES, Ensemble, FittedMethod, Unfit
from flp_ray.fit.predictor.rollout import RollOut, Scheme, relative_errors, roll_out, scheme_of, split_mean
from flp_ray.fit.predictor.runs import Queries, RunTable
from flp_ray.fit.predictor.series import SeriesLaw
from flp_ray.fit.predictor.warnings import table_warnings

MEMBERS, ROLL_OUT_MEMBERS = 33, 9
NETWORK_MEMBERS, NETWORK_ROLL_OUT_MEMBERS = 17, 4
"""Members of an ensemble, the first being the fit to all runs; networks cost more."""

NETWORK_STEPS = 2000

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """Predictions of n trainings; the mean and the ends of its 80 percent interval, NaN where there is none.

    Attributes:
        losses: Domain losses, nats per token, (3, n, D).
        scores: Performance, 0 to 1, (3, n, T).
    """

    losses: Array
    scores: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibratedMethod:
    """A fitted method with its intervals.

    Attributes:
        method: The method.
        loss: Intervals of log losses.
        score: Intervals of scores.
        loss_errors: Mean relative error of every domain in the roll-outs, NaN where not judged, (D,).
        score_errors: The same of every task, (T,).
    """

    method: FittedMethod | CombinedMethod
    loss: Calibration
    score: Calibration
    loss_errors: Array
    score_errors: Array

    def forecast(self, queries: Queries) -> Forecast:
        """Predictions with intervals."""
        made = self.method.predict(queries)
        losses, scores = self.method.central(made.losses), self.method.central(made.scores)
        ratio = np.exp(self.loss.half(spread_of(self.method, np.log(np.maximum(made.losses, 1e-300)))))
        half = self.score.half(spread_of(self.method, made.scores))
        low = np.maximum(scores - half, np.minimum(scores, 0.0))  # a law may leave 0 to 1; its interval does not
        high = np.minimum(scores + half, np.maximum(scores, 1.0))
        return Forecast(losses=np.stack([losses, losses / ratio, losses * ratio]), scores=np.stack([scores, low, high]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictor:
    """Methods fitted to a table of runs.

    Attributes:
        sources: Sources that the mixtures may name, sorted.
        domains: Domains, in order.
        tasks: Tasks, in order.
        methods: By name.
        unfit: Methods that could not be fitted, with the reason.
        scheme: How the roll-outs were made, in words.
        warnings: What a reader must know.
        flops_range: Smallest and largest FLOPs of the runs.
        ratio_ranges: Smallest and largest ratio of each source, (K, 2).
        flops_law: log(FLOPs / (params * tokens)) as a line in log params: intercept and slope.
    """

    sources: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[Task, ...]
    methods: dict[str, CalibratedMethod]
    unfit: dict[str, str]
    scheme: str
    warnings: tuple[str, ...]
    flops_range: tuple[float, float]
    ratio_ranges: Array
    flops_law: tuple[float, float]

    def flops(self, params: float, tokens: float) -> float:
        """Training FLOPs of a size and a number of tokens, counted as the fitted runs' were."""
        intercept, slope = self.flops_law
        return float(params * tokens * np.exp(intercept + slope * np.log(params)))

    def extrapolated(self, queries: Queries) -> Array:
        """Which trainings lie outside the FLOPs or the ratios of the fitted runs, (n,)."""
        low, high = self.flops_range
        outside = (queries.flops < low / 1.05) | (queries.flops > high * 1.05)
        seen = (queries.ratios >= self.ratio_ranges[:, 0] - 1e-6) & (queries.ratios <= self.ratio_ranges[:, 1] + 1e-6)
        return np.asarray(outside | ~seen.all(axis=1))

    def named(self, method: str, queries: Queries) -> list[tuple[dict[str, Prediction], dict[str, Prediction]]]:
        """Scores by task and losses by domain of every training; what is not predicted is absent."""
        if method not in self.methods:
            reason = self.unfit.get(method, "it was not asked for when the fit was made")
            known = ", ".join(self.methods) or "none"
            raise ConfigError(f"The fit has no method {method!r}: {reason}. It has: {known}.")
        forecast, flags = self.methods[method].forecast(queries), self.extrapolated(queries).tolist()
        tasks = tuple(t.task for t in self.tasks)
        return [
            (_named(tasks, forecast.scores[:, i], flag), _named(self.domains, forecast.losses[:, i], flag))
            for i, flag in enumerate(flags)
        ]


def fit_predictor(table: RunTable, methods: Sequence[str], *, seed: int = 0) -> Predictor:
    """Fits methods to sampling runs and calibrates their intervals by roll-outs.

    Args:
        table: The runs to fit on.
        methods: Names, of `RECIPES` or `auto`.
        seed: Seeds bootstraps, priors and networks.

    Raises:
        NotEnoughDataError: No method can be fitted.
    """
    scheme = scheme_of(table)
    wanted = [m for m in methods if m != AUTO]
    parts = [m for m in candidates(table) if AUTO in methods and _worth(m, table)]
    laws: dict[str, SeriesLaw] = {}
    fitted: dict[str, FittedMethod] = {}
    rolled: dict[str, RollOut] = {}
    unfit: dict[str, str] = {}
    for name in dict.fromkeys([*wanted, *parts]):
        try:
            fitted[name] = _fit(name, table, seed, laws)
            rolled[name] = _roll(name, table, scheme, seed, laws)
        except Unfit as error:
            unfit[name] = str(error)
    calibrated = {n: _calibrated(fitted[n], rolled[n], table, scheme) for n in wanted if n in fitted}
    able = {n: rolled[n] for n in parts if n in fitted}
    if AUTO in methods and able:
        combined = combine(able, {n: fitted[n] for n in able}, table)
        calibrated[AUTO] = _calibrated(combined, combine_roll_outs(combined, able), table, scheme)
    elif AUTO in methods:
        unfit[AUTO] = "; ".join(f"{n}: {unfit[n]}" for n in parts)
    if not calibrated:
        reasons = " ".join(f"{n}: {r}." for n, r in unfit.items())
        raise NotEnoughDataError(
            f"No method can be fitted to these {len(table.run_ids)} sampling runs. {reasons} "
            f"Add runs of other sizes or mixtures, or measure their losses, then fit again."
        )
    return Predictor(
        sources=table.sources,
        domains=table.domains,
        tasks=table.tasks,
        methods={m: calibrated[m] for m in methods if m in calibrated},
        unfit={m: unfit[m] for m in methods if m in unfit},
        scheme=scheme.words,
        warnings=table_warnings(table),
        flops_range=(float(table.queries.flops.min()), float(table.queries.flops.max())),
        ratio_ranges=np.stack([table.queries.ratios.min(axis=0), table.queries.ratios.max(axis=0)], axis=1),
        flops_law=_flops_law(table.queries),
    )


def spread_of(method: FittedMethod | CombinedMethod, members: Array) -> Array:
    """Standard deviation of the members, (n, q)."""
    drawn = members[1:] if method.centre == "first" and len(members) > 1 else members
    return np.asarray(drawn.std(axis=0))


def _worth(name: str, table: RunTable) -> bool:
    """Whether `auto` needs a candidate: without tasks only its law counts, and one method a law is enough."""
    law = RECIPES[name].law
    if table.tasks:
        return True
    return law is not None and next(n for n in candidates(table) if RECIPES[n].law == law) == name


def _members(name: str, full: int, network: int) -> int:
    return network if RECIPES[name].link == "network" else full


def _fit(name: str, table: RunTable, seed: int, laws: dict[str, SeriesLaw]) -> FittedMethod:
    members = _members(name, MEMBERS, NETWORK_MEMBERS)
    weights = bayesian_bootstrap(len(table.run_ids), MEMBERS, seed)[:members]
    own = laws if members == MEMBERS else {}
    return fit_method(name, table, weights, seed=seed, steps=NETWORK_STEPS, laws=own)


def _roll(name: str, table: RunTable, scheme: Scheme, seed: int, laws: dict[str, SeriesLaw]) -> RollOut:
    members = _members(name, ROLL_OUT_MEMBERS, NETWORK_ROLL_OUT_MEMBERS)

    def fit(part: RunTable) -> FittedMethod:
        weights = bayesian_bootstrap(len(part.run_ids), members, seed)
        return fit_method(name, part, weights, seed=seed, steps=NETWORK_STEPS, laws={}, like=laws)

    return roll_out(table, scheme.splits, fit, members)


def _calibrated(
    method: FittedMethod | CombinedMethod, rolled: RollOut, table: RunTable, scheme: Scheme
) -> CalibratedMethod:
    own: Ensemble = method.predict(table.queries)
    told: dict[str, Any] = {"runs": len(table.run_ids), "over_compute": scheme.over_compute}
    with np.errstate(invalid="ignore", divide="ignore"):
        own_losses = np.log(method.central(own.losses))
        loss_noise = run_noise(own_losses, np.log(table.losses), LEAST_LOSS_NOISE)
        errors = np.log(rolled.central_losses) - np.log(rolled.actual_losses)
        loss_spread = spread_of(method, np.log(np.maximum(rolled.losses, 1e-300)))
    risen = np.where(table.scores > 0, table.scores, np.nan)
    known = standard_errors(table.errors, table.scores, table.points.scores)
    score_noise = run_noise(method.central(own.scores), risen, LEAST_SCORE_NOISE, known)
    score_errors = rolled.central_scores - rolled.actual_scores
    return CalibratedMethod(
        method=method,
        loss=calibrate(errors, loss_spread, rolled.split, loss_noise, **told),
        score=calibrate(score_errors, spread_of(method, rolled.scores), rolled.split, score_noise, **told),
        loss_errors=split_mean(relative_errors(rolled.central_losses, rolled.actual_losses), rolled.split),
        score_errors=split_mean(relative_errors(rolled.central_scores, rolled.actual_scores), rolled.split),
    )


def _flops_law(queries: Queries) -> tuple[float, float]:
    ratio = np.log(queries.flops / (queries.params * queries.tokens))
    x = np.log(queries.params)
    if np.ptp(x) < 0.1:
        return float(ratio.mean()), 0.0
    slope, intercept = np.polyfit(x, ratio, 1)
    return float(intercept), float(slope)


def _named(names: tuple[str, ...], values: Array, flag: bool) -> dict[str, Prediction]:
    return {
        name: Prediction(mean=mean, low=low, high=high, extrapolated=flag)
        for name, mean, low, high in zip(names, *values.tolist(), strict=True)
        if np.isfinite(mean)
    }
