"""Studies on an object store: where one lives, and its files by name.

A study is always a local folder in the code. Where it lives in a bucket, that folder is a *mirror*: it holds
`storage.json` with the study's address, its tables are read and written at that address, and its other files are
copied to and fro (`flp_ray.mirror`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pyarrow.fs import FileSelector, FileType

from flp_ray.core.storage import FileStorage
from flp_ray.errors import StorageError
from flp_ray.store.object_store import arrow_files, checked_address, in_words, reach

MARKER = "storage.json"
"""The file that makes a folder a mirror."""

_CHUNK_BYTES = 16 << 20


def mount(study_dir: str | Path, uri: str) -> None:
    """Makes a folder the mirror of a study on an object store; a second time does nothing.

    Args:
        study_dir: The folder; made where it is missing.
        uri: `s3://bucket/prefix` or `gs://bucket/prefix`.

    Raises:
        StorageError: The address is not of that form, or the folder mirrors another or holds tables of its own.
    """
    folder, address = Path(study_dir), checked_address(uri)
    standing = storage_uri(folder)
    if standing == address:
        return
    if standing is not None:
        raise StorageError(
            f"The folder {folder} mirrors {standing}, received {address}. Give another study folder, or that address."
        )
    if any((folder / "tables").glob("*/_delta_log")):
        raise StorageError(
            f"The folder {folder} holds a study of its own, so it cannot mirror {address}. Give another study folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{uuid4().hex}.part"
        draft.write_text(json.dumps({"uri": address}) + "\n", "utf-8")
        draft.replace(folder / MARKER)
    except OSError as error:
        raise StorageError(f"The folder {folder} cannot be written: {error.strerror}. Give one that can.") from error


def storage_uri(study_dir: str | Path) -> str | None:
    """Where the study of a folder lives; None where it lives in the folder itself.

    Raises:
        StorageError: The folder's marker cannot be read.
    """
    marker = Path(study_dir) / MARKER
    try:
        return checked_address(json.loads(marker.read_text("utf-8"))["uri"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{marker} does not say where the study lives ({error}). Restore it or remove it."
        ) from error


def files_at(uri: str) -> FileStorage:
    """The files below an address of an object store.

    Args:
        uri: `s3://bucket/prefix` or `gs://bucket/prefix`.

    Raises:
        StorageError: The address is of another form, or its bucket cannot be reached, is not there or is not allowed.
    """
    address = checked_address(uri)
    reach(address)
    return _ObjectFiles(address)


@dataclass(frozen=True, slots=True)
class _ObjectFiles:
    """`FileStorage` below an address of S3 or Google Cloud Storage, where an object appears only when it is whole."""

    uri: str

    def put(self, local: Path, name: str) -> None:
        """Stores a file under a name; large ones in parts that appear together.

        A local disk that fails, or an interrupt, while a large file is read takes the stored file of that name with
        it: Arrow cannot abandon an upload, so what it made is removed.
        """
        system, path = self._at(name)
        with in_words(f"{self.uri}/{name}"), local.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            chunk = source.read(_CHUNK_BYTES)  # before the upload begins, so most failures touch nothing
            target = system.open_output_stream(path)
            try:
                while chunk:
                    target.write(chunk)
                    chunk = source.read(_CHUNK_BYTES)
                if target.tell() != size:
                    raise OSError(f"{local} changed while it was read")
            except BaseException:
                with contextlib.suppress(OSError):
                    target.close()  # where that fails too, nothing has appeared
                    system.delete_file(path)
                raise
            target.close()

    def get(self, name: str, local: Path) -> None:
        """Copies a stored file to a local path."""
        system, path = self._at(name)
        draft = local.with_name(f".{uuid4().hex}.part")
        with in_words(f"{self.uri}/{name}"):
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                with system.open_input_file(path) as source, draft.open("wb") as target:
                    while chunk := source.read(_CHUNK_BYTES):
                        target.write(chunk)
                    whole = source.tell() == source.size()
                if not whole:
                    raise OSError("it was cut short on the way")
                draft.replace(local)
            finally:
                draft.unlink(missing_ok=True)

    def names(self, prefix: str) -> Mapping[str, int]:
        """Bytes of every stored file below a prefix, by whole name."""
        system, path = self._at(prefix)
        root = arrow_files(self.uri)[1]
        with in_words(f"{self.uri}/{prefix}"):
            single = system.get_file_info(path)
            below = FileSelector(path, recursive=True, allow_not_found=True)
            found = [single] if single.type == FileType.File else system.get_file_info(below)
        return {i.path.removeprefix(root + "/"): i.size for i in found if i.type == FileType.File}

    def remove(self, prefix: str) -> None:
        """Removes every file below a prefix, or the file of that name."""
        if not prefix.strip("/"):
            raise StorageError(f"All of {self.uri} was to be removed; name what is to go.")
        system, path = self._at(prefix)
        with in_words(f"{self.uri}/{prefix}"):
            kind = system.get_file_info(path).type
            if kind == FileType.File:
                system.delete_file(path)
            elif kind == FileType.Directory:
                system.delete_dir(path)

    def _at(self, name: str) -> tuple[Any, str]:
        system, root = arrow_files(self.uri)
        return system, f"{root}/{name}".rstrip("/")
