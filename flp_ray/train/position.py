"""Where a training stands, and what its time went to."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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

    def to_client_state(self) -> dict[str, Any]:
        """The position and the random states of this process."""
        return {
            "flp_ray_position": {
                "step": self.step,
                "best_loss": self.best_loss,
                "train_loss": self.train_loss,
            },
            "flp_ray_random": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
        }

    @classmethod
    def from_client_state(cls, state: dict[str, Any]) -> Position:
        """Reads what `to_client_state` wrote, and restores the random states."""
        python, numpy, torch_state = state["flp_ray_random"]
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
        return cls(**state["flp_ray_position"])
