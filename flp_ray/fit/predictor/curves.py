"""Predictions along compute and along a ratio, for the figures of a backtest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flp_ray.core.backtest import Curve, RatioCurve
from flp_ray.fit.predictor.predictor import CalibratedMethod
from flp_ray.fit.predictor.question import Question
from flp_ray.fit.predictor.runs import Queries

CURVE_POINTS = 40


def compute_curves(method: CalibratedMethod, question: Question, tasks: Sequence[str]) -> tuple[Curve, ...]:
    """Predictions along compute, sizes and tokens growing together as they do from the smallest run to the targets."""
    queries, ahead = question.fitted.queries, question.targets.queries
    if question.fitted.mixtures > 1 or np.ptp(np.log(queries.flops)) < 0.1:
        return ()
    known = question.fitted.converged()
    flops = np.concatenate([queries.flops[known], ahead.flops])
    x = np.log(flops)
    grid = np.linspace(np.log(queries.flops.min()), x.max(), CURVE_POINTS)
    params, tokens = (
        np.polyval(np.polyfit(x, np.log(np.concatenate([getattr(queries, n)[known], getattr(ahead, n)])), 1), grid)
        for n in ("params", "tokens")
    )
    path = Queries(
        params=np.exp(params),
        tokens=np.exp(tokens),
        flops=np.exp(grid),
        ratios=np.tile(queries.ratios[0], (len(grid), 1)),
    )
    forecast = method.forecast(path)
    made = [("performance", n, forecast.scores[:, :, i]) for i, n in enumerate(tasks)]
    made += [("domain_loss", n, forecast.losses[:, :, i]) for i, n in enumerate(question.fitted.domains)]
    return tuple(
        Curve(
            kind=kind,  # type: ignore[arg-type]
            name=name,
            flops=tuple(path.flops.tolist()),
            mean=tuple(values[0].tolist()),
            low=tuple(values[1].tolist()),
            high=tuple(values[2].tolist()),
        )
        for kind, name, values in made
        if np.isfinite(values).all()
    )


def ratio_curves(method: CalibratedMethod, question: Question, tasks: Sequence[str]) -> tuple[RatioCurve, ...]:
    """Scores along the ratio of the first of two sources, at the largest target."""
    if len(question.fitted.sources) != 2 or question.fitted.mixtures < 3:
        return ()
    largest = int(np.argmax(question.targets.queries.flops))
    at = question.targets.queries.take(np.array([largest]))
    low, high = question.fitted.queries.ratios[:, 0].min(), question.fitted.queries.ratios[:, 0].max()
    ratio = np.linspace(low, high, CURVE_POINTS + 1)
    forecast = method.forecast(
        Queries(
            params=np.tile(at.params, len(ratio)),
            tokens=np.tile(at.tokens, len(ratio)),
            flops=np.tile(at.flops, len(ratio)),
            ratios=np.stack([ratio, 1 - ratio], axis=1),
        )
    )
    return tuple(
        RatioCurve(
            kind="performance",
            name=name,
            source=question.fitted.sources[0],
            params=int(at.params[0]),
            tokens=int(at.tokens[0]),
            ratio=tuple(ratio.tolist()),
            mean=tuple(forecast.scores[0, :, i].tolist()),
            low=tuple(forecast.scores[1, :, i].tolist()),
            high=tuple(forecast.scores[2, :, i].tolist()),
        )
        for i, name in enumerate(tasks)
        if np.isfinite(forecast.scores[:, :, i]).all()
    )
