"""What has become of each planned run, from the rows that its attempts left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from flp_ray.core.run import Purpose
from flp_ray.store.tables import AttemptEvent

_ORDER: dict[str, int] = {event: rank for rank, event in enumerate(get_args(AttemptEvent))}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """One planned run and how far it has come.

    Attributes:
        run_id: The run.
        purpose: What its records may be used for.
        size: Name of its shape.
        train_tokens: Tokens of the whole training.
        flops: FLOPs of the whole training.
        mixture: Ratio by source.
        state: `planned` before any attempt; else the latest event. `started` may also mean that its process
            was killed: the table cannot tell.
        attempts: Attempts so far.
        reason: Why the latest attempt failed; None where it did not.
        at: When the latest event happened; None before any attempt.
        start_seconds: Seconds until training began, over all attempts; None where none was recorded.
        train_seconds: Seconds of training, likewise.
        measure_seconds: Seconds of measuring, likewise.
        save_seconds: Seconds of saving checkpoints, likewise.
        tokens_per_second: Training speed of the latest attempt that recorded one.
        flops_per_second: FLOP/s of the same.
        peak_bytes: Largest memory of any attempt.
        node: Where the latest attempt ran.
    """

    run_id: str
    purpose: Purpose
    size: str
    train_tokens: int
    flops: float
    mixture: dict[str, float]
    state: Literal["planned", "started", "failed", "finished"]
    attempts: int
    reason: str | None
    at: datetime | None
    start_seconds: float | None
    train_seconds: float | None
    measure_seconds: float | None
    save_seconds: float | None
    tokens_per_second: float | None
    flops_per_second: float | None
    peak_bytes: int | None
    node: str | None


def states_of(runs: Iterable[Mapping[str, Any]], attempts: Iterable[Mapping[str, Any]]) -> tuple[RunState, ...]:
    """The state of every run, by run id.

    Args:
        runs: Rows of `runs`, with the mixture as a mapping.
        attempts: Rows of `attempts`.
    """
    events: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in attempts:
        events[row["run_id"]].append(row)
    for rows in events.values():
        rows.sort(key=lambda row: (row["attempt"], _ORDER[row["event"]]))
    return tuple(_state(run, events[run["run_id"]]) for run in sorted(runs, key=lambda run: str(run["run_id"])))


def _state(run: Mapping[str, Any], events: list[Mapping[str, Any]]) -> RunState:
    finished = [row for row in events if row["event"] == "finished"]
    latest: Mapping[str, Any] = (finished or events or [{}])[-1]
    return RunState(
        run_id=run["run_id"],
        purpose=run["purpose"],
        size=run["size"],
        train_tokens=run["train_tokens"],
        flops=run["flops"],
        mixture=run["mixture"],
        state=latest.get("event", "planned"),
        attempts=max((row["attempt"] for row in events), default=0),
        reason=latest.get("reason"),
        at=latest.get("at"),
        start_seconds=_total(events, "start_seconds"),
        train_seconds=_total(events, "train_seconds"),
        measure_seconds=_total(events, "measure_seconds"),
        save_seconds=_total(events, "save_seconds"),
        tokens_per_second=_last(events, "tokens_per_second"),
        flops_per_second=_last(events, "flops_per_second"),
        peak_bytes=max((row["peak_bytes"] for row in events if row["peak_bytes"] is not None), default=None),
        node=_last(events, "node"),
    )


def _total(events: list[Mapping[str, Any]], column: str) -> float | None:
    known = [row[column] for row in events if row[column] is not None]
    return sum(known) if known else None


def _last(events: list[Mapping[str, Any]], column: str) -> Any:
    return next((row[column] for row in reversed(events) if row[column] is not None), None)
