"""The single writer of a study's tables: append twice = append once, acknowledged = durable."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from flp_ray.errors import ConflictError, FlpRayError, InputError, StorageError
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
    small_files,
    widen,
)
from flp_ray.store.identity import conform
from flp_ray.store.keys import KeyIndex
from flp_ray.store.lock import FolderLock
from flp_ray.store.place import place_of
from flp_ray.store.recall import Recall
from flp_ray.store.tables import form_of, tables_folder

COMPACT_AFTER_FILES = 100
"""Small files of a table that are merged; each commit adds a file."""

LOCK_WAIT_SECONDS = 30.0

_SWEEP_SECONDS = 600.0
"""How often replaced files are removed, at most; it lists the table's whole folder."""

_log = logging.getLogger(__name__)


class TableWriter:
    """Appends to the tables of one study folder, from one thread; no other process can while this one lives.

    Where the folder mirrors a study on an object store, the lock holds on this machine alone; a writer on another one
    is refused by the store, at the first commit for which its view of the table is not the newest.

    Args:
        folder: The study folder; made where it is missing.
        wait_seconds: How long to wait for another writer to end.
        compact_after_files: Small files of a table that are merged.

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
        self._recall = Recall()
        self._closed = False
        self._lock = FolderLock(tables_folder(self.folder), wait_seconds=wait_seconds)

    def append(self, table: str, batch: pa.Table | pa.RecordBatch) -> int:
        """Stores those rows of a batch that are not stored yet, all of them or none.

        Args:
            table: The table's name.
            batch: Rows with the table's columns; optional ones may be left out.

        Returns:
            How many rows were new. They are durable: nothing but the loss of the disk undoes them.

        Raises:
            ConflictError: A key is stored with another value; nothing of the batch was stored.
            RecordsError: The batch is not in the table's form; nothing of it was stored.
            StorageError: The table is damaged or cannot be written (disk full). The batch may be sent again.
        """
        (outcome,) = self.append_many([(table, batch)])
        if isinstance(outcome, FlpRayError):
            raise outcome
        return outcome

    def append_many(self, batches: Sequence[tuple[str, pa.Table | pa.RecordBatch]]) -> list[int | FlpRayError]:
        """Stores batches as `append` does, with one commit a table: the tables in the order of their first batch.

        A batch that rests on another must be sent after that one is acknowledged, not with it.

        Args:
            batches: Tables' names with rows.

        Returns:
            For each batch how many of its rows were new, or the error that `append` raises for it; an error of one
            batch leaves the others as they are.
        """
        outcomes: list[int | FlpRayError] = [0] * len(batches)
        by_table: dict[str, list[int]] = {}
        for position, (table, _) in enumerate(batches):
            by_table.setdefault(table, []).append(position)
        for table, positions in by_table.items():
            try:
                stored = self._append(table, [batches[position][1] for position in positions])
            except InputError as error:  # the table: all its batches share that
                stored = [error] * len(positions)
            for position, outcome in zip(positions, stored, strict=True):
                outcomes[position] = outcome
        return outcomes

    def _append(self, table: str, batches: Sequence[pa.Table | pa.RecordBatch]) -> list[int | FlpRayError]:
        outcomes: list[int | FlpRayError] = []
        conformed: list[pa.Table | FlpRayError] = []
        for batch in batches:
            try:
                conformed.append(conform(table, batch))
            except InputError as error:
                conformed.append(error)
        if not any(isinstance(rows, pa.Table) and rows.num_rows for rows in conformed):
            return [0 if isinstance(rows, pa.Table) else rows for rows in conformed]
        opened = self._opened(table)
        # While the commit is under way its outcome is unknown. The table is put back once it is known; after
        # an error or an interrupt the next append reads the table again, so nothing comes twice.
        del self._tables[table]
        for rows in conformed:
            try:
                outcomes.append(opened.take(rows) if isinstance(rows, pa.Table) else rows)
            except ConflictError as error:
                outcomes.append(error)
        if opened.waiting:
            opened.store()
        if opened.small < self._compact_after_files or self._compacted(opened):
            self._tables[table] = opened
        return outcomes

    def attempts_of(self, run_id: str) -> int:
        """The number of a run's last attempt, from memory; 0 before the first."""
        self._opened("attempts")
        return self._recall.attempts_of(run_id)

    def open_attempt(self, run_id: str) -> int | None:
        """The number of a run's last attempt if it has not ended, from memory; None else, and before the first."""
        self._opened("attempts")
        return self._recall.open_attempt(run_id)

    def recorded_checkpoints(self, run_id: str) -> set[int]:
        """Token counts at which a run has at least one measurement, from memory."""
        self._opened("measurements")
        return self._recall.checkpoints(run_id)

    def _opened(self, table: str) -> _OpenTable:
        if self._closed:
            raise StorageError(f"The writer of {self.folder} is closed; make a new TableWriter to append to {table}.")
        if table not in self._tables:
            self._tables[table] = _OpenTable(self.folder, table, self._recall)
        return self._tables[table]

    def _compacted(self, opened: _OpenTable) -> bool:
        try:
            opened.merge()
            opened.small = min(opened.small, self._compact_after_files - 1)  # those it left it would leave again
        except STORAGE_FAILURES as error:
            # The rows are safe already, so the append has not failed; the next one tries to merge again.
            _log.warning("Files of the table %s were not merged: %s.", opened.place, cause_in_words(error))
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
    """A table that is being written, with the keys it holds and the rows that wait for the next commit."""

    def __init__(self, folder: Path, name: str, recall: Recall) -> None:
        self.place = place_of(folder, name)
        self.waiting: list[pa.Table] = []
        self._name, self._form, self._recall = name, form_of(name), recall
        self._index = KeyIndex(name)
        self._swept: float | None = None
        found = open_table(folder, name)
        self._table: DeltaTable = create_table(folder, name) if found is None else found
        if found is not None:
            widen(self.place, found, self._form.schema)
            self._load()
        self._version = int(self._table.version())
        self.small = small_files(self._table)

    def _load(self) -> None:
        columns = [*self._form.key, *self._form.identity]
        coded = tuple(name for name in columns if pa.types.is_string(self._form.schema.field(name).type))
        try:
            stored = dataset_of(self.place, self._table, coded=coded)
            # Read ahead no further than that, or memory grows with the table.
            for batch in stored.to_batches(columns=columns, batch_readahead=1, fragment_readahead=1):
                rows = pa.Table.from_batches([batch])
                self._index.load(rows)
                self._recall.note(self._name, rows)
        except STORAGE_FAILURES as error:
            raise damaged(self.place, cause_in_words(error)) from error

    def take(self, rows: pa.Table) -> int:
        """Lets the new rows of a batch wait for the next commit, and says how many they are."""
        fresh, keys, wholes = self._index.new_rows(rows, self._stored_row)
        if fresh.num_rows:
            self._index.add(keys, wholes)
            self.waiting.append(fresh)
        return int(fresh.num_rows)

    def store(self) -> None:
        """Commits the rows that wait."""
        rows = pa.concat_tables(self.waiting).combine_chunks()
        try:
            self._version = commit(self.place, self._table, self._version, rows)
        except STORAGE_FAILURES as error:
            raise not_written(self.place, error) from error
        self._recall.note(self._name, rows)
        self.waiting.clear()
        self.small += 1

    def merge(self) -> None:
        """Merges the small files."""
        now = time.monotonic()
        sweep = self._swept is None or now - self._swept > _SWEEP_SECONDS
        self._version = compact(self.place, self._table, self._version, sweep=sweep)
        self._swept = now if sweep else self._swept
        self.small = small_files(self._table)

    def _stored_row(self, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The row of a key, among those that wait or in the table; for conflicts, so it may read the disk."""
        condition = pc.scalar(True)
        for name, value in key.items():
            condition = condition & (pc.field(name) == value)
        try:
            # Not self._table: its version must stay that of the index, or another writer's rows would go unseen.
            newest = DeltaTable(self.place.uri, storage_options=self.place.options)
            places = [*self.waiting, dataset_of(self.place, newest).to_table(filter=condition)]
        except STORAGE_FAILURES as error:
            raise damaged(self.place, cause_in_words(error)) from error
        rows: list[Mapping[str, Any]] = [row for table in places for row in table.filter(condition).to_pylist()]
        return rows[0] if rows else None
