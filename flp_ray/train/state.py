"""Saved states of a run in progress: each worker writes its share, complete.json comes last, any number can load.

    folder/
    |- step-00000120/     rank-00000-of-00002-0000.safetensors, ...; position.json; complete.json with names and sizes
    `- .step-...          a state being written; whatever is left of one is swept away

On a folder that all workers see, a state is moved into place whole. On a storage, files are put under
`<prefix>/step-00000120/`, complete.json after all others. A state counts when every file that its complete.json names
is there in full size, so a process may die at any instruction.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors

from flp_ray.core.storage import FileStorage
from flp_ray.errors import StorageError
from flp_ray.train.fragments import fragments, optimizer_steps, share, take_over
from flp_ray.train.parts import NUMBER_BYTES, read_parts, write_parts
from flp_ray.train.workers import Workers

T = TypeVar("T")

_COMPLETE, _POSITION = "complete.json", "position.json"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class States:
    """The saved states of one run; every method is called by every rank.

    Args:
        run_id: The run.
        folder: Where states are saved, seen by all ranks; with a storage the node's scratch folder.
        workers: The run's workers.
        storage: Where states are kept instead; None keeps them in `folder`.
        prefix: The run's place in the storage.
    """

    def __init__(
        self, run_id: str, folder: Path, workers: Workers, *, storage: FileStorage | None = None, prefix: str = ""
    ) -> None:
        self._run_id, self._folder, self._workers = run_id, folder, workers
        self._storage, self._prefix = storage, prefix
        self._gets_files = int(os.environ.get("LOCAL_RANK", "0")) == 0  # one worker of each node

    def newest(self) -> str | None:
        """The name of the newest complete state, as rank 0 sees it; None where there is none."""
        return self._together(self._newest if self._workers.first else lambda: None)[0]

    def save(self, engine: Any, *, step: int, position: Mapping[str, Any]) -> None:
        """Saves a state and then drops the older ones.

        Args:
            engine: The DeepSpeed engine.
            step: Optimiser steps done.
            position: What the loop needs beside the engine's state; a JSON value.

        Raises:
            StorageError: The disk is full or the place cannot be written; the earlier state is as it was.
        """
        name, world, needed = f"step-{step:08d}", self._workers.world, state_bytes(engine)
        draft = self._folder / f".{name}"

        def alone(work: Callable[[], None]) -> None:
            self._together(lambda: work() if self._workers.first else None, needed)

        def write() -> dict[str, int]:
            draft.mkdir(parents=True, exist_ok=True)
            mine = fragments(engine)
            if engine.zero_optimization_stage() == 0:
                mine = share(mine, rank=self._workers.rank, world=world)
            stem = f"rank-{self._workers.rank:05d}-of-{world:05d}"
            return {path.name: self._hand_over(path, name) for path in write_parts(mine, draft, stem)}

        def finish() -> None:
            state = {"position": dict(position), "optimizer_steps": optimizer_steps(engine)}
            files[_POSITION] = self._hand_over(_written(draft / _POSITION, state), name)
            complete = {"run_id": self._run_id, "step": step, "world": world, "files": files}
            self._hand_over(_written(draft / _COMPLETE, complete), name)
            self._settle(draft, name)

        alone(lambda: self._make_way(draft, name, needed))
        files = {n: size for part in self._together(write, needed) for n, size in part.items()}
        alone(finish)
        if self._storage is not None and self._gets_files:
            shutil.rmtree(draft, ignore_errors=True)

    def load(self, engine: Any, name: str) -> dict[str, Any]:
        """Loads a state into a fresh engine, of any ZeRO stage and number of workers.

        Returns:
            The position that was saved with it.

        Raises:
            StorageError: It cannot be read.
        """
        here = self._folder / name if self._storage is None else self._folder / f".{name}"
        self._together(lambda: self._fetch(here, name))

        def read() -> dict[str, Any]:
            files = json.loads((here / _COMPLETE).read_text())["files"]
            read_parts(fragments(engine), [here / file for file in files if file != _POSITION])
            return dict(json.loads((here / _POSITION).read_text()))

        state = self._together(read)[self._workers.rank]
        take_over(engine, steps=state["optimizer_steps"])
        self._workers.wait()
        if self._storage is not None and self._gets_files:
            shutil.rmtree(here, ignore_errors=True)
        return dict(state["position"])

    def _newest(self) -> str | None:
        if self._storage is None:
            names = sorted((p.name for p in self._folder.glob("step-*")), reverse=True)
            return next((name for name in names if self._is_complete(self._folder / name)), None)
        stored = self._storage.names(self._place())
        names = sorted({n.split("/")[-2] for n in stored if n.endswith(f"/{_COMPLETE}")}, reverse=True)
        kept = self._folder / f".{_COMPLETE}"
        for name in (n for n in names if n.startswith("step-")):
            self._storage.get(self._place(name, _COMPLETE), kept)
            complete = json.loads(kept.read_text())
            kept.unlink()
            sizes = {file: stored.get(self._place(name, file)) for file in complete["files"]}
            if complete["run_id"] == self._run_id and sizes == complete["files"]:
                return name
        return None

    def _is_complete(self, state: Path) -> bool:
        try:
            complete = json.loads((state / _COMPLETE).read_text())
            sizes = {name: (state / name).stat().st_size for name in complete["files"]}
        except (OSError, ValueError, KeyError):
            return False
        return bool(complete["run_id"] == self._run_id and sizes == complete["files"])

    def _make_way(self, draft: Path, name: str, needed: int) -> None:
        if self._storage is not None:
            self._storage.remove(self._place(name, _COMPLETE))  # a broken state must not look whole half-way
            return
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if shutil.disk_usage(draft).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _hand_over(self, path: Path, name: str) -> int:
        """Puts a finished file where it is kept; returns its size."""
        size = path.stat().st_size
        if self._storage is not None:
            self._storage.put(path, self._place(name, path.name))
            path.unlink()
        return size

    def _settle(self, draft: Path, name: str) -> None:
        """Moves a whole state into place and drops all others; rank 0 alone."""
        if self._storage is None:
            shutil.rmtree(self._folder / name, ignore_errors=True)
            draft.rename(self._folder / name)
        else:
            stored = {n.split("/")[-2] for n in self._storage.names(self._place()) if "/" in n}
            for old in stored:
                if old.startswith("step-") and old != name:
                    self._storage.remove(self._place(old))
        for path in [*self._folder.glob("step-*"), *self._folder.glob(".step-*")]:
            if path != self._folder / name:
                shutil.rmtree(path, ignore_errors=True)

    def _fetch(self, here: Path, name: str) -> None:
        if self._storage is None or not self._gets_files:
            return
        self._storage.get(self._place(name, _COMPLETE), here / _COMPLETE)
        for file in json.loads((here / _COMPLETE).read_text())["files"]:
            self._storage.get(self._place(name, file), here / file)

    def _place(self, *parts: str) -> str:
        return "/".join(part for part in (self._prefix, *parts) if part)

    def _together(self, work: Callable[[], T], needed: int | None = None) -> list[T]:
        """What the work returned on every rank; where it failed on one, it fails on all, and nobody waits for it."""
        result, error = None, None
        try:
            with storage_errors(self._folder, needed):
                result = work()
        except StorageError as failed:
            error = failed
            for draft in self._folder.glob(".step-*"):
                shutil.rmtree(draft, ignore_errors=True)
        outcomes = self._workers.gather((result, str(error) if error else None))
        if error:
            raise error
        for _, message in outcomes:
            if message:
                raise StorageError(message)
        return [outcome for outcome, _ in outcomes]  # type: ignore[misc]


def state_bytes(engine: Any) -> int:
    """Bytes that a state takes at most: fp32 master weights and two moments, and names."""
    numbers: int = sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
    return numbers * NUMBER_BYTES + 2**20


def _written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@contextlib.contextmanager
def storage_errors(folder: Path, needed: int | None, what: str = "training state") -> Iterator[None]:
    """Turns what a file raises into a StorageError in words.

    Args:
        folder: Where it is read or written.
        needed: Bytes that are written at most; None where it is read.
        what: What it is.
    """
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        if needed is None:
            raise StorageError(
                f"The {what} in {folder} cannot be read ({reason}). Make it readable, or remove it and the "
                "run starts anew."
            ) from error
        reason = "no room" if isinstance(error, OSError) and error.errno in _NO_ROOM else reason
        place = next(p for p in [folder, *folder.parents] if p.exists())
        free = shutil.disk_usage(place).free
        raise StorageError(
            f"The {what} could not be saved in {folder} ({reason}): it takes up to {needed} bytes "
            f"and {free} bytes are free. The earlier state is intact; make room or move the study, then give "
            "the command again."
        ) from error
