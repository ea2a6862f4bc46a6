"""One run as a Ray Tune trial: the attempt's record around it, and the workers inside it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray.train
import ray.tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.failures import is_retried, reason
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.distributed.worker import train_and_measure
from flp_ray.errors import FlpRayError, RunError, StorageError
from flp_ray.store import FolderLock, attempt_row
from flp_ray.train import clear_states

LOCK_WAIT_SECONDS = 180.0
"""How long a run waits for a dying process to let go of it; NFS frees the locks of a lost node after 90 s."""


def run_trial(config: dict[str, Any], context: StudyContext) -> None:
    """The Tune trainable: one attempt of one run.

    Args:
        config: `{"spec": RunSpec.to_dict()}`.
        context: The study.
    """
    began = time.perf_counter()
    spec = RunSpec.from_dict(config["spec"])
    store = RemoteWriter.find(context.study_dir)
    where: dict[str, Any] = {"session": context.session, "node": socket.gethostname()}
    key: dict[str, Any] = {"run_id": spec.run_id, "attempt": 1 + store.ask("attempts", spec.run_id)}
    store.append("attempts", attempt_row(**key, event="started", at=time.time(), **where))
    try:
        with run_alone(spec, context):
            costs = _launch(spec, context)
            busy = costs["train_seconds"] + costs["save_seconds"] + costs["measure_seconds"]
            costs["start_seconds"] = max(0.0, time.perf_counter() - began - busy)
            store.append("attempts", attempt_row(**key, event="finished", at=time.time(), **costs, **where))
            clear_states(context.run_dir(spec.run_id))  # not before: a run is finished once that is stored
    except Exception as error:
        with suppress(FlpRayError):  # a full disk cannot take the reason; the driver tells it all the same
            store.append("attempts", attempt_row(**key, event="failed", at=time.time(), reason=reason(error), **where))
        if is_retried(error):
            raise
        ray.tune.report({"run_id": spec.run_id, "failed": reason(error)})
        return
    ray.tune.report({"run_id": spec.run_id, "tokens": spec.train_tokens, "finished": True})


@contextmanager
def run_alone(spec: RunSpec, context: StudyContext) -> Iterator[None]:
    """Keeps two processes from training one run; one of a killed call, or on a lost node, may still hold it."""
    try:
        lock = FolderLock(context.study_dir / "locks" / spec.run_id, wait_seconds=LOCK_WAIT_SECONDS)
    except StorageError as error:
        raise RunError(f"Run {spec.run_id} cannot be had alone: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _launch(spec: RunSpec, context: StudyContext) -> dict[str, Any]:
    if context.resources.workers == 1:
        return train_and_measure(spec, context, report=ray.tune.report)
    resources = {"CPU": context.resources.cpus_per_worker, "GPU": context.resources.gpus_per_worker}
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"spec": spec.to_dict(), "context": context},
        scaling_config=ray.train.ScalingConfig(
            num_workers=context.resources.workers,
            use_gpu=context.resources.gpus_per_worker > 0,
            resources_per_worker={name: amount for name, amount in resources.items() if amount},
        ),
        torch_config=TorchConfig(backend="nccl" if context.resources.gpus_per_worker else "gloo"),
        run_config=ray.train.RunConfig(
            name=f"{spec.run_id}-{context.session}",
            storage_path=str(context.study_dir / "train"),
            callbacks=[TuneReportCallback()],
        ),
    )
    metrics = trainer.fit().metrics or {}
    return dict(metrics["costs"])


def _train_worker(config: dict[str, Any]) -> None:
    spec, context = RunSpec.from_dict(config["spec"]), config["context"]
    rank, world = ray.train.get_context().get_world_rank(), ray.train.get_context().get_world_size()
    # Ray Train's report is a barrier and only rank 0 measures, so the workers report once, at the end.
    costs = train_and_measure(spec, context, report=lambda progress: None, rank=rank, world=world)
    ray.train.report({"run_id": spec.run_id, "tokens": spec.train_tokens, "costs": costs})
