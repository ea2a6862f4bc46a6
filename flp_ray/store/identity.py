"""The checks of a batch: only rows in a table's form are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flp_ray.errors import RecordsError
from flp_ray.store.tables import TableForm, form_of


def conform(table: str, batch: pa.Table | pa.RecordBatch) -> pa.Table:
    """Brings a batch into a table's schema.

    Args:
        table: The table's name.
        batch: Rows with at least the table's required columns; column order is free.

    Returns:
        The same rows with exactly the table's columns; optional columns that were left out are null.

    Raises:
        RecordsError: A column is missing, unknown or of the wrong type, or a value is missing, not finite,
            or not one of those allowed.
    """
    form = form_of(table)
    given = set(batch.schema.names)
    required = {field.name for field in form.schema if not field.nullable}
    if len(given) != len(batch.schema.names) or given - set(form.schema.names) or required - given:
        raise RecordsError(
            f"A batch for the table {table} has the columns {', '.join(batch.schema.names)}; "
            f"it needs {', '.join(sorted(required))} and may have {', '.join(form.schema.names)}."
        )
    columns = []
    for field in form.schema:
        if field.name not in given:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(field.name)
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            raise RecordsError(
                f"Column {field.name} of the table {table} holds {field.type}, received {column.type}: {error}."
            ) from error
    rows = pa.table(columns, schema=form.schema)
    _check_values(table, form, rows)
    return rows


def _check_values(table: str, form: TableForm, rows: pa.Table) -> None:
    allowed = dict(form.allowed)
    for field in form.schema:
        column = rows[field.name]
        if not field.nullable and column.null_count:
            _refuse(table, form, rows, field.name, pc.is_null(column), "A missing value is an absent row")
        if pa.types.is_floating(field.type):
            bad = pc.invert(pc.fill_null(pc.is_finite(column), True))
            _refuse(
                table,
                form,
                rows,
                field.name,
                bad,
                "Only finite numbers are stored; a missing one is an absent row",
            )
        if field.name in allowed:
            bad = pc.invert(pc.is_in(column, value_set=pa.array(allowed[field.name])))
            _refuse(table, form, rows, field.name, bad, f"Allowed: {', '.join(allowed[field.name])}")


def _refuse(table: str, form: TableForm, rows: pa.Table, column: str, bad: pa.ChunkedArray, rule: str) -> None:
    position = pc.index(bad, True).as_py()
    if position >= 0:
        row = rows.slice(position, 1).to_pylist()[0]
        key = {name: row[name] for name in form.key}
        raise RecordsError(f"Table {table}, {key_in_words(key)}: {column} is {row[column]!r}. {rule}.")


def key_in_words(key: Mapping[str, Any]) -> str:
    """A row's key for a message."""
    return ", ".join(f"{name}={value}" for name, value in key.items())
