"""The optimum of each hyperparameter at one size, from the losses of its trials.

Trials that were stopped early have no final loss. They enter at the last rung that they reached: how much worse they
were there than the trials that went on is added to the final losses of those. The gap between two trials changes as
training goes on, so such a loss counts as uncertain by half the trial's distance from the best.

A parabola in the logarithms of the hyperparameters, without products of two, is fitted to the losses. Losses rise
faster than a parabola where training grows unstable, and more slowly where it hardly learns; so the weight of a trial
falls with its distance from the best, and the vertex is decided by the trials around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.run import RunSpec
from flp_ray.core.tuning import Edge, Optimum, TrialReport, hyperparameter
from flp_ray.tune.config import TuningConfig
from flp_ray.tune.design import rung_tokens

Array = NDArray[np.float64]

NOISES_NATS = np.geomspace(0.002, 0.1, 12)
"""Scatter of losses about the curve: trials share seed and text, but training is chaotic. It is integrated out."""

NOISE_PRIOR = (math.log(0.01), 1.0)
"""Mean and standard deviation of its logarithm's normal prior."""

CURVE_ERROR = 0.25
"""How far the parabola may be off, as a share of a loss's distance from the best."""

STOPPED_ERROR = 0.5
"""The same for a trial that was stopped, whose final loss is guessed."""

SPACING_ERROR = 0.1
"""How far the vertex may be off because losses are no parabola, as a share of the mean distance between trials."""

COEFFICIENT_NATS = 10.0
"""Prior scale of slopes and curvatures a half range: as good as flat."""

EDGE_SHARE = 0.8
"""Share of draws at an end of the range from which the optimum counts as lying there."""

DRAWS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLoss:
    """A trial's loss at the end of its training.

    Attributes:
        trial: The trial.
        loss: Nats per token; guessed where it was stopped.
        finished: Whether it was trained to its end.
    """

    trial: RunSpec
    loss: float
    finished: bool


def trial_losses(
    trials: Sequence[RunSpec], reports: Sequence[TrialReport], config: TuningConfig
) -> tuple[TrialLoss, ...]:
    """Final losses of the trials of one size; those that diverged or were never measured are left out.

    Args:
        trials: Trials of one size.
        reports: What became of them; reports of others are passed over.
        config: The tuning.
    """
    out = {report.run_id for report in reports if report.event == "diverged"}
    losses: dict[str, dict[int, float]] = {}
    for trial in trials:
        rungs = {tokens: rung for rung, tokens in rung_tokens(trial, config).items()}
        found = {
            rungs[r.tokens]: r.loss
            for r in reports
            if r.run_id == trial.run_id and r.loss is not None and r.tokens in rungs
        }
        if found and trial.run_id not in out:
            losses[trial.run_id] = found
    known = {t.run_id: t for t in trials if t.run_id in losses}
    last = max((max(found) for found in losses.values()), default=0)
    ends = {run_id: found[last] for run_id, found in losses.items() if last in found}
    # From the highest rung down, so that those that a stopped trial is held against have their final loss already.
    for run_id, found in sorted(losses.items(), key=lambda item: (-max(item[1]), item[0])):
        if run_id not in ends:
            rung = max(found)
            others = [other for other in ends if rung in losses[other]]
            if others:  # none where its rung is one of earlier settings
                ends[run_id] = found[rung] + float(np.mean([ends[o] - losses[o][rung] for o in others]))
    return tuple(
        TrialLoss(trial=trial, loss=ends[run_id], finished=last in losses[run_id])
        for run_id, trial in known.items()
        if run_id in ends
    )


def find_optima(losses: Sequence[TrialLoss], config: TuningConfig, *, diverged: int = 0) -> tuple[Optimum, ...]:
    """The optimum of every tuned hyperparameter at one size.

    Args:
        losses: The size's trials, at least one.
        config: The tuning.
        diverged: Trials that were left out.

    Returns:
        One a hyperparameter: the mean over what the trials allow, so that one that makes no difference comes out
        about the middle of its range, with a wide error. An optimum at an end of its range is flagged, with a standard
        error of a quarter of the range at least: how far beyond it lies the trials cannot say.
    """
    names = config.parameters
    bounds: Mapping[str, tuple[float, float]] = {name: config.bounds(name) for name in names}
    middle = np.array([0.5 * math.log(bounds[n][0] * bounds[n][1]) for n in names])
    half = np.array([0.5 * math.log(bounds[n][1] / bounds[n][0]) for n in names])
    logs = np.array([[math.log(hyperparameter(item.trial, n)) for n in names] for item in losses])
    y = np.array([item.loss for item in losses])
    finished = np.array([item.finished for item in losses])
    drawn = _parabola((logs - middle) / half, y, finished)
    spec = losses[0].trial
    optima = []
    for i, name in enumerate(names):
        slope, bend = 1 + i, 1 + len(names) + i
        places = _lowest(drawn[:, slope], drawn[:, bend])
        edge = _edge(places)
        best = {"low": -1.0, "high": 1.0, None: float(places.mean())}[edge]
        spread = math.hypot(float(places.std()), SPACING_ERROR * 2 / len(losses))
        optima.append(
            Optimum(
                parameter=name,
                size=spec.size,
                params=spec.shape.non_embedding_params,
                train_tokens=spec.train_tokens,
                value=math.exp(middle[i] + half[i] * best),
                log_stderr=float(half[i]) * (max(spread, 0.5) if edge else spread),
                edge=edge,
                trials=len(losses),
                diverged=diverged,
            )
        )
    return tuple(optima)


def _parabola(x: Array, y: Array, finished: NDArray[np.bool_]) -> Array:
    """Draws of the coefficients of 1, x and x^2/2 of the losses, x being -1 to 1 over the range; one a row."""
    excess, level = y - y.min(), y.mean()
    share = np.where(finished, CURVE_ERROR, math.hypot(CURVE_ERROR, STOPPED_ERROR))
    design = np.hstack([np.ones((len(y), 1)), x, 0.5 * x**2])
    prior = np.full(design.shape[1], COEFFICIENT_NATS**2)
    fits = []
    for noise in NOISES_NATS:
        seen = (design * prior) @ design.T + np.diag(noise**2 + (share * excess) ** 2)
        gain = np.linalg.solve(seen, design * prior).T
        covariance = np.diag(prior) - gain @ (design * prior)
        _, volume = np.linalg.slogdet(seen)
        evidence = -0.5 * float((y - level) @ np.linalg.solve(seen, y - level)) - 0.5 * float(volume)
        evidence -= 0.5 * ((math.log(noise) - NOISE_PRIOR[0]) / NOISE_PRIOR[1]) ** 2
        fits.append((evidence, gain @ (y - level), 0.5 * (covariance + covariance.T)))
    weights = np.exp(np.array([fit[0] for fit in fits]) - max(fit[0] for fit in fits))
    weights /= weights.sum()
    counts = np.maximum(1, np.round(DRAWS * weights).astype(int))
    random = np.random.default_rng(0)
    drawn = [
        random.multivariate_normal(mean, covariance, size=count, method="eigh", check_valid="ignore")
        for (_, mean, covariance), count in zip(fits, counts, strict=True)
    ]
    return np.concatenate(drawn)


def _lowest(slope: Array, bend: Array) -> Array:
    """Where slope x + bend x^2/2 is lowest within -1 to 1."""
    inside = (bend > 0) & (np.abs(slope) < bend)
    return np.where(inside, -slope / np.where(inside, bend, 1.0), np.where(slope < 0, 1.0, -1.0))


def _edge(places: Array) -> Edge | None:
    """The end of the range that most draws of the lowest point lie at."""
    if float(np.mean(places >= 1)) > EDGE_SHARE:
        return "high"
    return "low" if float(np.mean(places <= -1)) > EDGE_SHARE else None
