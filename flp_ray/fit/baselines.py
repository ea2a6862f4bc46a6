"""FLP and FP beside FLP-M, fitted on the same runs; both ignore the mixture.

FLP predicts the mean domain loss by Eq. 1 and the score from it by Eq. 2. FP predicts the score from FLOPs by
Eq. 3, on all final checkpoints with a score above 0. Held-out errors leave one run out of both stages, and
are taken on final checkpoints that have emerged, so that they compare with FLP-M's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.surrogate import FitLine
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit.observations import Observations
from flp_ray.fit.power_law import PowerLaw, fit_line, fit_power_law

MEAN_LOSS = "mean"
"""Name of the line of the mean over all domains, which FLP's stage 2 takes."""

Array = NDArray[Any]


def baseline_lines(observations: Observations) -> tuple[FitLine, ...]:
    """FLP's laws of each domain and of their mean, FLP's and FP's of each task; those that can be fitted."""
    named = dict(zip(observations.domains, observations.losses.T, strict=True))
    named[MEAN_LOSS] = observations.losses.mean(axis=1)
    mixtures = len(np.unique(observations.ratios.round(9), axis=0))
    note = f"ignores the mixture ({mixtures} mixtures pooled)" if mixtures > 1 else ""
    made = [_loss_line(observations.flops, loss, name, note) for name, loss in named.items()]
    for index in range(len(observations.tasks)):
        made += [_flp_line(observations, index, note), _fp_line(observations, index, note)]
    return tuple(line for line in made if line is not None)


def _loss_line(flops: Array, losses: Array, name: str, note: str) -> FitLine | None:
    known = np.isfinite(losses)
    flops, losses = flops[known], losses[known]
    try:
        law = fit_power_law(flops, losses)
    except NotEnoughDataError:
        return None
    held_out = _leave_one_out(
        np.ones(len(flops), bool),
        losses,
        lambda keep, i: float(fit_power_law(flops[keep], losses[keep]).at(flops[i])),
    )
    return FitLine(
        stage="loss",
        method="flp",
        name=name,
        formula=f"L = {_power(law)}",
        parameters={"log_scale": law.log_scale, "exponent": law.exponent},
        observations=law.observations,
        fit_error=_relative(law.at(flops), losses),
        held_out_error=held_out,
        note=note,
    )


def _flp_line(observations: Observations, task: int, note: str) -> FitLine | None:
    points = observations.emerged_points(task)
    losses = observations.point_losses[points].mean(axis=1)
    scores = observations.point_performance[points, task]
    runs = observations.point_run[points]
    final_losses = observations.losses.mean(axis=1)
    known = np.isfinite(final_losses)

    def two_stages(keep: Array, run: int) -> float:
        first = fit_power_law(observations.flops[keep & known], final_losses[keep & known])
        second = fit_line(losses[keep[runs]], scores[keep[runs]])
        return float(second.at(first.at(observations.flops[run])))

    try:
        line = fit_line(losses, scores)
    except NotEnoughDataError:
        return None
    held_out = _leave_one_out(observations.emerged_finals(task), observations.performance[:, task], two_stages)
    return FitLine(
        stage="performance",
        method="flp",
        name=observations.tasks[task].task,
        formula=f"P = {line.intercept:.4g} {line.slope:+.4g} L, L the mean domain loss",
        parameters={"intercept": line.intercept, "slope": line.slope},
        observations=line.observations,
        fit_error=_relative(line.at(losses), scores),
        held_out_error=held_out,
        note=note,
    )


def _fp_line(observations: Observations, task: int, note: str) -> FitLine | None:
    scores = observations.performance[:, task]
    known = scores > 0  # False for NaN

    def one_stage(keep: Array, run: int) -> float:
        law = fit_power_law(observations.flops[keep & known], scores[keep & known])
        return float(law.at(observations.flops[run]))

    try:
        law = fit_power_law(observations.flops[known], scores[known])
    except NotEnoughDataError:
        return None
    return FitLine(
        stage="performance",
        method="fp",
        name=observations.tasks[task].task,
        formula=f"P = {_power(law)}",
        parameters={"log_scale": law.log_scale, "exponent": law.exponent},
        observations=law.observations,
        fit_error=_relative(law.at(observations.flops[known]), scores[known]),
        held_out_error=_leave_one_out(observations.emerged_finals(task), scores, one_stage),
        note=note,
    )


def _leave_one_out(judged: Array, actual: Array, predict: Callable[[Array, int], float]) -> float | None:
    """Mean relative error of the judged runs, each predicted without it; None where none can be."""
    errors = []
    for run in np.flatnonzero(judged & (actual > 0)):
        keep = np.ones(len(judged), bool)
        keep[run] = False
        try:
            errors.append(abs(predict(keep, int(run)) - actual[run]) / actual[run])
        except NotEnoughDataError:
            continue
    return float(np.mean(errors)) if errors else None


def _relative(predicted: Array, actual: Array) -> float:
    positive = actual > 0
    return float(np.mean(np.abs(predicted[positive] / actual[positive] - 1))) if positive.any() else 0.0


def _power(law: PowerLaw) -> str:
    return f"{np.exp(law.log_scale):.4g} C^{law.exponent:.4g}"
