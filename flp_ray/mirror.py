"""A study on an object store: its small files beside it in a folder of this machine, brought and put back.

    s3://bucket/prefix/study/      tables/        read and written in place (Delta Lake)
                                   checkpoints/   put and got by the processes that train
                                   text/          put and got by the processes that prepare and train
                                   study.yaml, pinned.json, optuna.journal, report.html

All code works on the folder, the mirror; what it finds missing there it makes again, so nothing but the store is
needed to go on, on any machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from flp_ray.config import StudyPlace
from flp_ray.core.storage import FileStorage
from flp_ray.store import files_at, mount, storage_uri

_OWN = ("tables", "checkpoints", "locks", "tune", "train", "tasks", "storage.json")
"""What is on the object store by other ways, or belongs to this machine."""

_BIG = (".npy",)
"""Blocks of text; a machine that does not train needs none of them."""

_LAST = "text.json"
"""Declares text prepared: put when all that it names is there."""


def bring_study(place: StudyPlace) -> Path:
    """Makes a study's folder of this machine; for a study on a plain folder that is the study itself.

    Returns:
        The folder.

    Raises:
        StorageError: The object store cannot be reached, or the folder mirrors another study.
    """
    if place.uri is None:
        return place.folder
    mount(place.folder, place.uri)
    storage = files_at(place.uri)
    for name, size in storage.names("").items():
        local = place.folder / name
        if name.split("/")[0] in _OWN or name.endswith(_BIG):
            continue
        if not local.exists() or local.stat().st_size != size:
            storage.get(name, local)
    return place.folder


@dataclass(slots=True)
class Mirror:
    """Puts what a call of a study writes in its folder to where the study lives; nothing for a plain folder.

    Attributes:
        study_dir: The folder.
    """

    study_dir: Path
    _storage: FileStorage | None = field(init=False)
    _put: dict[str, tuple[int, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        uri = storage_uri(self.study_dir)
        self._storage = None if uri is None else files_at(uri)

    def put(self) -> None:
        """Puts every file that is new or changed since the last time; returns once they are durable.

        Raises:
            StorageError: One cannot be put.
        """
        if self._storage is None:
            return
        stored = self._storage.names("") if not self._put else {}
        for name, file in sorted(self._files().items(), key=lambda item: item[0].endswith(_LAST)):
            status = file.stat()
            version = (status.st_size, status.st_mtime_ns)
            unchanging = name.startswith("text/") and not name.endswith(_LAST)
            if self._put.get(name) != version and not (unchanging and stored.get(name) == status.st_size):
                self._storage.put(file, name)
            self._put[name] = version

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
