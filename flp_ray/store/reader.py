"""Tables of a study folder back into Arrow and into values of `flp_ray.core`. Reading needs no lock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Comparison, Experiment, Prediction, Proposal
from flp_ray.core.records import Measurement, Records, Run, Task
from flp_ray.core.run import Purpose, RunSpec
from flp_ray.errors import StorageError
from flp_ray.store.delta import STORAGE_FAILURES, cause_in_words, damaged, dataset_of, open_table
from flp_ray.store.place import place_of
from flp_ray.store.rows import comparison_from_dict, proposal_from_dict
from flp_ray.store.states import RunState, states_of
from flp_ray.store.tables import form_of


def read_table(
    folder: str | Path, name: str, columns: Sequence[str] | None = None, filter: pc.Expression | None = None
) -> pa.Table:
    """One table of a study folder, at its newest version.

    Args:
        folder: The study folder.
        name: The table's name.
        columns: Columns to read; None reads all.
        filter: Condition on the rows, e.g. `pc.field("run_id") == "4f2a"`.

    Returns:
        The rows, in no particular order; an empty table where nothing has been stored yet.

    Raises:
        StorageError: The table is damaged or of another schema version.
    """
    schema = form_of(name).schema
    wanted = schema.names if columns is None else list(columns)
    if unknown := [column for column in wanted if column not in schema.names]:
        raise StorageError(f"The table {name} has no column {unknown[0]!r}; columns: {', '.join(schema.names)}.")
    narrowed = pa.schema([schema.field(column) for column in wanted])
    table = open_table(folder, name)
    if table is None:
        return narrowed.empty_table()
    place = place_of(folder, name)
    try:
        stored = dataset_of(place, table)
        present = [column for column in wanted if column in stored.schema.names]
        rows = stored.to_table(columns=present, filter=filter)
    except STORAGE_FAILURES as error:
        raise damaged(place, cause_in_words(error)) from error
    for column in set(wanted) - set(present):  # an earlier version of flp_ray made the table
        rows = rows.append_column(column, pa.nulls(rows.num_rows, narrowed.field(column).type))
    return rows.select(wanted).cast(narrowed)


def table_version(folder: str | Path, name: str) -> int:
    """How often a table has changed, merges of its files included; 0 while nothing is stored."""
    table = open_table(folder, name)
    return 0 if table is None else int(table.version())


def load_records(folder: str | Path, purposes: Sequence[Purpose] | None = None) -> Records:
    """What has been measured: runs with at least one measurement, their measurements, and the tasks.

    Args:
        folder: The study folder.
        purposes: Purposes to keep; None keeps all.

    Raises:
        StorageError: A table is damaged or of another schema version.
    """
    measurements = read_table(folder, "measurements")  # before the runs, which are stored first
    wanted = ["run_id", "purpose", "size", "params", "non_embedding_params", "train_tokens", "mixture"]
    measured = set(measurements["run_id"].unique().to_pylist())
    runs = [
        Run(**row | {"mixture": Mixture.of(json.loads(row["mixture"]))})
        for row in read_table(folder, "runs", wanted).to_pylist()
        if row["run_id"] in measured and (purposes is None or row["purpose"] in purposes)
    ]
    kept = {run.run_id for run in runs}
    return Records(
        runs=tuple(runs),
        measurements=tuple(m for m in measurements_of(measurements) if m.run_id in kept),
        tasks=load_tasks(folder),
    )


def load_tasks(folder: str | Path) -> tuple[Task, ...]:
    """The tasks, each as it was described last, by name; its version is the last that was measured with."""
    rows = read_table(folder, "tasks").sort_by([("task", "ascending"), ("recorded", "ascending")]).to_pylist()
    latest: dict[str, dict[str, Any]] = {}
    for row in rows:
        del row["recorded"]
        known = latest.get(row["task"], row)["version"]
        latest[row["task"]] = row | {"version": row["version"] or known}
    return tuple(Task(**row) for row in latest.values())


def measurements_of(rows: pa.Table) -> list[Measurement]:
    """Rows of `measurements` as values; columns that are absent are None."""
    absent = [None] * rows.num_rows
    columns = [
        rows[column.name].to_pylist() if column.name in rows.schema.names else absent for column in fields(Measurement)
    ]
    return [
        # In the order of the fields; written out, since this is where the time goes with 100,000 rows.
        Measurement(
            run_id=run_id, tokens=tokens, flops=flops, kind=kind, name=name, value=value, stderr=stderr, items=items
        )
        for run_id, tokens, flops, kind, name, value, stderr, items in zip(*columns, strict=True)
    ]


def load_specs(folder: str | Path, purpose: Purpose | None = None) -> tuple[RunSpec, ...]:
    """Every planned run, by run id.

    Args:
        folder: The study folder.
        purpose: Those of one purpose only; None takes all.

    Raises:
        StorageError: The table is damaged, or holds runs that this version of flp_ray cannot read.
    """
    return _specs(str(folder), _identity(folder, "runs"), purpose)


@lru_cache(maxsize=4)
def _specs(folder: str, version: tuple[str, int], purpose: Purpose | None) -> tuple[RunSpec, ...]:
    condition = None if purpose is None else pc.field("purpose") == purpose
    rows = read_table(folder, "runs", ["run_id", "spec"], condition).sort_by("run_id").to_pylist()
    specs = []
    for row in rows:
        try:
            specs.append(RunSpec.from_dict(json.loads(row["spec"])))
        except (TypeError, KeyError, ValueError) as error:
            raise StorageError(
                f"Run {row['run_id']} in {place_of(folder, 'runs')} was planned by another version "
                f"of flp_ray and cannot be read ({error}). Use that version, or another study folder."
            ) from error
    return tuple(specs)


def finished_runs(folder: str | Path) -> set[str]:
    """Ids of the runs that have an attempt which finished."""
    rows = read_table(folder, "attempts", ["run_id"], pc.field("event") == "finished")
    return set(rows["run_id"].to_pylist())


def recorded_checkpoints(folder: str | Path, run_id: str) -> set[int]:
    """Token counts at which a run has at least one measurement."""
    rows = read_table(folder, "measurements", ["tokens"], pc.field("run_id") == run_id)
    return set(rows["tokens"].to_pylist())


def run_states(folder: str | Path) -> tuple[RunState, ...]:
    """What has become of every planned run, by run id."""
    return _states(str(folder), _identity(folder, "runs"), _identity(folder, "attempts"))


@lru_cache(maxsize=4)
def _states(folder: str, runs: tuple[str, int], attempts: tuple[str, int]) -> tuple[RunState, ...]:
    events = read_table(folder, "attempts")
    return states_of(read_table(folder, "runs"), events)


def _identity(folder: str | Path, name: str) -> tuple[str, int]:
    """A table and its version, by which what was made of it is remembered: a plan asks for the same thrice."""
    table = open_table(folder, name)
    return ("", 0) if table is None else (str(table.metadata().id), int(table.version()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFit:
    """One row of `fits`.

    Attributes:
        fit_id: Identity of the fit: hash of its records and settings.
        method: `flp-m`, `flp` or `fp`.
        observations: Rows that the fit was made from.
        payload: The fit as a JSON value.
        created: When it was made.
    """

    fit_id: str
    method: str
    observations: int
    payload: dict[str, Any]
    created: datetime


def load_fits(folder: str | Path) -> tuple[StoredFit, ...]:
    """Every stored fit, the oldest first."""
    rows = read_table(folder, "fits").sort_by([("created", "ascending"), ("fit_id", "ascending")]).to_pylist()
    return tuple(StoredFit(**row | {"payload": json.loads(row["payload"])}) for row in rows)


def load_proposals(folder: str | Path, fit_id: str | None = None) -> tuple[Proposal, ...]:
    """Proposals by objective and then by id.

    Args:
        folder: The study folder.
        fit_id: The fit they come from; None takes those of all fits.
    """
    condition = None if fit_id is None else pc.field("fit_id") == fit_id
    rows = read_table(folder, "proposals", ["objective", "proposal_id", "payload"], condition)
    rows = rows.sort_by([("objective", "ascending"), ("proposal_id", "ascending")])
    return tuple(proposal_from_dict(json.loads(text)) for text in rows["payload"].to_pylist())


def load_experiments(folder: str | Path) -> tuple[Experiment, ...]:
    """What each proposal is held against, with the time when it was written, by proposal."""
    rows = read_table(folder, "experiments", ["proposal_id", "payload", "written"]).sort_by("proposal_id").to_pylist()
    made = []
    for row in rows:
        value = json.loads(row["payload"])
        known, expected = value["best_known"], value["best_known_expected"]
        made.append(
            Experiment(
                proposal=proposal_from_dict(value["proposal"]),
                best_known=Mixture.of(known) if known is not None else None,
                best_known_expected=Prediction(**expected) if expected is not None else None,
                written=row["written"].timestamp(),
            )
        )
    return tuple(made)


def first_starts(folder: str | Path) -> dict[str, float]:
    """When each run's first attempt began, in seconds since 1970, by run id; runs without one are absent."""
    rows = read_table(folder, "attempts", ["run_id", "at"], pc.field("event") == "started").to_pylist()
    first: dict[str, float] = {}
    for row in rows:
        at = row["at"].timestamp()
        first[row["run_id"]] = min(at, first.get(row["run_id"], at))
    return first


def load_comparisons(folder: str | Path) -> tuple[Comparison, ...]:
    """Comparisons by proposal and then by run."""
    rows = read_table(folder, "comparisons").sort_by([("proposal_id", "ascending"), ("run_id", "ascending")])
    return tuple(comparison_from_dict(json.loads(text)) for text in rows["payload"].to_pylist())


def load_stages(folder: str | Path) -> tuple[tuple[str, float], ...]:
    """Every recorded stage with its seconds, over all calls of the study, in the order of their start."""
    rows = read_table(folder, "stages").sort_by([("started", "ascending"), ("stage", "ascending")])
    return tuple((row["stage"], row["seconds"]) for row in rows.to_pylist())
