"""What defines one training run, and the identity that follows from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, Literal

from flp_ray.core.mixture import Mixture
from flp_ray.core.shape import ModelShape
from flp_ray.errors import ConfigError

Purpose = Literal["sampling", "validation", "target"]
"""`sampling` may be fitted on; `validation` and `target` are only predicted and compared."""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def stable_hash(value: Any, *, length: int = 12) -> str:
    """A short hash of a JSON value, the same on every machine and in every process.

    Args:
        value: None, bool, int, finite float, str, and lists or string-keyed mappings of these.
        length: Number of hexadecimal digits.

    Raises:
        TypeError: The value has no stable identity (an object, a set, a NaN).
    """
    try:
        text = _CANONICAL.encode(value)
    except ValueError as error:
        raise TypeError(f"No stable identity for {value!r}: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a run is optimised; the part of a run's definition that sizes and mixtures share.

    How it is spread over devices and fitted into their memory is no part of it (`flp_ray.core.execution`).

    Attributes:
        weight_decay: AdamW's decoupled weight decay.
        beta1: AdamW's first moment decay.
        beta2: AdamW's second moment decay.
        warmup_fraction: Share of the steps with a linearly rising learning rate, 0 to 1.
        final_learning_rate_fraction: Share of the peak that the cosine decay ends at, 0 to 1.
        clip_norm: Largest global gradient norm; None does not clip.
        precision: `fp32` or `bf16` (master weights in fp32).
        checkpoints: Evenly spaced checkpoints a training is cut into (the paper: 30).
    """

    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    warmup_fraction: float = 0.02
    final_learning_rate_fraction: float = 0.1
    clip_norm: float | None = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoints: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One training: shape, mixture, tokens and recipe. `run_id` is the hash of all but the purpose.

    A mixture that names a source at ratio 0 is the same run as one that does not name it, so a study that gains a
    source keeps its runs.

    Attributes:
        purpose: What the run's records may be used for.
        size: The shape's name on its ladder, e.g. `0.12B`.
        shape: The model's shape.
        vocabulary: Tokens of the study's tokenizer.
        sequence_length: Tokens per training sequence.
        mixture: Share of the training tokens by source.
        train_tokens: Tokens of the whole training; a whole number of sequences.
        batch_sequences: Sequences of one optimiser step, over all workers.
        learning_rate: Peak learning rate.
        seed: Seeds the initialisation and the order of the text.
        recipe: The optimiser's settings and the checkpoint schedule.
        text_id: Identity of the text that it is trained on (`TextIdentity.of`); two texts never share a run id.

    Raises:
        ConfigError: Token count, batch or learning rate make no training.
    """

    purpose: Purpose
    size: str
    shape: ModelShape
    vocabulary: int
    sequence_length: int
    mixture: Mixture
    train_tokens: int
    batch_sequences: int
    learning_rate: float
    seed: int
    recipe: Recipe
    text_id: str
    _run_id: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.train_tokens < self.sequence_length or self.train_tokens % self.sequence_length:
            raise ConfigError(
                f"Size {self.size}: train tokens must be a whole number of sequences of "
                f"{self.sequence_length} tokens, received {self.train_tokens}; "
                f"the next lower number is {self.train_tokens - self.train_tokens % self.sequence_length}."
            )
        if self.batch_sequences < 1:
            raise ConfigError(f"Size {self.size}: a batch needs at least 1 sequence, received {self.batch_sequences}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"Size {self.size}: the learning rate must be positive, received {self.learning_rate}.")

        definition = self.to_dict() | {"mixture": self.mixture.used()}
        del definition["purpose"]
        object.__setattr__(self, "_run_id", stable_hash(definition))  # asked for all the time

    @property
    def run_id(self) -> str:
        """Twelve hexadecimal digits: the hash of everything that defines the run but its purpose."""
        return self._run_id

    @property
    def sequences(self) -> int:
        """Training sequences of the whole run."""
        return self.train_tokens // self.sequence_length

    @property
    def steps(self) -> int:
        """Optimiser steps; the last one is short when the batch does not divide the sequences."""
        return -(-self.sequences // self.batch_sequences)

    @property
    def params(self) -> int:
        """All parameters, both embeddings counted."""
        return self.shape.params(self.vocabulary)

    @property
    def flops(self) -> float:
        """Training FLOPs of the whole run."""
        return self.flops_at(self.train_tokens)

    def flops_at(self, tokens: int) -> float:
        """Training FLOPs spent once `tokens` tokens are seen."""
        return self.shape.flops(tokens, self.sequence_length)

    @property
    def checkpoints(self) -> int:
        """Checkpoints of the whole training: those of the recipe, at most one a step."""
        return min(self.recipe.checkpoints, self.steps)

    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps after which a checkpoint is due: every 1/checkpoints of the training, the last included.

        Reference: Chen et al. 2024, section 3.3 (every 1/30 of the training).
        """
        return tuple(-(-self.steps * k // self.checkpoints) for k in range(1, self.checkpoints + 1))

    def tokens_at(self, step: int) -> int:
        """Tokens seen after `step` optimiser steps."""
        return min(step * self.batch_sequences, self.sequences) * self.sequence_length

    def to_dict(self) -> dict[str, Any]:
        """A JSON value that `from_dict` reads back."""
        plain = {name: getattr(self, name) for name in _DEFINITION}
        return plain | {
            "shape": dict(_plain(self.shape)),
            "recipe": dict(_plain(self.recipe)),
            "mixture": self.mixture.as_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RunSpec:
        """Reads what `to_dict` wrote."""
        named = dict(value)
        named["shape"] = ModelShape(**named["shape"])
        named["mixture"] = Mixture.of(named["mixture"])
        named["recipe"] = Recipe(**named["recipe"])
        return cls(**named)


@lru_cache(maxsize=1024)
def _plain(part: ModelShape | Recipe) -> dict[str, Any]:
    """A shape or recipe as a JSON value; thousands of runs share each."""
    return asdict(part)


_DEFINITION = tuple(f.name for f in fields(RunSpec) if f.init)
