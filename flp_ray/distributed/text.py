"""The text of a study on a cluster: prepared by Ray tasks in parallel, and brought to the nodes that train on it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import ray

from flp_ray.core.storage import FileStorage
from flp_ray.data.tasks import RunTasks, TextTask, run_here
from flp_ray.distributed.context import StudyContext
from flp_ray.store import FolderLock, files_at

FEW_TASKS = 4
"""So few pieces of text are prepared in the driver's own process; starting others would take longer."""

CPUS_PER_TASK = 1

DOWNLOAD_WAIT_SECONDS = 24 * 3600.0
"""One process of a node brings the text, the others wait for it as long as that takes."""


def text_tasks(study_dir: Path, storage_uri: str | None) -> RunTasks:
    """An executor for the pieces of a preparation: on all nodes of the cluster that this process is connected to.

    A piece whose node is lost is made again on another. Where the study lives on an object store, a node gets what a
    piece reads from there and puts there what it leaves; pieces that are there already are not made again.

    Args:
        study_dir: The study's folder.
        storage_uri: Its object store; None where the folder is what every node sees.
    """
    root = study_dir.absolute()

    def run(tasks: Sequence[TextTask]) -> Iterator[tuple[int, Any]]:
        stored = _stored(storage_uri)
        open_tasks = []
        for index, task in enumerate(tasks):
            if all(_is_stored(path, root, stored) for path in task.writes):
                yield index, _result(task, root, storage_uri)
            else:
                open_tasks.append(index)
        if len(open_tasks) <= FEW_TASKS:
            yield from ((index, _run(tasks[index], root, storage_uri)) for index in open_tasks)
            return
        for index in (i for i in open_tasks if tasks[i].here):
            yield index, _run(tasks[index], root, storage_uri)
        remote = ray.remote(_run_on_one_core).options(
            num_cpus=CPUS_PER_TASK, max_retries=-1, scheduling_strategy="SPREAD"
        )
        waiting = {remote.remote(tasks[i], root, storage_uri): i for i in open_tasks if not tasks[i].here}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            for answer in done:
                yield waiting.pop(answer), ray.get(answer)

    return run


def _run_on_one_core(task: TextTask, root: Path, storage_uri: str | None) -> Any:
    """Runs one piece beside others of the same node."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return _run(task, root, storage_uri)


def _run(task: TextTask, root: Path, storage_uri: str | None) -> Any:
    """Runs one piece where it is called."""
    storage = None if storage_uri is None else files_at(storage_uri)
    if storage is not None:
        for path in chain(*(_stored_files(path, root, storage) for path in task.reads)):
            if not path.exists():
                storage.get(_name(path, root), path)
    result = task.result()
    if result is None:
        [(_, result)] = run_here([task])
    if storage is not None:
        for path in chain(*(_local_files(path) for path in task.writes)):  # in their order: the description comes last
            storage.put(path, _name(path, root))
    return result


def _result(task: TextTask, root: Path, storage_uri: str | None) -> Any:
    """What a task that is done returned; the files of one that is done here are brought here."""
    assert storage_uri is not None
    storage = files_at(storage_uri)
    for wanted in task.writes if task.here else task.writes[-1:]:
        for path in _stored_files(wanted, root, storage):
            if not path.exists():
                storage.get(_name(path, root), path)
    return json.loads(task.writes[-1].read_text())


def _stored(storage_uri: str | None) -> frozenset[str]:
    return frozenset() if storage_uri is None else frozenset(files_at(storage_uri).names("text/"))


def _is_stored(path: Path, root: Path, stored: frozenset[str]) -> bool:
    name = _name(path, root)
    return name in stored if path.suffix else any(other.startswith(f"{name}/") for other in stored)


def _stored_files(path: Path, root: Path, storage: FileStorage) -> list[Path]:
    """A file, or all files of a folder, as the object store has them."""
    return [path] if path.suffix else [root / name for name in storage.names(_name(path, root) + "/")]


def _local_files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]


def _name(path: Path, root: Path) -> str:
    return path.absolute().relative_to(root).as_posix()


def bring_text(context: StudyContext, *, sources: Iterable[str]) -> None:
    """Makes sure that this node has what runs are measured with and trained on; nothing on a shared folder.

    Args:
        context: The study.
        sources: Sources that a run trains on here; none where it is only measured.
    """
    storage = context.storage()
    if storage is None:
        return
    root, text = context.study_dir.absolute(), context.text
    blocks = [*(text.sources[source] for source in sources), *text.domains.values()]
    files = [Path(file) for file in (*chain(*(b.files() for b in blocks)), *text.items.values())]
    lock = FolderLock(root / "locks" / "text", wait_seconds=DOWNLOAD_WAIT_SECONDS)
    try:
        for path in [*files, *_stored_files(Path(text.tokenizer), root, storage)]:
            if not path.exists():
                storage.get(_name(path, root), path)
    finally:
        lock.release()
