"""The training of one run: from its start or its latest saved state, through every checkpoint, to its end."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F

from flp_ray.core.run import RunSpec
from flp_ray.core.text import SequenceStream
from flp_ray.errors import DivergedError
from flp_ray.train.engine import build_engine, engine_stage, join_process_group, plain_module, training_device
from flp_ray.train.memory import keep_freed_memory, memory_errors, peak_rss_bytes
from flp_ray.train.model import build_model
from flp_ray.train.position import Clock, Position
from flp_ray.train.progress import Progress, TrainingCheckpoint, TrainingSummary
from flp_ray.train.state import latest_state, load_state, save_state

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
    on_progress: OnProgress | None = None,
    keep: Literal["none", "last"] = "none",
    measure_all: bool = False,
    threads: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> TrainingSummary:
    """Trains one run, from its latest saved state where there is one.

    Step b trains on sequences b*B to (b+1)*B of the stream, B the batch; the last batch may be short. Rank r
    takes every `world`-th of them from r on. Losses are weighted so that the gradient is the mean over the
    predicted tokens of the whole batch, however it is shared out.

    At each of `spec.checkpoint_steps()` the training loss is the mean over the steps since the one before.
    Where it, rounded to two decimals, is below all before, and at the end, `on_checkpoint` is called (on rank
    0); only once that has returned is the state saved, so a kill at any moment repeats a measurement rather
    than losing one. A training continued from a saved state gives bit for bit the same losses and weights on
    the same device, thread count and world. The saved states stay; the caller
    removes them (`clear_states`) once it has recorded that the run is finished.

    Args:
        spec: The run.
        stream: Its training text.
        folder: Where its states are saved; one folder a run, seen by all ranks.
        on_checkpoint: Measures the model, which is in evaluation mode; returns when the records are safe.
        on_progress: Called on rank 0 about once a second and at every checkpoint.
        keep: `last` leaves the trained model in `folder/model`, as Transformers saves one.
        measure_all: Whether `on_checkpoint` is called at every checkpoint, whatever the training loss.
        threads: CPU threads; None leaves the process as it is.
        rank: This process, 0 to world - 1.
        world: Number of processes; a process group of that size exists or can be made from the environment.

    Returns:
        What this attempt did and took.

    Raises:
        DivergedError: The loss is not a finite number.
        StorageError: A state cannot be saved.
        RunError: The memory does not suffice, or the process group does not fit.

    Reference: Chen et al. 2024, section 3.3 (checkpoints and their filter).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with _quiet(), memory_errors(spec):
        training = _Training(spec, stream, folder, rank=rank, world=world, measure_all=measure_all)
        try:
            return training.run(on_checkpoint, on_progress, keep)
        finally:
            training.close()


class _Training:
    """One attempt at a run: the engine, the clock and the position between the steps."""

    def __init__(
        self, spec: RunSpec, stream: SequenceStream, folder: Path, *, rank: int, world: int, measure_all: bool
    ) -> None:
        self.spec, self.stream, self.folder, self.rank, self.world = spec, stream, folder, rank, world
        self.measure_all = measure_all
        self.clock = Clock()
        self.device = training_device()
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
            join_process_group(self.device, rank=rank, world=world)
            self.engine = build_engine(spec, build_model(spec), self.device, world=world)
        self.parameters = list(self.engine.module.parameters())
        self.clip_norm = spec.recipe.clip_norm if engine_stage(spec) == 0 else None
        self.position = Position()
        with self.clock.time("saving"):
            state = latest_state(folder, spec.run_id)
            if state is not None:
                self.position = Position.from_client_state(load_state(self.engine, state))
        self.started_at = self.position.step
        self.measured = 0
        self.interval_start = self.position.step
        # Summed on the device in double precision, so that no step waits for the host.
        self.interval_loss = torch.zeros((), dtype=torch.float64, device=self.device)

    def close(self) -> None:
        """Frees the engine; a process trains many runs, and an engine holds itself in reference cycles."""
        with contextlib.suppress(AttributeError):
            self.engine.destroy()
        self.engine, self.parameters = None, []
        gc.collect()

    def run(
        self,
        on_checkpoint: OnCheckpoint,
        on_progress: OnProgress | None,
        keep: Literal["none", "last"],
    ) -> TrainingSummary:
        """Trains from the position to the end."""
        due = set(self.spec.checkpoint_steps())
        reported = time.perf_counter()
        while self.position.step < self.spec.steps:
            with self.clock.time("training"):
                self._step()
            at_checkpoint = self.position.step in due
            if at_checkpoint:
                self._checkpoint(on_checkpoint)
            if on_progress and self.rank == 0:
                now = time.perf_counter()
                if at_checkpoint or now - reported >= PROGRESS_SECONDS:
                    reported = now
                    on_progress(self._progress())
        if keep == "last":
            self._keep_model()
        return self._summary()

    def _step(self) -> None:
        """One optimiser step on batch number `position.step`."""
        spec, step = self.spec, self.position.step
        start = step * spec.batch_sequences
        batch = self.stream.tokens(start, min(start + spec.batch_sequences, spec.sequences))
        share = batch[self.rank :: self.world]
        micro = spec.recipe.micro_batch_sequences or -(-spec.batch_sequences // self.world)
        # Every rank runs as many passes as the fullest one: ZeRO communicates in each.
        passes = math.ceil(math.ceil(len(batch) / self.world) / micro)
        scale = 1.0 / (len(batch) * (spec.sequence_length - 1))
        for k in range(passes):
            rows = share[k * micro : (k + 1) * micro]
            idle = len(rows) == 0
            ids = torch.from_numpy(np.ascontiguousarray(batch[:1] if idle else rows)).to(self.device)
            self.engine.set_gradient_accumulation_boundary(k == passes - 1)
            # The last token of a sequence predicts nothing, so it is not fed.
            logits = self.engine(input_ids=ids[:, :-1]).logits
            total = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="sum")
            loss = total * (0.0 if idle else scale)
            # DeepSpeed averages gradients over the ranks; ours are shares of one mean, to be summed.
            self.engine.backward(loss * self.world)
            self.interval_loss += loss.detach()
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.engine.step()
        self.position.step += 1
        if self.device.type == "cpu" and self.world == 1 and not math.isfinite(float(self.interval_loss)):
            self._diverged(float(self.interval_loss))

    def _checkpoint(self, on_checkpoint: OnCheckpoint) -> None:
        position, spec = self.position, self.spec
        if self.world > 1:
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
                self._hand_out(checkpoint, on_checkpoint)
            self.measured += 1
        if not final:
            with self.clock.time("saving"):
                save_state(
                    self.engine,
                    self.folder,
                    run_id=spec.run_id,
                    step=position.step,
                    client_state=position.to_client_state(),
                )

    def _hand_out(
        self,
        checkpoint: TrainingCheckpoint,
        on_checkpoint: OnCheckpoint,
    ) -> None:
        module = plain_module(self.spec, self.engine)
        if self.rank == 0:
            module.eval()
            on_checkpoint(checkpoint, module)
        self.engine.module.train()
        if self.world > 1:
            torch.distributed.barrier()

    def _keep_model(self) -> None:
        with self.clock.time("saving"):
            module: Any = plain_module(self.spec, self.engine)
            if self.rank == 0:
                draft, final = self.folder / ".model", self.folder / "model"
                module.save_pretrained(str(draft))
                if not final.exists():
                    draft.rename(final)

    def _diverged(self, loss: float) -> None:
        spec = self.spec
        raise DivergedError(
            f"Run {spec.run_id} (size {spec.size}) has diverged: its training loss is {loss} in steps "
            f"{self.interval_start + 1} to {self.position.step} of {spec.steps}. Lower the size's "
            f"learning_rate (now {spec.learning_rate:g}) or raise warmup_fraction "
            f"(now {spec.recipe.warmup_fraction:g})."
        )

    def _tokens_done(self) -> int:
        return self.spec.tokens_at(self.position.step) - self.spec.tokens_at(self.started_at)

    def _progress(self) -> Progress:
        return Progress(
            step=self.position.step,
            steps=self.spec.steps,
            tokens=self.spec.tokens_at(self.position.step),
            train_loss=self.position.train_loss,
            tokens_per_s=self._tokens_done() / max(self.clock.seconds["training"], 1e-9),
        )

    def _summary(self) -> TrainingSummary:
        seconds = self.clock.seconds
        training = seconds.get("training", 0.0)
        tokens_per_s = self._tokens_done() / max(training, 1e-9)
        cuda = self.device.type == "cuda"
        assert self.position.train_loss is not None  # the last step of a run is a checkpoint
        return TrainingSummary(
            run_id=self.spec.run_id,
            started_at_step=self.started_at,
            steps=self.spec.steps,
            checkpoints_measured=self.measured,
            train_loss=self.position.train_loss,
            training_seconds=training,
            saving_seconds=seconds.get("saving", 0.0),
            checkpoint_seconds=seconds.get("checkpoint", 0.0),
            setup_seconds=seconds.get("setup", 0.0),
            tokens_per_s=tokens_per_s,
            flops_per_s=tokens_per_s * self.spec.shape.flops_per_token(self.spec.sequence_length),
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=torch.cuda.max_memory_allocated(self.device) if cuda else None,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # DeepSpeed calls collectives by names that this torch deprecates, twice a step at ZeRO 3.
        warnings.filterwarnings("ignore", message=".*torch.distributed.*is deprecated", category=FutureWarning)
        yield
