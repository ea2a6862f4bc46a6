"""Roll-outs: fit on the smaller runs, score on the larger ones, again and again; no target is ever seen.

Where the runs differ in FLOPs, every split trains on what lies below a cut (in size or in FLOPs) and judges
runs of at least twice the FLOPs of the largest one below. Where they do not, runs are left out in folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.predictor.emergence import not_risen
from flp_ray.fit.predictor.methods import Ensemble, FittedMethod, Unfit
from flp_ray.fit.predictor.runs import RunTable

MOST_CUTS = 8
FOLDS = 5
FEWEST_RUNS = 4
"""Runs below a cut."""

AHEAD = 2.0
"""FLOPs of a judged run, in those of the largest run below the cut."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One fit and what it is judged on, as masks over the runs.

    Attributes:
        train: Runs to fit on, (R,).
        test: Runs to judge, (R,).
    """

    train: Array
    test: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RollOut:
    """Predictions of one method in all splits, J judged runs in all; NaN where there is none.

    Attributes:
        split: Index of the split, (J,).
        losses: Domain losses by every member, (M, J, D).
        scores: Scores by every member, (M, J, T).
        central_losses: The central prediction, (J, D).
        central_scores: The central prediction, (J, T).
        actual_losses: Measured losses, (J, D).
        actual_scores: Measured scores, (J, T).
    """

    split: Array
    losses: Array
    scores: Array
    central_losses: Array
    central_scores: Array
    actual_losses: Array
    actual_scores: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scheme:
    """How a table is rolled out.

    Attributes:
        splits: The splits; empty where there are too few runs.
        over_compute: Whether they reach to larger runs; else they are folds.
        words: The same in words.
    """

    splits: tuple[Split, ...]
    over_compute: bool
    words: str


def scheme_of(table: RunTable) -> Scheme:
    """The splits of a table."""
    flops, params = table.queries.flops, table.queries.params
    cuts: dict[bytes, Split] = {}
    for below in [params <= p for p in np.unique(params)[:-1]] + [flops <= c for c in np.unique(flops)[:-1]]:
        if below.sum() < FEWEST_RUNS or np.ptp(np.log(flops[below])) < np.log(AHEAD):
            continue
        test = ~below & (flops >= AHEAD * flops[below].max() * (1 - 1e-9))
        if test.any():
            cuts.setdefault(below.tobytes(), Split(train=below, test=test))
    if cuts:
        ordered = sorted(cuts.values(), key=lambda s: (s.train.sum(), float(flops[s.train].max())))
        chosen = np.unique(np.linspace(0, len(ordered) - 1, MOST_CUTS).round().astype(int))
        return Scheme(
            splits=tuple(ordered[i] for i in chosen), over_compute=True, words=f"{len(chosen)} roll-outs over compute"
        )
    if len(flops) < 2 * FEWEST_RUNS:
        return Scheme(splits=(), over_compute=False, words="priors alone: too few runs to hold any out")
    fold = np.random.default_rng(0).permutation(len(flops)) % FOLDS
    return Scheme(
        splits=tuple(Split(train=fold != f, test=fold == f) for f in range(FOLDS)),
        over_compute=False,
        words=f"{FOLDS} folds over runs, which are too much of one size for roll-outs over compute",
    )


def roll_out(
    table: RunTable, splits: Sequence[Split], fit: Callable[[RunTable], FittedMethod], members: int
) -> RollOut:
    """Predictions of the judged runs of every split; a task that no run below the cut has risen on is not judged.

    Args:
        table: All runs.
        splits: From `scheme_of`.
        fit: Fits a table; may raise `Unfit`, which leaves its split without predictions.
        members: Members of an ensemble, M.
    """
    numbers, losses, scores, central_losses, central_scores = [], [], [], [], []
    order = np.concatenate([np.flatnonzero(s.test) for s in splits]) if splits else np.empty(0, np.intp)
    for number, split in enumerate(splits):
        count = int(split.test.sum())
        numbers.append(np.full(count, number))
        train = table.take(split.train)
        try:
            fitted = fit(train)
            ensemble = fitted.predict(table.queries.take(split.test))
            ensemble.scores[..., list(not_risen(train))] = np.nan
            central = fitted.central(ensemble.losses), fitted.central(ensemble.scores)
        except Unfit:
            shapes = [(members, count, len(table.domains)), (members, count, len(table.tasks))]
            ensemble = Ensemble(losses=np.full(shapes[0], np.nan), scores=np.full(shapes[1], np.nan))
            central = ensemble.losses[0], ensemble.scores[0]
        losses.append(ensemble.losses)
        scores.append(ensemble.scores)
        central_losses.append(central[0])
        central_scores.append(central[1])
    empty = np.empty((members, 0, len(table.domains))), np.empty((members, 0, len(table.tasks)))
    return RollOut(
        split=np.concatenate([np.empty(0, np.intp), *numbers]),
        losses=np.concatenate([empty[0], *losses], axis=1),
        scores=np.concatenate([empty[1], *scores], axis=1),
        central_losses=np.concatenate([empty[0][0], *central_losses]),
        central_scores=np.concatenate([empty[1][0], *central_scores]),
        actual_losses=table.losses[order],
        actual_scores=table.scores[order],
    )


def relative_errors(predicted: Array, actual: Array) -> Array:
    """abs(predicted - actual) / actual, NaN where either is missing or the actual value is 0 (Eq. 4)."""
    known = np.isfinite(predicted) & (actual > 0)
    return np.where(known, np.abs(predicted - actual) / np.where(known, actual, 1.0), np.nan)


def split_mean(errors: Array, split: Array) -> Array:
    """Mean of each column within every split, then over the splits; NaN for a column without any, (...)."""
    means = []
    for number in np.unique(split):
        rows = errors[split == number]
        count = np.isfinite(rows).sum(axis=0)
        means.append(np.where(count > 0, np.nansum(rows, axis=0) / np.maximum(count, 1), np.nan))
    if not means:
        return np.full(errors.shape[1:], np.nan)
    stacked = np.array(means)
    count = np.isfinite(stacked).sum(axis=0)
    return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), np.nan)
