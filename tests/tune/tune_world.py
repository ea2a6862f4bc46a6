"""A planted world of hyperparameters: the optimum of every size is known, and ASHA is played on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.core.tuning import TrialReport, hyperparameter
from flp_ray.tune import TuningConfig, design_trials, rung_tokens

SIZES = {
    "small": (ModelShape(layers=2, hidden=32, heads=2, ffn=88), 512_000),
    "middle": (ModelShape(layers=3, hidden=48, heads=2, ffn=128), 1_638_400),
    "large": (ModelShape(layers=4, hidden=96, heads=4, ffn=256), 8_192_000),
}
RANGE = {"low": 1e-3, "high": 1e-1}


def settings(**changes) -> TuningConfig:
    return TuningConfig(**{"sizes": ["small", "middle"], "trials": 8, "learning_rate": RANGE} | changes)


def run_of(size: str) -> RunSpec:
    shape, tokens = SIZES[size]
    return RunSpec(
        purpose="sampling",
        size=size,
        shape=shape,
        vocabulary=512,
        sequence_length=64,
        mixture=Mixture.of({"general": 1.0}),
        train_tokens=tokens,
        batch_sequences=16,
        learning_rate=0.003,
        seed=1,
        recipe=Recipe(),
        text_id="text",
    )


def trials_of(config: TuningConfig, seed: int = 0) -> tuple[RunSpec, ...]:
    return tuple(trial for size in config.sizes for trial in design_trials(run_of(size), config, seed=seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Losses whose optimum follows a law in size and tokens, with a scatter of its own at every size.

    Below the optimum the loss rises slowly, above it fast, and in short trainings the optimum is higher: what real
    learning rates do.
    """

    level: float = math.log(0.012)
    params_exponent: float = -0.6
    tokens_exponent: float = 0.2
    scatter: float = 0.1
    noise: float = 0.01
    rate: float = 0.25
    seed: int = 0

    def optimum(self, size: str) -> float:
        """The logarithm of the best learning rate of a size."""
        shape, tokens = SIZES[size]
        small, few = SIZES["small"][0].non_embedding_params, SIZES["small"][1]
        drawn = np.random.default_rng([self.seed, *size.encode()]).normal(0, self.scatter)
        return (
            self.level
            + self.params_exponent * math.log(shape.non_embedding_params / small)
            + self.tokens_exponent * math.log(tokens / few)
            + float(drawn)
        )

    def loss(self, trial: RunSpec, tokens: int) -> float:
        """The loss of a trial at a token count, nats per token."""
        share = tokens / trial.train_tokens
        off = math.log(hyperparameter(trial, "learning_rate")) - self.optimum(trial.size) - 0.3 * (1 - share)
        noise = np.random.default_rng([self.seed, tokens, int(trial.run_id, 16)]).normal(0, self.noise)
        return 4.0 - 0.8 * math.log(share) + 2 * self.rate * (math.exp(off) - off - 1) / (1 + math.exp(off) / 8) + noise

    def reports(self, config: TuningConfig, trials: tuple[RunSpec, ...]) -> tuple[TrialReport, ...]:
        """What the trials give when ASHA stops them, one after the other."""
        told: list[TrialReport] = []
        for trial in trials:
            report = TrialReport(run_id=trial.run_id, size=trial.size, tokens=0, event="measured")
            for rung, tokens in rung_tokens(trial, config).items():
                loss = self.loss(trial, tokens)
                before = [r.loss for r in told if r.size == trial.size and r.tokens == tokens and r.event == "measured"]
                told.append(replace(report, tokens=tokens, loss=loss))
                last = rung == config.reduction_factor ** (config.rungs - 1)
                if before and not last and loss > np.percentile(before, 100 / config.reduction_factor):
                    told.append(replace(report, tokens=tokens, event="stopped"))
                    break
        return tuple(told)
