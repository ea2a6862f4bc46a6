"""Where a study's tables are: below its folder, or on the object store that the folder mirrors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, LocalFileSystem, SubTreeFileSystem

from flp_ray.store.object_store import arrow_files, in_words, reach, table_options
from flp_ray.store.remote import storage_uri
from flp_ray.store.tables import form_of, tables_folder


@dataclass(frozen=True, slots=True)
class TablePlace:
    """Where a table is.

    Attributes:
        uri: Its folder, or its address on an object store.
        local: Its folder; None on an object store.
        options: Settings for deltalake there.
    """

    uri: str
    local: Path | None
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.uri

    def files(self) -> Any:
        """Arrow's own file system with the table's folder as its root."""
        if self.local is not None:
            return SubTreeFileSystem(str(self.local), LocalFileSystem())
        system, path = arrow_files(self.uri)
        return SubTreeFileSystem(path, system)


def place_of(folder: str | Path, name: str) -> TablePlace:
    """Where a study folder's table is.

    Raises:
        StorageError: There is no table of that name, or its object store cannot be reached.
    """
    form_of(name)
    uri = storage_uri(folder)
    if uri is None:
        local = tables_folder(folder) / name
        return TablePlace(str(local), local)
    reach(uri)
    return TablePlace(f"{uri}/tables/{name}", None, table_options(uri))


def has_tables(folder: str | Path) -> bool:
    """Whether anything of a study has been stored.

    Raises:
        StorageError: The object store that the folder mirrors cannot be reached.
    """
    uri = storage_uri(folder)
    if uri is None:
        return any(tables_folder(folder).glob("*/_delta_log"))
    system, path = arrow_files(uri)
    with in_words(uri):
        return bool(system.get_file_info(FileSelector(f"{path}/tables", allow_not_found=True)))
