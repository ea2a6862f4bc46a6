"""Removing a run's training states, without loading torch: the driver does it too."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
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


def clear_finished(
    folder: Path, finished: Collection[str], *, storage: FileStorage | None = None, prefix: str = ""
) -> list[str]:
    """Removes what a kill or a failed clean-up has left of the states of finished runs.

    Args:
        folder: What holds the folders of the runs, each named by its run.
        finished: Runs that no process trains any more.
        storage: Where states are kept instead.
        prefix: The same in the storage.

    Returns:
        The runs of which something was left.
    """
    found = {path.parent.name for pattern in ("*/step-*", "*/.step-*") for path in folder.glob(pattern)}
    if storage is not None:
        names = (name.removeprefix(f"{prefix}/").split("/") for name in storage.names(prefix))
        found |= {parts[0] for parts in names if len(parts) > 2 and parts[1].startswith("step-")}
    left = sorted(found.intersection(finished))
    for run_id in left:
        clear_states(folder / run_id, storage=storage, prefix=f"{prefix}/{run_id}" if prefix else run_id)
    return left
