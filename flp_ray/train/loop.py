"""The training of one run: from its start or its latest saved state, through every checkpoint, to its end."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.core.storage import FileStorage
from flp_ray.core.text import SequenceStream
from flp_ray.errors import DivergedError
from flp_ray.train.batches import Batches
from flp_ray.train.config import KeepCheckpoints
from flp_ray.train.engine import (
    build_engine,
    engine_stage,
    join_process_group,
    learning_rate_factor,
    quiet,
    training_device,
)
from flp_ray.train.hardware import accelerator_peak_flops
from flp_ray.train.loss import TokenLoss
from flp_ray.train.memory import keep_freed_memory, measuring_memory_errors, memory_errors
from flp_ray.train.model import build_model, keep_model, plain_module, use_kernels
from flp_ray.train.position import Clock, Position
from flp_ray.train.progress import Progress, TrainingCheckpoint, TrainingSummary, summarise
from flp_ray.train.state import States
from flp_ray.train.workers import Workers

OnCheckpoint = Callable[[TrainingCheckpoint, torch.nn.Module], None]
OnProgress = Callable[[Progress], None]

PROGRESS_SECONDS = 1.0
"""Least time between two reports of progress."""


def train(
    spec: RunSpec,
    stream: SequenceStream,
    folder: Path,
    *,
    on_checkpoint: OnCheckpoint,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    on_progress: OnProgress | None = None,
    keep: KeepCheckpoints = "none",
    measure_all: bool = False,
    threads: int | None = None,
    rank: int = 0,
    storage: FileStorage | None = None,
    prefix: str = "",
    peak_flops_per_s: float | None = None,
    copies_on_cpu: bool = False,
) -> TrainingSummary:
    """Trains one run, from its latest saved state where there is one.

    Step b trains on sequences b*B to (b+1)*B of the stream, B the batch; the last batch may be short. Rank r
    takes every `workers`-th of them from r on. Losses are weighted so that the gradient is the mean over the
    predicted tokens of the whole batch, however it is shared out.

    At each of `spec.checkpoint_steps()` the training loss is the mean over the steps since the one before.
    Where it, rounded to two decimals, is below all before, and at the end, `on_checkpoint` is called (on rank
    0); only once that has returned is the state saved, so a kill at any moment repeats a measurement rather
    than losing one. A training continued from a saved state gives bit for bit the same losses and weights on
    the same device, thread count and execution, and the same up to rounding on any other. The saved states stay;
    the caller removes them (`clear_states`) once it has recorded that the run is finished.

    Args:
        spec: The run.
        stream: Its training text.
        folder: Where its states and kept models are saved; one folder a run, seen by all ranks. With a storage the
            node's scratch folder.
        on_checkpoint: Measures the model, which is in evaluation mode; returns when the records are safe.
        execution: How the run is spread over workers and fitted into their memory. A process group of as many
            workers exists or can be made from the environment.
        on_progress: Called on rank 0 about once a second and at every checkpoint.
        keep: `last` leaves the trained model in `model`, as Transformers saves one; `kept` every checkpoint that was
            handed out beside it, in `model-step-00000120`.
        measure_all: Whether `on_checkpoint` is called at every checkpoint, whatever the training loss.
        threads: CPU threads; None leaves the process as it is.
        rank: This process, 0 to workers - 1.
        storage: Where states and kept models go, under `prefix`; None keeps them in `folder`.
        prefix: The run's place in the storage.
        peak_flops_per_s: What one worker's device computes at most in the run's precision, for the utilisation;
            None takes what is known of it.
        copies_on_cpu: At ZeRO stage 3, whether the model handed out is copied to the host's memory, for an
            `on_checkpoint` that only saves it, instead of the device's.

    Returns:
        What this attempt did and took.

    Raises:
        ConfigError: The kernels cannot be had.
        DivergedError: The loss, or the gradient of a step, is not finite.
        StorageError: A state or a kept model cannot be saved.
        OutOfMemoryError: The memory does not suffice; what was taken is free again.
        RunError: The process group does not fit, or measuring ran out of memory.

    Reference: Chen et al. 2024, section 3.3 (checkpoints and their filter).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with quiet(), memory_errors(spec, execution), contextlib.ExitStack() as closing:
        training = _Training(spec, execution, rank, closing)
        training.measure_all, training.copies_on_cpu = measure_all, copies_on_cpu
        training.start(stream, folder, storage, prefix)
        training.run(on_checkpoint, on_progress, keep)
        peak = peak_flops_per_s or accelerator_peak_flops(training.device, spec.recipe.precision)
        return summarise(
            spec,
            training.position,
            training.clock,
            started_at=training.started_at,
            measured=training.measured,
            peak_flops_per_s=None if peak is None else peak * execution.workers,
            device=training.device,
        )


class _Training:
    """One attempt at a run: the engine, the clock and the position between the steps."""

    measure_all = False
    copies_on_cpu = False

    def __init__(self, spec: RunSpec, execution: Execution, rank: int, closing: contextlib.ExitStack) -> None:
        self.spec, self.execution = spec, execution
        self.clock, self.position = Clock(), Position()
        self.device = training_device()
        self.closing = closing
        if self.device.type == "cpu":
            keep_freed_memory()
        else:
            torch.cuda.set_device(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        with self.clock.time("setup"):
            # Reused processes carry the random state of earlier runs.
            random.seed(spec.seed)
            np.random.seed(spec.seed % 2**32)
            torch.manual_seed(spec.seed)
            join_process_group(self.device, rank=rank, world=execution.workers)
            self.workers = Workers(rank, execution.workers)
            closing.callback(self.workers.close)
            model = build_model(spec)
            closing.callback(use_kernels(model, execution.kernels, self.device))
            loss = TokenLoss(model, execution.kernels, recompute=execution.activation_checkpointing)
            self.engine = build_engine(spec, loss, self.device, execution)
            closing.callback(self._close)
        self.clip_norm = (spec.recipe.clip_norm or math.inf) if engine_stage(spec, execution) == 0 else None
        self.parameters = list(self.engine.module.parameters())
        # Summed on the device in double precision, so that no step waits for the host.
        self.interval_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.measured = 0

    def start(self, stream: SequenceStream, folder: Path, storage: FileStorage | None, prefix: str) -> None:
        """Goes to the latest saved state."""
        self.folder, self.storage, self.prefix = folder, storage, prefix
        self.states = States(self.spec.run_id, folder, self.workers, storage=storage, prefix=prefix)
        with self.clock.time("saving"):
            state = self.states.newest()
            if state is not None:
                self.position = Position.from_dict(self.states.load(self.engine, state))
        self.started_at = self.interval_start = self.position.step
        self.batches = Batches(
            self.spec, stream, self.execution, rank=self.workers.rank, device=self.device, step=self.started_at
        )
        self.closing.callback(self.batches.close)

    def _close(self) -> None:
        """Frees the engine; a process trains many runs, and an engine holds itself in reference cycles."""
        with contextlib.suppress(AttributeError):
            self.engine.destroy()
        self.engine, self.parameters = None, []
        gc.collect()

    def run(self, on_checkpoint: OnCheckpoint, on_progress: OnProgress | None, keep: KeepCheckpoints) -> None:
        """Trains from the position to the end."""
        due = set(self.spec.checkpoint_steps())
        reported = time.perf_counter()
        while self.position.step < self.spec.steps:
            with self.clock.time("training"):
                self._step()
                at_checkpoint = self.position.step in due
                if at_checkpoint and self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)  # the host is ahead of it
            if at_checkpoint:
                self._checkpoint(on_checkpoint, keep)
            if on_progress and self.workers.first:
                now = time.perf_counter()
                if at_checkpoint or now - reported >= PROGRESS_SECONDS:
                    reported = now
                    on_progress(self._progress())
        if keep != "none":
            self._keep_model(self._module(), "model")

    def _step(self) -> None:
        """One optimiser step on batch number `position.step`."""
        spec, workers = self.spec, self.workers.world
        batch = self.batches.next_step()
        scale = 1.0 / (batch.sequences * (spec.sequence_length - 1))
        for k, (ids, counts) in enumerate(zip(batch.passes, batch.counting, strict=True)):
            self.engine.set_gradient_accumulation_boundary(k == len(batch.passes) - 1)
            total = self.engine(ids.to(self.device, non_blocking=True))
            loss = total * (scale if counts else 0.0)
            # DeepSpeed averages gradients over the ranks; ours are shares of one mean, to be summed.
            self.engine.backward(loss * workers)
            self.interval_loss += loss.detach()
        if self.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
            self.interval_loss += norm * 0  # not a number where a gradient is not finite
        for group in self.engine.optimizer.param_groups:
            group["lr"] = spec.learning_rate * learning_rate_factor(spec, self.position.step)
        self.engine.step()
        if getattr(self.engine.optimizer, "overflow", False):  # DeepSpeed has left the step out
            self.interval_loss += math.nan
        self.position.step += 1
        if self.device.type == "cpu" and workers == 1 and not math.isfinite(float(self.interval_loss)):
            self._diverged(float(self.interval_loss))

    def _checkpoint(self, on_checkpoint: OnCheckpoint, keep: KeepCheckpoints) -> None:
        position, spec = self.position, self.spec
        if self.workers.world > 1:
            torch.distributed.all_reduce(self.interval_loss)
        loss = float(self.interval_loss) / (position.step - self.interval_start)
        if not math.isfinite(loss):
            self._diverged(loss)
        self.interval_start = position.step
        self.interval_loss.zero_()
        final = position.step == spec.steps
        rounded = round(loss, 2)
        improved = position.best_loss is None or rounded < position.best_loss
        position.train_loss = loss
        if improved:
            position.best_loss = rounded
        if improved or final or self.measure_all:
            tokens = spec.tokens_at(position.step)
            checkpoint = TrainingCheckpoint(
                step=position.step, tokens=tokens, flops=spec.flops_at(tokens), train_loss=loss, final=final
            )
            with self.clock.time("checkpoint"):
                self._hand_out(checkpoint, on_checkpoint, keep)
            self.measured += 1
        if not final:
            with self.clock.time("saving"):
                self.states.save(self.engine, step=position.step, position=position.to_dict())

    def _module(self) -> torch.nn.Module | None:
        return plain_module(self.spec, self.engine, on_cpu=self.copies_on_cpu)

    def _hand_out(self, checkpoint: TrainingCheckpoint, on_checkpoint: OnCheckpoint, keep: KeepCheckpoints) -> None:
        module = self._module()
        if self.workers.first:
            assert module is not None
            module.eval()
            with measuring_memory_errors(self.spec):
                on_checkpoint(checkpoint, module)
        if keep == "kept" and not checkpoint.final:
            self._keep_model(module, f"model-step-{checkpoint.step:08d}")
        self.engine.module.train()
        self.workers.wait()

    def _keep_model(self, module: torch.nn.Module | None, name: str) -> None:
        if self.workers.first:
            place = f"{self.prefix}/{name}" if self.prefix else name
            with self.clock.time("saving"):
                keep_model(module, self.folder / name, self.storage, place)

    def _diverged(self, loss: float) -> None:
        spec = self.spec
        raise DivergedError(
            f"Run {spec.run_id} (size {spec.size}) has diverged: its training loss is {loss} in steps "
            f"{self.interval_start + 1} to {self.position.step} of {spec.steps}. Lower the size's "
            f"learning_rate (now {spec.learning_rate:g}) or raise warmup_fraction "
            f"(now {spec.recipe.warmup_fraction:g})."
        )

    def _progress(self) -> Progress:
        tokens = self.spec.tokens_at(self.position.step)
        return Progress(
            step=self.position.step,
            steps=self.spec.steps,
            tokens=tokens,
            train_loss=self.position.train_loss,
            tokens_per_s=(tokens - self.spec.tokens_at(self.started_at)) / max(self.clock.seconds["training"], 1e-9),
        )
