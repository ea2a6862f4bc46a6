"""Proposals against measurement: was the prediction right, and was the proposal worth it?

The best mixture of the grid is picked by its measured value, so part of its lead is luck (winner's curse):
the comparison leans against the proposal, and `better` is said with more right than `worse`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from flp_ray.core.mixture import RATIO_TOLERANCE, Mixture
from flp_ray.core.prediction import INTERVAL_COVERAGE, Comparison, Proposal, Verdict
from flp_ray.core.records import Checkpoint, Records
from flp_ray.core.run import Purpose

MEAN = "mean"
"""Name of the objective that is the weighted mean over the predicted tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    mixture: Mixture
    run_ids: tuple[str, ...]
    value: float
    stderr: float | None


def compare(
    proposals: Sequence[Proposal], records: Records, *, weights: Mapping[str, float] | None = None
) -> tuple[Comparison, ...]:
    """Compares every proposal that was trained and measured with the grid at the same size.

    Runs of one mixture (several seeds) count by their mean; its standard error is the larger of what their
    evaluation errors give and what their scatter gives. The verdict takes the two sides as independent: the
    difference must be larger than its two-sided 80 percent interval. Where a standard error is not known, the
    verdict is `not distinguishable`.

    Args:
        proposals: What was proposed and expected.
        records: Records with runs of purpose `validation` and `sampling`.
        weights: Weight of each task in the mean, as in the fit; tasks not named weigh 1.

    Returns:
        One comparison for each proposal that can be compared; `not_compared` says why the others cannot.
        `run_id` holds all validation runs, joined by commas.
    """
    made = []
    for proposal in proposals:
        found = _sides(proposal, records, weights or {})
        if isinstance(found, str):
            continue
        made.append(_comparison(proposal, *found))
    return tuple(made)


def not_compared(
    proposals: Sequence[Proposal], records: Records, *, weights: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Why proposals cannot be compared, in words, by proposal id."""
    found = {p.proposal_id: _sides(p, records, weights or {}) for p in proposals}
    return {name: reason for name, reason in found.items() if isinstance(reason, str)}


def verdict(measured: float, measured_stderr: float | None, grid: float, grid_stderr: float | None) -> Verdict:
    """Whether a proposal beats the grid's best by more than the 80 percent interval of the difference.

    Args:
        measured: The proposal's measured value, higher is better.
        measured_stderr: Its standard error.
        grid: The grid's measured value.
        grid_stderr: Its standard error.
    """
    if measured_stderr is None or grid_stderr is None:
        return "not distinguishable"
    half = NormalDist().inv_cdf(0.5 + INTERVAL_COVERAGE / 2) * math.hypot(measured_stderr, grid_stderr)
    difference = measured - grid
    if abs(difference) <= half:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def _comparison(proposal: Proposal, here: _Measured, best: _Measured) -> Comparison:
    expected = proposal.expected
    return Comparison(
        proposal=proposal,
        run_id=",".join(here.run_ids),
        measured=here.value,
        measured_stderr=here.stderr,
        relative_error=abs(expected.mean - here.value) / here.value if here.value else None,
        inside_interval=expected.low <= here.value <= expected.high,
        grid_mixture=best.mixture,
        grid_measured=best.value,
        grid_stderr=best.stderr,
        regret=best.value - here.value,
        verdict=verdict(here.value, here.stderr, best.value, best.stderr),
    )


def _sides(proposal: Proposal, records: Records, weights: Mapping[str, float]) -> tuple[_Measured, _Measured] | str:
    """The proposal's own measurement and the grid's best, or the reason why there is no comparison."""
    shares = _shares(proposal, weights)
    if not shares:
        return f"the weights leave no task to the objective {proposal.objective}"
    trained = [m for m in _measured(proposal, records, "validation", shares) if _same(m.mixture, proposal.mixture)]
    if not trained:
        return f"no finished validation run of {proposal.size} at {proposal.mixture} has all scores"
    grid = _measured(proposal, records, "sampling", shares)
    if not grid:
        return f"no sampling run of {proposal.size} over {proposal.train_tokens} tokens has all scores"
    return trained[0], max(grid, key=lambda m: (m.value, m.mixture.ratios))


def _shares(proposal: Proposal, weights: Mapping[str, float]) -> dict[str, float]:
    if proposal.objective != MEAN:
        return {proposal.objective: 1.0}
    given = {task: weights.get(task, 1.0) for task in proposal.performance}
    total = sum(given.values())
    return {task: w / total for task, w in given.items() if w > 0} if total > 0 else {}


def _measured(proposal: Proposal, records: Records, purpose: Purpose, shares: Mapping[str, float]) -> list[_Measured]:
    """Measured values of the objective at the proposal's size, by mixture."""
    groups: defaultdict[tuple[tuple[str, float], ...], list[tuple[str, Mixture, float, float | None]]]
    groups = defaultdict(list)
    for checkpoint in records.of_purpose(purpose).final_checkpoints():
        run = checkpoint.run
        complete = checkpoint.tokens >= run.train_tokens and all(t in checkpoint.performance for t in shares)
        if not complete or run.mixture is None:
            continue
        if run.size == proposal.size and run.train_tokens == proposal.train_tokens:
            present = {s: r for s, r in run.mixture.as_dict().items() if r > 0}
            key = tuple((s, round(r, 6)) for s, r in present.items())
            groups[key].append((run.run_id, run.mixture, *_value(checkpoint, shares)))
    return [_pooled(group) for group in groups.values()]


def _value(checkpoint: Checkpoint, shares: Mapping[str, float]) -> tuple[float, float | None]:
    value = math.fsum(w * checkpoint.performance[t] for t, w in shares.items())
    errors = [checkpoint.stderr.get(("performance", t)) for t in shares]
    if any(e is None for e in errors):
        return value, None
    # Tasks have different items, so their evaluation errors are independent.
    squares = (w * w * e * e for w, e in zip(shares.values(), errors, strict=True) if e is not None)
    return value, math.sqrt(math.fsum(squares))


def _pooled(group: Sequence[tuple[str, Mixture, float, float | None]]) -> _Measured:
    values = [value for _, _, value, _ in group]
    errors = [error for _, _, _, error in group if error is not None]
    number = len(values)
    mean = math.fsum(values) / number
    stderr = math.sqrt(math.fsum(e * e for e in errors)) / number if len(errors) == number else None
    if number > 1:
        scatter = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (number - 1) / number)
        stderr = max(scatter, stderr or 0.0)
    return _Measured(mixture=group[0][1], run_ids=tuple(g[0] for g in group), value=mean, stderr=stderr)


def _same(one: Mixture, other: Mixture) -> bool:
    sources = {*one.sources, *other.sources}
    return all(abs(one.ratio(s) - other.ratio(s)) <= RATIO_TOLERANCE for s in sources)
