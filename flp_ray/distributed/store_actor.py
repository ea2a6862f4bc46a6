"""The one writer of a study's tables, as a named Ray actor, and the handle through which others append."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.util.placement_group import PlacementGroup

from flp_ray.core.tuning import TrialReport
from flp_ray.distributed.cluster import on_this_node
from flp_ray.distributed.context import namespace
from flp_ray.distributed.failures import is_out_of_memory
from flp_ray.errors import FlpRayError, StorageError
from flp_ray.store import TableWriter, attempt_row, load_tunings, read_table

STORE_NAME = "store"

MOST_AT_ONCE = 1000
"""Calls that may wait in the actor; those beyond wait in Ray."""


class StoreActor:
    """Appends record batches; a call returns once its batch is durable.

    Batches that arrive while a commit is under way are committed together with the next one, so that many runs at once
    cost as many commits as the disk can make and no more. The actor is restarted when it dies, and Ray repeats the
    calls that were under way; appending by key makes the repetition harmless.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self._writer = TableWriter(study_dir)
        self._waiting: list[tuple[str, pa.Table, asyncio.Future[int]]] = []
        self._one_at_a_time = asyncio.Lock()
        self._progress: dict[str, tuple[int, float]] = {}
        self._furthest: defaultdict[str, int] = defaultdict(int)
        self._failures: dict[str, tuple[int, str]] = {}
        self._asked: set[str] = set()
        self._groups: dict[str, PlacementGroup] = {}
        self._too_large: dict[str, int] = {}
        self._finished: set[str] = set()
        self._note_attempts(read_table(study_dir, "attempts", ["run_id", "event", "reason", "micro_batch_sequences"]))

    async def append(self, table: str, batch: pa.Table) -> int:
        """Appends rows and returns how many were new."""
        mine: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((table, batch, mine))
        async with self._one_at_a_time:
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                await asyncio.to_thread(self._commit, waiting)
        return await mine

    def _commit(self, waiting: list[tuple[str, pa.Table, asyncio.Future[int]]]) -> None:
        try:
            outcomes: list[Any] = list(self._writer.append_many([(table, batch) for table, batch, _ in waiting]))
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            outcomes = [error] * len(waiting)
        for (table, batch, future), outcome in zip(waiting, outcomes, strict=True):
            failed = isinstance(outcome, BaseException)
            if table == "attempts" and not failed:
                self._note_attempts(batch)
            future.get_loop().call_soon_threadsafe(future.set_exception if failed else future.set_result, outcome)

    def _note_attempts(self, attempts: pa.Table) -> None:
        for row in attempts.to_pylist():
            if row["event"] == "finished":
                self._finished.add(row["run_id"])
            micro = row.get("micro_batch_sequences")
            if micro is not None and is_out_of_memory(row.get("reason") or ""):
                self._too_large[row["run_id"]] = min(micro, self._too_large.get(row["run_id"], micro))

    async def recorded_tokens(self, run_id: str) -> set[int]:
        """Token counts of the run's checkpoints that are stored."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._writer.recorded_checkpoints, run_id)

    async def trial_reports(self, run_id: str) -> tuple[TrialReport, ...]:
        """What is stored of a tuning trial, by tokens."""
        return await asyncio.to_thread(load_tunings, self._study_dir, run_id)

    async def attempts(self, run_id: str) -> int:
        """How many attempts of a run have been recorded."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._writer.attempts_of, run_id)

    async def finished(self, run_id: str) -> bool:
        """Whether the run has been trained to its end."""
        return run_id in self._finished

    async def too_large(self, run_id: str) -> int | None:
        """The smallest micro batch at which the run has run out of memory; None where it never has."""
        return self._too_large.get(run_id)

    async def lose_attempt(self, run_id: str, reason: str, *, session: str) -> None:
        """Counts a failure, and records it as that of the last attempt if its process did not live to do so."""
        async with self._one_at_a_time:
            lost = await asyncio.to_thread(self._writer.open_attempt, run_id)
        if lost is not None:
            row = attempt_row(
                run_id=run_id, attempt=lost, event="failed", at=time.time(), reason=reason, session=session
            )
            await self.append("attempts", row)
        self._failures[run_id] = (self._failures.get(run_id, (0, ""))[0] + 1, reason)

    async def note_progress(self, run_id: str, tokens: int, train_loss: float) -> None:
        """A run has reached a checkpoint; one that lies further than any before it forgives the failures so far."""
        self._progress[run_id] = (tokens, train_loss)
        if tokens > self._furthest[run_id]:
            self._furthest[run_id] = tokens
            self._failures.pop(run_id, None)

    async def progress(self) -> dict[str, tuple[int, float]]:
        """What the runs have noted since this was asked last: tokens and training loss by run."""
        noted, self._progress = self._progress, {}
        return noted

    async def note_group(self, run_id: str, group: PlacementGroup) -> None:
        """The workers of a run have been placed."""
        self._groups[run_id] = group

    async def left_group(self, run_id: str) -> PlacementGroup | None:
        """Where the workers of a run's last attempt were placed; asked before they are placed anew."""
        return self._groups.pop(run_id, None)

    async def failures(self, run_id: str) -> tuple[int, str]:
        """Failed attempts since the run last came further, in this call of the study, and the last one's reason."""
        return self._failures.get(run_id, (0, ""))

    async def first(self, what: str) -> bool:
        """Whether this is the first time in this call of the study that anybody asks for it."""
        new = what not in self._asked
        self._asked.add(what)
        return new

    async def process_id(self) -> int:
        """For tests that kill it."""
        return os.getpid()


class RemoteWriter:
    """Appends through the store actor, from any process of the cluster.

    The driver's own keeps the actor alive: Ray ends a named actor once nobody holds its handle.

    Attributes:
        actor: The store actor's handle.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @classmethod
    def find(cls, study_dir: Path) -> RemoteWriter:
        """The writer of a running study, looked up by name."""
        return cls(ray.get_actor(STORE_NAME, namespace=namespace(study_dir)))

    def append(self, table: str, batch: pa.Table) -> int:
        """Appends rows; returns once they are durable.

        Raises:
            ConflictError: A different value is stored under one of the keys.
            StorageError: The study folder cannot be written.
        """
        return int(self.ask("append", table, batch))

    def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls a method of the store actor and waits; its errors arrive as they were raised there."""
        try:
            return ray.get(getattr(self.actor, method).remote(*arguments, **named))
        except RayTaskError as error:
            if isinstance(error.cause, FlpRayError):
                raise error.cause from None
            raise
        except ActorDiedError as error:
            raise StorageError(f"The store of the study cannot start or was lost for good: {error}") from error

    def tell(self, method: str, *arguments: Any) -> None:
        """Calls a method of the store actor without waiting for it."""
        getattr(self.actor, method).remote(*arguments)


def start_store(study_dir: Path) -> RemoteWriter:
    """Starts the store actor on the driver's node, which has the study's folder.

    The actor takes no CPU share, so it never waits for a run to end.
    """
    here = on_this_node()
    actor = (
        ray.remote(StoreActor)
        .options(
            name=STORE_NAME,
            namespace=namespace(study_dir),
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=MOST_AT_ONCE,
            scheduling_strategy=here,
        )
        .remote(study_dir)
    )
    writer = RemoteWriter(actor)
    writer.ask("process_id")  # an unusable folder is reported here, before any run starts
    return writer
