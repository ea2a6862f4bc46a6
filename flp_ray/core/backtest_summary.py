"""A method's numbers over all targets: errors, interval coverage, and whether it puts targets in their true order.

What was not measured or not predicted does not count; a number over nothing is None, never 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from flp_ray.core.backtest import Judged, MethodResult, TargetResult

MEAN = "mean"
"""Key of the mean over domains in the rank correlations."""

_GROUP = 3
"""Fewest targets of one size that have an order worth comparing."""

_DIGITS = 10
"""Significant digits that two values must differ in to be ranked apart: a law that ignores the mixture predicts
the same value for all targets up to rounding, and the order of rounding errors must not count as foresight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """Errors of one kind of value over all targets and names; all None where nothing was judged.

    Attributes:
        values: How many relative errors there are.
        mean_relative_error: Their mean (Eq. 4), a fraction.
        median_relative_error: Their median.
        max_relative_error: The largest.
        interval_coverage: Share of measured values inside their 80 percent interval, 0 to 1.
        relative_error_by_name: Mean over targets by task or domain; names without any error are absent.
    """

    values: int
    mean_relative_error: float | None
    median_relative_error: float | None
    max_relative_error: float | None
    interval_coverage: float | None
    relative_error_by_name: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSummary(ErrorSummary):
    """Errors of domain losses, and rank correlations among targets of one size.

    Attributes:
        spearman: By domain the mean over the groups of at least three targets with equal parameters, -1 to 1,
            and under `mean` the mean over domains; empty where no group has an order.
        spearman_by_params: The same group by group, under the parameters as text.
    """

    spearman: dict[str, float]
    spearman_by_params: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A method's numbers over all targets, by kind of value."""

    performance: ErrorSummary
    domain_loss: LossSummary


def summarise(result: MethodResult) -> Summary:
    """A method's errors, interval coverage and rank correlations over its targets.

    Args:
        result: The method; without targets all numbers are None or empty.
    """
    losses = _errors([t.domain_loss for t in result.targets])
    by_params = _spearman_by_params(result.targets)
    return Summary(
        performance=_errors([t.performance for t in result.targets]),
        domain_loss=LossSummary(
            values=losses.values,
            mean_relative_error=losses.mean_relative_error,
            median_relative_error=losses.median_relative_error,
            max_relative_error=losses.max_relative_error,
            interval_coverage=losses.interval_coverage,
            relative_error_by_name=losses.relative_error_by_name,
            spearman=_over_groups(by_params),
            spearman_by_params=by_params,
        ),
    )


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation with average ranks for ties; None where one side has no order.

    Args:
        a: Values, (n,).
        b: Values, (n,).
    """
    ranks = [_average_ranks(values) for values in (a, b)]
    centred = [r - r.mean() for r in ranks]
    size = math.sqrt(float(centred[0] @ centred[0]) * float(centred[1] @ centred[1]))
    return float(centred[0] @ centred[1]) / size if size > 0 else None


def _errors(judged: Sequence[dict[str, Judged]]) -> ErrorSummary:
    by_name: defaultdict[str, list[float]] = defaultdict(list)
    inside = []
    for name, value in (item for target in judged for item in target.items()):
        if value.relative_error is not None:
            by_name[name].append(value.relative_error)
        if value.actual is not None:
            inside.append(value.low <= value.actual <= value.high)
    errors = [e for values in by_name.values() for e in values]
    return ErrorSummary(
        values=len(errors),
        mean_relative_error=_mean(errors),
        median_relative_error=float(np.median(errors)) if errors else None,
        max_relative_error=max(errors, default=None),
        interval_coverage=_mean(inside),
        relative_error_by_name={name: math.fsum(values) / len(values) for name, values in by_name.items()},
    )


def _spearman_by_params(targets: Iterable[TargetResult]) -> dict[str, dict[str, float]]:
    groups: defaultdict[int, defaultdict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for target in targets:
        for domain, value in target.domain_loss.items():
            if value.actual is not None:
                groups[target.params][domain].append((value.predicted, value.actual))
    found: dict[str, dict[str, float]] = {}
    for params, domains in sorted(groups.items()):
        known = {
            domain: rank
            for domain, pairs in domains.items()
            if len(pairs) >= _GROUP and (rank := rank_correlation(*zip(*pairs, strict=True))) is not None
        }
        if known:
            found[str(params)] = _with_mean(known)
    return found


def _over_groups(by_params: dict[str, dict[str, float]]) -> dict[str, float]:
    domains: defaultdict[str, list[float]] = defaultdict(list)
    for group in by_params.values():
        for domain, rank in group.items():
            if domain != MEAN:
                domains[domain].append(rank)
    return _with_mean({domain: math.fsum(ranks) / len(ranks) for domain, ranks in domains.items()})


def _with_mean(by_domain: dict[str, float]) -> dict[str, float]:
    if not by_domain:
        return {}
    return {**by_domain, MEAN: math.fsum(by_domain.values()) / len(by_domain)}


def _average_ranks(values: Sequence[float]) -> np.ndarray:
    rounded = np.array([float(f"{v:.{_DIGITS - 1}e}") for v in values])
    _, place, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[place]
    return ranks


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
