"""One run as a Ray Tune trial: the attempts' records around it, and the workers inside it.

The driver imports this module too, and does without torch: what trains is imported where it is called.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import ray.train
import ray.tune
from ray.util.placement_group import get_current_placement_group, remove_placement_group

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.failures import is_retried, out_of_memory, reason
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.errors import FlpRayError, GaveUpError, RunError, StorageError
from flp_ray.store import FolderLock, attempt_row
from flp_ray.train import clear_states

LOCK_WAIT_SECONDS = 180.0
"""How long a run waits for a dying process to let go of it; NFS frees the locks of a lost node after 90 s."""


def run_trial(config: dict[str, Any], context: StudyContext) -> None:
    """The Tune trainable: one run, in as many attempts as it takes.

    An attempt that runs out of memory is followed by one with half the micro batch and the same batch, from the last
    saved state; a micro batch that was too large once is not tried again, in later calls neither. Any other failure is
    left to Tune, which starts the trial anew wherever there is room: as often as nodes are lost, as long as the run
    comes further each time, and `resources.retries` times where it does not. A run whose process was lost between the
    record of its end and Tune's is not trained again.

    Args:
        config: `{"spec": RunSpec.to_dict()}`.
        context: The study.
    """
    spec = RunSpec.from_dict(config["spec"])
    store = RemoteWriter.find(context.study_dir)
    try:
        if not store.ask("finished", spec.run_id):
            give_up_in_time(spec, context, store)
            _attempts(spec, context, store)
    except Exception as error:
        if is_retried(error) and another_attempt(spec, context, store):
            raise  # the driver counts it
        ray.tune.report({"run_id": spec.run_id, "failed": reason(error)})
        return
    with suppress(FlpRayError, OSError):  # states that stay cost space alone; the run is finished
        clear_states(context.run_dir(spec.run_id), storage=context.storage(), prefix=context.run_prefix(spec.run_id))
    ray.tune.report({"run_id": spec.run_id, "finished": True})


def give_up_in_time(spec: RunSpec, context: StudyContext, store: RemoteWriter) -> None:
    """Ends a run whose process died too often to say so itself.

    Raises:
        GaveUpError: It failed more than `resources.retries` times without coming further; holds the last reason.
    """
    failures, last = store.ask("failures", spec.run_id)
    if failures > context.resources.retries:
        raise GaveUpError(last)


def another_attempt(spec: RunSpec, context: StudyContext, store: RemoteWriter) -> bool:
    """Whether this failure may be followed by another attempt."""
    with suppress(FlpRayError):
        return bool(store.ask("failures", spec.run_id)[0] < context.resources.retries)
    return False


def _attempts(spec: RunSpec, context: StudyContext, store: RemoteWriter) -> None:
    """Trains the run to its end, with smaller micro batches as long as the memory does not suffice."""
    execution = context.execution(spec)
    too_large: int | None = store.ask("too_large", spec.run_id)
    if too_large is not None:
        execution = _smaller(spec, execution, too_large)
    with run_alone(spec, context):
        while not _attempt(spec, context, execution, store):
            execution = _smaller(spec, execution, execution.micro_batch(spec.batch_sequences))


def _attempt(spec: RunSpec, context: StudyContext, execution: Execution, store: RemoteWriter) -> bool:
    """Trains the run to its end; False where the memory did not suffice and a smaller micro batch is left."""
    began = time.perf_counter()
    where: dict[str, Any] = {"session": context.session, "node": socket.gethostname()}
    key: dict[str, Any] = {"run_id": spec.run_id, "attempt": 1 + store.ask("attempts", spec.run_id)}
    how: dict[str, Any] = {
        "workers": execution.workers,
        "zero_stage": execution.zero_stage,
        "micro_batch_sequences": execution.micro_batch(spec.batch_sequences),
    }
    store.append("attempts", attempt_row(**key, event="started", at=time.time(), **how, **where))
    try:
        costs = _launch(spec, context, execution)
        busy = costs["train_seconds"] + costs["save_seconds"] + costs["measure_seconds"]
        costs["start_seconds"] = max(0.0, time.perf_counter() - began - busy)
        store.append("attempts", attempt_row(**key, event="finished", at=time.time(), **costs, **how, **where))
    except Exception as error:
        with suppress(FlpRayError):  # a full disk cannot take the reason; the driver tells it all the same
            row = attempt_row(**key, event="failed", at=time.time(), reason=reason(error), **how, **where)
            store.append("attempts", row)
        if out_of_memory(error) and execution.micro_batch(spec.batch_sequences) > 1:
            return False
        raise
    return True


def _smaller(spec: RunSpec, execution: Execution, too_large: int) -> Execution:
    """The same with at most half of a micro batch that was too large."""
    now = execution.micro_batch(spec.batch_sequences)
    return replace(execution, micro_batch_sequences=max(1, min(now, too_large // 2)))


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


def _launch(spec: RunSpec, context: StudyContext, execution: Execution) -> dict[str, Any]:
    if execution.workers == 1:
        from flp_ray.distributed.worker import train_and_measure

        return train_and_measure(spec, context, execution)
    from ray.train.torch import TorchConfig, TorchTrainer

    left = RemoteWriter.find(context.study_dir).ask("left_group", spec.run_id)
    if left is not None:  # its controller died with a node; what it held there would be held for ever
        remove_placement_group(left)
    resources = {"CPU": context.resources.cpus_per_worker, "GPU": context.resources.gpus_per_worker}
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"spec": spec.to_dict(), "context": context, "execution": execution},
        scaling_config=ray.train.ScalingConfig(
            num_workers=execution.workers,
            use_gpu=context.resources.gpus_per_worker > 0,
            resources_per_worker={name: amount for name, amount in resources.items() if amount},
        ),
        torch_config=TorchConfig(backend="nccl" if context.resources.gpus_per_worker else "gloo"),
        run_config=ray.train.RunConfig(
            name=f"{spec.run_id}-{context.session}",
            # Nothing is kept there: checkpoints and records are the study's own.
            storage_path=str(context.study_dir / "train"),
        ),
    )
    return dict(trainer.fit().return_value)


def _train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What the first worker returns is the trainer's result; Ray Train's own reports are not needed."""
    from flp_ray.distributed.worker import train_and_measure

    spec, context, rank = RunSpec.from_dict(config["spec"]), config["context"], ray.train.get_context().get_world_rank()
    if rank == 0:
        RemoteWriter.find(context.study_dir).tell("note_group", spec.run_id, get_current_placement_group())
    return train_and_measure(spec, context, config["execution"], rank=rank)
