"""The first reading of a shard: the key of every document, and whether it is held out."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.data.documents import text_key
from flp_ray.data.shards import Shard, shard_documents
from flp_ray.data.split import held_out
from flp_ray.data.spool import write_documents
from flp_ray.data.tasks import TextTask, write_json

KEY = np.dtype([("key", "<u8"), ("at", "<u4")])
"""A document: its text key and its number in the shard, whose top bit says that it is held out. Sorted by key."""

HELD = np.uint32(1 << 31)

TRAINED_ON, HELD_OUT, DROPPED = range(3)


def scan_task(shard: Shard, *, fraction: float, seed: int) -> TextTask:
    """The task that reads a shard for the first time.

    Args:
        shard: The shard.
        fraction: Share of documents held out.
        seed: The study's seed.
    """
    return TextTask(
        name=f"reading {shard.source}, shard {shard.number}",
        function=scan_shard,
        arguments=(shard, fraction, seed),
        writes=(*shard.kept_documents, shard.keys, shard.done(".read")),
    )


def scan_shard(shard: Shard, fraction: float, seed: int) -> dict[str, Any]:
    """Reads a shard: writes the keys of its documents, and the documents themselves where they are kept.

    Returns:
        Counts: documents, training documents and their characters, documents held out; CPU seconds.
    """
    started = time.process_time()
    keys: list[int] = []
    held: list[bool] = []
    characters = 0
    documents = shard_documents(shard)
    if shard.spool is not None and not shard.spool.exists():
        documents = write_documents(documents, shard.spool)
    for document in documents:
        key = text_key(document.text)
        keys.append(key)
        held.append(held_out(document, fraction=fraction, seed=seed, key=key))
        characters += 0 if held[-1] else len(document.text)
    write_array(_sorted(np.array(keys, np.uint64), np.array(held, bool)), shard.keys)
    counts = {"documents": len(keys), "characters": characters, "held_out": sum(held)}
    counts |= {"training": len(keys) - sum(held)}
    result = counts | {"cpu_seconds": time.process_time() - started}
    write_json(shard.done(".read"), result)
    return result


def open_keys(path: Path) -> NDArray[Any]:
    """The keys of a shard, memory-mapped, in the form `KEY`; earlier versions kept the training keys alone."""
    keys: NDArray[Any] = np.load(path, mmap_mode="r")
    return keys if keys.dtype == KEY else _sorted(np.asarray(keys, np.uint64), np.zeros(len(keys), bool))


def document_fates(keys: Path, drops: Sequence[Path], number: int) -> NDArray[np.uint8]:
    """What happens to each document of a shard, in the order in which they are read, shape (documents,).

    Args:
        keys: The shard's keys.
        drops: What `find_duplicates` has written.
        number: The shard's number there.
    """
    at = np.asarray(open_keys(keys)["at"])
    fates = np.empty(len(at), np.uint8)
    fates[at & ~HELD] = np.where(at & HELD, HELD_OUT, TRAINED_ON)
    for path in drops:
        fates[between(np.load(path, mmap_mode="r"), "shard", number, number + 1)["at"]] = DROPPED
    return fates


def between(table: NDArray[Any], field: str, low: int, high: int) -> NDArray[Any]:
    """Rows of a table sorted by a field that have it from `low` to `high` (excluded); reads little else of its file."""
    values = table[field]
    start = bisect_left(range(len(values)), low, key=lambda at: int(values[at]))
    stop = bisect_left(range(len(values)), high, key=lambda at: int(values[at]))
    return np.asarray(table[start:stop])


def write_array(array: NDArray[Any], path: Path) -> None:
    """Writes a `.npy` file that appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    with building.open("wb") as file:
        np.save(file, array)
    building.replace(path)


def _sorted(keys: NDArray[np.uint64], held: NDArray[np.bool_]) -> NDArray[Any]:
    order = np.argsort(keys, kind="stable")
    table = np.empty(len(keys), KEY)
    table["key"] = keys[order]
    table["at"] = order.astype(np.uint32) | np.where(held[order], HELD, np.uint32(0))
    return table
