"""Documents that domains are made of: those held out of a source, or a domain's own text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flp_ray.data.config import TextOrigin
from flp_ray.data.documents import Document, encodable, text_key
from flp_ray.data.origins import read_documents
from flp_ray.data.scan import HELD_OUT, document_fates
from flp_ray.data.shards import Shard, changed, shard_documents
from flp_ray.data.split import held_out
from flp_ray.data.spool import read_written, write_documents
from flp_ray.data.steps import Steps
from flp_ray.data.tasks import TextTask, write_json


def held_files(
    shards: Sequence[Shard], task_of: Callable[[Shard, int | None], TextTask], *, enough: int, steps: Steps
) -> list[Path]:
    """Files with the held-out documents of a source: of all its shards, or of its first ones until there is enough.

    Args:
        shards: The source's shards.
        task_of: Makes the task that writes those of one shard, given a limit of characters.
        enough: Characters that are enough. A single shard gives all its documents.
        steps: Runs the tasks: one shard, then two, four and so on at once.
    """
    files: list[Path] = []
    characters = 0
    while len(files) < len(shards) and characters < enough:
        tasks = [
            task_of(shard, enough if len(shards) > 1 else None) for shard in shards[len(files) : 2 * len(files) + 1]
        ]
        for task, result in zip(tasks, steps.run(tasks), strict=True):
            files.append(task.writes[0])
            characters += result["characters"]
    return files


def held_task(shard: Shard, number: int, drops: Sequence[Path], folder: Path, limit: int | None) -> TextTask:
    """The task that writes the held-out documents of a shard that has been read once.

    Args:
        shard: The shard.
        number: Its number in `drops`.
        drops: What `find_duplicates` has written.
        folder: Where to.
        limit: Characters at most; the document that reaches them is the last.
    """
    path = folder / f"{shard.number}.jsonl"
    return TextTask(
        name=f"documents held out of {shard.source}, shard {shard.number}",
        function=write_held,
        arguments=(shard, number, tuple(drops), limit, path),
        reads=(*shard.kept_documents, shard.keys, *drops),
        writes=(path, path.with_suffix(".json")),
    )


def held_again_task(shard: Shard, fraction: float, seed: int, folder: Path, limit: int | None) -> TextTask:
    """The task that writes the held-out documents of a shard of a source whose text stands.

    Args:
        shard: The shard.
        fraction: Share of documents held out.
        seed: The study's seed.
        folder: Where to.
        limit: Characters at most.
    """
    path = folder / f"{shard.number}.jsonl"
    return TextTask(
        name=f"documents held out of {shard.source}, shard {shard.number}",
        function=write_held_again,
        arguments=(shard, fraction, seed, limit, path),
        writes=(path, path.with_suffix(".json")),
    )


def own_task(origin: TextOrigin, name: str, base: Path) -> TextTask:
    """The task that reads a domain's own text, all of which is held out.

    Args:
        origin: The domain's settings, with a limit.
        name: The domain.
        base: Path of the files to write, without their endings.
    """
    path = base.with_name(base.name + ".jsonl")
    return TextTask(
        name=f"reading domain {name}",
        function=write_own,
        arguments=(origin, name, path),
        writes=(path, path.with_suffix(".json")),
    )


def read_held(files: Sequence[Path]) -> Iterator[Document]:
    """The documents of several files, each text once."""
    seen: set[int] = set()
    for path in files:
        for document in read_written(path):
            if (key := text_key(document.text)) not in seen:
                seen.add(key)
                yield document


def write_held(shard: Shard, number: int, drops: Sequence[Path], limit: int | None, path: Path) -> dict[str, Any]:
    """Writes the held-out documents of a shard, up to a number of characters; returns how many characters."""
    fates = document_fates(shard.keys, drops, number)
    return _write(_held(shard, fates.tolist()), limit, path)


def write_held_again(shard: Shard, fraction: float, seed: int, limit: int | None, path: Path) -> dict[str, Any]:
    """Writes the held-out documents of a shard, each text once; returns how many characters."""
    held = (d for d in shard_documents(shard) if held_out(d, fraction=fraction, seed=seed))
    return _write(held, limit, path)


def write_own(origin: TextOrigin, name: str, path: Path) -> dict[str, Any]:
    """Writes a domain's own documents; returns how many characters."""
    return _write(read_documents(origin, name=name), None, path)


def _held(shard: Shard, fates: Sequence[int]) -> Iterator[Document]:
    for number, document in enumerate(shard_documents(shard)):
        if number >= len(fates):
            raise changed(shard)
        if fates[number] == HELD_OUT:
            yield document


def _write(documents: Iterator[Document], limit: int | None, path: Path) -> dict[str, Any]:
    characters = 0
    for document in write_documents(_until(documents, limit), path):
        characters += len(document.text)
    result = {"characters": characters}
    write_json(path.with_suffix(".json"), result)
    return result


def _until(documents: Iterator[Document], limit: int | None) -> Iterator[Document]:
    characters = 0
    for document in documents:
        yield replace(document, text=encodable(document.text))
        characters += len(document.text)
        if limit is not None and characters >= limit:
            return
