"""Records -> arrays: what each stage of the fit is given.

Only runs of purpose `sampling` pass through here, so that no measured answer can leak into the question.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Checkpoint, Measurement, Records, Run, Task
from flp_ray.errors import ConfigError, NotEnoughDataError, RecordsError

SINGLE_SOURCE = "all"
"""The one source of runs whose mixture nobody wrote down: one fixed distribution."""

COMMON_SHARE = 0.8
"""Share of the runs that a domain's loss must be known on: stage 2 takes only checkpoints that have all domains, so one
that a study gained late would cost it the earlier runs."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """Sampling runs as arrays; R runs, K sources, D domains, T tasks, P kept checkpoints. NaN is missing.

    Attributes:
        sources: Names of the sources, sorted.
        domains: Names of the domains, sorted.
        tasks: The tasks, sorted by name.
        run_ids: Names of the runs, sorted.
        ratios: Share of the training tokens, (R, K).
        flops: FLOPs of each run's final checkpoint, (R,).
        losses: Domain losses of the final checkpoints, nats per token, (R, D).
        performance: Scores of the final checkpoints, 0 to 1, (R, T).
        stderr: Standard errors of these scores, (R, T).
        point_run: Index of the run of each kept checkpoint, (P,).
        point_losses: Its domain losses, (P, D).
        point_performance: Its scores, (P, T).
    """

    sources: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[Task, ...]
    run_ids: tuple[str, ...]
    ratios: Array
    flops: Array
    losses: Array
    performance: Array
    stderr: Array
    point_run: Array
    point_losses: Array
    point_performance: Array

    def emerged_points(self, task: int) -> Array:
        """Which kept checkpoints count for a task, (P,): all losses known, score at least chance + margin."""
        complete = np.isfinite(self.point_losses).all(axis=1)
        passed: Array = complete & (self.point_performance[:, task] >= threshold(self.tasks[task]))
        return passed

    def emerged_finals(self, task: int) -> Array:
        """Which runs' final checkpoints have emerged on a task, (R,)."""
        passed: Array = self.performance[:, task] >= threshold(self.tasks[task])
        return passed


def threshold(task: Task) -> float:
    """The lowest score that counts as emerged; a rounding error below it counts too."""
    return task.random_performance + task.emergence_margin - 1e-9


def improving(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Drops the checkpoints whose training loss, rounded to two decimals, improves not on all before it.

    Args:
        checkpoints: The checkpoints of one run by tokens; those without a training loss are kept.

    Reference: Chen et al. 2024, section 3.3.
    """
    best = math.inf
    kept = []
    for checkpoint in checkpoints:
        if checkpoint.train_loss is not None:
            rounded = round(checkpoint.train_loss, 2)
            if rounded >= best:
                continue
            best = rounded
        kept.append(checkpoint)
    return kept


def observe(records: Records) -> Observations:
    """Arrays of the sampling runs; domains that too few of them have (`sparse_domains`) are left out.

    Args:
        records: Any records; runs of other purposes are left out.

    Raises:
        NotEnoughDataError: No sampling run has a domain loss.
        RecordsError: A value is impossible, or only some runs have a mixture.
    """
    records = records.of_purpose("sampling")
    for measurement in records.measurements:
        _check(measurement)
    of_run: dict[str, list[Checkpoint]] = {}
    for checkpoint in records.checkpoints():
        of_run.setdefault(checkpoint.run.run_id, []).append(checkpoint)
    runs = [r for r in records.runs if any(c.domain_loss for c in of_run.get(r.run_id, ()))]
    if not runs:
        raise NotEnoughDataError(
            f"No law can be fitted: of {len(records.runs)} sampling runs none has a domain loss. "
            f"Measure the domain losses of the runs' final checkpoints, then fit again."
        )
    sources = _sources(runs)
    tasks = _tasks(records)
    # Other rows (a training loss each step) may follow the last measured checkpoint.
    finals = [[c for c in of_run[r.run_id] if c.domain_loss][-1] for r in runs]
    sparse = _sparse(finals)
    domains = tuple(d for d in records.domains if d not in sparse)
    kept = [(i, c) for i, r in enumerate(runs) for c in improving(of_run[r.run_id]) if c.domain_loss]
    return Observations(
        sources=sources,
        domains=domains,
        tasks=tasks,
        run_ids=tuple(r.run_id for r in runs),
        ratios=np.array([_ratios(r.mixture, sources) for r in runs]),
        flops=np.array([c.flops for c in finals]),
        losses=_table([c.domain_loss for c in finals], domains),
        performance=_table([c.performance for c in finals], [t.task for t in tasks]),
        stderr=np.array([[c.stderr.get(("performance", t.task), np.nan) for t in tasks] for c in finals]),
        point_run=np.array([i for i, _ in kept], dtype=np.intp),
        point_losses=_table([c.domain_loss for _, c in kept], domains),
        point_performance=_table([c.performance for _, c in kept], [t.task for t in tasks]),
    )


def sparse_domains(records: Records) -> dict[str, str]:
    """Domains that too few sampling runs have a loss of, with the reason in words; no law is fitted to them.

    Args:
        records: Any records; runs of other purposes are left out.
    """
    last = {c.run.run_id: c for c in records.of_purpose("sampling").checkpoints() if c.domain_loss}
    return _sparse(list(last.values()))


def _sparse(finals: Sequence[Checkpoint]) -> dict[str, str]:
    known = Counter(domain for checkpoint in finals for domain in checkpoint.domain_loss)
    needed = min(math.ceil(COMMON_SHARE * len(finals)), max(known.values(), default=0))
    return {
        domain: f"Domain {domain} is left out of the laws: {count} of {len(finals)} sampling runs have its loss, "
        f"{needed} would be needed. Runs from before the study gained it are not measured again."
        for domain, count in sorted(known.items())
        if count < needed
    }


def ratio_rows(mixtures: Sequence[Mixture], sources: tuple[str, ...]) -> Array:
    """Ratios of several mixtures in the order of the sources, (n, K).

    Raises:
        ConfigError: A mixture has text of a source that is not among them.
    """
    for mixture in mixtures:
        unknown = [s for s, r in mixture.as_dict().items() if r > 0 and s not in sources]
        if unknown:
            raise ConfigError(
                f"The fit knows no source {unknown[0]!r} (mixture {mixture}). "
                f"Known: {', '.join(sources)}. Train sampling runs with this source, then fit again."
            )
    return np.array([_ratios(m, sources) for m in mixtures]).reshape(len(mixtures), len(sources))


def _check(m: Measurement) -> None:
    allowed = None
    if not (math.isfinite(m.value) and math.isfinite(m.flops) and m.flops > 0):
        allowed = "a finite number, at positive FLOPs"
    elif m.kind in ("domain_loss", "train_loss") and m.value <= 0:
        allowed = "more than 0 nats per token"
    elif m.kind == "performance" and not 0 <= m.value <= 1:
        allowed = "a fraction, 0 to 1"
    if allowed:
        raise RecordsError(
            f"Run {m.run_id} at {m.tokens} tokens: {m.kind} {m.name} is {m.value} at {m.flops:g} FLOPs; "
            f"it must be {allowed}. Correct or remove the row; a missing value is an absent row."
        )


def _sources(runs: Sequence[Run]) -> tuple[str, ...]:
    without = [r.run_id for r in runs if r.mixture is None]
    if not without:
        return tuple(sorted({s for r in runs if r.mixture is not None for s in r.mixture.sources}))
    if len(without) < len(runs):
        raise RecordsError(
            f"{len(without)} of {len(runs)} sampling runs have no mixture (the first: {without[0]}). "
            f"Give every run its mixing ratios, or none where all share one distribution."
        )
    return (SINGLE_SOURCE,)


def _ratios(mixture: Mixture | None, sources: tuple[str, ...]) -> list[float]:
    return [1.0] if mixture is None else [mixture.ratio(s) for s in sources]


def _tasks(records: Records) -> tuple[Task, ...]:
    names = {t.task for t in records.tasks} | {m.name for m in records.measurements if m.kind == "performance"}
    return tuple(records.task(n) for n in sorted(names))


def _table(rows: Sequence[dict[str, float]], names: Sequence[str]) -> Array:
    return np.array([[row.get(n, np.nan) for n in names] for row in rows]).reshape(len(rows), len(names))
