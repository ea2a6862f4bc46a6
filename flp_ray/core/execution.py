"""How a run is computed: workers, memory and kernels. It changes speed and rounding, never what the run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from flp_ray.errors import ConfigError

Kernels = Literal["torch", "liger"]
"""`torch`: PyTorch's own operations; `liger`: fused Triton kernels of the package liger-kernel, on GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How one attempt at a run is spread over devices and fitted into their memory.

    The batch, the order of the text and the schedule belong to the run (`RunSpec`), so two executions of one run
    learn the same up to the order of additions; `run_id` does not depend on them.

    Attributes:
        workers: Data-parallel processes, one device each.
        zero_stage: DeepSpeed ZeRO stage, 0 to 3.
        micro_batch_sequences: Sequences that a device works on at once; None takes its whole share of the batch.
        activation_checkpointing: Whether layers compute their activations again in the backward pass.
        kernels: Which kernels the model uses.

    Raises:
        ConfigError: A number is out of range.
    """

    workers: int = 1
    zero_stage: int = 0
    micro_batch_sequences: int | None = None
    activation_checkpointing: bool = False
    kernels: Kernels = "torch"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"A run needs at least 1 worker, received {self.workers}.")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ConfigError(f"ZeRO has the stages 0 to 3, received {self.zero_stage}.")
        if self.micro_batch_sequences is not None and self.micro_batch_sequences < 1:
            raise ConfigError(f"A micro batch needs at least 1 sequence, received {self.micro_batch_sequences}.")

    def micro_batch(self, batch_sequences: int) -> int:
        """Sequences of one pass on one device, given those of a whole batch."""
        share = -(-batch_sequences // self.workers)
        return min(share, self.micro_batch_sequences or share)

    def accumulation(self, batch_sequences: int) -> int:
        """Passes that a device makes for one optimiser step."""
        share = -(-batch_sequences // self.workers)
        return -(-share // self.micro_batch(batch_sequences))

    def to_dict(self) -> dict[str, Any]:
        """A JSON value that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Execution:
        """Reads what `to_dict` wrote."""
        return cls(**value)
