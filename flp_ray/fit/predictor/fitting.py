"""A named method fitted to a table of runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.observations import threshold
from flp_ray.fit.predictor.emergence import not_risen
from flp_ray.fit.predictor.floor_law import fit_floor_law
from flp_ray.fit.predictor.lines import fit_direct, fit_linear
from flp_ray.fit.predictor.methods import RECIPES, FittedMethod, LawName, Recipe, Unfit
from flp_ray.fit.predictor.network_link import fit_network_link
from flp_ray.fit.predictor.power_forms import fit_power_form, fit_weighted_power
from flp_ray.fit.predictor.runs import Queries, RunTable
from flp_ray.fit.predictor.series import SeriesLaw, link_inputs, point_series, series_of
from flp_ray.fit.predictor.sigmoid import fit_sigmoid

RUN_WEIGHT = 1.6
"""Independent scores that all checkpoints of one run count as in a sigmoid: they share its seed and its text."""

EARLY = 0.2
"""Checkpoints before this share of a training do not count in a sigmoid: warm-up, and far from any end."""

ONE_SIZE = 0.2
"""Spread of log FLOPs below which runs count as of one size: a power of FLOPs between them would be noise."""

Array = NDArray[Any]


def bayesian_bootstrap(runs: int, members: int, seed: int) -> Array:
    """Weights of the runs in each member, (M, R): the first weighs all alike, the others draw from Dirichlet(1).

    Unlike counts of drawn runs, no weight is 0, so every member identifies what all runs identify.

    Reference: Rubin 1981.
    """
    drawn = np.random.default_rng([seed, 10]).exponential(size=(members, runs))
    drawn *= runs / drawn.sum(axis=1, keepdims=True)
    drawn[0] = 1.0
    return drawn


def fit_law(name: LawName, table: RunTable, weights: Array, *, seed: int, like: SeriesLaw | None = None) -> SeriesLaw:
    """Fits stage 1 to the ends of the runs.

    Args:
        name: Which law.
        table: The runs.
        weights: Weight of each run in each member, (M, R).
        seed: Seeds the members' priors.
        like: The same law of more runs; a large `surface` keeps its length scales.

    Raises:
        Unfit: Too few runs, or all of one size where the law needs several.
    """
    if name == "power":
        used = table.converged()
        table, weights = table.take(used), weights[:, used]
    values, fitted = series_of(table)
    if not fitted.any():
        raise Unfit("no loss is measured on three runs")
    queries = table.queries
    if name in ("power", "m1") and _one_size(queries):
        raise Unfit("all runs have one size, so no power of FLOPs can be fitted")
    values = values[:, fitted]
    if name == "floor":
        return SeriesLaw(law=fit_floor_law(queries, values, weights, seed=seed), fitted=fitted)
    if name == "surface":
        from flp_ray.fit.predictor.surface import REUSE, SurfaceLaw, fit_surface

        same = like is not None and len(values) > REUSE and bool((like.fitted == fitted).all())
        known = like.law if like is not None and same and isinstance(like.law, SurfaceLaw) else None
        return SeriesLaw(law=fit_surface(queries, values, weights, seed=seed, like=known), fitted=fitted)
    if name == "m3":
        return SeriesLaw(law=fit_weighted_power(queries, values, weights), fitted=fitted)
    form = "m1" if name == "power" else name
    return SeriesLaw(law=fit_power_form(form, queries, values, weights), fitted=fitted)


def fit_method(
    name: str,
    table: RunTable,
    weights: Array,
    *,
    seed: int,
    steps: int,
    laws: dict[str, SeriesLaw],
    like: dict[str, SeriesLaw] | None = None,
) -> FittedMethod:
    """Fits both stages of a named method.

    Args:
        name: A key of `RECIPES`.
        table: The runs to fit on.
        weights: Weight of each run in each member, (M, R).
        seed: Seeds priors and networks.
        steps: Adam steps of a network.
        laws: Laws that are fitted already to the same runs; new ones are added.
        like: Laws of more runs, for `fit_law`.

    Raises:
        Unfit: Stage 1 cannot be fitted.
    """
    recipe = RECIPES[name]
    if recipe.law is None:
        return _direct(name, recipe, table, weights)
    if recipe.law not in laws:
        laws[recipe.law] = fit_law(recipe.law, table, weights, seed=seed, like=(like or {}).get(recipe.law))
    law = laws[recipe.law]
    missing = [int(t) for t in np.flatnonzero(~_has_inputs(law.fitted, recipe, table))]
    no_input = "no bits per byte are measured" if recipe.inputs == "bpb" else "a domain has too few losses"
    link, reasons, centre = _link(recipe, table, weights, seed=seed, steps=steps)
    return FittedMethod(
        name=name,
        domains=len(table.domains),
        law=law,
        link=link,
        inputs=recipe.inputs,
        centre="mean" if centre else "first",
        reasons=reasons | dict.fromkeys(missing, no_input),
    )


def _one_size(queries: Queries) -> bool:
    return bool(np.ptp(np.log(queries.flops)) < ONE_SIZE)


def _has_inputs(fitted: Array, recipe: Recipe, table: RunTable) -> Array:
    inputs = link_inputs(np.where(fitted, 1.0, np.nan), recipe.inputs, len(table.domains))
    return np.broadcast_to(np.isfinite(inputs).all(axis=-1), (len(table.tasks),))


def _link(
    recipe: Recipe, table: RunTable, weights: Array, *, seed: int, steps: int
) -> tuple[Any, dict[int, str], bool]:
    if recipe.link == "network":
        return *fit_network_link(table, weights, seed=seed, steps=steps), True
    points = table.points
    series = link_inputs(point_series(points), recipe.inputs, len(table.domains))
    if recipe.link == "sigmoid":
        reasons = not_risen(table)
        scores = points.scores.copy()
        scores[:, list(reasons)] = np.nan
        scores = np.where(np.isfinite(series).all(axis=-1), scores, np.nan)
        reasons |= {int(t): "no checkpoint has its inputs" for t in np.flatnonzero(np.isnan(scores).all(axis=0))}
        chance = np.array([t.random_performance for t in table.tasks])
        link = fit_sigmoid(series, scores, sigmoid_weights(table, weights), chance, table.described, seed=seed)
        return link, reasons, False
    used = points.spaced & points.improving
    if recipe.link == "line":
        used &= table.converged()[points.run]
    scores = np.where(used[:, None] & np.isfinite(series[:, :1]).all(axis=-1), points.scores, np.nan)
    lowest = np.array([threshold(t) for t in table.tasks])
    scores = np.where(scores >= lowest, scores, np.nan)
    needed = series.shape[-1] + 1
    count = np.isfinite(scores).sum(axis=0)
    reasons = {
        int(t): f"{count[t]} kept checkpoints have emerged, {needed} are needed" for t in np.flatnonzero(count < needed)
    }
    scores[:, list(reasons)] = 0.0
    return fit_linear(series, scores, weights[:, points.run]), reasons, False


def sigmoid_weights(table: RunTable, weights: Array) -> Array:
    """Weights of the checkpoints in a sigmoid, (M, P): a run's end counts as much as all its earlier ones together."""
    points = table.points
    end = points.share >= 1
    early = points.spaced & (points.share >= EARLY) & ~end
    before = np.bincount(points.run[early], minlength=len(table.run_ids))[points.run]
    share = np.where(end, np.where(before > 0, 0.5, 1.0), np.where(early, 0.5 / np.maximum(before, 1), 0.0))
    return np.asarray(RUN_WEIGHT * share * weights[:, points.run])


def _direct(name: str, recipe: Recipe, table: RunTable, weights: Array) -> FittedMethod:
    flops = recipe.link == "flops"
    used = np.ones(len(table.run_ids), bool) if flops else table.converged()
    scores = table.scores[used].copy()
    count = (scores > 0).sum(axis=0)
    reasons = {int(t): f"{count[t]} runs have a score above 0, 3 are needed" for t in np.flatnonzero(count < 3)}
    scores[:, list(reasons)] = 0.5
    if _one_size(table.queries.take(used)) and not flops:
        raise Unfit("all runs have one size, so no power of FLOPs can be fitted")
    law = fit_direct(
        "log" if recipe.link == "log" else "score",
        "m4" if flops else "m1",
        table.queries.take(used),
        scores,
        weights[:, used],
    )
    return FittedMethod(
        name=name, domains=len(table.domains), law=None, link=law, inputs="mean", centre="first", reasons=reasons
    )
