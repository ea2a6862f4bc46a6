"""Predict runs that the fit has not seen, and compare: the value that `flp-ray backtest` prints and draws."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.backtest import Backtest, Judged, MethodResult, ObservedRun, StageError, TargetResult
from flp_ray.errors import ConfigError
from flp_ray.fit.predictor.auto import CombinedMethod
from flp_ray.fit.predictor.curves import compute_curves, ratio_curves
from flp_ray.fit.predictor.methods import AUTO, METHOD_NAMES, RECIPES
from flp_ray.fit.predictor.predictor import CalibratedMethod, Predictor, fit_predictor
from flp_ray.fit.predictor.question import Question
from flp_ray.fit.predictor.runs import RunTable
from flp_ray.fit.predictor.series import series_of
from flp_ray.fit.predictor.warnings import distance_warnings

DEFAULT_METHODS = ("fp", "flp", "flp-m", AUTO)
Array = NDArray[Any]


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """Method names without repeats.

    Raises:
        ConfigError: A name is unknown.
    """
    for name in methods:
        if name not in METHOD_NAMES:
            near = get_close_matches(name, METHOD_NAMES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"There is no method {name!r}. Known: {', '.join(METHOD_NAMES)}.{hint}")
    return tuple(dict.fromkeys(methods))


def run_backtest(question: Question, methods: Sequence[str], *, source: str, seed: int = 0) -> Backtest:
    """Fits every method to the sampling runs and predicts the targets.

    Args:
        question: From `question_of`.
        methods: Names, from `check_methods`.
        source: Where the records come from, for the report.
        seed: Seeds bootstraps, priors and networks.

    Raises:
        NotEnoughDataError: No method can be fitted.
    """
    predictor = fit_predictor(question.fitted, methods, seed=seed)
    targets = question.targets
    results = {
        name: _result(name, predictor.methods[name], question, predictor)
        if name in predictor.methods
        else _unfit(name, predictor.unfit[name])
        for name in methods
    }
    far = distance_warnings(predictor.flops_range, targets.queries, targets.run_ids)
    return Backtest(
        source=source,
        methods=results,
        chosen=_chosen(predictor),
        scheme=predictor.scheme,
        held_out=question.held_out,
        warnings=(*predictor.warnings, *far),
        random_performance={t.task: t.random_performance for t in targets.tasks},
        fitted=tuple(_observed(question.fitted, i) for i in range(len(question.fitted.run_ids))),
    )


def _chosen(predictor: Predictor) -> str:
    if AUTO in predictor.methods:
        return AUTO

    def error(name: str) -> float:
        method = predictor.methods[name]
        errors = method.score_errors if predictor.tasks else method.loss_errors
        return float(np.nanmean(errors)) if np.isfinite(errors).any() else np.inf

    return min(predictor.methods, key=error)


def _result(name: str, method: CalibratedMethod, question: Question, predictor: Predictor) -> MethodResult:
    targets = question.targets
    tasks = tuple(t.task for t in targets.tasks)
    forecast = method.forecast(targets.queries)
    from_actual = method.method.scores_from(series_of(targets)[0])
    results = []
    for i, run_id in enumerate(targets.run_ids):
        scores = _judged(tasks, forecast.scores[:, i], targets.scores[i])
        results.append(
            TargetResult(
                run_id=run_id,
                params=int(targets.queries.params[i]),
                flops=float(targets.queries.flops[i]),
                performance=scores,
                domain_loss=_judged(targets.domains, forecast.losses[:, i], targets.losses[i]),
                stages={} if from_actual is None else _stages(scores, dict(zip(tasks, from_actual[i], strict=True))),
            )
        )
    return MethodResult(
        method=name,
        reference=RECIPES[name].reference if name in RECIPES else "the pair of law and link that roll-outs favour",
        targets=tuple(results),
        not_predicted={tasks[t]: reason for t, reason in method.method.reasons.items()},
        roll_out=_roll_out(method, tasks, targets.domains),
        chosen=_choice(method.method, tasks) if isinstance(method.method, CombinedMethod) else {},
        curves=compute_curves(method, question, tasks),
        ratio_curves=ratio_curves(method, question, tasks),
    )


def _unfit(name: str, reason: str) -> MethodResult:
    return MethodResult(
        method=name,
        reference=RECIPES[name].reference if name in RECIPES else "",
        targets=(),
        not_predicted={"all": reason},
        roll_out={},
        chosen={},
        curves=(),
        ratio_curves=(),
    )


def _judged(names: Sequence[str], predicted: Array, actual: Array) -> dict[str, Judged]:
    made = {}
    for name, (mean, low, high), true in zip(names, predicted.T.tolist(), actual.tolist(), strict=True):
        if np.isfinite(mean):
            known = bool(np.isfinite(true))
            made[name] = Judged(
                predicted=mean,
                low=low,
                high=high,
                actual=true if known else None,
                relative_error=abs(mean - true) / true if known and true > 0 else None,
            )
    return made


def _stages(scores: dict[str, Judged], from_actual: dict[str, Any]) -> dict[str, StageError]:
    return {
        task: StageError(
            loss=float(judged.predicted - from_actual[task]) / judged.actual,
            link=float(from_actual[task] - judged.actual) / judged.actual,
        )
        for task, judged in scores.items()
        if judged.actual and np.isfinite(from_actual[task])
    }


def _roll_out(method: CalibratedMethod, tasks: Sequence[str], domains: Sequence[str]) -> dict[str, float | None]:
    named = [*zip(tasks, method.score_errors.tolist(), strict=True)]
    named += zip(domains, method.loss_errors.tolist(), strict=True)
    return {name: error if np.isfinite(error) else None for name, error in named}


def _choice(method: CombinedMethod, tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    names = [m.name for m in method.methods]
    chosen = {t: _positive(names, method.score_weights[:, i]) for i, t in enumerate(tasks)}
    if method.loss_weights.shape[1]:
        laws = [RECIPES[n].law or n for n in names]
        chosen["domain_loss"] = _positive(laws, method.loss_weights[:, 0])
    return chosen


def _positive(names: Sequence[str], weights: Array) -> dict[str, float]:
    return {name: float(w) for name, w in zip(names, weights, strict=True) if w > 0}


def _observed(table: RunTable, run: int) -> ObservedRun:
    points = table.points
    own = np.flatnonzero((points.run == run) & points.spaced)
    mean = points.losses[own].mean(axis=1) if table.domains else np.full(len(own), np.nan)
    losses = dict(zip(table.domains, table.losses[run].tolist(), strict=True))
    return ObservedRun(
        run_id=table.run_ids[run],
        params=int(table.queries.params[run]),
        flops=tuple((points.share[own] * table.queries.flops[run]).tolist()),
        mean_loss=_or_none(mean),
        domain_loss={n: v for n, v in losses.items() if np.isfinite(v)},
        performance={t.task: _or_none(points.scores[own, i]) for i, t in enumerate(table.tasks)},
    )


def _or_none(values: Array) -> tuple[float | None, ...]:
    return tuple(v if np.isfinite(v) else None for v in values.tolist())
