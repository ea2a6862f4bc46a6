"""Finished runs from a folder of CSV or Parquet files: the form that `flp_ray.store.export` writes.

Every fault is reported with the file, the row and the column (`flp_ray.store.sheet`).
"""

from __future__ import annotations

import math
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import DEFAULT_EMERGENCE_MARGIN, Measurement, MeasurementKind, Records, Run, Task
from flp_ray.core.run import Purpose
from flp_ray.errors import ConfigError, RecordsError
from flp_ray.store.export import RATIO_PREFIX
from flp_ray.store.reader import measurements_of
from flp_ray.store.sheet import Sheet, read_sheet

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
            a row comes twice; ratios do not sum to 1, or some sampling runs have ratios and others none;
            a measurement's run is not in `runs`.
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


def _read(folder: Path, name: str) -> Sheet | None:
    found = [path for path in (folder / f"{name}.csv", folder / f"{name}.parquet") if path.exists()]
    if not found:
        return None
    if len(found) == 2:
        raise RecordsError(f"The folder {folder} has both {name}.csv and {name}.parquet; leave one of them.")
    path = found[0]
    sheet = read_sheet(path, partial(_types, name))
    columns = sheet.rows.schema.names
    missing = [column for column in _REQUIRED[name] if column not in columns]
    if missing:
        raise RecordsError(
            f"{path} has no column {', '.join(missing)}; it needs {', '.join(_REQUIRED[name])} "
            f"and has {', '.join(columns)}."
        )
    for column in _REQUIRED[name]:
        sheet.require_all(column)
    for field in sheet.rows.schema:
        if pa.types.is_floating(field.type) and field.name in _types(name, sheet.rows.schema.names):
            sheet.require(field.name, math.isfinite, "only finite numbers count, and a missing one is left empty")
    _check_unique(sheet, _KEYS[name])
    return sheet


def _types(name: str, columns: list[str]) -> dict[str, pa.DataType]:
    ratios = {column: pa.float64() for column in columns if name == "runs" and column.startswith(RATIO_PREFIX)}
    known = _REQUIRED[name] | _OPTIONAL[name] | ratios
    return {column: known[column] for column in columns if column in known}


def _check_unique(sheet: Sheet, key: tuple[str, ...]) -> None:
    columns = [sheet.rows[column].to_pylist() for column in key]
    if len(set(zip(*columns, strict=True))) == sheet.rows.num_rows:
        return
    seen: dict[tuple[Any, ...], int] = {}
    for position, values in enumerate(zip(*columns, strict=True)):
        first = seen.setdefault(values, position)
        if first != position:
            shown = ", ".join(f"{column}={value}" for column, value in zip(key, values, strict=True))
            again = f"{shown} comes twice, first in {sheet.place(first)}; leave one of them."
            sheet.fail(position, key[-1], again)


def _check_runs(runs: Sheet) -> None:
    purposes = get_args(Purpose)
    runs.require("purpose", purposes.__contains__, f"allowed: {', '.join(purposes)}")
    for column in ("params", "train_tokens", "non_embedding_params"):
        if column in runs.rows.schema.names:
            runs.require(column, _above_zero, "must be above 0")


def _check_measurements(measurements: Sheet, runs: Sheet) -> None:
    kinds = get_args(MeasurementKind)
    measurements.require("kind", kinds.__contains__, f"allowed: {', '.join(kinds)}")
    known = frozenset(runs.rows["run_id"].to_pylist())
    measurements.require("run_id", known.__contains__, f"no such run in {runs.path.name}")
    measurements.require("tokens", _above_zero, "must be above 0")
    measurements.require("flops", _above_zero, "must be above 0")
    pairs = zip(measurements.rows["kind"].to_pylist(), measurements.rows["value"].to_pylist(), strict=True)
    for position, (kind, value) in enumerate(pairs):
        if kind == "performance" and not _share(value):
            why = f"received {value!r}; performance is 0 to 1 (divide percent by 100)."
            measurements.fail(position, "value", why)
        if kind != "performance" and not _above_zero(value):
            measurements.fail(position, "value", f"received {value!r}; losses and bits per byte are above 0.")
    for column in ("stderr", "items"):
        if column in measurements.rows.schema.names:
            measurements.require(column, _not_negative, "must not be negative")


def _check_tasks(tasks: Sheet) -> None:
    for column in ("random_performance", "emergence_margin"):
        if column in tasks.rows.schema.names:
            tasks.require(column, _share, "must be 0 to 1")


def _above_zero(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _share(value: float) -> bool:
    return 0 <= value <= 1


def _runs(sheet: Sheet) -> tuple[Run, ...]:
    ratios = [name for name in sheet.rows.schema.names if name.startswith(RATIO_PREFIX)]
    plain = [f.name for f in fields(Run) if f.name in sheet.rows.schema.names and f.name != "mixture"]
    runs = []
    for position, row in enumerate(sheet.rows.select([*plain, *ratios]).to_pylist()):
        given = {name.removeprefix(RATIO_PREFIX): row[name] for name in ratios if row[name] is not None}
        try:
            mixture = Mixture.of(given) if given else None
        except ConfigError as error:
            sheet.fail(position, f"{RATIO_PREFIX}*", str(error))
        runs.append(Run(**{name: row[name] for name in plain}, mixture=mixture))
    _check_all_or_none(sheet, runs)
    return tuple(runs)


def _check_all_or_none(sheet: Sheet, runs: list[Run]) -> None:
    mixed = [run.mixture is not None for run in runs if run.purpose == "sampling"]
    if any(mixed) and not all(mixed):
        without = next(i for i, run in enumerate(runs) if run.purpose == "sampling" and run.mixture is None)
        sheet.fail(
            without,
            f"{RATIO_PREFIX}*",
            f"sampling run {runs[without].run_id} has no ratios, others have; give them to all sampling runs or none.",
        )


def _tasks(sheet: Sheet) -> tuple[Task, ...]:
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
