"""Files on storage that outlives the nodes and that all of them reach."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class FileStorage(Protocol):
    """An object store as files by name; names are relative to a root and use `/`.

    A study on a shared folder needs none: its files are where every node sees them.
    """

    def put(self, local: Path, name: str) -> None:
        """Stores a file under a name; returns once it is durable.

        Raises:
            StorageError: It cannot be stored. A file that was there under that name is as it was, or gone where the
                local file could not be read to its end; it is never a part of the new one.
        """
        ...

    def get(self, name: str, local: Path) -> None:
        """Copies a stored file to a local path, which appears only when it is whole; folders are made.

        Raises:
            StorageError: There is no such file, or it cannot be read.
        """
        ...

    def names(self, prefix: str) -> Mapping[str, int]:
        """Bytes of every stored file below a prefix, by whole name; empty where there is none."""
        ...

    def remove(self, prefix: str) -> None:
        """Removes every file below a prefix, or the file of that name; nothing where there is none."""
        ...
