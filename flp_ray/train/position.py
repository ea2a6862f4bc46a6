"""Where a training stands, and what its time went to."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(slots=True)
class Clock:
    """Seconds by what they went to."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Adds the time spent inside to `what`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


@dataclass(slots=True)
class Position:
    """Where a training stands; what is saved beside the engine's own state.

    Attributes:
        step: Optimiser steps done.
        best_loss: Lowest training loss so far, rounded to two decimals; None before the first checkpoint.
        train_loss: The loss of the last checkpoint interval, nats per token; None before the first.
    """

    step: int = 0
    best_loss: float | None = None
    train_loss: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON value: the position, and the random states of this process."""
        python, numpy = random.getstate(), np.random.get_state(legacy=False)
        numpy["state"]["key"] = numpy["state"]["key"].tolist()
        random_states = {"python": python, "numpy": numpy, "torch": torch.get_rng_state().tolist()}
        return {**asdict(self), "random": random_states}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Position:
        """Reads what `to_dict` wrote, and restores the random states."""
        fields = dict(value)
        states = fields.pop("random")
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(states["numpy"])
        torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
        return cls(**fields)
