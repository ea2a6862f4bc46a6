"""Pieces of the preparation that may run in any process, on any node, in any order of completion."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flp_ray.data.network import patiently


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTask:
    """One call that reads files and leaves files; called again it leaves the same bytes.

    Attributes:
        name: What it does, for messages.
        function: At the top of a module, so that it can be pickled.
        arguments: Its arguments; paths among them are absolute.
        reads: Files below the study's text folder that must be there before it is called; a folder stands for all files
            below it, here and in `writes`.
        writes: Files below the text folder that it leaves, whole; the last is a JSON file with what it returns. Where
            all of them are there, the task is done. A file of measured times differs from call to call; nothing that
            is hashed does.
        here: Small, and its files are wanted by the caller: to be run in the calling process.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...]
    here: bool = False

    def result(self) -> dict[str, Any] | None:
        """What the task returned, where its files are there; None where it is still to be done."""
        if not all(path.exists() for path in self.writes):
            return None
        value: dict[str, Any] = json.loads(self.writes[-1].read_text())
        return value


RunTasks = Callable[[Sequence[TextTask]], Iterator[tuple[int, Any]]]
"""Runs tasks that do not depend on each other; yields (index, what it returned) as they are done."""


def run_here(tasks: Sequence[TextTask]) -> Iterator[tuple[int, Any]]:
    """Runs tasks in this process, one after the other; one that a broken connection ended is called again."""
    for index, task in enumerate(tasks):
        yield index, patiently(partial(task.function, *task.arguments))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON so that a kill leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    with building.open("w") as file:
        file.write(json.dumps(value, indent=1, sort_keys=True))
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)
