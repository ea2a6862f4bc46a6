"""What a training tells while it runs and when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flp_ray.core.run import RunSpec

if TYPE_CHECKING:
    import torch

    from flp_ray.train.position import Clock, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCheckpoint:
    """A point of the training that is to be measured.

    Attributes:
        step: Optimiser steps done.
        tokens: Tokens seen.
        flops: FLOPs spent.
        train_loss: Mean loss over the steps since the checkpoint before, nats per token.
        final: Whether the training ends here.
    """

    step: int
    tokens: int
    flops: float
    train_loss: float
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        step: Optimiser steps done.
        steps: Optimiser steps in all.
        tokens: Tokens seen.
        train_loss: The loss of the last checkpoint interval, nats per token; None before the first.
        tokens_per_s: Tokens trained on a second in this attempt, measuring and saving not counted.
    """

    step: int
    steps: int
    tokens: int
    train_loss: float | None
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What one attempt at a run did and took.

    Attributes:
        run_id: The run.
        started_at_step: Step that the attempt began at; above 0 where it resumed.
        steps: Optimiser steps of the whole run.
        checkpoints_measured: Checkpoints of this attempt that were handed out for measuring.
        train_loss: Loss of the last checkpoint interval, nats per token.
        training_seconds: Time in optimiser steps, data included.
        saving_seconds: Time spent saving and restoring states.
        checkpoint_seconds: Time spent in `on_checkpoint`.
        setup_seconds: Time to build the model and the engine.
        tokens_per_s: Tokens a second of training.
        flops_per_s: Achieved FLOP/s of training, over all workers, by the count of the plan.
        mfu: Model FLOPs utilisation: flops_per_s as a share of what the devices compute at most, 0 to 1; None where
            that is not known. The paper's count leaves the output layer out, so small models with large vocabularies
            stay low by it.
        peak_rss_bytes: Largest memory of this process since it began.
        peak_device_bytes: Largest GPU memory of this run; None on a CPU.
    """

    run_id: str
    started_at_step: int
    steps: int
    checkpoints_measured: int
    train_loss: float
    training_seconds: float
    saving_seconds: float
    checkpoint_seconds: float
    setup_seconds: float
    tokens_per_s: float
    flops_per_s: float
    mfu: float | None
    peak_rss_bytes: int
    peak_device_bytes: int | None


def summarise(
    spec: RunSpec,
    position: Position,
    clock: Clock,
    *,
    started_at: int,
    measured: int,
    peak_flops_per_s: float | None,
    device: torch.device,
) -> TrainingSummary:
    """The summary of an attempt that has reached the end.

    Args:
        spec: The run.
        position: Where it stands.
        clock: What its time went to.
        started_at: Step that the attempt began at.
        measured: Checkpoints that were handed out.
        peak_flops_per_s: What all devices together compute at most; None where that is not known.
        device: The device of this worker.
    """
    import torch

    from flp_ray.train.memory import peak_rss_bytes

    assert position.train_loss is not None  # the last step of a run is a checkpoint
    training = clock.seconds.get("training", 0.0)
    tokens_per_s = (spec.tokens_at(position.step) - spec.tokens_at(started_at)) / max(training, 1e-9)
    flops_per_s = tokens_per_s * spec.shape.flops_per_token(spec.sequence_length)
    return TrainingSummary(
        run_id=spec.run_id,
        started_at_step=started_at,
        steps=spec.steps,
        checkpoints_measured=measured,
        train_loss=position.train_loss,
        training_seconds=training,
        saving_seconds=clock.seconds.get("saving", 0.0),
        checkpoint_seconds=clock.seconds.get("checkpoint", 0.0),
        setup_seconds=clock.seconds.get("setup", 0.0),
        tokens_per_s=tokens_per_s,
        flops_per_s=flops_per_s,
        mfu=None if peak_flops_per_s is None else flops_per_s / peak_flops_per_s,
        peak_rss_bytes=peak_rss_bytes(),
        peak_device_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )
