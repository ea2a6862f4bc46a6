"""Finished runs from a folder of CSV or Parquet files: the form that `flp_ray.store.export` writes.

Every fault is reported with the file, the row and the column. In CSV files rows are counted as lines of the
file, the header being line 1; in Parquet files the first row is row 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import DEFAULT_EMERGENCE_MARGIN, Measurement, MeasurementKind, Records, Run, Task
from flp_ray.core.run import Purpose
from flp_ray.errors import ConfigError, RecordsError
from flp_ray.store.export import RATIO_PREFIX
from flp_ray.store.reader import measurements_of

_REQUIRED: dict[str, dict[str, pa.DataType]] = {
    "runs": {"run_id": pa.string(), "purpose": pa.string(), "params": pa.int64(), "train_tokens": pa.int64()},
    "measurements": {
        "run_id": pa.string(),
        "tokens": pa.int64(),
        "flops": pa.float64(),
        "kind": pa.string(),
        "name": pa.string(),
        "value": pa.float64(),
    },
    "tasks": {"task": pa.string(), "random_performance": pa.float64()},
}
_OPTIONAL: dict[str, dict[str, pa.DataType]] = {
    "runs": {"non_embedding_params": pa.int64(), "size": pa.string()},
    "measurements": {"stderr": pa.float64(), "items": pa.int64()},
    "tasks": {"emergence_margin": pa.float64()},
}
_KEYS = {"runs": ("run_id",), "measurements": ("run_id", "tokens", "kind", "name"), "tasks": ("task",)}


def read_records(folder: str | Path) -> Records:
    """Reads runs, measurements and, where there are any, tasks.

    Args:
        folder: A folder with `runs` and `measurements`, each as `.csv` or `.parquet`; `tasks` may be missing.

    Returns:
        The records; columns that they have no place for are ignored.

    Raises:
        RecordsError: A file or a column is missing; a value is missing, of the wrong type or out of range;
            a row comes twice; ratios do not sum to 1; a measurement's run is not in `runs`.
    """
    folder = Path(folder)
    runs, measurements = _read(folder, "runs"), _read(folder, "measurements")
    if runs is None or measurements is None:
        name = "runs" if runs is None else "measurements"
        raise RecordsError(f"The folder {folder} has no {name}.csv and no {name}.parquet; records need both tables.")
    tasks = _read(folder, "tasks")
    _check_runs(runs)
    _check_measurements(measurements, runs)
    if tasks is not None:
        _check_tasks(tasks)
    known = measurements.rows.select([f.name for f in fields(Measurement) if f.name in measurements.rows.schema.names])
    return Records(
        runs=_runs(runs),
        measurements=tuple(measurements_of(known)),
        tasks=() if tasks is None else _tasks(tasks),
    )


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A table with the file that it came from."""

    path: Path
    rows: pa.Table

    def fail(self, position: int, column: str, why: str) -> NoReturn:
        """Raises the error for the row at a position (0 is the first)."""
        raise RecordsError(f"{self.path}, {self.place(position)}, column {column}: {why}")

    def place(self, position: int) -> str:
        """A row for a message."""
        return f"line {position + 2}" if self.path.suffix == ".csv" else f"row {position + 1}"

    def require(self, column: str, holds: Callable[[pa.ChunkedArray], pa.ChunkedArray], rule: str) -> None:
        """Fails at the first value for which a condition does not hold; missing values are passed over."""
        values = self.rows[column]
        position = pc.index(pc.fill_null(holds(values), True), False).as_py()
        if position >= 0:
            self.fail(position, column, f"received {values[position].as_py()!r}; {rule}.")


def _read(folder: Path, name: str) -> _Sheet | None:
    found = [path for path in (folder / f"{name}.csv", folder / f"{name}.parquet") if path.exists()]
    if not found:
        return None
    if len(found) == 2:
        raise RecordsError(f"The folder {folder} has both {name}.csv and {name}.parquet; leave one of them.")
    path = found[0]
    try:
        rows = _read_csv(path, name) if path.suffix == ".csv" else pq.read_table(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RecordsError(f"{path} cannot be read: {error}.") from error
    missing = [column for column in _REQUIRED[name] if column not in rows.schema.names]
    if missing:
        raise RecordsError(
            f"{path} has no column {', '.join(missing)}; it needs {', '.join(_REQUIRED[name])} "
            f"and has {', '.join(rows.schema.names)}."
        )
    sheet = _Sheet(path, _typed(path, rows, name))
    for column in _REQUIRED[name]:
        sheet.require(column, pc.is_valid, "every row needs a value, and what was not measured has no row")
    for field in sheet.rows.schema:
        if pa.types.is_floating(field.type) and field.name in _types(name, sheet.rows.schema.names):
            sheet.require(field.name, pc.is_finite, "only finite numbers count, and a missing one is left empty")
    _check_unique(sheet, _KEYS[name])
    return sheet


def _types(name: str, columns: list[str]) -> dict[str, pa.DataType]:
    ratios = {column: pa.float64() for column in columns if name == "runs" and column.startswith(RATIO_PREFIX)}
    known = _REQUIRED[name] | _OPTIONAL[name] | ratios
    return {column: known[column] for column in columns if column in known}


def _read_csv(path: Path, name: str) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    twice = {column for column in header if header.count(column) > 1}
    if twice:
        raise RecordsError(f"{path}, line 1: the column {sorted(twice)[0]} comes twice.")
    try:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),  # with threads an error does not name its line
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=_types(name, header), null_values=[""], strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid as error:
        fault = re.search(r"In CSV column #(\d+): Row #(\d+): (?:CSV conversion error to [^:]*: )?(.*)", str(error))
        if fault is None:
            raise
        raise RecordsError(f"{path}, line {fault[2]}, column {header[int(fault[1])]}: {fault[3]}.") from error


def _typed(path: Path, rows: pa.Table, name: str) -> pa.Table:
    for column, kind in _types(name, rows.schema.names).items():
        try:
            position = rows.schema.get_field_index(column)
            rows = rows.set_column(position, column, rows[column].cast(kind))
        except pa.ArrowException as error:
            raise RecordsError(
                f"{path}, column {column}: needs {kind}, received {rows[column].type} ({error})."
            ) from error
    return rows


def _check_unique(sheet: _Sheet, key: tuple[str, ...]) -> None:
    seen: dict[tuple[Any, ...], int] = {}
    for position, values in enumerate(zip(*(sheet.rows[column].to_pylist() for column in key), strict=True)):
        first = seen.setdefault(values, position)
        if first != position:
            shown = ", ".join(f"{column}={value}" for column, value in zip(key, values, strict=True))
            again = f"{shown} comes twice, first in {sheet.place(first)}; leave one of them."
            sheet.fail(position, key[-1], again)


def _check_runs(runs: _Sheet) -> None:
    runs.require("purpose", _one_of(get_args(Purpose)), f"allowed: {', '.join(get_args(Purpose))}")
    for column in ("params", "train_tokens", "non_embedding_params"):
        if column in runs.rows.schema.names:
            runs.require(column, _above_zero, "must be above 0")


def _check_measurements(measurements: _Sheet, runs: _Sheet) -> None:
    kinds = get_args(MeasurementKind)
    measurements.require("kind", _one_of(kinds), f"allowed: {', '.join(kinds)}")
    known = runs.rows["run_id"].combine_chunks()
    measurements.require("run_id", lambda ids: pc.is_in(ids, value_set=known), f"no such run in {runs.path.name}")
    measurements.require("tokens", _above_zero, "must be above 0")
    measurements.require("flops", _above_zero, "must be above 0")
    score = pc.equal(measurements.rows["kind"], "performance")
    measurements.require(
        "value",
        lambda values: pc.or_(pc.invert(score), _share(values)),
        "performance is 0 to 1 (divide percent by 100)",
    )
    measurements.require("value", _not_negative, "losses and bits per byte are not negative")
    for column in ("stderr", "items"):
        if column in measurements.rows.schema.names:
            measurements.require(column, _not_negative, "must not be negative")


def _check_tasks(tasks: _Sheet) -> None:
    for column in ("random_performance", "emergence_margin"):
        if column in tasks.rows.schema.names:
            tasks.require(column, _share, "must be 0 to 1")


def _one_of(values: tuple[str, ...]) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda column: pc.is_in(column, value_set=pa.array(values))


def _above_zero(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.greater(values, 0)


def _not_negative(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.greater_equal(values, 0)


def _share(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, 1))


def _runs(sheet: _Sheet) -> tuple[Run, ...]:
    ratios = [name for name in sheet.rows.schema.names if name.startswith(RATIO_PREFIX)]
    carried = [f.name for f in fields(Run) if f.name in sheet.rows.schema.names]
    runs = []
    for position, row in enumerate(sheet.rows.to_pylist()):
        given = {name.removeprefix(RATIO_PREFIX): row[name] for name in ratios if row[name] is not None}
        try:
            mixture = Mixture.of(given) if given else None
        except ConfigError as error:
            sheet.fail(position, f"{RATIO_PREFIX}*", str(error))
        runs.append(Run(**{name: row[name] for name in carried}, mixture=mixture))
    return tuple(runs)


def _tasks(sheet: _Sheet) -> tuple[Task, ...]:
    return tuple(
        Task(
            task=row["task"],
            random_performance=row["random_performance"],
            emergence_margin=DEFAULT_EMERGENCE_MARGIN
            if row.get("emergence_margin") is None
            else row["emergence_margin"],
        )
        for row in sheet.rows.to_pylist()
    )
