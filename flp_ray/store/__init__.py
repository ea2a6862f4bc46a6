"""Records <-> Arrow tables: what a study has planned, measured, fitted and proposed, kept in its folder.

    writer = TableWriter(folder)                  the only writer; append twice = append once
    writer.append("measurements", measurement_rows(measured))
    records = load_records(folder)                any process, at any time
    export_records(folder, out, form="csv")       the form that read_records reads back
    records = read_finished(folder)               a study, an export, or the two files of Olmix

Tables are Delta Lake tables under `folder/tables`; `flp_ray.store.tables` lists their columns and keys. A folder that
is the mirror of a study on an object store (`mount`) has them there: every function takes the folder all the same.
"""

from __future__ import annotations

from flp_ray.store.decisions import decision_row, load_decisions
from flp_ray.store.export import ExportForm, export_records
from flp_ray.store.finished import MIN_SAMPLING_RUNS, read_finished
from flp_ray.store.importing import read_records
from flp_ray.store.lock import FolderLock, lock_if_free
from flp_ray.store.losses import final_losses
from flp_ray.store.place import has_tables
from flp_ray.store.reader import (
    StoredFit,
    finished_runs,
    first_starts,
    load_comparisons,
    load_experiments,
    load_fits,
    load_proposals,
    load_records,
    load_specs,
    load_stages,
    load_tasks,
    read_table,
    recorded_checkpoints,
    run_states,
    table_version,
)
from flp_ray.store.remote import files_at, mount, storage_uri
from flp_ray.store.rows import (
    attempt_row,
    comparison_rows,
    experiment_rows,
    fit_row,
    measurement_rows,
    proposal_rows,
    run_rows,
    stage_row,
    task_rows,
)
from flp_ray.store.states import RunState
from flp_ray.store.swarm import read_swarm
from flp_ray.store.tables import SCHEMA_VERSION, TABLES, AttemptEvent, TableForm
from flp_ray.store.tunings import load_tuned, load_tunings, tuned_row, tuning_rows
from flp_ray.store.writer import TableWriter

__all__ = [
    "MIN_SAMPLING_RUNS",
    "SCHEMA_VERSION",
    "TABLES",
    "AttemptEvent",
    "ExportForm",
    "FolderLock",
    "RunState",
    "StoredFit",
    "TableForm",
    "TableWriter",
    "attempt_row",
    "comparison_rows",
    "decision_row",
    "experiment_rows",
    "export_records",
    "files_at",
    "final_losses",
    "finished_runs",
    "first_starts",
    "fit_row",
    "has_tables",
    "load_comparisons",
    "load_decisions",
    "load_experiments",
    "load_fits",
    "load_proposals",
    "load_records",
    "load_specs",
    "load_stages",
    "load_tasks",
    "load_tuned",
    "load_tunings",
    "lock_if_free",
    "measurement_rows",
    "mount",
    "proposal_rows",
    "read_finished",
    "read_records",
    "read_swarm",
    "read_table",
    "recorded_checkpoints",
    "run_rows",
    "run_states",
    "stage_row",
    "storage_uri",
    "table_version",
    "task_rows",
    "tuned_row",
    "tuning_rows",
]
