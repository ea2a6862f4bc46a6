"""Hit or miss: every prediction of a proposal beside what its trainings gave. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flp_ray.core.prediction import Outcome, OutcomeKind, Prediction, Proposal
from flp_ray.core.records import Checkpoint


def outcomes(
    proposal: Proposal, objective_values: Sequence[float], checkpoints: Sequence[Checkpoint]
) -> tuple[Outcome, ...]:
    """The objective first, then the other tasks and the domains by name.

    Args:
        proposal: What was predicted.
        objective_values: The objective's value of each training.
        checkpoints: The trainings' last checkpoints. A task or domain that none of them has is left out.
    """
    return tuple(
        _outcome(kind, name, expected, values)
        for kind, name, expected, values in _pairs(proposal, objective_values, checkpoints)
        if values
    )


def _pairs(
    proposal: Proposal, objective_values: Sequence[float], checkpoints: Sequence[Checkpoint]
) -> Iterator[tuple[OutcomeKind, str, Prediction, list[float]]]:
    yield "objective", proposal.objective, proposal.expected, list(objective_values)
    for task, expected in sorted(proposal.performance.items()):
        if task != proposal.objective:  # said already
            yield "performance", task, expected, [c.performance[task] for c in checkpoints if task in c.performance]
    for domain, expected in sorted(proposal.domain_loss.items()):
        yield "domain_loss", domain, expected, [c.domain_loss[domain] for c in checkpoints if domain in c.domain_loss]


def _outcome(kind: OutcomeKind, name: str, expected: Prediction, values: Sequence[float]) -> Outcome:
    return Outcome(
        kind=kind,
        name=name,
        expected=expected,
        measured=math.fsum(values) / len(values),
        runs=len(values),
        inside=sum(expected.low <= v <= expected.high for v in values),
    )
