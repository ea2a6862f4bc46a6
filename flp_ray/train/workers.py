"""The workers of a run, beside what DeepSpeed makes them exchange: they wait for each other and agree."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long workers wait: while rank 0 measures a checkpoint, the others have nothing to do."""


class Workers:
    """All processes of a run as seen from one of them; the process group exists.

    Messages go over the host's network (gloo) by a group of their own, because NCCL takes a worker that has waited
    for minutes as lost.

    Args:
        rank: This process, 0 to world - 1.
        world: Number of processes.
    """

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._group: Any = torch.distributed.new_group(backend="gloo", timeout=PATIENCE) if world > 1 else None

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every worker's value, by rank; small and picklable. Every rank calls it."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def wait(self) -> None:
        """Returns once every rank has called it."""
        if self.world > 1:
            torch.distributed.barrier(group=self._group)

    def close(self) -> None:
        """Gives the group back; no other worker is waited for."""
        if self._group is not None:
            torch.distributed.destroy_process_group(self._group)
            self._group = None
