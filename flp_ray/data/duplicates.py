"""Which documents repeat an earlier one: decided for one part of the key space at a time, so in bounded memory.

Within a source the first document with a text stays; a text that several sources train on stays with the first of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.data.scan import HELD, KEY, between, open_keys, write_array
from flp_ray.data.tasks import TextTask, write_json

DOCUMENTS_AT_ONCE = 1 << 22
"""Documents, of all sources, that one task decides about: bounds its memory."""

DROP = np.dtype([("shard", "<u4"), ("at", "<u4")])
"""A dropped document: the number of its shard among those of all sources, and its own in the shard."""


def duplicate_tasks(keys: Mapping[str, Sequence[Path]], documents: int, folder: Path) -> list[TextTask]:
    """The tasks that find duplicates.

    Args:
        keys: The files of keys by source, in the order of the sources and their shards.
        documents: Documents of all of them.
        folder: Where to.
    """
    count = 1
    while documents > count * DOCUMENTS_AT_ONCE:
        count *= 2
    sources = tuple(tuple(paths) for paths in keys.values())
    reads = tuple(path for paths in sources for path in paths)
    return [
        TextTask(
            name=f"duplicates, part {number} of {count}",
            function=find_duplicates,
            arguments=(sources, number, count, folder / f"{number}-of-{count}"),
            reads=reads,
            writes=(folder / f"{number}-of-{count}.npy", folder / f"{number}-of-{count}.json"),
        )
        for number in range(count)
    ]


def find_duplicates(sources: Sequence[Sequence[Path]], number: int, count: int, base: Path) -> dict[str, Any]:
    """Decides about all documents whose keys lie in one of `count` equal parts of the key space.

    Args:
        sources: The files of keys by source.
        number: Which part, from 0.
        count: How many parts.
        base: Path of the two files to write, without their endings.

    Returns:
        Documents dropped; CPU seconds.
    """
    started = time.process_time()
    low, high = (number << 64) // count, ((number + 1) << 64) // count
    earlier = np.empty(0, np.uint64)
    dropped: list[NDArray[Any]] = [np.empty(0, DROP)]
    first_shard = 0
    for paths in sources:
        slices = [between(open_keys(path), "key", low, high) for path in paths]
        table = np.concatenate([np.empty(0, KEY), *slices])
        shard = np.repeat(np.arange(first_shard, first_shard + len(paths), dtype=np.uint32), list(map(len, slices)))
        first_shard += len(paths)
        _, firsts = np.unique(table["key"], return_index=True)
        again = np.ones(len(table), bool)
        again[firsts] = False
        trained_on = ~again & ((table["at"] & HELD) == 0)
        again |= trained_on & np.isin(table["key"], earlier)
        earlier = np.union1d(earlier, table["key"][trained_on])
        drops = np.empty(int(again.sum()), DROP)
        drops["shard"], drops["at"] = shard[again], table["at"][again] & ~HELD
        dropped.append(np.sort(drops, order=("shard", "at")))
    found = np.concatenate(dropped)
    write_array(found, base.with_name(base.name + ".npy"))
    result = {"dropped": len(found), "cpu_seconds": time.process_time() - started}
    write_json(base.with_name(base.name + ".json"), result)
    return result
