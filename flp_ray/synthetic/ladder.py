"""A planted ladder of one text: losses that level off in size and tokens, scores that rise along sigmoids.

The counterpart of the FLP-M worlds, in which losses fall forever along FLOPs and scores along lines: here a power
law or a line is wrong, by as much as published ladders say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.records import Measurement, MeasurementKind, Records, Run, Task
from flp_ray.core.run import Purpose

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderWorld:
    """The truth: A / N^a + B / D^b + E for every domain, and a sigmoid of the mean loss for every task.

    Attributes:
        domains: A, a, B, b and E by domain (N in 1e9 parameters, D in 1e11 tokens; nats per token).
        tasks: Chance, upper end, steepness and the loss at the middle, by task.
        run_noise: Standard deviation of a run's log losses, half of it shared by the domains.
        items: Questions of each task.
        unfinished: How far above its final law a training's log loss lies at its start; falls linearly to 0.
    """

    domains: dict[str, tuple[float, float, float, float, float]] = field(
        default_factory=lambda: {
            "code": (0.28, 0.38, 0.26, 0.33, 0.72),
            "papers": (0.36, 0.33, 0.33, 0.27, 1.50),
            "web": (0.45, 0.34, 0.40, 0.28, 1.86),
        }
    )
    tasks: dict[str, tuple[float, float, float, float]] = field(
        default_factory=lambda: {
            "early": (0.25, 0.95, 7.0, 2.40),
            "late": (0.25, 0.90, 8.0, 1.90),
            "steady": (0.50, 0.92, 5.0, 2.60),
        }
    )
    run_noise: float = 0.005
    items: int = 2000
    unfinished: float = 0.08

    def losses(self, params: Array | float, tokens: Array | float) -> Array:
        """True domain losses, (n, D)."""
        n, d = np.asarray(params) / 1e9, np.asarray(tokens) / 1e11
        return np.stack([a0 * n**-a + b0 * d**-b + e for a0, a, b0, b, e in self.domains.values()], axis=-1)

    def scores(self, losses: Array) -> Array:
        """True scores at domain losses (n, D), (n, T)."""
        index = np.log(losses.mean(axis=-1))
        return np.stack(
            [
                low + (high - low) / (1 + np.exp(-k * (np.log(middle) - index)))
                for low, high, k, middle in self.tasks.values()
            ],
            axis=-1,
        )

    def records(
        self,
        sizes: Sequence[tuple[float, float]],
        seed: int,
        *,
        purpose: Purpose = "sampling",
        checkpoints: int = 20,
    ) -> Records:
        """Measured runs.

        Args:
            sizes: Parameters and tokens of every run.
            seed: Seed of the noise.
            purpose: Purpose of every run.
            checkpoints: Evenly spaced measurements a run.
        """
        generator = np.random.default_rng([seed, len(purpose)])
        runs, rows = [], []
        for params, tokens in sizes:
            name = f"{params:.3g}-{tokens:.3g}"
            runs.append(Run(run_id=name, purpose=purpose, params=round(params), train_tokens=round(tokens)))
            shared = self.run_noise * np.sqrt(0.5) * generator.standard_normal()
            own = self.run_noise * np.sqrt(0.5) * generator.standard_normal(len(self.domains))
            for step in range(1, checkpoints + 1):
                done = step / checkpoints
                losses = self.losses(params, done * tokens) * np.exp(self.unfinished * (1 - done) + shared + own)
                scores = generator.binomial(self.items, self.scores(losses)) / self.items
                values: list[tuple[MeasurementKind, str, float]] = [
                    *(("domain_loss", d, v) for d, v in zip(self.domains, losses.tolist(), strict=True)),
                    *(("performance", t, v) for t, v in zip(self.tasks, scores.tolist(), strict=True)),
                ]
                rows += [
                    Measurement(
                        run_id=name,
                        tokens=round(done * tokens),
                        flops=6 * params * done * tokens,
                        kind=kind,
                        name=what,
                        value=value,
                    )
                    for kind, what, value in values
                ]
        tasks = tuple(Task(task=n, random_performance=low) for n, (low, *_) in self.tasks.items())
        return Records(runs=tuple(runs), measurements=tuple(rows), tasks=tasks)


LADDER_SIZES = tuple(
    (params, params * ratio) for params in (0.19e9, 0.37e9, 0.76e9, 1.3e9, 3.2e9) for ratio in (20.0, 60.0, 200.0)
)
"""Fifteen runs: five sizes at 20, 60 and 200 tokens a parameter."""


def join(*parts: Records) -> Records:
    """Records of several calls as one table; tasks of the first."""
    return Records(
        runs=tuple(r for p in parts for r in p.runs),
        measurements=tuple(m for p in parts for m in p.measurements),
        tasks=parts[0].tasks,
    )
