"""A study on an object store: its small files beside it in a folder of this machine, brought and put back.

    s3://bucket/prefix/study/      tables/        read and written in place (Delta Lake)
                                   checkpoints/   put and got by the processes that train
                                   text/          put and got by the processes that prepare and train
                                   study.yaml, pinned.json, optuna.journal, report.html

All code works on the folder, the mirror; what it finds missing there it makes again, so nothing but the store is
needed to go on, on any machine.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from flp_ray.config import StudyPlace
from flp_ray.core.storage import FileStorage
from flp_ray.store import FolderLock, files_at, lock_if_free, mount, storage_uri

_OWN = ("tables", "checkpoints", "locks", "tune", "train", "tasks", "storage.json")
"""What is on the object store by other ways, or belongs to this machine."""

_BIG = (".npy",)
"""Blocks of text; a machine that does not train needs none of them."""

_LAST = "text.json"
"""Declares text prepared: put when all that it names is there."""

_BROUGHT = ".brought.json"
"""Size and time of change of each file as it was brought; one that is still so is not put back."""

BRING_WAIT_SECONDS = 60.0
"""How long a command waits for another one that brings the same study."""


def bring_study(place: StudyPlace) -> Path:
    """Makes a study's folder of this machine; for a study on a plain folder that is the study itself.

    While another process of this machine works on the study, the folder is ahead of the store and stays as it is.

    Returns:
        The folder.

    Raises:
        StorageError: The object store cannot be reached, or the folder mirrors another study.
    """
    if place.uri is None:
        return place.folder
    mount(place.folder, place.uri)
    with ExitStack() as held:
        # A lock of its own: a command must not take the folder of one that is still bringing for ahead of the store.
        bringing = FolderLock(place.folder / "locks" / "mirror", wait_seconds=BRING_WAIT_SECONDS)
        held.callback(bringing.release)
        study = lock_if_free(place.folder)
        if study is not None:
            held.callback(study.release)
            _bring(place.folder, files_at(place.uri))
    return place.folder


def put_study(study_dir: Path) -> None:
    """Puts what a single command has written; where a run of this machine holds the study, that will put it.

    Raises:
        StorageError: It cannot be put.
    """
    lock = None if storage_uri(study_dir) is None else lock_if_free(study_dir)
    if lock is not None:
        try:
            Mirror(study_dir).put()
        finally:
            lock.release()


def _bring(folder: Path, storage: FileStorage) -> None:
    brought = {}
    for name, size in storage.names("").items():
        local = folder / name
        if name.split("/")[0] in _OWN or name.endswith(_BIG):
            continue
        if not (_unchanging(name) and local.exists() and local.stat().st_size == size):
            storage.get(name, local)
        brought[name] = _version(local)
    draft = folder / f"{_BROUGHT}.tmp"
    draft.write_text(json.dumps(brought), "utf-8")
    draft.replace(folder / _BROUGHT)


def _unchanging(name: str) -> bool:
    """Whether a file of that name and size is the same wherever it is: prepared text, below its own hash."""
    return name.startswith("text/") and not name.endswith(_LAST)


def _version(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


@dataclass(slots=True)
class Mirror:
    """Puts what a call of a study writes in its folder to where the study lives; nothing for a plain folder.

    Attributes:
        study_dir: The folder.
    """

    study_dir: Path
    _storage: FileStorage | None = field(init=False)
    _put: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        uri = storage_uri(self.study_dir)
        self._storage = None if uri is None else files_at(uri)
        if (brought := self.study_dir / _BROUGHT).exists():
            self._put = json.loads(brought.read_text("utf-8"))

    def put(self) -> None:
        """Puts every file that is new or changed since it was brought or put; returns once they are durable.

        Raises:
            StorageError: One cannot be put.
        """
        if self._storage is None:
            return
        versions = {name: _version(file) for name, file in self._files().items()}
        new = [name for name, version in versions.items() if self._put.get(name) != version]
        stored = self._storage.names("text") if any(map(_unchanging, new)) else {}
        for name in sorted(new, key=lambda name: name.endswith(_LAST)):
            if not (_unchanging(name) and stored.get(name) == versions[name][0]):
                self._storage.put(self.study_dir / name, name)
            self._put[name] = versions[name]

    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder, folders, names in os.walk(self.study_dir):
            here = Path(folder)
            if here == self.study_dir:
                folders[:] = [f for f in folders if f not in _OWN]
            folders[:] = [f for f in folders if f != "work" and not f.startswith(".")]
            for name in names:
                relative = (here / name).relative_to(self.study_dir).as_posix()
                if not name.startswith(".") and not name.endswith((".tmp", ".lock")) and relative not in _OWN:
                    found[relative] = here / name
        return found
