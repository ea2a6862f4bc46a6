"""Losses -> score by a sigmoid whose lower end is free, fitted on all checkpoints.

Notation
    z    index, a weighted mean of log losses (or of one: log bits per byte of the gold answer)
    P = l + (1 - l) s(h) s(k (m - z)),  s the logistic function
    l    lower end: chance plus a fitted offset    s(h)  share of the rest that is reached at low loss
    k    steepness                                 m     index at the middle

The method of the paper drops what is not above chance by a margin, and so selects the lucky ones among the
checkpoints near it, which flattens every curve. Here all of them count, and the lower end is fitted: models that
know nothing of a task can score above (wording) or below (label bias) chance. Few runs do not tell the steepness
from the upper end, so all numbers have weak priors; each member of an ensemble but the first draws their centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from flp_ray.fit.predictor.marquardt import Quadratic, minimise

STEEPNESS, STEEPNESS_SPREAD = 1.8, 0.5
"""Prior of log k: most of a score's rise takes the loss down by about half."""

MIDDLE_SPREAD = 0.5
"""Prior of m: around the lowest index seen."""

CEILING, CEILING_SPREAD = 2.0, 1.0
"""Prior of h: 0.88 of what is above chance, 0.73 to 0.95."""

LOWER_SPREAD = 0.05
"""Prior of the lower end around a known chance level."""

RESIDUAL = 0.012
"""Misfit of a score that counts as one standard deviation: evaluation noise of about 1,500 items."""

MIX_SPREAD = 1.0
"""Prior of the index weights' logits, around equal weights."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SigmoidLink:
    """Fitted curves of T tasks and M members over D losses.

    Attributes:
        chance: Centre of each lower end, (T,).
        parameters: log k, m, h, offset of the lower end, and D logits of the index weights, (M, T, 4 + D).
    """

    chance: Array
    parameters: Array

    def members(self, inputs: Array) -> Array:
        """Every member's scores, (M, n, T).

        Args:
            inputs: Losses or bits per byte, (M or 1, n, T or 1, D).
        """
        p = self.parameters[:, None]
        return _curve(p, np.log(inputs), self.chance)[0]

    def describe(self, task: int) -> dict[str, float]:
        """The numbers of one task by name, of the fit to all runs."""
        k, middle, h, offset = self.parameters[0, task, :4].tolist()
        lower = float(self.chance[task]) + offset
        return {
            "lower": lower,
            "upper": lower + (1 - lower) * float(expit(h)),
            "steepness": float(np.exp(k)),
            "middle": float(np.exp(middle)),
        }

    def weights(self, task: int) -> Array:
        """Weights of the losses in the index of one task, (D,)."""
        return _softmax(self.parameters[0, task, 4:])


def fit_sigmoid(inputs: Array, scores: Array, weights: Array, chance: Array, known: Array, *, seed: int) -> SigmoidLink:
    """Fits every task and every member.

    Args:
        inputs: Losses or bits per byte of the points, NaN where missing, (P, T or 1, D).
        scores: (P, T), NaN where missing.
        weights: Weight of each point in each member, (M, P); a weight of 1 is one independent score.
        chance: Chance level of each task, (T,).
        known: Whether it is known, (T,); else the lower end lies anywhere below the lowest score.
        seed: Seeds the members' priors.
    """
    members, tasks, losses = len(weights), scores.shape[1], inputs.shape[2]
    inputs = np.broadcast_to(np.log(inputs), (len(inputs), tasks, losses))
    parameters = np.zeros((members, tasks, 4 + losses))
    centres = np.array(chance, float)
    for t in range(tasks):
        used = np.isfinite(scores[:, t]) & np.isfinite(inputs[:, t]).all(axis=1) & (weights.max(axis=0) > 0)
        if not used.any():
            continue  # the caller shows no prediction of such a task
        x, y = inputs[used, t], scores[used, t]
        lower = LOWER_SPREAD
        if not known[t]:
            centres[t] = y.min() / 2
            lower += y.min() / 2
        spread = np.array([STEEPNESS_SPREAD, MIDDLE_SPREAD, CEILING_SPREAD, lower, *[MIX_SPREAD] * losses])
        centre = np.array([STEEPNESS, x.mean(axis=1).min(), CEILING, 0.0, *[0.0] * losses])
        draws = np.random.default_rng([seed, 12]).standard_normal((members, len(centre)))  # alike for all tasks
        draws[0] = 0.0
        parameters[:, t] = _fit_task(x, y, weights[:, used], centres[t], centre + spread * draws, spread)
    return SigmoidLink(chance=centres, parameters=parameters)


def _fit_task(x: Array, y: Array, weights: Array, chance: float, prior: Array, spread: Array) -> Array:
    def problem(w: Array, centre: Array) -> Any:
        return lambda p: _quadratic(p, x, y, w, chance, centre, spread)

    starts = np.tile(prior[0], (4, 1))
    starts[:, 1] += [-0.5, -0.2, 0.1, 0.4]
    first, cost = minimise(problem(np.tile(weights[0], (4, 1)), prior[0]), starts)
    best = first[np.argmin(cost)]
    if len(weights) == 1:
        return np.asarray(best[None])
    rest, _ = minimise(problem(weights[1:], prior[1:]), np.tile(best, (len(weights) - 1, 1)))
    return np.concatenate([best[None], rest])


def _quadratic(p: Array, x: Array, y: Array, weights: Array, chance: float, centre: Array, spread: Array) -> Quadratic:
    """Robust (soft L1) misfit and priors of B curves, with Gauss-Newton terms."""
    value, parts = _curve(p[:, None], x, chance, derivatives=True)
    assert parts is not None
    residual = (value - y) / RESIDUAL
    root = np.sqrt(1 + residual**2)
    push = weights / root
    cost = (weights * (root - 1)).sum(axis=1) + 0.5 * (((p - centre) / spread) ** 2).sum(axis=1)
    jacobian = parts / RESIDUAL  # (B, P, q)
    scaled = jacobian * push[..., None]
    gradient = (scaled * residual[..., None]).sum(axis=1) + (p - centre) / spread**2
    matrix = np.matmul(scaled.swapaxes(1, 2), jacobian)
    np.einsum("bii->bi", matrix)[...] += 1 / spread**2
    return cost, gradient, matrix


def _curve(p: Array, logs: Array, chance: Array | float, *, derivatives: bool = False) -> tuple[Array, Array | None]:
    """Scores at parameters (..., 4 + D) and log losses (..., D); with derivatives (..., 4 + D)."""
    mix = _softmax(p[..., 4:])
    index = (mix * logs).sum(axis=-1)
    k = np.exp(p[..., 0])
    argument = k * (p[..., 1] - index)
    rise, reached = expit(argument), expit(p[..., 2])
    lower = chance + p[..., 3]
    value = lower + (1 - lower) * reached * rise
    if not derivatives:
        return value, None
    slope = (1 - lower) * reached * rise * (1 - rise)
    logits = -(slope * k)[..., None] * mix * (logs - index[..., None])
    first = [slope * argument, slope * k, (1 - lower) * reached * (1 - reached) * rise, 1 - reached * rise]
    return value, np.concatenate([np.stack(np.broadcast_arrays(*first), axis=-1), logits], axis=-1)


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
