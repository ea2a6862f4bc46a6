"""The tables of a study folder: columns, keys, and which columns make a stored row what it is.

    runs          one row per planned run
    measurements  one row per measured value
    tasks         one row per benchmark task
    attempts      what happened to a run: started, finished, failed
    fits          one row per fit
    proposals     one row per proposed mixture
    experiments   one row per proposal: the prediction and what it is held against, before its validation runs
    comparisons   one row per proposal and its finished validation runs
    decisions     one row per decision of a search in rounds: the run it chose and why, or its end
    tunings       one row per event of a tuning trial: measured at a rung, stopped, diverged
    tuned         one row per law that carries tuned hyperparameters to other sizes
    stages        where a session's time went

A row's identity is its key and every column that says *what* was stored. The other columns only say when,
where or how fast (`circumstance`): they may differ when the same row is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from flp_ray.core.records import MeasurementKind
from flp_ray.core.run import Purpose
from flp_ray.core.search import DecisionKind
from flp_ray.core.tuning import TrialEvent
from flp_ray.errors import StorageError

SCHEMA_VERSION = 1
"""Written into every table; a table of another version is refused. An optional column more is no new version."""

AttemptEvent = Literal["started", "finished", "failed"]
"""What happened to one attempt at a run, in this order; `finished` and `failed` exclude each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """What one table holds.

    Attributes:
        schema: Columns; those that may be missing are nullable.
        key: Columns that name a row; no two rows of a table share them.
        circumstance: Columns outside the row's identity.
        allowed: Values a column is limited to, where it is.
    """

    schema: pa.Schema
    key: tuple[str, ...]
    circumstance: frozenset[str] = frozenset()
    allowed: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """Columns that must be equal, bit for bit, when a key arrives again."""
        return tuple(name for name in self.schema.names if name not in self.circumstance and name not in self.key)


_TIME = pa.timestamp("us", tz="UTC")


def _schema(required: dict[str, pa.DataType], optional: dict[str, pa.DataType] | None = None) -> pa.Schema:
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in required.items()]
        + [pa.field(name, kind) for name, kind in (optional or {}).items()]
    )


TABLES: dict[str, TableForm] = {
    "runs": TableForm(
        schema=_schema(
            {
                "run_id": pa.string(),
                "purpose": pa.string(),
                "size": pa.string(),
                "params": pa.int64(),
                "non_embedding_params": pa.int64(),
                "train_tokens": pa.int64(),
                "flops": pa.float64(),
                "mixture": pa.string(),  # JSON: ratio by source
                "spec": pa.string(),  # JSON: RunSpec.to_dict()
            }
        ),
        key=("run_id",),
        # The id is the hash of the rest; a run may come to serve another purpose, and its mixture may come to name a
        # source that the study has gained, at ratio 0.
        circumstance=frozenset({"purpose", "mixture", "spec"}),
        allowed=(("purpose", get_args(Purpose)),),
    ),
    "measurements": TableForm(
        schema=_schema(
            {
                "run_id": pa.string(),
                "tokens": pa.int64(),
                "flops": pa.float64(),
                "kind": pa.string(),
                "name": pa.string(),
                "value": pa.float64(),
            },
            {"stderr": pa.float64(), "items": pa.int64()},
        ),
        key=("run_id", "tokens", "kind", "name"),
        allowed=(("kind", get_args(MeasurementKind)),),
    ),
    "tasks": TableForm(
        schema=_schema(
            {
                "task": pa.string(),
                "random_performance": pa.float64(),
                "emergence_margin": pa.float64(),
                "recorded": _TIME,  # a study file may describe a task anew; the latest description counts
            },
            {"version": pa.string()},
        ),
        key=("task", "recorded"),
    ),
    "attempts": TableForm(
        schema=_schema(
            {"run_id": pa.string(), "attempt": pa.int64(), "event": pa.string(), "at": _TIME},
            {
                "reason": pa.string(),
                "start_seconds": pa.float64(),
                "train_seconds": pa.float64(),
                "measure_seconds": pa.float64(),
                "save_seconds": pa.float64(),
                "tokens_per_second": pa.float64(),
                "flops_per_second": pa.float64(),
                "peak_bytes": pa.int64(),
                "node": pa.string(),
                "session": pa.string(),
                "mfu": pa.float64(),
                "micro_batch_sequences": pa.int64(),
                "workers": pa.int64(),
                "zero_stage": pa.int64(),
            },
        ),
        key=("run_id", "attempt", "event"),
        circumstance=frozenset(
            {
                "at",
                "start_seconds",
                "train_seconds",
                "measure_seconds",
                "save_seconds",
                "tokens_per_second",
                "flops_per_second",
                "peak_bytes",
                "node",
                "session",
                "mfu",
                "micro_batch_sequences",
                "workers",
                "zero_stage",
            }
        ),
        allowed=(("event", get_args(AttemptEvent)),),
    ),
    "fits": TableForm(
        schema=_schema(
            {
                "fit_id": pa.string(),
                "method": pa.string(),
                "observations": pa.int64(),
                "payload": pa.string(),  # JSON: Surrogate.to_dict()
                "created": _TIME,
            }
        ),
        key=("fit_id",),
        circumstance=frozenset({"created"}),
    ),
    "proposals": TableForm(
        schema=_schema(
            {
                "proposal_id": pa.string(),
                "fit_id": pa.string(),
                "objective": pa.string(),
                "mixture": pa.string(),  # JSON: ratio by source
                "size": pa.string(),
                "train_tokens": pa.int64(),
                "flops": pa.float64(),
                "expected": pa.float64(),
                "low": pa.float64(),
                "high": pa.float64(),
                "extrapolated": pa.bool_(),
                "payload": pa.string(),  # JSON: predictions by task and by domain
            }
        ),
        key=("proposal_id",),
    ),
    "experiments": TableForm(
        schema=_schema(
            {
                "proposal_id": pa.string(),
                "objective": pa.string(),
                "expected": pa.float64(),
                "low": pa.float64(),
                "high": pa.float64(),
                "payload": pa.string(),  # JSON: the proposal, the best known mixture, what is expected there
                "written": _TIME,
            }
        ),
        key=("proposal_id",),
        circumstance=frozenset({"written"}),  # the first time counts
    ),
    "comparisons": TableForm(
        schema=_schema({"proposal_id": pa.string(), "run_id": pa.string(), "payload": pa.string()}),
        key=("proposal_id", "run_id"),
    ),
    "decisions": TableForm(
        schema=_schema(
            {"number": pa.int64(), "kind": pa.string(), "question": pa.string(), "payload": pa.string(), "at": _TIME},
            {"run_id": pa.string()},
        ),
        key=("number",),
        circumstance=frozenset({"at"}),
        allowed=(("kind", get_args(DecisionKind)),),
    ),
    "tunings": TableForm(
        schema=_schema(
            {"run_id": pa.string(), "size": pa.string(), "tokens": pa.int64(), "event": pa.string(), "at": _TIME},
            {"loss": pa.float64(), "reason": pa.string()},  # nats per token, mean over the domains
        ),
        key=("run_id", "tokens", "event"),
        circumstance=frozenset({"at", "reason"}),
        allowed=(("event", get_args(TrialEvent)),),
    ),
    "tuned": TableForm(
        schema=_schema({"law_id": pa.string(), "payload": pa.string(), "created": _TIME}),  # JSON: TunedLaws.to_dict()
        key=("law_id",),
        circumstance=frozenset({"created"}),
    ),
    "stages": TableForm(
        schema=_schema(
            {"session": pa.string(), "stage": pa.string(), "seconds": pa.float64(), "started": _TIME},
            {"peak_bytes": pa.int64()},  # of the driver, since it began
        ),
        key=("session", "stage"),
        circumstance=frozenset({"seconds", "started", "peak_bytes"}),
    ),
}


def form_of(table: str) -> TableForm:
    """The form of a table by its name.

    Raises:
        StorageError: There is no such table.
    """
    if table not in TABLES:
        raise StorageError(f"There is no table {table!r} in a study folder; tables: {', '.join(TABLES)}.")
    return TABLES[table]


def tables_folder(folder: str | Path) -> Path:
    """Where a study folder keeps its tables."""
    return Path(folder) / "tables"
