"""Removing a run's training states, without loading torch: the driver does it too."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from flp_ray.core.storage import FileStorage


def clear_states(folder: Path, *, storage: FileStorage | None = None, prefix: str = "") -> None:
    """Removes all states of a run, finished or half-written; the folder too where nothing else is in it."""
    if storage is not None:
        place = f"{prefix}/" if prefix else ""
        for name in {n.removeprefix(place).split("/")[0] for n in storage.names(prefix)}:
            if name.startswith("step-"):
                storage.remove(f"{place}{name}")
    for path in [*folder.glob("step-*"), *folder.glob(".step-*")]:
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
