"""One run in one process: text stream -> training -> measuring at each checkpoint -> store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.distributed.context import StudyContext, stream_of
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.measure import Measurer
from flp_ray.store import measurement_rows
from flp_ray.train import TrainingCheckpoint, train

Report = Callable[[dict[str, Any]], None]
"""Tells the driver how far a run is; called on rank 0 alone."""

_measurers: dict[str, Measurer] = {}
"""The process's measurer: its tasks and tokenised questions serve all runs of the slot."""


def train_and_measure(
    spec: RunSpec, context: StudyContext, *, report: Report, rank: int = 0, world: int = 1
) -> dict[str, Any]:
    """Trains one run from its last saved state, measuring at every kept checkpoint.

    A checkpoint's record is durable in the store before the training state that follows it is saved. So whatever
    is killed, and whenever, the same command measures the same values again or finds them stored.

    Args:
        spec: The run.
        context: The study.
        report: Called at every checkpoint with `run_id`, `tokens` and `train_loss`.
        rank: This worker's number.
        world: Workers of the run.

    Returns:
        Columns of the run's `attempts` row: seconds by activity, rates, peak memory.
    """
    store = RemoteWriter.find(context.study_dir)
    recorded: set[int] = store.ask("recorded_tokens", spec.run_id) if rank == 0 else set()
    stream = stream_of(spec, context.text, context.max_epochs)
    measure_seconds = 0.0

    def on_checkpoint(checkpoint: TrainingCheckpoint, model: Any) -> None:
        nonlocal measure_seconds
        began = time.perf_counter()
        if checkpoint.tokens not in recorded:
            measured = _measurer(context).measure(
                model, spec, tokens=checkpoint.tokens, train_loss=checkpoint.train_loss, final=checkpoint.final
            )
            store.append("measurements", measurement_rows(measured))
        measure_seconds += time.perf_counter() - began
        report({"run_id": spec.run_id, "tokens": checkpoint.tokens, "train_loss": checkpoint.train_loss})

    summary = train(
        spec,
        stream,
        context.run_dir(spec.run_id),
        on_checkpoint=on_checkpoint,
        keep=context.keep_checkpoints,
        threads=max(1, int(context.resources.cpus_per_worker)),
        rank=rank,
        world=world,
    )
    return {
        "train_seconds": summary.training_seconds,
        "save_seconds": summary.saving_seconds,
        "measure_seconds": measure_seconds,
        "tokens_per_second": summary.tokens_per_s,
        "flops_per_second": summary.flops_per_s,
        "peak_bytes": summary.peak_device_bytes or summary.peak_rss_bytes,
    }


def _measurer(context: StudyContext) -> Measurer:
    key = stable_hash([context.text.content_id, context.measure.model_dump(mode="json")])
    if key not in _measurers:
        _measurers.clear()
        _measurers[key] = Measurer(context.measure, context.text, context.study_dir / "tasks")
    return _measurers[key]
