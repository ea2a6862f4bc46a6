"""The one writer of a study's tables, as a named Ray actor, and the handle through which others append."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flp_ray.core.tuning import TrialReport
from flp_ray.distributed.context import namespace
from flp_ray.errors import FlpRayError, StorageError
from flp_ray.store import TableWriter, attempt_row, load_tunings, read_table, recorded_checkpoints

STORE_NAME = "store"


class StoreActor:
    """Appends record batches in the order in which they come; returns once a batch is durable.

    It is restarted when it dies, and Ray repeats the calls that were under way; appending by key makes the
    repetition harmless.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self._writer = TableWriter(study_dir)

    def append(self, table: str, batch: pa.Table) -> int:
        """Appends rows and returns how many were new."""
        return self._writer.append(table, batch)

    def recorded_tokens(self, run_id: str) -> set[int]:
        """Token counts of the run's checkpoints that are stored."""
        return recorded_checkpoints(self._study_dir, run_id)

    def trial_reports(self, run_id: str) -> tuple[TrialReport, ...]:
        """What is stored of a tuning trial, by tokens."""
        return load_tunings(self._study_dir, run_id)

    def attempts(self, run_id: str) -> int:
        """How many attempts of a run have been recorded."""
        rows = read_table(self._study_dir, "attempts", columns=["run_id", "attempt"]).to_pylist()
        return max((row["attempt"] for row in rows if row["run_id"] == run_id), default=0)

    def lose_attempt(self, run_id: str, reason: str, *, session: str) -> None:
        """Records as failed the run's last attempt, if its own process did not live to record an end."""
        events = read_table(self._study_dir, "attempts", columns=["run_id", "attempt", "event"]).to_pylist()
        mine = [row for row in events if row["run_id"] == run_id]
        last = max((row["attempt"] for row in mine), default=0)
        if last and [row["event"] for row in mine if row["attempt"] == last] == ["started"]:
            lost = attempt_row(
                run_id=run_id, attempt=last, event="failed", at=time.time(), reason=reason, session=session
            )
            self._writer.append("attempts", lost)

    def process_id(self) -> int:
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


def start_store(study_dir: Path) -> RemoteWriter:
    """Starts the store actor on the driver's node, which has the study's folder.

    The actor takes no CPU share, so it never waits for a run to end.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = (
        ray.remote(StoreActor)
        .options(
            name=STORE_NAME,
            namespace=namespace(study_dir),
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=here,
        )
        .remote(study_dir)
    )
    writer = RemoteWriter(actor)
    writer.ask("process_id")  # an unusable folder is reported here, before any run starts
    return writer
