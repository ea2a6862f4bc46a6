"""Records -> FittedSurrogate: both stages of FLP-M, its ensemble over resamples of runs, and its noise."""

from __future__ import annotations

from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.records import Records
from flp_ray.core.run import stable_hash
from flp_ray.errors import ConfigError
from flp_ray.fit.baselines import baseline_lines
from flp_ray.fit.config import FitSettings, check_settings
from flp_ray.fit.interval import Noise, out_of_bag_noise
from flp_ray.fit.mixture_law import LawDesign, fit_mixture_laws, member_coefficients
from flp_ray.fit.observations import Observations, observe
from flp_ray.fit.performance_law import PerformanceLaw, emergence, fit_performance, out_of_bag
from flp_ray.fit.resample import resample_runs
from flp_ray.fit.sensitivity import overlap_sensitivity
from flp_ray.fit.size_effect import size_shifts
from flp_ray.fit.surrogate import FittedSurrogate

METHOD = "flp-m 2"
"""Part of every fit's identity; to be raised when the same records would give other numbers."""

FEWEST_RESIDUALS = 3
"""Runs with an out-of-bag residual below which the mean's noise is put together from its tasks'."""

Array = NDArray[Any]


def fit_surrogate(records: Records, settings: FitSettings) -> FittedSurrogate:
    """Fits FLP-M to the sampling runs.

    Stage 1 takes the final checkpoints, stage 2 the kept checkpoints that have emerged. Every member of the
    ensemble refits both stages on its own resample of the runs; the overlap is fitted once, on all runs.
    The same records and settings give the same bits, in whatever order the records came.

    Args:
        records: Any records; runs of other purposes than `sampling` change nothing.
        settings: Members, steps, seed, overlap, weights of the tasks.

    Raises:
        NotEnoughDataError: Too few runs for the law.
        RecordsError: A measured value is impossible.
        ConfigError: A setting is out of range, or weighs an unknown task.

    Reference: Chen et al. 2024, Eq. 5 and section 4.2.
    """
    check_settings(settings)
    observations = observe(records)
    weights = task_weights(settings, observations)
    laws, design = fit_mixture_laws(
        sources=observations.sources,
        domains=observations.domains,
        ratios=observations.ratios,
        flops=observations.flops,
        losses=observations.losses,
        overlap=settings.overlap,
    )
    rows = design.rows(observations.ratios, observations.flops)
    counts = resample_runs(rows, members=settings.members, seed=settings.seed)
    coefficients = member_coefficients(design, observations.ratios, observations.flops, observations.losses, counts)
    coefficients += size_shifts(rows, observations.flops, observations.losses, counts, seed=settings.seed)
    tasks, not_emerged = emergence(observations)
    performance_law = fit_performance(observations, tasks, counts, seed=settings.seed, steps=settings.steps)
    shares = np.array([weights[t] for t in performance_law.tasks])
    shares = shares / shares.sum() if shares.any() else shares
    loss_noise, score_noise, objective_noise = _noise(
        observations, design, coefficients, performance_law, tasks, counts, shares
    )
    return FittedSurrogate(
        fit_id=fit_identity(records, settings),
        sources=observations.sources,
        laws=laws,
        design=design,
        coefficients=coefficients,
        performance_law=performance_law,
        loss_noise=loss_noise,
        score_noise=score_noise,
        objective_noise=objective_noise,
        weights=shares,
        not_emerged=not_emerged,
        sensitivity=tuple(overlap_sensitivity(laws, observations.ratios, observations.flops, observations.losses)),
        baselines=baseline_lines(observations),
    )


def _noise(
    observations: Observations,
    design: LawDesign,
    coefficients: Array,
    law: PerformanceLaw,
    tasks: tuple[int, ...],
    counts: Array,
    shares: Array,
) -> tuple[tuple[Noise, ...], tuple[Noise, ...], Noise]:
    """Out-of-bag noise of every domain, every predicted task, and their weighted mean."""
    rows = design.rows(observations.ratios, observations.flops)
    losses = np.exp(np.matmul(rows, coefficients.transpose(0, 2, 1)))
    unseen_runs = np.asarray(counts == 0)
    of_loss = tuple(
        out_of_bag_noise(losses[:, :, d], observations.losses[:, d], unseen_runs, logs=True)
        for d in range(len(observations.domains))
    )
    scores = law.members(losses)
    unseen = out_of_bag(observations, tasks, counts)
    actual = np.full((len(observations.run_ids), len(tasks)), np.nan)
    errors = np.zeros(actual.shape)
    for column, task in enumerate(tasks):
        judged = observations.emerged_finals(task)
        actual[judged, column] = observations.performance[judged, task]
        errors[:, column] = np.nan_to_num(observations.stderr[:, task])
    of_score = tuple(
        out_of_bag_noise(scores[:, :, t], actual[:, t], unseen[:, :, t], logs=False, errors=errors[:, t])
        for t in range(len(tasks))
    )
    if not shares.any():
        return of_loss, of_score, Noise(spread=0.0, residuals=0, relative_error=None, evaluation=0.0, rest=0.0)
    used = shares > 0
    mean = out_of_bag_noise(
        scores @ shares,
        actual[:, used] @ shares[used],  # NaN, and so not judged, where one of the tasks has not emerged
        np.asarray(unseen[:, :, used].all(axis=2)),
        logs=False,
        errors=np.sqrt((errors**2) @ shares**2),
    )
    # What evaluating the mean adds follows from its tasks' scores; the mean's own p (1 - p) says nothing.
    mean = replace(mean, evaluation=0.0)
    if mean.residuals < FEWEST_RESIDUALS:
        spread, rest = (
            float(np.sqrt(sum((w * getattr(n, part)) ** 2 for w, n in zip(shares, of_score, strict=True))))
            for part in ("spread", "rest")
        )
        mean = replace(mean, spread=spread, rest=rest)
    return of_loss, of_score, mean


def task_weights(settings: FitSettings, observations: Observations) -> dict[str, float]:
    """Weight of every task in the mean.

    Raises:
        ConfigError: A weight is given for an unknown task, is negative, or all are 0.
    """
    given = settings.weights or {}
    names = [t.task for t in observations.tasks]
    for name, weight in given.items():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"A weight is given for {name!r}, which is no task ({', '.join(names)}).{hint}")
        if not (np.isfinite(weight) and weight >= 0):
            raise ConfigError(f"The weight of task {name} must be 0 or more, received {weight}.")
    weights = {name: float(given.get(name, 1.0)) for name in names}
    if weights and not any(weights.values()):
        raise ConfigError("Every task has weight 0, so there is no mean to seek. Give one of them a weight.")
    return weights


def fit_identity(records: Records, settings: FitSettings, *, method: str = METHOD) -> str:
    """The `fit_id` that `fit_surrogate` would give: a hash of the sampling records and the settings, without fitting.

    Args:
        records: Any records; runs of other purposes than `sampling` change nothing.
        settings: The fit's settings.
        method: Name and version of the method.
    """
    sampling = records.of_purpose("sampling")
    return stable_hash(
        [
            method,
            asdict(settings),
            [[r.run_id, r.mixture.as_dict() if r.mixture else None] for r in sampling.runs],
            [
                [m.run_id, int(m.tokens), float(m.flops), m.kind, m.name, float(m.value), _error(m.stderr)]
                for m in sampling.measurements
            ],
            [[t.task, float(t.random_performance), float(t.emergence_margin)] for t in sampling.tasks],
        ]
    )


def _error(stderr: float | None) -> float | None:
    return None if stderr is None or not np.isfinite(stderr) else float(stderr)
