"""The lines and points of the two laws: loss against FLOPs, and score against loss."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Checkpoint
from flp_ray.core.surrogate import FitLine
from flp_ray.report.content import ReportContent
from flp_ray.report.series import Curve, Point, emerged, end_checkpoints

T = TypeVar("T")

_LINES = 8
_LAW_POINTS = 24
_POINTS_A_PANEL = 800


def grid_mixtures(content: ReportContent, source: str) -> tuple[Mixture, ...]:
    """The distinct mixtures of the sampling runs, by the ratio of one source."""
    runs = content.records.of_purpose("sampling").runs
    distinct = {r.mixture for r in runs if r.mixture is not None}
    return tuple(sorted(distinct, key=lambda m: (m.ratio(source), m.ratios)))


def fitted_lines(content: ReportContent, stage: str) -> tuple[FitLine, ...]:
    """The laws of one stage that the predictions come from: FLP-M, without the baselines beside it.

    A surrogate without FLP-M gives the lines of the method that it names first.
    """
    lines = [line for line in content.surrogate.lines() if line.stage == stage] if content.surrogate else []
    methods = [line.method for line in lines]
    own = "flp-m" if "flp-m" in methods else next(iter(methods), "")
    return tuple(line for line in lines if line.method == own)


def law_lines(content: ReportContent, source: str, flops: float) -> dict[str, list[Curve]]:
    """The fitted losses against FLOPs, one line a mixture, by domain.

    Args:
        content: The surrogate and the grid's mixtures (evenly thinned where there are many).
        source: Its ratio is the lines' shade.
        flops: FLOPs of the target; the lines reach from the smallest finished run to the largest or to it.
    """
    ends = end_checkpoints(content.records)
    if content.surrogate is None or not ends:
        return {}
    mixtures = _spread(grid_mixtures(content, source), _LINES)
    spent = [c.flops for c in ends] + [flops]
    x = [float(v) for v in np.geomspace(min(spent), max(spent), _LAW_POINTS)]
    columns = [content.surrogate.predict(mixtures, v) for v in x]
    return {
        domain: [
            Curve.of(x, [column[i].domain_loss[domain] for column in columns], shade=m.ratio(source))
            for i, m in enumerate(mixtures)
        ]
        for domain in content.surrogate.domains
    }


def law_points(content: ReportContent, domain: str, source: str | None) -> tuple[Point, ...]:
    """Final losses of every finished run against its FLOPs."""
    return tuple(
        Point(
            x=c.flops,
            y=c.domain_loss[domain],
            error=c.stderr.get(("domain_loss", domain)),
            purpose=c.run.purpose,
            shade=None if source is None or c.run.mixture is None else c.run.mixture.ratio(source),
        )
        for c in end_checkpoints(content.records)
        if domain in c.domain_loss
    )


def followed_domain(content: ReportContent, task: str) -> str | None:
    """The domain whose loss orders a task's scores best (largest absolute rank correlation)."""
    measured = [c for c in _sampling_checkpoints(content) if task in c.performance]
    best: tuple[float, str] | None = None
    for domain in content.records.domains:
        pairs = [(c.domain_loss[domain], c.performance[task]) for c in measured if domain in c.domain_loss]
        if len(pairs) < 3:
            continue
        rank = abs(_rank_correlation(pairs))
        if best is None or rank > best[0]:
            best = (rank, domain)
    return None if best is None else best[1]


def loss_score_points(content: ReportContent, task: str, domain: str) -> tuple[Point, ...]:
    """Loss on a domain (x) against a task's score (y), every checkpoint of the sampling runs."""
    described = content.records.task(task)
    return tuple(
        Point(
            x=c.domain_loss[domain],
            y=c.performance[task],
            error=c.stderr.get(("performance", task)),
            emerged=emerged(described, c.performance[task]),
        )
        for c in _sampling_checkpoints(content)
        if task in c.performance and domain in c.domain_loss
    )


def thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """At most 800 of a panel's points, evenly taken: the page stays small, and its caption says so."""
    return _spread(points, _POINTS_A_PANEL)


def _sampling_checkpoints(content: ReportContent) -> list[Checkpoint]:
    return [c for c in content.records.checkpoints() if c.run.purpose == "sampling"]


def _spread(values: tuple[T, ...], limit: int) -> tuple[T, ...]:
    if len(values) <= limit:
        return values
    return tuple(values[round(i * (len(values) - 1) / (limit - 1))] for i in range(limit))


def _rank_correlation(pairs: list[tuple[float, float]]) -> float:
    ranks = [np.argsort(np.argsort(column, kind="stable"), kind="stable") for column in zip(*pairs, strict=True)]
    if any(len(set(column)) < 2 for column in zip(*pairs, strict=True)):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
