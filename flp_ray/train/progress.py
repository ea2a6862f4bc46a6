"""What a training tells while it runs and when it has ended."""

from __future__ import annotations

from dataclasses import dataclass


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
        flops_per_s: Achieved FLOP/s of training, over all workers.
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
    peak_rss_bytes: int
    peak_device_bytes: int | None
