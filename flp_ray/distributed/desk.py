"""The desk at which checkpoints wait to be measured: who has which, what failed, and whether anybody lives."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_DEATHS = 3
"""So often an evaluator's process may die with one checkpoint, whose measuring may be what kills it."""

SILENT_SECONDS = 1800.0
"""After so long without any evaluator's sign of life a training lets go of its room: they may have none themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationJob:
    """A checkpoint that waits to be measured.

    Attributes:
        spec: The run, as `RunSpec.to_dict` gives it.
        run_id: Its id.
        tokens: Tokens seen.
        train_loss: Training loss of the last interval, nats per token.
        final: Whether the training ends there.
    """

    spec: dict[str, Any]
    run_id: str
    tokens: int
    train_loss: float
    final: bool


class Desk:
    """Where checkpoints wait; an actor whose methods wait without blocking each other.

    Args:
        waiting: Checkpoints of one run that may wait.
        silent_seconds: How long those that wait do without a sign of life of any evaluator.
    """

    def __init__(self, waiting: int, silent_seconds: float = SILENT_SECONDS) -> None:
        self._waiting, self._silent_seconds = waiting, silent_seconds
        self._queue: deque[EvaluationJob] = deque()
        self._taken: dict[str, EvaluationJob] = {}
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._open: defaultdict[str, set[int]] = defaultdict(set)
        self._failed: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._heard = time.monotonic()

    async def begin(self, run_id: str) -> None:
        """An attempt of a run begins: what failed in the one before is handed over again."""
        self._failed.pop(run_id, None)

    async def has(self, run_id: str, tokens: int) -> bool:
        """Whether a checkpoint is here: it waits, or is being measured."""
        return tokens in self._open[run_id]

    async def put(self, job: EvaluationJob) -> str | None:
        """Takes a checkpoint in; waits while too many of its run are there. One that is there already is no second.

        Returns:
            Why it could not be taken in: no evaluator lives. None where it is there.
        """
        async with self._changed:
            silent = await self._until(
                lambda: job.tokens in self._open[job.run_id] or len(self._open[job.run_id]) < self._waiting
            )
            if silent is None and job.tokens not in self._open[job.run_id]:
                self._open[job.run_id].add(job.tokens)
                self._queue.append(job)
                self._changed.notify_all()
            return silent

    async def take(self, evaluator: str) -> EvaluationJob:
        """The next checkpoint for an evaluator; the one that it had when its process died comes first."""
        async with self._changed:
            if evaluator in self._taken:
                job = self._taken[evaluator]
                self._deaths[job.run_id, job.tokens] += 1
                if self._deaths[job.run_id, job.tokens] < MOST_DEATHS:
                    return job
                self._close(evaluator, f"the evaluator's process died {MOST_DEATHS} times while measuring it")
            await self._changed.wait_for(lambda: bool(self._queue))
            self._taken[evaluator] = self._queue.popleft()
            return self._taken[evaluator]

    async def done(self, evaluator: str, failure: str | None) -> None:
        """A checkpoint is measured and stored, or cannot be."""
        async with self._changed:
            self._close(evaluator, failure)

    async def alive(self) -> None:
        """A sign of life of an evaluator."""
        self._heard = time.monotonic()

    async def wait(self, run_id: str) -> str | None:
        """Waits until nothing of a run is open; why its measuring failed if it did."""
        async with self._changed:
            silent = await self._until(lambda: not self._open[run_id])
            return silent or self._failed.get(run_id)

    def _close(self, evaluator: str, failure: str | None) -> None:
        job = self._taken.pop(evaluator)
        self._open[job.run_id].discard(job.tokens)
        self._deaths.pop((job.run_id, job.tokens), None)
        if failure is not None:
            self._failed[job.run_id] = f"{job.tokens} tokens: {failure}"
        self._changed.notify_all()

    async def _until(self, reached: Callable[[], bool]) -> str | None:
        """Waits for something, as long as an evaluator lives; what to say where none does."""
        while not reached():
            left = self._heard + self._silent_seconds - time.monotonic()
            if left <= 0:
                return f"no evaluator has given a sign of life for {self._silent_seconds:.0f} s"
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue
        return None
