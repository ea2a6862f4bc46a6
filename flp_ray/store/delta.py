"""One table as a Delta Lake table: open, create, commit, compact; every failure in words.

A commit is one Parquet file and one JSON file in the log, made visible by one atomic step that never replaces a
file. A process killed at any moment leaves either the whole commit or none of it. On a disk both files are flushed
before the commit counts as done, so an acknowledged row also survives a power cut. (Compaction is flushed as well,
but a power cut in the milliseconds between its commit and its flush can leave a table to be repaired by hand.)

On a local disk commits are written here: deltalake's own take about 20 ms each, and longer with a longer log. On an
object store deltalake commits, with a conditional put.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.fs import FileSelector

from flp_ray.errors import StorageError
from flp_ray.store.place import TablePlace, place_of
from flp_ray.store.tables import SCHEMA_VERSION, form_of

VACUUM_AFTER_HOURS = 1
"""Replaced files stay this long, so that a reader that opened an older version can finish."""

_CONFIGURATION = {
    # Opening a table lists its log's folder, so a log that is never shortened makes opening ever slower.
    # Opening takes milliseconds, so a minute is ample for a reader to finish with the entries it has listed.
    "delta.logRetentionDuration": "interval 1 minutes",
    "delta.deletedFileRetentionDuration": f"interval {VACUUM_AFTER_HOURS} hours",
}

STORAGE_FAILURES = (DeltaError, OSError, pa.ArrowException)
"""What deltalake and pyarrow raise when a table cannot be read or written."""

_FILE_BYTES = (1 << 20, 6 << 20, 36 << 20)
"""Sizes of merged files. Merging step by step keeps the work for a row the same however long the table is."""

_COLOUR = re.compile(r"\x1b\[\d*m")
_FRAME = re.compile(r"\s*\d+: |stack backtrace")
_VERSION_WORDS = re.compile(r"flp_ray schema (\d+)")


def cause_in_words(error: BaseException) -> str:
    """An error's text in one line, without the colours and the call stack that delta-rs adds to it."""
    causes = []
    for line in _COLOUR.sub("", str(error)).splitlines():
        if _FRAME.match(line):
            break
        if cause := line.strip(" ↳.\n"):
            causes.append(cause)
    return ": ".join(causes) or type(error).__name__


def open_table(folder: str | Path, name: str) -> DeltaTable | None:
    """Opens a table of a study folder at its newest version.

    Args:
        folder: The study folder.
        name: The table's name.

    Returns:
        The table; None where it has not been made yet.

    Raises:
        StorageError: The table is damaged, or of another schema version, or there is no table of that name.
    """
    place = place_of(folder, name)
    try:
        if not _is_made(place):
            return None
        table = DeltaTable(place.uri, storage_options=place.options)
        description = table.metadata().description
        emptied = _emptied(place, table.version())
    except TableNotFoundError as error:
        below = FileSelector("", recursive=True, allow_not_found=True)
        if place.local is None and not place.files().get_file_info(below):
            return None
        raise damaged(place, "its log is missing") from error
    except STORAGE_FAILURES as error:
        raise damaged(place, cause_in_words(error)) from error
    version = _VERSION_WORDS.fullmatch(description or "")
    if version is None or int(version[1]) != SCHEMA_VERSION:
        raise StorageError(
            f"The table {place} was written in {description or 'an unknown schema'!r}; "
            f"this version of flp_ray reads 'flp_ray schema {SCHEMA_VERSION}'. "
            f"Use the version that wrote it, or another study folder."
        )
    if emptied is not None:  # delta-rs reads it as a commit without rows
        raise damaged(place, f"its last commit {emptied} is empty")
    return table


def _is_made(place: TablePlace) -> bool:
    if place.local is None:
        return True  # asked by opening it
    path = place.local
    return path.exists() and (any(path.glob("_delta_log/*.json")) or any(path.rglob("*.parquet")))


def _emptied(place: TablePlace, version: int) -> str | None:
    """The last commit's name where a power cut has left it empty; an object store has no such files."""
    if place.local is None:
        return None
    last = place.local / "_delta_log" / f"{version:020d}.json"
    return last.name if last.exists() and last.stat().st_size == 0 else None


def dataset_of(place: TablePlace, table: DeltaTable, *, coded: tuple[str, ...] = ()) -> Any:
    """The table as a pyarrow dataset on Arrow's own file system.

    deltalake's default is a file system written in Python. Arrow's reading threads call it, and one that still does
    when the interpreter ends aborts the process.

    Args:
        place: Where the table is.
        table: The table, opened there.
        coded: Text columns to read as numbers with a dictionary, which is faster where values repeat.
    """
    from pyarrow.dataset import ParquetReadOptions

    return table.to_pyarrow_dataset(
        filesystem=place.files(), parquet_read_options=ParquetReadOptions(dictionary_columns=list(coded))
    )


def damaged(place: TablePlace, reason: str) -> StorageError:
    """The error for a table that cannot be read."""
    return StorageError(
        f"The table {place} cannot be read: {reason}. Restore it from a copy, or start again in another study folder."
    )


def not_written(place: TablePlace, error: BaseException) -> StorageError:
    """The error for rows that could not be stored."""
    reason, remedy = cause_in_words(error), "Free space on that disk or make it writable"
    if isinstance(error, FileExistsError) or "Failed to commit transaction" in reason:
        reason, remedy = "another process has written to it meanwhile", "End that process"
    elif place.local is None:
        remedy = "Make the object store reachable and writable"
    return StorageError(
        f"The table {place} could not be written: {reason}. Rows stored before are intact. "
        f"{remedy}, then give the same command again."
    )


def create_table(folder: str | Path, name: str) -> DeltaTable:
    """Makes an empty table.

    Raises:
        StorageError: The folder cannot be written.
    """
    place = place_of(folder, name)
    try:
        table = DeltaTable.create(
            place.uri,
            schema=form_of(name).schema,
            name=name,
            description=f"flp_ray schema {SCHEMA_VERSION}",
            configuration=_CONFIGURATION,
            storage_options=place.options,
        )
        _flush(place, table.version())
    except STORAGE_FAILURES as error:
        raise not_written(place, error) from error
    return table


def widen(place: TablePlace, table: DeltaTable, schema: pa.Schema) -> None:
    """Adds those columns that a table of an earlier version of flp_ray lacks; its rows have no value there.

    Raises:
        StorageError: The table cannot be written.
    """
    present = {column.name for column in table.schema().fields}
    missing = [column for column in schema if column.name not in present]
    try:
        if missing:
            table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)
            _flush(place, table.version())
    except STORAGE_FAILURES as error:
        raise not_written(place, error) from error


def commit(place: TablePlace, table: DeltaTable, version: int, rows: pa.Table) -> int:
    """Adds rows in one commit; returns once they are durable.

    Args:
        place: Where the table is.
        table: The table, opened there.
        version: The table's version that the rows come after.
        rows: Rows in the table's schema.

    Returns:
        The table's new version.

    Raises:
        One of STORAGE_FAILURES: another process has made that version, or the storage fails; whether the commit
            happened is then unknown.
    """
    if place.local is None:
        # A second writer is a mistake, not something to retry around.
        write_deltalake(table, rows, mode="append", commit_properties=CommitProperties(max_commit_retries=0))
        return int(table.version())
    from pyarrow.parquet import write_table

    data = place.local / f"part-{version + 1:020d}-{uuid4()}.parquet"
    write_table(rows, data)
    _flush_entry(data)
    size, now = data.stat().st_size, time.time_ns() // 1_000_000
    add = {"path": data.name, "partitionValues": {}, "size": size, "modificationTime": now, "dataChange": True}
    actions = [{"add": add | {"stats": json.dumps({"numRecords": rows.num_rows})}}]
    actions.append({"commitInfo": {"timestamp": now, "operation": "WRITE", "operationParameters": {"mode": "Append"}}})
    entry = data.with_suffix(".json")
    entry.write_text("".join(json.dumps(action) + "\n" for action in actions), "utf-8")
    _flush_entry(entry)
    _flush_entry(place.local)
    os.link(entry, _entry(place.local, version + 1))  # unlike a rename it fails where a file is
    _flush_entry(place.local / "_delta_log")
    entry.unlink()
    return version + 1


def compact(place: TablePlace, table: DeltaTable, version: int, *, sweep: bool) -> int:
    """Merges the small files of many commits into larger ones, and shortens the log.

    Args:
        place: Where the table is.
        table: The table, opened there.
        version: The table's newest version.
        sweep: Whether to remove files replaced more than an hour ago, which lists the whole folder.

    Returns:
        The table's new version.

    Raises:
        One of STORAGE_FAILURES: as by `commit`; the rows are then as before.
    """
    table.update_incremental()
    _alone(table, version)
    sizes = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
    fitting = (goal for goal in _FILE_BYTES if sum(size for size in sizes if size < goal) < goal / 2)
    merged = table.optimize.compact(target_size=next(fitting, _FILE_BYTES[-1]))
    version = _alone(table, version + (1 if merged["numFilesAdded"] else 0))
    _flush(place, version)
    table.create_checkpoint()
    table.cleanup_metadata()
    if sweep:
        removed = table.vacuum(
            retention_hours=VACUUM_AFTER_HOURS, enforce_retention_duration=False, dry_run=False, full=True
        )  # full: also the files of commits that a kill cut short
        _alone(table, version + (2 if removed else 0))
    return int(table.version())


def _alone(table: DeltaTable, version: int) -> int:
    """A version that this process made; delta-rs merges and vacuums after what others commit, and takes that in."""
    if table.version() != version:
        raise FileExistsError(f"another process has made a version before {table.version()}")
    return version


def small_files(table: DeltaTable) -> int:
    """Files of a table that are still to be merged."""
    sizes = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
    return sum(size < _FILE_BYTES[0] for size in sizes)


def _entry(path: Path, version: int) -> Path:
    return path / "_delta_log" / f"{version:020d}.json"


def _flush(place: TablePlace, version: int) -> None:
    if place.local is None:
        return
    log = _entry(place.local, version)
    # Not splitlines: statistics in the log hold names as they are, and a name may hold a Unicode line end.
    actions = [json.loads(line) for line in log.read_text("utf-8").split("\n") if line]
    for added in (action["add"]["path"] for action in actions if "add" in action):
        _flush_entry(place.local / unquote(added))
    for entry in (place.local, log, log.parent, place.local.parent):
        _flush_entry(entry)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
