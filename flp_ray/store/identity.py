"""What makes a row the same row: the checks of a batch, and the index of keys that are already stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flp_ray.errors import ConflictError, RecordsError
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


class KeyIndex:
    """The keys of one table with a hash of what is stored under each; about 200 bytes a row.

    Args:
        table: The table's name.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._form = form_of(table)
        self._stored: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._stored)

    def add(self, entries: Mapping[bytes, int]) -> None:
        """Takes over entries that are now stored."""
        self._stored.update(entries)

    def load(self, rows: pa.Table) -> None:
        """Takes over rows read from the table."""
        self._stored.update(self._entries(rows))

    def _entries(self, rows: pa.Table) -> Iterator[tuple[bytes, int]]:
        # repr of a float is exact and tells -0.0 from 0.0, so equal text means equal bits.
        keys = zip(*(rows[name].to_pylist() for name in self._form.key), strict=True)
        if not self._form.identity:
            return ((_digest(key), 0) for key in keys)
        values = zip(*(rows[name].to_pylist() for name in self._form.identity), strict=True)
        return ((_digest(key), hash(repr(value))) for key, value in zip(keys, values, strict=True))

    def new_rows(
        self, rows: pa.Table, stored_row: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> tuple[pa.Table, dict[bytes, int]]:
        """Those rows that are not stored yet; the index itself does not change.

        Args:
            rows: A batch in the table's schema.
            stored_row: Finds the stored row of a key, for the message of a conflict.

        Returns:
            The new rows, and their entries for `add`.

        Raises:
            ConflictError: A key is stored, or comes twice in the batch, with different values.
        """
        entries: dict[bytes, int] = {}
        positions: list[int] = []
        for position, (key, value) in enumerate(self._entries(rows)):
            known = self._stored.get(key, entries.get(key))
            if known is None:
                entries[key] = value
                positions.append(position)
            elif known != value:
                raise self._conflict(rows, position, stored_row if key in self._stored else None)
        return (rows if len(positions) == rows.num_rows else rows.take(pa.array(positions, pa.int64()))), entries

    def _conflict(
        self,
        rows: pa.Table,
        position: int,
        stored_row: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None,
    ) -> ConflictError:
        received = rows.slice(position, 1).to_pylist()[0]
        key = {name: received[name] for name in self._form.key}
        if stored_row is None:
            earlier = rows.slice(0, position).to_pylist()
            stored = next(row for row in reversed(earlier) if all(row[name] == key[name] for name in key))
        else:
            stored = dict(stored_row(key))
        differing = [name for name in self._form.identity if repr(stored[name]) != repr(received[name])]
        where = "earlier in the same batch" if stored_row is None else "stored"
        return ConflictError(
            f"Table {self._table}, {key_in_words(key)}: {where} "
            f"{key_in_words({name: stored[name] for name in differing})}; "
            f"received {key_in_words({name: received[name] for name in differing})}. "
            f"A stored row is never changed, and nothing of this batch was stored. "
            f"If the new value is the right one, start again in another study folder."
        )


def _digest(key: tuple[Any, ...]) -> bytes:
    return blake2b(repr(key).encode(), digest_size=16).digest()
