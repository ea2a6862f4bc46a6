"""Checkpoints measured beside the training: their weights go to a desk, and evaluators take them from there.

    training, rank 0 -> weights in the run's folder -> desk -> evaluator -> store, weights removed

A checkpoint that is handed over is as safe as a record: its weights stay in the run's folder, on storage that every
node reaches, until its record is stored, and whoever trains the run next hands it over again. A run is finished only
once each of its checkpoints is measured; one that cannot be measured fails the attempt.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from flp_ray.core.run import RunSpec
from flp_ray.core.storage import FileStorage
from flp_ray.distributed.cluster import on_this_node
from flp_ray.distributed.config import EvaluatorsConfig
from flp_ray.distributed.context import StudyContext, namespace
from flp_ray.distributed.desk import Desk, EvaluationJob
from flp_ray.distributed.failures import reason
from flp_ray.distributed.measuring import measurer
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.distributed.text import bring_text
from flp_ray.errors import FlpRayError, RunError
from flp_ray.store import measurement_rows
from flp_ray.train import TrainingCheckpoint, export_model

DESK_NAME = "desk"
_JOB = "job.json"

SIGN_SECONDS = 20.0
"""Time between two signs of life of an evaluator."""


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
        threading.Thread(target=self._live, daemon=True).start()
        while True:
            job = ray.get(desk.take.remote(self._name))
            failure = None
            try:
                self._measure(job)
            except Exception as error:  # noqa: BLE001 - it becomes the run's failure, and the next job is another run's
                failure = reason(error)
            ray.get(desk.done.remote(self._name, failure))

    def _live(self) -> None:
        """Gives signs of life as long as the process lives, also while it measures."""
        desk = _desk(self._context)
        while True:
            desk.alive.remote()
            time.sleep(SIGN_SECONDS)

    def _measure(self, job: EvaluationJob) -> None:
        folder, storage = handed_over(self._context, job.run_id) / str(job.tokens), self._context.storage()
        prefix = f"{_prefix(self._context, job.run_id)}/{job.tokens}/"
        store = RemoteWriter.find(self._context.study_dir)
        try:
            if job.tokens not in store.ask("recorded_tokens", job.run_id):
                bring_text(self._context, sources=())
                if storage is not None:
                    for name in storage.names(prefix):
                        storage.get(name, folder / name.removeprefix(prefix))
                measured = measurer(self._context).measure_folder(
                    folder, RunSpec.from_dict(job.spec), tokens=job.tokens, train_loss=job.train_loss, final=job.final
                )
                store.append("measurements", measurement_rows(measured))
        except BaseException:
            if storage is not None:  # this node's copy; the weights stay in the store, to be measured again
                shutil.rmtree(folder, ignore_errors=True)
            raise
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
        """Writes a checkpoint's weights down and hands it over; waits where too many are waiting.

        One that an earlier attempt handed over, and that waits or has been measured since, is left as it is.
        """
        desk, run_id, tokens = _desk(self.context), self.spec.run_id, checkpoint.tokens
        # In this order: what the desk does not have any more is recorded before it says so.
        if ray.get(desk.has.remote(run_id, tokens)):
            return
        if tokens in RemoteWriter.find(self.context.study_dir).ask("recorded_tokens", run_id):
            return
        folder = handed_over(self.context, run_id) / str(tokens)
        draft = folder.with_name(f".{folder.name}")
        for leftover in (draft, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        export_model(model, draft)
        job: dict[str, Any] = {"tokens": tokens, "train_loss": checkpoint.train_loss, "final": checkpoint.final}
        (draft / _JOB).write_text(json.dumps(job))
        storage = self.context.storage()
        if storage is None:
            draft.rename(folder)
        else:  # the description last: with it the rest is whole
            files = sorted((f for f in draft.rglob("*") if f.is_file()), key=lambda f: f.name == _JOB)
            for file in files:
                name = f"{_prefix(self.context, run_id)}/{folder.name}/{file.relative_to(draft).as_posix()}"
                storage.put(file, name)
            shutil.rmtree(draft)
        self._put(**job)

    def again(self, recorded: set[int]) -> None:
        """Hands over again what an earlier attempt handed over and nobody has measured; removes what is recorded."""
        ray.get(_desk(self.context).begin.remote(self.spec.run_id))
        folder, storage = handed_over(self.context, self.spec.run_id), self.context.storage()
        for job in self._described(folder, storage):
            if job["tokens"] in recorded:
                prefix = f"{_prefix(self.context, self.spec.run_id)}/{job['tokens']}/"
                _remove(folder / str(job["tokens"]), storage, prefix)
            else:
                self._put(**job)

    def _described(self, folder: Path, storage: FileStorage | None) -> list[dict[str, Any]]:
        """What is written down of the checkpoints that were handed over; evaluators may be removing some."""
        found = []
        if storage is None:
            for path in folder.glob(f"[0-9]*/{_JOB}"):
                with suppress(FileNotFoundError):
                    found.append(json.loads(path.read_text()))
        else:
            with tempfile.TemporaryDirectory() as place:
                for name in storage.names(f"{_prefix(self.context, self.spec.run_id)}/"):
                    if name.endswith(f"/{_JOB}"):
                        try:
                            storage.get(name, Path(place, _JOB))
                        except FlpRayError:
                            if storage.names(name):
                                raise  # it is there: a checkpoint that is passed over would never be measured
                            continue
                        found.append(json.loads(Path(place, _JOB).read_text()))
        return sorted(found, key=lambda job: int(job["tokens"]))

    def wait(self) -> None:
        """Waits until all are measured and stored.

        Raises:
            RunError: One could not be measured, or no evaluator lives.
        """
        failure = ray.get(_desk(self.context).wait.remote(self.spec.run_id))
        if failure is not None:
            raise RunError(f"A checkpoint of run {self.spec.run_id} could not be measured: {failure}")

    def _put(self, *, tokens: int, train_loss: float, final: bool) -> None:
        job = EvaluationJob(
            spec=self.spec.to_dict(), run_id=self.spec.run_id, tokens=tokens, train_loss=train_loss, final=final
        )
        failure = ray.get(_desk(self.context).put.remote(job))
        if failure is not None:
            raise RunError(f"A checkpoint of run {self.spec.run_id} waits to be measured, but {failure}")


def start_evaluators(context: StudyContext, config: EvaluatorsConfig) -> list[Any]:
    """Starts the desk, on the driver's node, which the study cannot lose, and the evaluators.

    Returns:
        Their handles; they live as long as somebody holds these.
    """
    desk = ray.remote(Desk).options(
        name=DESK_NAME,
        namespace=namespace(context.study_dir),
        get_if_exists=True,
        num_cpus=0,
        max_concurrency=1000,
        scheduling_strategy=on_this_node(),
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
