"""Which source each sequence comes from: exact ratios at every prefix, by chairman assignment."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 13
"""Sequences whose sources are worked out at once."""

CACHED_CHUNKS = 640
"""Chunks kept: a period of up to 5 million sequences is worked out only once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """A stretch of the schedule: each sequence's source, and how many of that source came before it here."""

    source: NDArray[np.int32]
    before: NDArray[np.int32]


class Schedule:
    """Assigns sequence i = 0, 1, ... to one of K sources.

    After any number n of sequences, source k has had n r_k of them, off by at most 1 - 1 / (2 K - 2), so by
    less than one. Unit j of a source is due in a window of sequences; the sources whose window has begun are
    served by earliest deadline. All arithmetic is on integers, so nothing drifts; rational ratios make the
    schedule periodic, and only one period is ever worked out, in chunks.

    Args:
        ratios: Exact positive shares; they are divided by their sum.

    Reference: R. Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980), 323-330.
    Deadlines are rounded down to whole sequences here, which keeps the bound: with unit jobs and whole
    windows, earliest deadline first meets all deadlines whenever any order does.
    """

    def __init__(self, ratios: Sequence[Fraction]) -> None:
        total = sum(ratios)
        shares = [ratio / total for ratio in ratios]
        self._period = math.lcm(*(share.denominator for share in shares))
        self._weights = [int(share * self._period) for share in shares]
        self._slack = max(2 * len(ratios) - 2, 1)
        self._starts: list[tuple[int, ...]] = [(0,) * len(ratios)]
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        """Leaves the cache behind: workers work their own chunks out again."""
        return {**self.__dict__, "_chunks": OrderedDict()}

    def locate(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source of each sequence, and how many sequences of that source come before it.

        Args:
            numbers: Sequence numbers, any shape (n,).

        Returns:
            Two arrays of shape (n,): index of the source, ordinal within the source.
        """
        # A period beyond 64 bits is never completed, and numpy could not divide by it.
        rounds, within = np.divmod(numbers, min(self._period, 2**62))
        source = np.empty(len(numbers), dtype=np.int64)
        ordinal = np.empty(len(numbers), dtype=np.int64)
        for index in np.unique(within // CHUNK):
            here = np.flatnonzero(within // CHUNK == index)
            chunk = self._chunk(int(index))
            at = within[here] - index * CHUNK
            source[here] = chunk.source[at]
            start = np.array(self._starts[index], dtype=np.int64)
            ordinal[here] = start[source[here]] + chunk.before[at]
        if rounds.any():
            ordinal += rounds * np.array(self._weights, dtype=np.int64)[source]
        return source, ordinal

    def counts(self, stop: int) -> tuple[int, ...]:
        """Sequences of each source among the first `stop`."""
        rounds, within = divmod(stop, self._period)
        index, rest = divmod(within, CHUNK)
        drawn = [0] * len(self._weights)
        if rest:
            drawn = np.bincount(self._chunk(index).source[:rest], minlength=len(drawn)).tolist()
        elif index:
            self._chunk(index - 1)
        return tuple(
            rounds * weight + start + extra
            for weight, start, extra in zip(self._weights, self._starts[index], drawn, strict=True)
        )

    def _chunk(self, index: int) -> _Chunk:
        """One chunk of the period; works out all chunks before it the first time."""
        if index in self._chunks:
            self._chunks.move_to_end(index)
            return self._chunks[index]
        for known in range(min(index, len(self._starts) - 1), index + 1):
            source = self._served(known)
            if known + 1 == len(self._starts):
                drawn = np.bincount(source, minlength=len(self._weights)).tolist()
                self._starts.append(tuple(a + b for a, b in zip(self._starts[known], drawn, strict=True)))
        chunk = _Chunk(source=source, before=_ordinals(source))
        self._chunks[index] = chunk
        if len(self._chunks) > CACHED_CHUNKS:
            self._chunks.popitem(last=False)
        return chunk

    def _served(self, index: int) -> NDArray[np.int32]:
        """The sources of one chunk, from the counts at its start: earliest deadline first."""
        first = index * CHUNK
        count = min(CHUNK, self._period - first)
        drawn = list(self._starts[index])
        ready: list[tuple[int, int]] = []  # (deadline, source), heap
        later: dict[int, list[tuple[int, int]]] = {}
        for source in range(len(drawn)):
            self._queue(source, drawn[source], first + 1, ready, later)
        served = np.empty(count, dtype=np.int32)
        for step in range(count):
            for entry in later.pop(first + step + 1, ()):
                heapq.heappush(ready, entry)
            _, source = heapq.heappop(ready)
            served[step] = source
            drawn[source] += 1
            self._queue(source, drawn[source], first + step + 2, ready, later)
        return served

    def _queue(
        self,
        source: int,
        drawn: int,
        now: int,
        ready: list[tuple[int, int]],
        later: dict[int, list[tuple[int, int]]],
    ) -> None:
        """Queues a source's next sequence, number drawn + 1, for its window of steps (counted from 1)."""
        # With c = 1 / slack: released when n r - drawn >= c, due while n r - drawn <= 1 - c + r.
        step = self._slack * self._weights[source]
        release = -(-(self._slack * drawn + 1) * self._period // step)
        deadline = (self._slack * (drawn + 1) - 1) * self._period // step
        if release <= now:
            heapq.heappush(ready, (deadline, source))
        else:
            later.setdefault(release, []).append((deadline, source))


def _ordinals(source: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each entry, how many equal entries come before it."""
    order = np.argsort(source, kind="stable")
    ranked = source[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    lengths = np.diff(np.append(starts, len(source)))
    before = np.empty(len(source), dtype=np.int32)
    before[order] = np.arange(len(source)) - np.repeat(starts, lengths)
    return before
