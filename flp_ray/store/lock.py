"""The lock that makes one process the only writer of a study folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from flp_ray.errors import StorageError

POLL_SECONDS = 0.05


class FolderLock:
    """An exclusive lock on a folder; the kernel frees it when its process ends, however it ends.

    On the mirror of a study on an object store it protects this machine alone: a writer on another machine holds the
    lock of its own mirror. There Delta is the guard, whose commits never replace another (`TableWriter`).

    Args:
        folder: The folder to lock; made where it is missing.
        wait_seconds: How long to wait for another holder, such as a killed writer that is not yet gone.

    Raises:
        StorageError: Another process holds the lock, or the folder cannot be written or locked.
    """

    def __init__(self, folder: Path, *, wait_seconds: float) -> None:
        self._path = folder / "writer.lock"
        self._file: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"The folder {folder} cannot be written: {error.strerror}. Give a folder on a disk that can be written."
            ) from error
        try:
            self._acquire(descriptor, wait_seconds)
        except BaseException:
            os.close(descriptor)
            raise
        self._file = descriptor

    def _acquire(self, descriptor: int, wait_seconds: float) -> None:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise StorageError(
                        f"The folder {self._path.parent} is in use by {self._holder()} "
                        f"(waited {wait_seconds:g} s); one process may use it at a time. "
                        f"Wait until it ends, stop it, or give another study folder."
                    ) from error
                time.sleep(POLL_SECONDS)
            except OSError as error:
                raise StorageError(
                    f"The folder {self._path.parent} cannot be locked: {error.strerror}. "
                    f"Give a folder on a file system that has locks (a local disk, NFS with locking)."
                ) from error
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)

    def _holder(self) -> str:
        try:
            holder = json.loads(self._path.read_text())
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):  # read between its locking and its writing
            return "another process that has not given its name"

    def release(self) -> None:
        """Frees the lock; a second call does nothing. The file stays, because removing it would race."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def lock_if_free(folder: Path) -> FolderLock | None:
    """The lock of a folder, held; None where it is held already.

    Raises:
        StorageError: The folder cannot be written or locked.
    """
    try:
        return FolderLock(folder, wait_seconds=0)
    except StorageError as error:
        if isinstance(error.__cause__, BlockingIOError):
            return None
        raise
