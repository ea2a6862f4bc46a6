"""Fits and predictions as the JSON values that the commands print."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from flp_ray.fit.predictor.auto import CombinedMethod
from flp_ray.fit.predictor.floor_law import FloorLaw
from flp_ray.fit.predictor.methods import RECIPES
from flp_ray.fit.predictor.predictor import CalibratedMethod, Predictor
from flp_ray.fit.predictor.runs import Queries
from flp_ray.fit.predictor.sigmoid import SigmoidLink
from flp_ray.fit.predictor.surface import SurfaceLaw
from flp_ray.fit.predictor.warnings import distance_warnings


def fit_json(predictor: Predictor, source: str) -> dict[str, Any]:
    """What a fit found: of every method its errors in the roll-outs, its weights and its laws.

    Args:
        predictor: The fit.
        source: Where the records come from.
    """
    return {
        "records": source,
        "scheme": predictor.scheme,
        "sources": list(predictor.sources),
        "flops_range": list(predictor.flops_range),
        "warnings": list(predictor.warnings),
        "methods": {name: _method_json(method, predictor) for name, method in predictor.methods.items()},
        "unfit": predictor.unfit,
    }


def prediction_json(predictor: Predictor, method: str, query: Queries) -> dict[str, Any]:
    """One prediction with its intervals and all that limits it."""
    [(scores, losses)] = predictor.named(method, query)
    name = f"{query.params[0]:.3g} parameters, {query.tokens[0]:.3g} tokens"
    reasons = predictor.methods[method].method.reasons
    return {
        "method": method,
        "params": float(query.params[0]),
        "tokens": float(query.tokens[0]),
        "flops": float(query.flops[0]),
        "ratios": dict(zip(predictor.sources, query.ratios[0].tolist(), strict=True)),
        "extrapolated": bool(predictor.extrapolated(query)[0]),
        "performance": {n: asdict(p) for n, p in scores.items()},
        "domain_loss": {n: asdict(p) for n, p in losses.items()},
        "not_predicted": {predictor.tasks[t].task: reason for t, reason in reasons.items()},
        "warnings": [*predictor.warnings, *distance_warnings(predictor.flops_range, query, (name,))],
    }


def _method_json(calibrated: CalibratedMethod, predictor: Predictor) -> dict[str, Any]:
    method = calibrated.method
    parts = method.methods if isinstance(method, CombinedMethod) else (method,)
    tasks = {}
    for i, task in enumerate(predictor.tasks):
        if i in method.reasons:
            continue
        weights = method.score_weights[:, i] if isinstance(method, CombinedMethod) else np.ones(1)
        tasks[task.task] = {
            "roll_out_error": _number(calibrated.score_errors[i]),
            "noise": float(calibrated.score.noise[i]),
            "interval_factor": float(calibrated.score.factor[i]),
            "weights": {p.name: float(w) for p, w in zip(parts, weights, strict=True) if w > 0},
            "curves": {
                p.name: p.link.describe(i)
                for p, w in zip(parts, weights, strict=True)
                if w > 0 and isinstance(p.link, SigmoidLink)
            },
        }
    domains = {
        domain: {
            "roll_out_error": _number(calibrated.loss_errors[d]),
            "noise": float(calibrated.loss.noise[d]),
            "interval_factor": float(calibrated.loss.factor[d]),
            "law": _floor(parts, d),
        }
        for d, domain in enumerate(predictor.domains)
    }
    weights = method.loss_weights[:, 0] if isinstance(method, CombinedMethod) and predictor.domains else np.ones(1)
    return {
        "tasks": tasks,
        "domains": domains,
        "laws": {RECIPES[p.name].law: float(w) for p, w in zip(parts, weights, strict=False) if w > 0 and p.law},
        "not_predicted": {predictor.tasks[t].task: reason for t, reason in method.reasons.items()},
    }


def _floor(parts: Any, domain: int) -> dict[str, float] | None:
    """Numbers of the floor law of a domain, where one of the methods has it."""
    for part in parts:
        if part.law is None or not part.law.fitted[domain]:
            continue
        law = part.law.law.floor if isinstance(part.law.law, SurfaceLaw) else part.law.law
        if isinstance(law, FloorLaw):
            return law.describe(int(part.law.fitted[:domain].sum()))
    return None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
