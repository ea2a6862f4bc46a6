"""The single writer of a study's tables: append twice = append once, acknowledged = on the disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from flp_ray.errors import StorageError
from flp_ray.store.delta import (
    STORAGE_FAILURES,
    cause_in_words,
    commit,
    compact,
    create_table,
    damaged,
    dataset_of,
    not_written,
    open_table,
)
from flp_ray.store.identity import KeyIndex, conform
from flp_ray.store.lock import FolderLock
from flp_ray.store.tables import form_of, tables_folder

COMPACT_AFTER_FILES = 100
"""Files of a table that are merged into one; each commit adds a file."""

LOCK_WAIT_SECONDS = 30.0

_log = logging.getLogger(__name__)


class TableWriter:
    """Appends to the tables of one study folder, from one thread; no other process can while this one lives.

    Args:
        folder: The study folder; made where it is missing.
        wait_seconds: How long to wait for another writer to end.
        compact_after_files: Files of a table that are merged into one.

    Raises:
        StorageError: Another process writes this folder, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        wait_seconds: float = LOCK_WAIT_SECONDS,
        compact_after_files: int = COMPACT_AFTER_FILES,
    ) -> None:
        self.folder = Path(folder).absolute()
        self._compact_after_files = compact_after_files
        self._tables: dict[str, _OpenTable] = {}
        self._closed = False
        self._lock = FolderLock(tables_folder(self.folder), wait_seconds=wait_seconds)

    def append(self, table: str, batch: pa.Table | pa.RecordBatch) -> int:
        """Stores those rows of a batch that are not stored yet, all of them or none.

        Args:
            table: The table's name.
            batch: Rows with the table's columns; optional ones may be left out.

        Returns:
            How many rows were new. They are on the disk: nothing but the loss of the disk undoes them.

        Raises:
            ConflictError: A key is stored with another value; nothing of the batch was stored.
            RecordsError: The batch is not in the table's form; nothing of it was stored.
            StorageError: The table is damaged or cannot be written (disk full). The batch may be sent again.
        """
        if self._closed:
            raise StorageError(f"The writer of {self.folder} is closed; make a new TableWriter to append to {table}.")
        rows = conform(table, batch)
        if not rows.num_rows:
            return 0
        if table not in self._tables:
            self._tables[table] = _OpenTable(self.folder, table)
        opened = self._tables[table]
        fresh, entries = opened.index.new_rows(rows, opened.stored_row)
        if not fresh.num_rows:
            return 0
        # While the commit is under way its outcome is unknown. The table is put back once it is known; after
        # an error or an interrupt the next append reads the table again, so nothing comes twice.
        del self._tables[table]
        try:
            commit(opened.path, opened.table, fresh)
        except STORAGE_FAILURES as error:
            raise not_written(opened.path, error) from error
        opened.index.add(entries)
        opened.files += 1
        if opened.files < self._compact_after_files or self._compacted(opened):
            self._tables[table] = opened
        return len(entries)

    def _compacted(self, opened: _OpenTable) -> bool:
        try:
            compact(opened.path, opened.table)
            opened.files = len(opened.table.file_uris())
        except STORAGE_FAILURES as error:
            # The rows are safe already, so the append has not failed; the next one tries to merge again.
            _log.warning("Files of the table %s were not merged: %s.", opened.path, cause_in_words(error))
            return False
        return True

    def close(self) -> None:
        """Lets other processes write; a second call does nothing."""
        self._closed = True
        self._tables.clear()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _OpenTable:
    """A table that is being written, with the keys it holds."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = tables_folder(folder) / name
        self.index = KeyIndex(name)
        self._form = form_of(name)
        found = open_table(folder, name)
        self.table: DeltaTable = create_table(folder, name) if found is None else found
        if found is not None:
            self.index.load(self._read([*self._form.key, *self._form.identity]))
        self.files = len(self.table.file_uris())

    def stored_row(self, key: Mapping[str, Any]) -> Mapping[str, Any]:
        """The stored row of a key; for messages, so it may read the disk."""
        condition = pc.scalar(True)
        for name, value in key.items():
            condition = condition & (pc.field(name) == value)
        rows: list[Mapping[str, Any]] = self._read(None, condition).to_pylist()
        return rows[0]

    def _read(self, columns: list[str] | None, condition: pc.Expression | None = None) -> pa.Table:
        try:
            return dataset_of(self.table).to_table(columns=columns, filter=condition)
        except STORAGE_FAILURES as error:
            raise damaged(self.path, cause_in_words(error)) from error
