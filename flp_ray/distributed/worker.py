"""One run in one process: text stream -> training -> measuring at each checkpoint -> store."""

from __future__ import annotations

import time
from typing import Any

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.distributed.context import StudyContext, stream_of
from flp_ray.distributed.evaluators import Handover
from flp_ray.distributed.measuring import measurer
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.distributed.text import bring_text
from flp_ray.store import measurement_rows
from flp_ray.train import TrainingCheckpoint, train


def train_and_measure(spec: RunSpec, context: StudyContext, execution: Execution, *, rank: int = 0) -> dict[str, Any]:
    """Trains one run from its last saved state, measuring at every kept checkpoint.

    A checkpoint's record is durable in the store, or its weights are handed to the evaluators, before the training
    state that follows it is saved. So whatever is killed, and whenever, the same command measures the same values
    again or finds them stored.

    Args:
        spec: The run.
        context: The study.
        execution: How it is computed.
        rank: This worker's number.

    Returns:
        Columns of the run's `attempts` row: seconds by activity, rates, peak memory. Where evaluators measure, the
        seconds of measuring are those that the training waited for them.
    """
    store = RemoteWriter.find(context.study_dir)
    recorded: set[int] = store.ask("recorded_tokens", spec.run_id) if rank == 0 else set()
    beside = Handover(spec, context) if context.resources.evaluators is not None and rank == 0 else None
    if beside is not None:
        beside.again(recorded)
    bring_text(context, sources=spec.mixture.used())
    stream = stream_of(spec, context.text, context.max_epochs)
    measure_seconds = 0.0

    def on_checkpoint(checkpoint: TrainingCheckpoint, model: Any) -> None:
        nonlocal measure_seconds
        began = time.perf_counter()
        if checkpoint.tokens in recorded:
            pass
        elif beside is not None:
            beside.give(checkpoint, model)
        else:
            measured = measurer(context).measure(
                model, spec, tokens=checkpoint.tokens, train_loss=checkpoint.train_loss, final=checkpoint.final
            )
            store.append("measurements", measurement_rows(measured))
        measure_seconds += time.perf_counter() - began
        store.tell("note_progress", spec.run_id, checkpoint.tokens, checkpoint.train_loss)

    summary = train(
        spec,
        stream,
        context.run_dir(spec.run_id),
        execution=execution,
        on_checkpoint=on_checkpoint,
        keep=context.keep_checkpoints,
        threads=max(1, int(context.resources.cpus_per_worker)),
        rank=rank,
        storage=context.storage(),
        prefix=context.run_prefix(spec.run_id),
        peak_flops_per_s=context.resources.peak_flops_per_s,  # else what is known of the device itself
        copies_on_cpu=context.resources.evaluators is not None,
    )
    if beside is not None:
        began = time.perf_counter()
        beside.wait()
        measure_seconds += time.perf_counter() - began
    return {
        "train_seconds": summary.training_seconds,
        "save_seconds": summary.saving_seconds,
        "measure_seconds": measure_seconds,
        "tokens_per_second": summary.tokens_per_s,
        "flops_per_second": summary.flops_per_s,
        "mfu": summary.mfu,
        "peak_bytes": summary.peak_device_bytes or summary.peak_rss_bytes,
    }
