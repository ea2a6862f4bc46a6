"""Saved states of a run in progress: written aside, moved into place whole, found again after a kill.

    folder/
    |- step-00000120/     DeepSpeed's files of one state; complete.json, written last, has names and sizes
    |- latest             the name of the newest state
    `- .step-...          a state being written; whatever is left of one is swept away

A state counts when every file that its complete.json names is there in full size, so a process may die at any
instruction.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed

from flp_ray.errors import StorageError

_COMPLETE = "complete.json"
_LATEST = "latest"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TORCH_WRITER = ("inline_container", "PytorchStreamWriter", "iostream")
"""What the RuntimeErrors of torch.save name when its C++ writer could not write."""


def save_state(engine: Any, folder: Path, *, run_id: str, step: int, client_state: dict[str, Any]) -> None:
    """Saves a state and then drops the older ones; every rank calls it.

    Args:
        engine: The DeepSpeed engine.
        folder: The run's folder, shared by all ranks.
        run_id: The run that the state belongs to.
        step: Optimiser steps done.
        client_state: What the loop needs beside the engine's state; small and picklable.

    Raises:
        StorageError: The disk is full or the folder cannot be written; the earlier state is as it was.
    """
    name = f"step-{step:08d}"
    draft, final = folder / f".{name}", folder / name
    first = torch.distributed.get_rank() == 0
    with _storage_errors(folder, engine):
        if first:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            _need_room(folder, engine)
        torch.distributed.barrier()
        engine.save_checkpoint(str(draft), tag="state", client_state=client_state, save_latest=False)
        if first:
            # DeepSpeed puts a conversion script beside its files; it is not part of the state.
            (draft / "zero_to_fp32.py").unlink(missing_ok=True)
            files = {str(f.relative_to(draft)): f.stat().st_size for f in sorted(draft.rglob("*")) if f.is_file()}
            world = torch.distributed.get_world_size()
            complete = {"run_id": run_id, "world": world, "step": step, "files": files}
            (draft / _COMPLETE).write_text(json.dumps(complete))
            shutil.rmtree(final, ignore_errors=True)
            draft.rename(final)
            pointer = folder / f".{_LATEST}"
            pointer.write_text(name)
            pointer.replace(folder / _LATEST)
            for old in [*folder.glob("step-*"), *folder.glob(".step-*")]:
                if old != final:
                    shutil.rmtree(old, ignore_errors=True)
        torch.distributed.barrier()


def latest_state(folder: Path, run_id: str) -> Path | None:
    """The newest complete state of a run in its folder, or None where there is none.

    The pointer is tried first; where it is missing or names a broken state, the newest complete one is taken. A state
    of another number of processes does not count: its shards fit no other, so the run starts anew.
    """
    states = sorted(folder.glob("step-*"), reverse=True)
    with contextlib.suppress(OSError):
        states.insert(0, folder / (folder / _LATEST).read_text().strip())
    return next((state for state in states if _is_complete(state, run_id)), None)


def load_state(engine: Any, state: Path) -> dict[str, Any]:
    """Loads a state into a fresh engine; every rank calls it.

    Returns:
        The client state that was saved with it.
    """
    _, client_state = engine.load_checkpoint(str(state), tag="state")
    return dict(client_state)


def clear_states(folder: Path) -> None:
    """Removes all states of a run, finished or half-written; the folder too where nothing else is in it."""
    for path in [*folder.glob("step-*"), *folder.glob(".step-*")]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (_LATEST, f".{_LATEST}"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def state_bytes(engine: Any) -> int:
    """Bytes that saving a state takes at most: weights, and fp32 master weights with two moments."""
    numbers: int = sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
    return numbers * 16 + 2**20


def _is_complete(state: Path, run_id: str) -> bool:
    try:
        complete = json.loads((state / _COMPLETE).read_text())
        sizes = {name: (state / name).stat().st_size for name in complete["files"]}
    except (OSError, ValueError, KeyError):
        return False
    mine = (complete["run_id"], complete.get("world")) == (run_id, torch.distributed.get_world_size())
    return bool(mine and sizes == complete["files"])


def _need_room(folder: Path, engine: Any) -> None:
    needed = state_bytes(engine)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _storage_errors(folder: Path, engine: Any) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in _NO_ROOM
        if not isinstance(error, OSError) and not any(name in str(error) for name in _TORCH_WRITER):
            raise
        for draft in folder.glob(".step-*"):
            shutil.rmtree(draft, ignore_errors=True)
        needed = state_bytes(engine)
        place = next(p for p in [folder, *folder.parents] if p.exists())
        free = shutil.disk_usage(place).free
        reason = "no room" if full else str(error).splitlines()[0]
        raise StorageError(
            f"The training state could not be saved in {folder} ({reason}): it takes up to {needed} bytes "
            f"and {free} bytes are free. The earlier state is intact; make room or move the study, then give "
            "the command again."
        ) from error
