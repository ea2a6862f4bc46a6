"""A backtest as the JSON value that `flp-ray backtest --json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flp_ray.core.backtest import Backtest, MethodResult, TargetResult
from flp_ray.core.backtest_summary import summarise


def backtest_json(backtest: Backtest) -> dict[str, Any]:
    """Methods with their targets and summaries, the method to trust, and what a reader must know.

    Values are fractions and nats per token; what was not measured or not predicted is null or absent.
    """
    return {
        "records": backtest.source,
        "held_out": backtest.held_out,
        "roll_outs": backtest.scheme,
        "warnings": list(backtest.warnings),
        "methods": {name: _method(result) for name, result in backtest.methods.items()},
        "chosen": backtest.chosen,
    }


def _method(result: MethodResult) -> dict[str, Any]:
    return {
        "targets": {target.run_id: _target(target) for target in result.targets},
        "summary": asdict(summarise(result)),
        "not_predicted": result.not_predicted,
        "roll_out_error": result.roll_out,
        "weights": result.chosen,
        "reference": result.reference,
    }


def _target(target: TargetResult) -> dict[str, Any]:
    return {
        "performance": {name: asdict(judged) for name, judged in target.performance.items()},
        "domain_loss": {name: asdict(judged) for name, judged in target.domain_loss.items()},
        "stages": {name: asdict(error) | {"cancels": error.cancels} for name, error in target.stages.items()},
    }
