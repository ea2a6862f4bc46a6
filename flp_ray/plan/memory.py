"""How a run fits into the memory of its devices: a stated model, and the execution chosen from it.

Bytes on one device, P parameters in all, w workers, b sequences of S tokens at a time, L layers of width d and inner
width f, V tokens of the vocabulary:

    states       fp32: stage 0 16 P; stage 1 8 P + 12 P / w; stage 2 4 P + 16 P / w; stage 3 20 P / w
                 bf16: stage 1 6 P + 12 P / w; stage 2 2 P + 16 P / w; stage 3 18 P / w
                 (weights, gradients, which DeepSpeed sums in fp32, and for AdamW fp32 master weights and two moments;
                 ZeRO 1 shares out the optimiser's part, 2 the gradients too, 3 the weights too)
    gathered     stage 3: the weights of two layers and one embedding, while they are in use
    activations  b S L (16 d + 4 f) e, e bytes a number; with activation checkpointing b S (L d + 16 d + 4 f) e
    logits       b S V (2 e + 4): logits and their gradient, and one copy in fp32; at most 1.5 GB + 4 V d, since the
                 loss of a large micro batch is made in pieces beside the gradient of the output layer
    reserve      1.5 GB for the context and the communication's buffers, and a tenth of the memory for fragments

Attention takes no memory of its own: the kernels that are used (scaled-dot-product) do not store its matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from flp_ray.core.execution import Execution, Kernels
from flp_ray.core.run import RunSpec
from flp_ray.errors import ResourceError

RESERVE_BYTES = 1.5e9
USABLE = 0.9
LOGITS_BYTES = 1.5e9

MOST_WORKERS = 4096
"""`auto` looks no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Bytes on one device.

    Attributes:
        states: Weights, gradients, optimiser states, and what is gathered of them.
        activations: Activations of one micro batch.
        logits: Logits of one micro batch.
    """

    states: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All of it, with what the process itself takes."""
        return self.states + self.activations + self.logits + RESERVE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a study says of how its runs are computed; None is chosen.

    Attributes:
        workers: Data-parallel processes; None chooses.
        zero_stage: ZeRO stage; None chooses.
        micro_batch_sequences: Sequences at a time; None chooses.
        activation_checkpointing: None uses it where nothing fits without.
        kernels: Kernels of the model.
        memory_bytes: Memory of a device; None: not known, nothing is chosen by it.
        least_workers: Chosen workers are at least as many.
        most_workers: And at most as many; None: up to `MOST_WORKERS`.
    """

    workers: int | None = 1
    zero_stage: int | None = None
    micro_batch_sequences: int | None = None
    activation_checkpointing: bool | None = None
    kernels: Kernels = "torch"
    memory_bytes: float | None = None
    least_workers: int = 1
    most_workers: int | None = None


def memory_use(spec: RunSpec, execution: Execution) -> MemoryUse:
    """Memory that a run takes on one of its devices."""
    shape, params, workers = spec.shape, float(spec.params), execution.workers
    bf16 = spec.recipe.precision == "bf16"
    number = 2 if bf16 else 4
    whole, shared = _STATE_BYTES[bf16][execution.zero_stage]
    states = params * (whole + shared / workers)
    if execution.zero_stage == 3:
        layer = shape.non_embedding_params / shape.layers
        states += number * (2 * layer + spec.vocabulary * shape.hidden)
    tokens = execution.micro_batch(spec.batch_sequences) * spec.sequence_length
    inside = 16 * shape.hidden + 4 * shape.ffn
    kept = shape.layers * shape.hidden + inside if execution.activation_checkpointing else shape.layers * inside
    logits = tokens * spec.vocabulary * (2 * number + 4)
    return MemoryUse(
        states=states,
        activations=float(tokens * kept * number),
        logits=float(min(logits, LOGITS_BYTES + 4 * spec.vocabulary * shape.hidden)),
    )


_STATE_BYTES = {
    False: {0: (16, 0), 1: (8, 12), 2: (4, 16), 3: (0, 20)},
    True: {0: (6, 12), 1: (6, 12), 2: (2, 16), 3: (0, 18)},
}
"""Bytes a parameter that every worker holds, and that the workers share, by precision and stage."""


def choose_execution(spec: RunSpec, wish: Wish) -> Execution:
    """How a run is computed: as wished, and for the rest the first of these that fits into the memory.

    Fewer workers come before more, no activation checkpointing before it, a lower ZeRO stage before a higher one; the
    micro batch is then the largest that fits, cut so that all passes are of one size. Chosen workers are powers of two,
    so that they fill nodes.

    Args:
        spec: The run; its batch is kept whatever is chosen.
        wish: What is given.

    Raises:
        ResourceError: Nothing that is allowed fits; says how much memory the least of it would take.
    """
    lowest = 1 if spec.recipe.precision == "bf16" else 0
    if wish.memory_bytes is None:
        return Execution(
            workers=wish.workers or 1,
            zero_stage=max(lowest, wish.zero_stage or 0),
            micro_batch_sequences=wish.micro_batch_sequences,
            activation_checkpointing=bool(wish.activation_checkpointing),
            kernels=wish.kernels,
        )
    tried: list[tuple[float, Execution]] = []
    for workers in _worker_counts(spec, wish):
        stages: Iterable[int] = [lowest] if workers == 1 else range(lowest, 4)
        stages = stages if wish.zero_stage is None else [max(lowest, wish.zero_stage)]
        again = (False, True) if wish.activation_checkpointing is None else (wish.activation_checkpointing,)
        for checkpointing, stage in itertools.product(again, stages):
            base = Execution(
                workers=workers, zero_stage=stage, activation_checkpointing=checkpointing, kernels=wish.kernels
            )
            for micro in _micro_batches(spec, base, wish):
                execution = replace(base, micro_batch_sequences=micro)
                needed = memory_use(spec, execution).total
                if needed <= USABLE * wish.memory_bytes:
                    return execution
                tried.append((needed, execution))
    raise _too_large(spec, wish.memory_bytes, *min(tried, key=lambda pair: pair[0]))


def _too_large(spec: RunSpec, memory_bytes: float, needed: float, least: Execution) -> ResourceError:
    return ResourceError(
        f"Size {spec.size} fits into no device of {memory_bytes / 1e9:.0f} GB as resources say: with "
        f"{least.workers} worker(s), ZeRO stage {least.zero_stage}, {least.micro_batch_sequences} sequence(s) at once "
        f"and activation checkpointing {'on' if least.activation_checkpointing else 'off'} it takes "
        f"{needed / 1e9:.0f} GB of the {USABLE * memory_bytes / 1e9:.0f} GB that may be used. Allow more workers "
        "(workers: auto), a higher zero_stage, a smaller micro_batch_sequences, or name another accelerator."
    )


def _worker_counts(spec: RunSpec, wish: Wish) -> list[int]:
    if wish.workers is not None:
        return [wish.workers]
    most = min(wish.most_workers or MOST_WORKERS, spec.batch_sequences)
    counts = [2**k for k in range(most.bit_length()) if 2**k <= most]
    enough = [count for count in counts if count >= wish.least_workers]
    return enough or counts[-1:]


def _micro_batches(spec: RunSpec, base: Execution, wish: Wish) -> list[int]:
    share = base.micro_batch(spec.batch_sequences)
    if wish.micro_batch_sequences is not None:
        return [min(share, wish.micro_batch_sequences)]
    # The whole share, then as many passes as powers of two would need, each of the same size: none is nearly empty.
    passes = (-(-share // 2**k) for k in reversed(range(share.bit_length())))
    return list(dict.fromkeys([share, *(-(-share // n) for n in passes)]))
