"""Rows of token blocks by number, over the files of their shards; files are opened when they are needed."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.text import TokenBlocks

OPEN_FILES = 128
"""Files that are kept open at once, over all sources of a stream: well below what systems let a process open."""


class BlockRows:
    """Reads rows of several texts without loading them; may be used by several threads.

    Rows are read one by one, not through memory maps: rows of a shuffled stream lie far apart, so that a map would read
    pages around each that nobody asks for.

    Args:
        blocks: The texts.
    """

    def __init__(self, blocks: Sequence[TokenBlocks]) -> None:
        self._blocks = list(blocks)
        self._ends = [np.cumsum(b.shards or (b.sequences,), dtype=np.int64) for b in blocks]
        self._open = functools.lru_cache(maxsize=OPEN_FILES)(_BlockFile)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open files behind."""
        return {"_blocks": self._blocks, "_ends": self._ends}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens files anew when they are needed."""
        self.__dict__.update(state)
        self._open = functools.lru_cache(maxsize=OPEN_FILES)(_BlockFile)

    def fill(self, text: int, rows: NDArray[np.int64], out: NDArray[np.int64], where: NDArray[np.int64]) -> None:
        """Copies rows of one text.

        Args:
            text: Which text.
            rows: Rows of it, counted over all its files, shape (n,).
            out: Where to, shape (m, sequence_length).
            where: The rows of `out` that they become, shape (n,).
        """
        blocks, ends = self._blocks[text], self._ends[text]
        shards = np.searchsorted(ends, rows, side="right")
        within = rows - np.concatenate([[0], ends])[shards]
        # In the order of the disk.
        for at in np.lexsort((rows, shards)):
            out[where[at]] = self._open(blocks.file(int(shards[at]))).row(int(within[at]))


class _BlockFile:
    """A `.npy` file of shape (sequences, sequence_length), open for reading as long as someone holds it."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, self._dtype = np.lib.format.read_array_header_1_0(file)
            self._first = file.tell()
        self._bytes = shape[1] * self._dtype.itemsize

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)  # missing where the file could not be opened
        if descriptor is not None:
            os.close(descriptor)

    def row(self, number: int) -> NDArray[Any]:
        data = os.pread(self._descriptor, self._bytes, self._first + number * self._bytes)
        return np.frombuffer(data, self._dtype)
