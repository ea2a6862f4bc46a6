"""The micro batches of a run, made ready while the device works on those before."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.core.text import SequenceStream

STEPS_AHEAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatch:
    """What one worker does in one optimiser step.

    Attributes:
        passes: Token ids of each pass, shape (sequences, sequence_length); where the worker has no sequence left,
            another one's that counts nothing.
        counting: For each pass whether its loss counts.
        sequences: Sequences of the whole batch, over all workers.
    """

    passes: list[torch.Tensor]
    counting: list[bool]
    sequences: int


class Batches:
    """The batches of one worker in the order of the run, from a step on; one thread makes them ahead.

    An error of the stream is raised by the `next_step` that would have returned its batch.

    Args:
        spec: The run.
        stream: Its text.
        execution: Workers and micro batch.
        rank: This worker.
        device: Where it trains; memory is pinned for a GPU, so that copies go on beside the computing.
        step: The first step to make, 0 to spec.steps.
    """

    def __init__(
        self,
        spec: RunSpec,
        stream: SequenceStream,
        execution: Execution,
        *,
        rank: int,
        device: torch.device,
        step: int,
    ) -> None:
        self._spec, self._stream, self._execution = spec, stream, execution
        self._rank, self._device, self._step = rank, device, step
        self._thread = ThreadPoolExecutor(1, "batches", initializer=self._use_device)
        self._ahead: deque[Future[StepBatch]] = deque()
        self._fill()

    def next_step(self) -> StepBatch:
        """The batch of the next step."""
        batch = self._ahead.popleft().result()
        self._fill()
        return batch

    def close(self) -> None:
        """Ends the thread."""
        self._ahead.clear()
        self._thread.shutdown(cancel_futures=True)

    def _fill(self) -> None:
        while len(self._ahead) < STEPS_AHEAD and self._step < self._spec.steps:
            self._ahead.append(self._thread.submit(self._make, self._step))
            self._step += 1

    def _make(self, step: int) -> StepBatch:
        spec, execution = self._spec, self._execution
        start = step * spec.batch_sequences
        batch = self._stream.tokens(start, min(start + spec.batch_sequences, spec.sequences))
        mine = batch[self._rank :: execution.workers]
        micro = execution.micro_batch(spec.batch_sequences)
        # Every rank runs as many passes as the fullest one: ZeRO communicates in each.
        passes = execution.accumulation(len(batch))
        rows = [mine[k * micro : (k + 1) * micro] for k in range(passes)]
        return StepBatch(
            passes=[self._ready(part if len(part) else batch[:1]) for part in rows],
            counting=[len(part) > 0 for part in rows],
            sequences=len(batch),
        )

    def _ready(self, rows: NDArray[np.int64]) -> torch.Tensor:
        ids = torch.from_numpy(np.ascontiguousarray(rows))
        return ids.pin_memory() if self._device.type == "cuda" else ids

    def _use_device(self) -> None:
        if self._device.type == "cuda":  # pinning would otherwise open a context on the node's first GPU
            torch.cuda.set_device(self._device)
