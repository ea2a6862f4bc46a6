"""Records and surrogate -> the points and lines that the figures draw."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.core.records import Checkpoint, Records, Task
from flp_ray.core.run import Purpose
from flp_ray.core.surrogate import SurrogatePrediction
from flp_ray.report.content import MEAN, ReportContent

FINAL_SHARE = 0.9
"""A run's last measured checkpoint counts as its end from this share of its tokens on: the checkpoint filter
may drop the very last one, while a run that is still going must not be shown as finished."""

SAME_COST = 0.05
"""Relative difference of tokens (of FLOPs where a size has no name) that two compared trainings may have."""

_CURVE_POINTS = 51


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The training in question: name of its size, tokens, FLOPs."""

    size: str
    train_tokens: int
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured value in a figure.

    Attributes:
        x: Ratio, FLOPs, loss or measured value, as the figure says.
        y: The value.
        error: Standard error of the measured value; None where it is not known.
        purpose: What the run may be used for.
        shade: Mixing ratio of the figure's source, 0 to 1; None where the figure has no such scale.
        on_slice: False where the run's mixture lies off the figure's line of mixtures.
        emerged: Whether the score is far enough above chance to count.
        low: Lower end of the predicted interval, where the point is a prediction.
        high: Upper end of it.
    """

    x: float
    y: float
    error: float | None = None
    purpose: Purpose = "sampling"
    shade: float | None = None
    on_slice: bool = True
    emerged: bool = True
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A predicted line; `low` and `high` are the 80 percent interval, of the shape of `x`."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    extrapolated: tuple[bool, ...]
    shade: float | None = None

    @classmethod
    def of(cls, x: Sequence[float], predictions: Sequence[Prediction], shade: float | None = None) -> Curve:
        """A curve from one prediction at each x."""
        return cls(
            x=tuple(x),
            mean=tuple(p.mean for p in predictions),
            low=tuple(p.low for p in predictions),
            high=tuple(p.high for p in predictions),
            extrapolated=tuple(p.extrapolated for p in predictions),
            shade=shade,
        )


def target_of(content: ReportContent) -> Target | None:
    """What is asked about: the main proposal's training, else the largest one that is planned or measured."""
    proposal = content.main_proposal or next(iter(content.proposals), None)
    if proposal is not None:
        return Target(size=proposal.size, train_tokens=proposal.train_tokens, flops=proposal.flops)
    planned = [s for s in content.specs if s.purpose == "sampling"]
    if planned:
        spec = max(planned, key=lambda s: (s.flops, s.run_id))
        return Target(size=spec.size, train_tokens=spec.train_tokens, flops=spec.flops)
    finals = end_checkpoints(content.records.of_purpose("sampling"))
    if not finals:
        return None
    last = max(finals, key=lambda c: (c.flops, c.run.run_id))
    return Target(size=last.run.size or "the largest size", train_tokens=last.run.train_tokens, flops=last.flops)


def end_checkpoints(records: Records) -> tuple[Checkpoint, ...]:
    """The last evaluated checkpoint of each finished run (see `FINAL_SHARE`)."""
    last: dict[str, Checkpoint] = {}
    for checkpoint in records.checkpoints():
        if checkpoint.domain_loss or checkpoint.performance:
            last[checkpoint.run.run_id] = checkpoint
    return tuple(c for c in last.values() if c.tokens >= FINAL_SHARE * c.run.train_tokens)


def sources_of(content: ReportContent) -> tuple[str, ...]:
    """All sources of the study's mixtures, sorted."""
    mixtures = [r.mixture for r in content.records.runs if r.mixture is not None]
    mixtures += [s.mixture for s in content.specs]
    return tuple(sorted({s for m in mixtures for s in m.sources}))


def axis_source(content: ReportContent) -> str | None:
    """The source whose ratio is the horizontal axis and the colour scale.

    Of the sources whose ratio varies it is the one with the least share on average; None where none varies.
    """
    mixtures = [r.mixture for r in content.records.of_purpose("sampling").runs if r.mixture is not None]
    mixtures = mixtures or [s.mixture for s in content.specs if s.purpose == "sampling"]
    varying = {
        source: ratios
        for source in sorted({s for m in mixtures for s in m.sources})
        if len(set(ratios := [m.ratio(source) for m in mixtures])) > 1
    }
    return min(varying, key=lambda s: (math.fsum(varying[s]) / len(varying[s]), s), default=None)


def objective_value(
    content: ReportContent, checkpoint: Checkpoint, objective: str
) -> tuple[float, float | None] | None:
    """A checkpoint's measured value of an objective, with its standard error.

    Args:
        content: Gives the tasks of the mean (those the surrogate predicts) and their weights.
        checkpoint: Where it was measured.
        objective: `mean` or a task.

    Returns:
        Value and standard error (None where a task has none), or None where a task was not measured.
    """
    if objective != MEAN:
        value = checkpoint.performance.get(objective)
        return None if value is None else (value, checkpoint.stderr.get(("performance", objective)))
    tasks = content.surrogate.tasks if content.surrogate is not None else ()
    total = math.fsum(content.weight(t) for t in tasks)
    if total <= 0 or any(t not in checkpoint.performance for t in tasks):
        return None
    value = math.fsum(content.weight(t) * checkpoint.performance[t] for t in tasks) / total
    errors = [checkpoint.stderr.get(("performance", t)) for t in tasks]
    known = [e for e in errors if e is not None]
    if len(known) < len(tasks):
        return value, None
    # Tasks are made of different items, so their errors are taken as independent.
    squares = math.fsum((content.weight(t) * e) ** 2 for t, e in zip(tasks, known, strict=True))
    return value, math.sqrt(squares) / total


def emerged(task: Task, score: float) -> bool:
    """Whether a score is at chance plus the margin or above (up to that sum's rounding, as in the fit)."""
    return score >= task.random_performance + task.emergence_margin - 1e-9


def slice_through(mixture: Mixture, source: str, ratio: float) -> Mixture:
    """The mixture with one source at `ratio` and the others in their old proportion to each other."""
    others = {s: mixture.ratio(s) for s in mixture.sources if s != source}
    rest = math.fsum(others.values())
    shares = {s: (r / rest if rest > 0 else 1 / len(others)) * (1 - ratio) for s, r in others.items()}
    return Mixture.of({source: ratio} | shares)


def slice_predictions(
    content: ReportContent, centre: Mixture, source: str, target: Target
) -> tuple[tuple[float, ...], list[SurrogatePrediction]]:
    """Predictions at the target along one source's ratio, over the range that was trained and proposed."""
    if content.surrogate is None or len(centre.sources) < 2:
        return (), []
    trained = [r.mixture.ratio(source) for r in content.records.runs if r.mixture is not None]
    seen = [*trained, centre.ratio(source), *(p.mixture.ratio(source) for p in content.proposals)]
    x = tuple(float(v) for v in np.linspace(min(seen), max(seen), _CURVE_POINTS))
    return x, content.surrogate.predict([slice_through(centre, source, v) for v in x], target.flops)


def score_points(
    content: ReportContent, objective: str, source: str, target: Target, centre: Mixture
) -> tuple[Point, ...]:
    """Measured scores at the target's size, against the ratio of one source; grid, targets and validation."""
    found = []
    for checkpoint in end_checkpoints(content.records):
        run = checkpoint.run
        measured = objective_value(content, checkpoint, objective)
        if run.mixture is None or measured is None or not _at_target(checkpoint, target):
            continue
        ratio = run.mixture.ratio(source)
        found.append(
            Point(
                x=ratio,
                y=measured[0],
                error=measured[1],
                purpose=run.purpose,
                on_slice=_close(run.mixture, slice_through(centre, source, ratio)),
            )
        )
    return tuple(found)


def final_predictions(content: ReportContent) -> dict[str, SurrogatePrediction]:
    """What the surrogate says of every finished run with a mixture, by run id."""
    if content.surrogate is None:
        return {}
    groups: defaultdict[float, list[tuple[str, Mixture]]] = defaultdict(list)
    for checkpoint in end_checkpoints(content.records):
        if checkpoint.run.mixture is not None:
            groups[checkpoint.flops].append((checkpoint.run.run_id, checkpoint.run.mixture))
    found: dict[str, SurrogatePrediction] = {}
    for flops, group in groups.items():
        predictions = content.surrogate.predict([mixture for _, mixture in group], flops)
        found |= {run_id: p for (run_id, _), p in zip(group, predictions, strict=True)}
    return found


def predicted_points(
    content: ReportContent, predictions: dict[str, SurrogatePrediction], kind: str, name: str
) -> tuple[Point, ...]:
    """Measured (x) against predicted (y): a domain's loss, or a task's score where it has emerged."""
    found = []
    for checkpoint in end_checkpoints(content.records):
        said = predictions.get(checkpoint.run.run_id)
        if said is None:
            continue
        measured = (checkpoint.domain_loss if kind == "domain_loss" else checkpoint.performance).get(name)
        expected = (said.domain_loss if kind == "domain_loss" else said.performance).get(name)
        if measured is None or expected is None:
            continue
        # Stage 2 is fitted on emerged checkpoints alone and says nothing of scores at chance.
        if kind == "performance" and not emerged(content.records.task(name), measured):
            continue
        found.append(
            Point(
                x=measured,
                y=expected.mean,
                error=checkpoint.stderr.get((kind, name)),
                purpose=checkpoint.run.purpose,
                low=expected.low,
                high=expected.high,
            )
        )
    return tuple(found)


def _at_target(checkpoint: Checkpoint, target: Target) -> bool:
    run = checkpoint.run
    flops = checkpoint.flops * run.train_tokens / checkpoint.tokens
    same_size = abs(flops / target.flops - 1) <= SAME_COST if run.size is None else run.size == target.size
    return same_size and abs(run.train_tokens / target.train_tokens - 1) <= SAME_COST


def _close(a: Mixture, b: Mixture) -> bool:
    return all(abs(a.ratio(s) - b.ratio(s)) < 1e-3 for s in {*a.sources, *b.sources})
