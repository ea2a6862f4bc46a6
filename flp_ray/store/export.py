"""A study's records in the form that other tools read and that `flp_ray.store.importing` reads back.

    runs.csv          run_id, purpose, params, non_embedding_params, train_tokens, ratio.SOURCE ...,
                      and carried along: size, flops, learning_rate, batch_sequences, sequence_length, seed
    measurements.csv  run_id, tokens, flops, kind, name, value, stderr, items
    tasks.csv         task, random_performance, emergence_margin

Rows are sorted by key and floats are exact, so two stores with equal records give the same bytes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from flp_ray.core.run import RunSpec
from flp_ray.errors import StorageError
from flp_ray.store.delta import STORAGE_FAILURES, cause_in_words
from flp_ray.store.reader import load_specs, load_tasks, read_table
from flp_ray.store.tables import form_of

RATIO_PREFIX = "ratio."
"""Before the source's name in a column of mixing ratios."""

_TASKS = pa.schema([("task", pa.string()), ("random_performance", pa.float64()), ("emergence_margin", pa.float64())])

ExportForm = Literal["csv", "parquet"]


def export_records(folder: str | Path, out: str | Path, *, form: ExportForm) -> dict[str, int]:
    """Writes runs, measurements and tasks of a study; runs without a measurement are left out.

    Each file appears at once or not at all. Runs come before measurements, and a study only grows, so an
    export over an older one of the same study can be read at any moment.

    Args:
        folder: The study folder.
        out: The folder to write into; made where it is missing.
        form: `csv` or `parquet`.

    Returns:
        Rows written by table.

    Raises:
        StorageError: `out` holds other files or cannot be written, or a table is damaged.
    """
    out = Path(out)
    measurements = read_table(folder, "measurements")  # before the runs, which are stored first
    measured = set(measurements["run_id"].unique().to_pylist())
    specs = [spec for spec in load_specs(folder) if spec.run_id in measured]
    tables = {
        "runs": _runs(specs),
        "tasks": pa.Table.from_pylist([asdict(task) for task in load_tasks(folder)], schema=_TASKS),
        "measurements": _sorted("measurements", measurements),
    }
    _prepare(out, {f"{name}.{form}" for name in tables})
    for name, table in tables.items():
        _write(out / f"{name}.{form}", table, form)
    return {name: table.num_rows for name, table in tables.items()}


def _runs(specs: Sequence[RunSpec]) -> pa.Table:
    sources = sorted({source for spec in specs for source in spec.mixture.sources})
    columns = {
        "run_id": pa.array([spec.run_id for spec in specs], pa.string()),
        "purpose": pa.array([spec.purpose for spec in specs], pa.string()),
        "params": pa.array([spec.params for spec in specs], pa.int64()),
        "non_embedding_params": pa.array([spec.shape.non_embedding_params for spec in specs], pa.int64()),
        "train_tokens": pa.array([spec.train_tokens for spec in specs], pa.int64()),
    }
    for source in sources:  # a source that a mixture does not name stays empty, so that it reads back as it was
        ratios = [spec.mixture.as_dict().get(source) for spec in specs]
        columns[RATIO_PREFIX + source] = pa.array(ratios, pa.float64())
    columns |= {
        "size": pa.array([spec.size for spec in specs], pa.string()),
        "flops": pa.array([spec.flops for spec in specs], pa.float64()),
        "learning_rate": pa.array([spec.learning_rate for spec in specs], pa.float64()),
        "batch_sequences": pa.array([spec.batch_sequences for spec in specs], pa.int64()),
        "sequence_length": pa.array([spec.sequence_length for spec in specs], pa.int64()),
        "seed": pa.array([spec.seed for spec in specs], pa.int64()),
    }
    return pa.table(columns).sort_by("run_id")


def _sorted(name: str, rows: pa.Table) -> pa.Table:
    return rows.sort_by([(column, "ascending") for column in form_of(name).key])


def _prepare(out: Path, names: set[str]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        foreign = sorted(
            path.name
            for path in out.iterdir()
            if path.name not in names and path.name.removesuffix(".partial") not in names
        )
    except OSError as error:
        raise _not_written(out, error) from error
    if foreign:
        shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise StorageError(
            f"The folder {out} holds files that are not part of this export: {shown}. "
            f"Allowed are {', '.join(sorted(names))}, which are replaced. Give an empty or a new folder."
        )


def _write(path: Path, table: pa.Table, form: ExportForm) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        if form == "csv":
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")  # writes a float as repr does: exactly
                writer.writerow(table.schema.names)
                writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
                file.flush()
                os.fsync(file.fileno())
        else:
            pq.write_table(table.combine_chunks(), partial, compression="zstd")
        partial.replace(path)
    except STORAGE_FAILURES as error:
        partial.unlink(missing_ok=True)
        raise _not_written(path, error) from error


def _not_written(path: Path, error: BaseException) -> StorageError:
    return StorageError(
        f"{path} could not be written: {cause_in_words(error)}. The study folder is as before. "
        f"Free space there or give another folder."
    )
