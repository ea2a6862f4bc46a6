"""Checkpoints measured beside the training: their weights go to a desk, and evaluators take them from there.

    training, rank 0 -> weights in the run's folder -> desk -> evaluator -> store, weights removed

A checkpoint that is handed over is as safe as a record: its weights stay in the run's folder, on storage that every
node reaches, until its record is stored, and whoever trains the run next hands it over again.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from flp_ray.core.run import RunSpec
from flp_ray.core.storage import FileStorage
from flp_ray.distributed.config import EvaluatorsConfig
from flp_ray.distributed.context import StudyContext, namespace
from flp_ray.distributed.failures import reason
from flp_ray.distributed.measuring import measurer
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.errors import RunError
from flp_ray.store import measurement_rows
from flp_ray.train import TrainingCheckpoint, export_model

DESK_NAME = "desk"
_JOB = "job.json"


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
    """

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._queue: deque[EvaluationJob] = deque()
        self._taken: dict[str, EvaluationJob] = {}
        self._open: defaultdict[str, set[int]] = defaultdict(set)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._failed: dict[str, str] = {}
        self._changed = asyncio.Condition()

    async def put(self, job: EvaluationJob) -> None:
        """Takes a checkpoint in; waits while too many of its run are there. One that is there already is no second."""
        async with self._changed:
            self._failed.pop(job.run_id, None)
            await self._changed.wait_for(lambda: len(self._open[job.run_id]) < self._waiting)
            if job.tokens not in self._open[job.run_id]:
                self._open[job.run_id].add(job.tokens)
                self._queue.append(job)
            self._changed.notify_all()

    async def take(self, evaluator: str) -> EvaluationJob:
        """The next checkpoint for an evaluator; the one that it had when its process died comes first."""
        async with self._changed:
            if evaluator not in self._taken:
                await self._changed.wait_for(lambda: bool(self._queue))
                self._taken[evaluator] = self._queue.popleft()
            return self._taken[evaluator]

    async def done(self, evaluator: str, seconds: float, failure: str | None) -> None:
        """A checkpoint is measured and stored, or cannot be."""
        async with self._changed:
            job = self._taken.pop(evaluator)
            self._open[job.run_id].discard(job.tokens)
            self._seconds[job.run_id] += seconds
            if failure is not None:
                self._failed[job.run_id] = failure
            self._changed.notify_all()

    async def wait(self, run_id: str) -> tuple[float, str | None]:
        """Waits until nothing of a run is open; seconds that its measuring took, and why it failed if it did."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._open[run_id])
            self._open.pop(run_id)
            return self._seconds.pop(run_id, 0.0), self._failed.pop(run_id, None)


class Evaluator:
    """Measures checkpoints, one after the other, with tasks and questions that are loaded once.

    Args:
        name: Its name at the desk, the same after its process has died.
        context: The study.
    """

    def __init__(self, name: str, context: StudyContext) -> None:
        self._name, self._context = name, context

    def work(self) -> None:
        """Never returns; ends with the study."""
        desk = _desk(self._context)
        while True:
            job = ray.get(desk.take.remote(self._name))
            began, failure = time.perf_counter(), None
            try:
                self._measure(job)
            except Exception as error:  # noqa: BLE001 - it becomes the run's failure, and the next job is another run's
                failure = reason(error)
            ray.get(desk.done.remote(self._name, time.perf_counter() - began, failure))

    def _measure(self, job: EvaluationJob) -> None:
        folder = handed_over(self._context, job.run_id) / str(job.tokens)
        storage = self._context.storage()
        prefix = f"{_prefix(self._context, job.run_id)}/{job.tokens}/"
        if storage is not None:
            for name in storage.names(prefix):
                storage.get(name, folder / name.removeprefix(prefix))
        measured = measurer(self._context).measure_folder(
            folder, RunSpec.from_dict(job.spec), tokens=job.tokens, train_loss=job.train_loss, final=job.final
        )
        RemoteWriter.find(self._context.study_dir).append("measurements", measurement_rows(measured))
        _remove(folder, storage, prefix)


@dataclass(slots=True)
class Handover:
    """Gives the checkpoints of one run to the evaluators; used by the run's first worker.

    Attributes:
        spec: The run.
        context: The study.
    """

    spec: RunSpec
    context: StudyContext

    def give(self, checkpoint: TrainingCheckpoint, model: Any) -> None:
        """Writes a checkpoint's weights down and hands it over; waits where too many are waiting."""
        folder = handed_over(self.context, self.spec.run_id) / str(checkpoint.tokens)
        draft = folder.with_name(f".{folder.name}")
        for leftover in (draft, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        export_model(model, draft)
        job: dict[str, Any] = {
            "tokens": checkpoint.tokens,
            "train_loss": checkpoint.train_loss,
            "final": checkpoint.final,
        }
        (draft / _JOB).write_text(json.dumps(job))
        storage = self.context.storage()
        if storage is not None:  # the description last: with it the rest is whole
            files = sorted((f for f in draft.rglob("*") if f.is_file()), key=lambda f: f.name == _JOB)
            for file in files:
                name = f"{_prefix(self.context, self.spec.run_id)}/{folder.name}/{file.relative_to(draft).as_posix()}"
                storage.put(file, name)
        draft.rename(folder)
        self._put(**job)

    def again(self, recorded: set[int]) -> None:
        """Hands over again what an earlier attempt handed over and nobody has measured; removes what is recorded."""
        folder, storage = handed_over(self.context, self.spec.run_id), self.context.storage()
        prefix = _prefix(self.context, self.spec.run_id)
        if storage is not None:
            for name in storage.names(f"{prefix}/"):
                if name.endswith(f"/{_JOB}"):
                    storage.get(name, folder / name.removeprefix(f"{prefix}/"))
        for described in sorted(folder.glob(f"[0-9]*/{_JOB}")):
            job = json.loads(described.read_text())
            if job["tokens"] in recorded:
                _remove(described.parent, storage, f"{prefix}/{job['tokens']}/")
            else:
                self._put(**job)

    def wait(self) -> float:
        """Waits until all are measured and stored.

        Returns:
            Seconds that the evaluators took.

        Raises:
            RunError: One could not be measured.
        """
        seconds, failure = ray.get(_desk(self.context).wait.remote(self.spec.run_id))
        if failure is not None:
            raise RunError(f"A checkpoint of run {self.spec.run_id} could not be measured: {failure}")
        return float(seconds)

    def _put(self, *, tokens: int, train_loss: float, final: bool) -> None:
        job = EvaluationJob(
            spec=self.spec.to_dict(), run_id=self.spec.run_id, tokens=tokens, train_loss=train_loss, final=final
        )
        ray.get(_desk(self.context).put.remote(job))


def start_evaluators(context: StudyContext, config: EvaluatorsConfig) -> list[Any]:
    """Starts the desk and the evaluators.

    Returns:
        Their handles; they live as long as somebody holds these.
    """
    desk = ray.remote(Desk).options(
        name=DESK_NAME, namespace=namespace(context.study_dir), get_if_exists=True, num_cpus=0, max_concurrency=1000
    )
    handles: list[Any] = [desk.remote(config.waiting)]
    for number in range(config.count):
        actor = ray.remote(Evaluator).options(
            num_cpus=config.cpus, num_gpus=config.gpus, max_restarts=-1, max_task_retries=-1
        )
        evaluator = actor.remote(f"evaluator {number}", context)
        handles += [evaluator, evaluator.work.remote()]
    return handles


def handed_over(context: StudyContext, run_id: str) -> Path:
    """Folder of a run's checkpoints that wait to be measured."""
    return context.run_dir(run_id) / "measure"


def _prefix(context: StudyContext, run_id: str) -> str:
    return f"{context.run_prefix(run_id)}/measure"


def _desk(context: StudyContext) -> Any:
    return ray.get_actor(DESK_NAME, namespace=namespace(context.study_dir))


def _remove(folder: Path, storage: FileStorage | None, prefix: str) -> None:
    if storage is not None:
        storage.remove(prefix)
    shutil.rmtree(folder, ignore_errors=True)
