"""`auto`: for every task the pair of law and link that the roll-outs favour; a mean of several where none wins.

The candidates and this rule are the same for every table. What is chosen depends on the sampling runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.predictor.emergence import not_risen
from flp_ray.fit.predictor.methods import AUTO, RECIPES, Ensemble, FittedMethod
from flp_ray.fit.predictor.rollout import RollOut, relative_errors, split_mean
from flp_ray.fit.predictor.runs import Queries, RunTable

ONE_MIXTURE = ("floor", "floor-bpb", "flp", "gpt4", "llama3")
MANY_MIXTURES = ("surface", "surface-bpb", "m4-sigmoid", "domain-linear", "flops")
DEFAULTS = {"floor", "floor-bpb", "surface", "surface-bpb"}
"""Losses level off, and scores bend: these forms know it. They are combined where nothing can be rolled out."""

HANDICAP = 1.5
"""Factor on the errors of other forms: roll-outs reach less far than a question, and favour what bends too little."""

NEAR = 1.5
"""A candidate within this factor of the best error does not clearly lose: it is combined with the best, each by
the inverse square of its error."""

FEWEST_SHARE = 0.5
"""A candidate that judges fewer than this share of the cells that the most able one judges is left out."""

Array = NDArray[Any]


def candidates(table: RunTable) -> tuple[str, ...]:
    """Names of the methods that `auto` weighs for a table."""
    return ONE_MIXTURE if table.mixtures == 1 else MANY_MIXTURES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CombinedMethod:
    """A weighted mean of fitted methods; behaves like one of them.

    Attributes:
        methods: The methods with some weight.
        loss_weights: Weight of each method's law for every domain, (C, D).
        score_weights: Weight of each method for every task, (C, T); columns of 0 are not predicted.
        reasons: Tasks without a prediction, by index, with the reason in words.
        name: `auto`.
    """

    methods: tuple[FittedMethod, ...]
    loss_weights: Array
    score_weights: Array
    reasons: dict[int, str]
    name: str = AUTO
    centre: Literal["first", "mean"] = "first"

    def predict(self, queries: Queries) -> Ensemble:
        """Every member's mean over the methods, with their disagreement added to the members' spread."""
        made = [(m, m.predict(queries)) for m in self.methods]
        losses = [e.losses for _, e in made], [m.central(e.losses) for m, e in made]
        scores = [e.scores for _, e in made], [m.central(e.scores) for m, e in made]
        return Ensemble(
            losses=_with_disagreement(*losses, self.loss_weights),
            scores=_with_disagreement(*scores, self.score_weights),
        )

    def scores_from(self, series: Array) -> Array | None:
        """Stage 2 alone on measured series (n, D + 1 + T): scores (n, T), of the methods that have two stages."""
        made, weights = [], []
        for method, weight in zip(self.methods, self.score_weights, strict=True):
            scores = method.scores_from(series)
            if scores is not None:
                made.append(scores)
                weights.append(weight)
        return _mean(made, np.array(weights)) if made else None

    def central(self, members: Array) -> Array:
        """The central prediction of members (M, ...)."""
        return np.asarray(members[0])


def combine(rolled: dict[str, RollOut], fitted: dict[str, FittedMethod], table: RunTable) -> CombinedMethod:
    """Weighs the candidates by their roll-outs.

    Args:
        rolled: Roll-outs by candidate, of the same splits.
        fitted: Candidates as fitted to all runs.
        table: The runs.
    """
    names = [n for n in rolled if n in fitted]
    out_of_reach = not_risen(table)
    able = {
        n: np.array([t not in fitted[n].reasons | out_of_reach for t in range(len(table.tasks))], bool) for n in names
    }
    score_errors = _errors([(rolled[n].central_scores, rolled[n].actual_scores) for n in names])
    splits = rolled[names[0]].split
    score_weights = np.zeros((len(names), len(table.tasks)))
    pooled, per_task = _table(score_errors, splits)
    for t in range(len(table.tasks)):
        mask = np.array([able[n][t] for n in names])
        errors = np.where(np.isfinite(per_task[:, t]), (per_task[:, t] + pooled) / 2, pooled)
        score_weights[:, t] = _weights(errors, mask, names)
    laws = [n for n in names if fitted[n].law is not None and _first_with_law(n, names)]
    loss_weights = np.zeros((len(names), len(table.domains)))
    if laws:
        loss_errors = _errors([(rolled[n].central_losses, rolled[n].actual_losses) for n in laws])
        chosen = _weights(_table(loss_errors, splits)[0], np.ones(len(laws), bool), laws)
        loss_weights[[names.index(n) for n in laws]] = chosen[:, None]
    reasons = {
        t: out_of_reach.get(t) or _reason(t, names, fitted)
        for t in np.flatnonzero(score_weights.sum(axis=0) == 0).tolist()
    }
    kept = np.flatnonzero((score_weights.sum(axis=1) > 0) | (loss_weights.sum(axis=1) > 0))
    return CombinedMethod(
        methods=tuple(fitted[names[i]] for i in kept),
        loss_weights=loss_weights[kept],
        score_weights=score_weights[kept],
        reasons=reasons,
    )


def combine_roll_outs(combined: CombinedMethod, rolled: dict[str, RollOut]) -> RollOut:
    """The roll-out of the combination, from those of its methods."""
    parts = [rolled[m.name] for m in combined.methods]
    losses = _with_disagreement([p.losses for p in parts], [p.central_losses for p in parts], combined.loss_weights)
    scores = _with_disagreement([p.scores for p in parts], [p.central_scores for p in parts], combined.score_weights)
    return RollOut(
        split=parts[0].split,
        losses=losses,
        scores=scores,
        central_losses=losses[0],
        central_scores=scores[0],
        actual_losses=parts[0].actual_losses,
        actual_scores=parts[0].actual_scores,
    )


def _errors(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """Relative errors of candidates on the cells that all able ones judge, (C, J, q)."""
    errors = np.array([relative_errors(predicted, actual) for predicted, actual in pairs])
    if not errors.size:
        return errors
    judged = np.isfinite(errors)
    number = judged.sum(axis=(1, 2))
    able = number >= FEWEST_SHARE * number.max()
    common = judged[able].all(axis=0)
    errors[~able] = np.nan
    return np.where(common, errors, np.nan)


def _table(errors: Array, split: Array) -> tuple[Array, Array]:
    """Errors pooled over the columns (C,) and by column (C, q), every split weighing alike."""
    by_column = np.array([split_mean(e, split) for e in errors]).reshape(len(errors), -1)
    known = np.isfinite(by_column).sum(axis=1)
    pooled = np.where(known > 0, np.nansum(by_column, axis=1) / np.maximum(known, 1), np.nan)
    return pooled, by_column


def _weights(errors: Array, able: Array, names: Sequence[str]) -> Array:
    """Weights of candidates with these errors, NaN where they were not judged; all 0 where none is able."""
    usable = able & np.isfinite(errors)
    if not usable.any():
        usable = able & np.array([n in DEFAULTS for n in names])
        if not usable.any():
            usable = able
        return np.asarray(usable / max(1, usable.sum()))
    errors = np.where([n in DEFAULTS for n in names], errors, errors * HANDICAP)
    best = errors[usable].min()
    near = usable & (np.where(usable, errors, np.inf) <= NEAR * best)
    inverse = np.where(near, 1 / np.maximum(np.where(near, errors, 1.0), 1e-6) ** 2, 0.0)
    return np.asarray(inverse / inverse.sum())


def _first_with_law(name: str, names: Sequence[str]) -> bool:
    return next(n for n in names if RECIPES[n].law == RECIPES[name].law) == name


def _reason(task: int, names: Sequence[str], fitted: dict[str, FittedMethod]) -> str:
    return next((fitted[n].reasons[task] for n in names if task in fitted[n].reasons), "no method can be fitted")


def _with_disagreement(members: Sequence[Array], centres: Sequence[Array], weights: Array) -> Array:
    """Members of the mean, (M, n, q): the first is the mean of the centres, the rest spread by both causes.

    The members' deviations are widened so that their variance is that of the mean plus the weighted variance
    of the centres around it.
    """
    centre = _mean(centres, weights)
    moved = _mean([m - c for m, c in zip(members, centres, strict=True)], weights)
    between = _mean([(c - centre) ** 2 for c in centres], weights)
    within = moved[1:].var(axis=0) if len(moved) > 1 else np.zeros(centre.shape)
    widen = np.sqrt((within + between) / np.maximum(within, 1e-12))
    combined = centre + moved * widen
    combined[0] = centre
    return np.asarray(combined)


def _mean(parts: Sequence[Array], weights: Array) -> Array:
    """Weighted mean of (..., q) over methods with weights (C, q); methods of weight 0 may be NaN."""
    total = np.zeros(np.broadcast_shapes(*[p.shape for p in parts]))
    for part, weight in zip(parts, weights, strict=True):
        total = total + np.where(weight > 0, part, 0.0) * weight
    return np.asarray(np.where(weights.sum(axis=0) > 0, total / np.maximum(weights.sum(axis=0), 1e-300), np.nan))
