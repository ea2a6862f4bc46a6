"""Losses -> score by straight lines (Eq. 2), and FLOPs -> score without losses (Eq. 3, Eq. 6, and Eq. 5).

Notation
    L  domain losses, nats per token    P  score, 0 to 1    C  FLOPs

    line      P = w0 + w1 mean(L)          Eq. 2
    linear    P = w0 + sum_d w_d L_d       Domain-Linear of the paper's Table 4
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.mixture_law import member_solutions
from flp_ray.fit.predictor.power_forms import PowerForm, fit_power_form
from flp_ray.fit.predictor.runs import Queries

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearLink:
    """Linear in D inputs, for T tasks and M members.

    Attributes:
        centre: Mean of each input over a task's points, (T, D).
        scale: Spread, (T, D).
        coefficients: Intercept and slopes of the scaled inputs, (M, T, 1 + D).
    """

    centre: Array
    scale: Array
    coefficients: Array

    def members(self, inputs: Array) -> Array:
        """Every member's scores, (M, n, T), from losses (M or 1, n, T or 1, D)."""
        scaled = (inputs - self.centre) / self.scale
        scores: Array = self.coefficients[:, None, :, 0] + (scaled * self.coefficients[:, None, :, 1:]).sum(axis=-1)
        return scores


def fit_linear(inputs: Array, scores: Array, weights: Array) -> LinearLink:
    """Least squares for every task and every member.

    Args:
        inputs: Losses of the points, (P, 1, D).
        scores: (P, T), NaN where a point does not count for a task.
        weights: Weight of each point in each member, (M, P).
    """
    tasks, losses = scores.shape[1], inputs.shape[2]
    centre, scale = np.zeros((tasks, losses)), np.ones((tasks, losses))
    coefficients = np.zeros((len(weights), tasks, 1 + losses))
    for t in range(tasks):
        used = np.isfinite(scores[:, t]) & np.isfinite(inputs[:, 0]).all(axis=1)
        if not used.any():
            continue  # the caller shows no prediction of such a task
        x = inputs[used, 0]
        centre[t] = x.mean(axis=0)
        scale[t] = np.maximum(x.std(axis=0), 1e-9)
        rows = np.concatenate([np.ones((len(x), 1)), (x - centre[t]) / scale[t]], axis=1)
        coefficients[:, t] = member_solutions(rows, scores[used, t][:, None], weights[:, used])[:, 0]
    return LinearLink(centre=centre, scale=scale, coefficients=coefficients)


def no_link(members: int, tasks: int, losses: int) -> LinearLink:
    """A link that says 0 of every task: for tables on which no task can be predicted."""
    coefficients = np.zeros((members, tasks, 1 + losses))
    return LinearLink(centre=np.zeros((tasks, losses)), scale=np.ones((tasks, losses)), coefficients=coefficients)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DirectLaw:
    """A score straight from FLOPs, without losses.

    Attributes:
        kind: `score`: P is a power law, Eq. 3 or Eq. 5; `log`: -log P is one, Eq. 6.
        law: The power law, a series a task.
    """

    kind: Literal["score", "log"]
    law: PowerForm

    def members(self, queries: Queries) -> Array:
        """Every member's scores, (M, n, T)."""
        values = self.law.members(queries)
        return np.exp(-values) if self.kind == "log" else values


def fit_direct(
    kind: Literal["score", "log"], form: Literal["m1", "m4"], queries: Queries, scores: Array, counts: Array
) -> DirectLaw:
    """Fits the scores at the end of the runs; scores of 0 (and of 1 where logs of logs are taken) do not count.

    Args:
        kind: Which.
        form: `m1` for Eq. 3 and Eq. 6, `m4` for Eq. 5.
        queries: The runs, R of them.
        scores: (R, T), NaN where missing.
        counts: How often each member drew each run, (M, R).
    """
    inside = (scores > 0) & ((scores < 1) | (kind == "score"))
    transform: Callable[[Array], Array] = (lambda p: -np.log(p)) if kind == "log" else np.asarray
    values = np.where(inside, transform(np.where(inside, scores, 0.5)), np.nan)
    return DirectLaw(kind=kind, law=fit_power_form(form, queries, values, counts))
