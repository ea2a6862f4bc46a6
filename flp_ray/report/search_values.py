"""A search as values for JSON: what `flp-ray status --json` gives of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.report.search_words import present_regret

if TYPE_CHECKING:
    from flp_ray.core.search import Decision, SearchAnswer, SearchView


def search_json(view: SearchView) -> dict[str, Any]:
    """A search as plain values; the surfaces are left out, because they are large and the report draws them.

    Args:
        view: The search.

    Returns:
        Numbers in the view's own units (FLOPs, scores and regrets 0 to 1); what is not known is None.
    """
    return {
        "budget_flops": _number(view.budget_flops),
        "spent_flops": _number(view.spent_flops),
        "reserved_flops": _number(view.reserved_flops),
        "tolerance": _number(view.tolerance),
        "expected_regret": _number(present_regret(view)),
        "stopped": view.stopped,
        "decisions": [_decision(d) for d in view.decisions],
        "answers": [_answer(a) for a in view.answers],
        "front_objectives": list(view.front_objectives),
        "front": [
            {"mixture": _ratios(p.mixture), "expected": {o: _prediction(e) for o, e in p.expected.items()}}
            for p in view.front
        ],
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "number": decision.number,
        "at": _number(decision.at),
        "kind": decision.kind,
        "reason": decision.reason,
        "run_id": decision.run_id,
        "size": decision.size,
        "mixture": _ratios(decision.mixture),
        "repeat": decision.repeat,
        "flops": _number(decision.flops),
        "gain": _number(decision.gain),
        "expected_regret": _number(decision.expected_regret),
        "spent_flops": _number(decision.spent_flops),
        "best": _ratios(decision.best),
        "fit_id": decision.fit_id,
    }


def _answer(answer: SearchAnswer) -> dict[str, Any]:
    return {
        "objective": answer.objective,
        "mixture": _ratios(answer.mixture),
        "expected": _prediction(answer.expected),
        "expected_regret": _number(answer.expected_regret),
        "confident": bool(answer.confident),
        "free_mixture": _ratios(answer.free_mixture),
        "free_expected": _prediction(answer.free_expected),
        "present": _ratios(answer.present),
        "present_expected": _prediction(answer.present_expected),
        "surely_better": _number(answer.surely_better),
    }


def _ratios(mixture: Mixture | None) -> dict[str, float | None] | None:
    return None if mixture is None else {source: _number(ratio) for source, ratio in mixture.as_dict().items()}


def _prediction(prediction: Prediction | None) -> dict[str, Any] | None:
    if prediction is None:
        return None
    return {
        "mean": _number(prediction.mean),
        "low": _number(prediction.low),
        "high": _number(prediction.high),
        "extrapolated": bool(prediction.extrapolated),
    }


def _number(value: float | None) -> float | None:
    """A float of Python's own: JSON knows neither numpy's nor NaN and infinity."""
    return None if value is None or not math.isfinite(value) else float(value)
