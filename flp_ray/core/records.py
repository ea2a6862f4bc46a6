"""Finished and running trainings as frozen values: what every stage after training works on.

The four tables of a study's records mirror the import form: runs, measurements and tasks. Everything here
is small and plain, so that a fit can be made from a folder of CSV files with nothing but numpy loaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Purpose

MeasurementKind = Literal["train_loss", "domain_loss", "performance", "bpb"]
"""`train_loss` and `domain_loss` in nats per token, `performance` 0 to 1, `bpb` bits per byte of the gold answer."""

DEFAULT_EMERGENCE_MARGIN = 0.05
"""How far above random performance a checkpoint must be to count as emerged (Chen et al. 2024, section 3.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run as the fits see it.

    Attributes:
        run_id: Unique name.
        purpose: `sampling` runs are fitted on; the others are only predicted and compared.
        params: All parameters.
        train_tokens: Tokens of the whole training.
        mixture: Share of the training tokens by source; None means one fixed distribution.
        non_embedding_params: Parameters without embeddings; None where nobody wrote them down.
        size: Name of the shape; None where nobody wrote it down.
    """

    run_id: str
    purpose: Purpose
    params: int
    train_tokens: int
    mixture: Mixture | None = None
    non_embedding_params: int | None = None
    size: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured value of one run at one checkpoint; (run_id, tokens, kind, name) is its key.

    Attributes:
        run_id: The run.
        tokens: Tokens seen at the checkpoint.
        flops: FLOPs spent at the checkpoint.
        kind: What was measured.
        name: The domain or the task; `train` for `train_loss`.
        value: The value, in the unit of its kind.
        stderr: Standard error of the value; None where it is not known.
        items: Number of items (sequences or questions) behind the value; None where it is not known.
    """

    run_id: str
    tokens: int
    flops: float
    kind: MeasurementKind
    name: str
    value: float
    stderr: float | None = None
    items: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A benchmark task.

    Attributes:
        task: Its name.
        random_performance: Chance level, 0 to 1.
        emergence_margin: How far above chance a checkpoint must be to count as emerged, 0 to 1.
        version: What its scores were measured with (task version, shots, sampling, lm-eval); None where nobody
            wrote it down.
    """

    task: str
    random_performance: float
    emergence_margin: float = DEFAULT_EMERGENCE_MARGIN
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All that was measured of one run at one token count.

    Attributes:
        run: The run.
        tokens: Tokens seen.
        flops: FLOPs spent.
        train_loss: Nats per token; None where it is not known.
        domain_loss: Nats per token by domain.
        performance: 0 to 1 by task.
        bpb: Bits per byte of the gold answer by task.
        stderr: Standard errors by (kind, name), where they are known.
    """

    run: Run
    tokens: int
    flops: float
    train_loss: float | None
    domain_loss: dict[str, float]
    performance: dict[str, float]
    bpb: dict[str, float]
    stderr: dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Runs, measurements and tasks; in one canonical order, so order of arrival changes nothing."""

    runs: tuple[Run, ...]
    measurements: tuple[Measurement, ...]
    tasks: tuple[Task, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple(sorted(self.runs, key=lambda r: r.run_id)))
        object.__setattr__(
            self,
            "measurements",
            tuple(sorted(self.measurements, key=lambda m: (m.run_id, m.tokens, m.kind, m.name))),
        )
        object.__setattr__(self, "tasks", tuple(sorted(self.tasks, key=lambda t: t.task)))

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of all validation domains, sorted."""
        return tuple(sorted({m.name for m in self.measurements if m.kind == "domain_loss"}))

    def task(self, name: str) -> Task:
        """One task by name; random performance 0 where the tables do not describe it."""
        return next((t for t in self.tasks if t.task == name), Task(task=name, random_performance=0.0))

    def of_purpose(self, *purposes: Purpose) -> Records:
        """The records of the runs of these purposes alone."""
        return self.of_runs(frozenset(r.run_id for r in self.runs if r.purpose in purposes))

    def of_runs(self, run_ids: Collection[str]) -> Records:
        """The records of these runs alone."""
        return Records(
            runs=tuple(r for r in self.runs if r.run_id in run_ids),
            measurements=tuple(m for m in self.measurements if m.run_id in run_ids),
            tasks=self.tasks,
        )

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Every (run, tokens) with what was measured there, by run id and then by tokens."""
        runs = {r.run_id: r for r in self.runs}
        groups: defaultdict[tuple[str, int], list[Measurement]] = defaultdict(list)
        for m in self.measurements:
            groups[m.run_id, m.tokens].append(m)
        return tuple(_checkpoint(runs[run_id], group) for (run_id, _), group in groups.items() if run_id in runs)

    def final_checkpoints(self) -> tuple[Checkpoint, ...]:
        """Each run's checkpoint with the most tokens."""
        last: dict[str, Checkpoint] = {}
        for checkpoint in self.checkpoints():
            last[checkpoint.run.run_id] = checkpoint
        return tuple(last.values())


def _checkpoint(run: Run, group: Iterable[Measurement]) -> Checkpoint:
    group = list(group)
    by_kind: dict[str, dict[str, float]] = defaultdict(dict)
    for m in group:
        by_kind[m.kind][m.name] = m.value
    return Checkpoint(
        run=run,
        tokens=group[0].tokens,
        flops=group[0].flops,
        train_loss=next(iter(by_kind["train_loss"].values()), None),
        domain_loss=by_kind["domain_loss"],
        performance=by_kind["performance"],
        bpb=by_kind["bpb"],
        stderr={(m.kind, m.name): m.stderr for m in group if m.stderr is not None},
    )
