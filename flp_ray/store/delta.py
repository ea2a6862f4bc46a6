"""One table on disk as a Delta Lake table: open, create, commit, compact; every failure in words.

A commit is one Parquet file and one JSON file in the log, made visible by an atomic rename. A process killed
at any moment leaves either the whole commit or none of it. Both files are flushed to the disk before the
commit counts as done, so an acknowledged row also survives a power cut. (Compaction is flushed as well, but
a power cut in the milliseconds between its commit and its flush can leave a table to be repaired by hand.)
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from flp_ray.errors import StorageError
from flp_ray.store.tables import SCHEMA_VERSION, form_of, tables_folder

VACUUM_AFTER_HOURS = 1
"""Replaced files stay this long, so that a reader that opened an older version can finish."""

_CONFIGURATION = {
    # Every commit lists the log's folder, so a log that is never shortened makes commits ever slower
    # (measured: 50/s at first, 27/s after 2,000). Opening a table takes milliseconds, so a minute is ample.
    "delta.logRetentionDuration": "interval 1 minutes",
    "delta.deletedFileRetentionDuration": f"interval {VACUUM_AFTER_HOURS} hours",
}

STORAGE_FAILURES = (DeltaError, OSError, pa.ArrowException)
"""What deltalake and pyarrow raise when a table cannot be read or written."""

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
    form_of(name)
    path = tables_folder(folder) / name
    try:
        if not path.exists() or not (any(path.glob("_delta_log/*.json")) or any(path.rglob("*.parquet"))):
            return None  # also a table whose maker was killed before its first commit
        table = DeltaTable(path)
        version = _VERSION_WORDS.fullmatch(table.metadata().description or "")
        last_commit = path / "_delta_log" / f"{table.version():020d}.json"
        emptied = last_commit.exists() and last_commit.stat().st_size == 0
    except STORAGE_FAILURES as error:
        reason = "its log is missing" if isinstance(error, TableNotFoundError) else cause_in_words(error)
        raise damaged(path, reason) from error
    if version is None or int(version[1]) != SCHEMA_VERSION:
        raise StorageError(
            f"The table {path} was written in {table.metadata().description or 'an unknown schema'!r}; "
            f"this version of flp_ray reads 'flp_ray schema {SCHEMA_VERSION}'. "
            f"Use the version that wrote it, or another study folder."
        )
    if emptied:  # delta-rs reads it as a commit without rows
        raise damaged(path, f"its last commit {last_commit.name} is empty")
    return table


def dataset_of(table: DeltaTable) -> Any:
    """The table as a pyarrow dataset on Arrow's own file system.

    deltalake's default is a file system written in Python. Arrow's reading threads call it, and one that still does
    when the interpreter ends aborts the process.
    """
    root = Path(unquote(urlparse(table.table_uri).path))
    return table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(str(root), LocalFileSystem()))


def damaged(path: Path, reason: str) -> StorageError:
    """The error for a table that cannot be read."""
    return StorageError(
        f"The table {path} cannot be read: {reason}. Restore it from a copy, or start again in another study folder."
    )


def create_table(folder: str | Path, name: str) -> DeltaTable:
    """Makes an empty table.

    Raises:
        StorageError: The folder cannot be written.
    """
    path = tables_folder(folder) / name
    try:
        table = DeltaTable.create(
            path,
            schema=form_of(name).schema,
            name=name,
            description=f"flp_ray schema {SCHEMA_VERSION}",
            configuration=_CONFIGURATION,
        )
        _flush(path, table.version())
        _flush_entry(path.parent)
    except STORAGE_FAILURES as error:
        raise not_written(path, error) from error
    return table


def not_written(path: Path, error: BaseException) -> StorageError:
    """The error for rows that could not be stored."""
    return StorageError(
        f"The table {path} could not be written: {cause_in_words(error)}. Rows stored before are intact. "
        f"Free space on that disk or make it writable, then give the same command again."
    )


def commit(path: Path, table: DeltaTable, rows: pa.Table) -> None:
    """Adds rows in one commit; returns once they are on the disk.

    Args:
        path: The table's folder.
        table: The table, opened there.
        rows: Rows in the table's schema.

    Raises:
        One of STORAGE_FAILURES; whether the commit happened is then unknown.
    """
    write_deltalake(
        table, rows, mode="append", commit_properties=CommitProperties(max_commit_retries=0)
    )  # a second writer is a mistake, not something to retry around
    _flush(path, table.version())


def compact(path: Path, table: DeltaTable) -> None:
    """Merges the small files of many commits, and removes files replaced more than an hour ago.

    Args:
        path: The table's folder.
        table: The table, opened there.

    Raises:
        One of STORAGE_FAILURES; the rows are then as before.
    """
    table.optimize.compact()
    _flush(path, table.version())
    table.create_checkpoint()
    table.cleanup_metadata()
    table.vacuum(
        retention_hours=VACUUM_AFTER_HOURS, enforce_retention_duration=False, dry_run=False, full=True
    )  # full: also the files of commits that a kill cut short


def _flush(path: Path, version: int) -> None:
    log = path / "_delta_log" / f"{version:020d}.json"
    # Not splitlines: statistics in the log hold names as they are, and a name may hold a Unicode line end.
    actions = [json.loads(line) for line in log.read_text("utf-8").split("\n") if line]
    for added in (action["add"]["path"] for action in actions if "add" in action):
        _flush_entry(path / unquote(added))
    for entry in (path, log, log.parent):
        _flush_entry(entry)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
