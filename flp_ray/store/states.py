"""What has become of each planned run, from the rows that its attempts left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from flp_ray.core.run import Purpose
from flp_ray.store.tables import AttemptEvent


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
        mfu: Model FLOPs utilisation, 0 to 1, of the latest attempt that recorded one.
        workers: Data-parallel workers of the same.
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
    mfu: float | None
    workers: int | None


def states_of(runs: pa.Table, attempts: pa.Table) -> tuple[RunState, ...]:
    """The state of every run, by run id.

    Args:
        runs: Rows of `runs`.
        attempts: Rows of `attempts`.
    """
    rank = pc.index_in(attempts["event"], value_set=pa.array(get_args(AttemptEvent)))
    order = [(name, "ascending") for name in ("run_id", "attempt", "rank")]
    # Columns as lists: with 10,000 runs, rows as dictionaries take three times as long.
    events = attempts.append_column("rank", rank).sort_by(order).to_pydict()
    spans: dict[str, list[int]] = {}
    for position, run_id in enumerate(events["run_id"]):
        spans.setdefault(run_id, []).append(position)
    planned = runs.sort_by("run_id").select(list(_PLANNED)).to_pydict()
    mixtures = {text: json.loads(text) for text in set(planned["mixture"])}
    planned["mixture"] = [dict(mixtures[text]) for text in planned["mixture"]]
    rows = (dict(zip(_PLANNED, row, strict=True)) for row in zip(*planned.values(), strict=True))
    return tuple(RunState(**run, **_progress(events, spans.get(run["run_id"], []))) for run in rows)


_PLANNED = ("run_id", "purpose", "size", "train_tokens", "flops", "mixture")
_SUMMED = ("start_seconds", "train_seconds", "measure_seconds", "save_seconds")
_LATEST = ("tokens_per_second", "flops_per_second", "node", "mfu", "workers")


def _progress(events: Mapping[str, list[Any]], span: list[int]) -> dict[str, Any]:
    """What a run's events, at positions in their order, say of it."""
    finished = [position for position in span if events["event"][position] == "finished"]
    at = finished[-1] if finished else span[-1] if span else None
    known = {
        name: [value for position in span if (value := events[name][position]) is not None]
        for name in (*_SUMMED, *_LATEST, "peak_bytes")
    }
    return {
        "state": "planned" if at is None else events["event"][at],
        "attempts": events["attempt"][span[-1]] if span else 0,
        "reason": None if at is None else events["reason"][at],
        "at": None if at is None else events["at"][at],
        "peak_bytes": max(known["peak_bytes"], default=None),
        **{name: sum(known[name]) if known[name] else None for name in _SUMMED},
        **{name: known[name][-1] if known[name] else None for name in _LATEST},
    }
