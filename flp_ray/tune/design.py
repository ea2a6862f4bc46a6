"""The trials of a tuning: which hyperparameters are tried at a size, and at which token counts they are measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.core.tuning import Hyperparameter
from flp_ray.errors import ConfigError
from flp_ray.tune.config import TuningConfig

DIGITS = 4
"""Significant digits of a value that is tried: the last bits of a logarithm must not name a run."""


def design_trials(run: RunSpec, config: TuningConfig, *, seed: int) -> tuple[RunSpec, ...]:
    """The trials of one size: its run with other hyperparameters, and as many checkpoints as the rungs need.

    They fill the space of the logarithms evenly, whatever their number (additive recurrence with the roots of
    x^(d+1) = x + 1, which for one hyperparameter is the golden section). So a tuning given again asks the same, and one
    with more trials keeps those it has. All trials share the run's seed, hence their first weights and their text:
    what differs between them is the hyperparameters.

    Args:
        run: A run of the size at the mixture that is tuned on.
        config: What is searched.
        seed: Shifts the sequence.

    Raises:
        ConfigError: A training is too short for its rungs.

    Reference: Roberts 2018, "The unreasonable effectiveness of quasirandom sequences" (the recurrence).
    """
    trials: dict[str, RunSpec] = {}
    points = _points(len(config.parameters), int(stable_hash([seed, run.size]), 16))
    stages = config.reduction_factor ** (config.rungs - 1)
    for _ in range(100 * config.trials):  # batches are few: points that give a trial again are passed over
        values = {name: _value(config, name, u) for name, u in zip(config.parameters, next(points), strict=True)}
        trial = _with(run, values, checkpoints=stages)
        if trial.steps < stages:
            raise ConfigError(
                f"tuning: {config.rungs} rungs with reduction_factor {config.reduction_factor} cut a training into "
                f"{stages} parts, but size {run.size} takes {trial.steps} steps with batches of "
                f"{trial.batch_sequences}. Take fewer rungs, a smaller factor or smaller batches."
            )
        trials.setdefault(trial.run_id, trial)
        if len(trials) == config.trials:
            break
    return tuple(trials.values())


def rung_tokens(trial: RunSpec, config: TuningConfig) -> dict[int, int]:
    """Where a trial is measured: token count by rung, a rung being a power of the reduction factor.

    Args:
        trial: A trial of this tuning.
        config: The tuning.

    Returns:
        E.g. {1: 40960, 2: 81920, 4: 163840} for three rungs with factor 2: the trial's quarters.
    """
    steps = trial.checkpoint_steps()
    powers = [config.reduction_factor**k for k in range(config.rungs)]
    return {power: trial.tokens_at(steps[power - 1]) for power in powers}


def _with(run: RunSpec, values: dict[Hyperparameter, float], *, checkpoints: int) -> RunSpec:
    recipe = replace(
        run.recipe,
        checkpoints=checkpoints,
        weight_decay=values.get("weight_decay", run.recipe.weight_decay),
        warmup_fraction=values.get("warmup_fraction", run.recipe.warmup_fraction),
    )
    return replace(
        run,
        recipe=recipe,
        learning_rate=values.get("learning_rate", run.learning_rate),
        batch_sequences=int(values.get("batch_sequences", run.batch_sequences)),
    )


def _value(config: TuningConfig, parameter: Hyperparameter, u: float) -> float:
    """The value at a place u in 0 to 1."""
    if parameter == "batch_sequences":
        choices = sorted(config.batch_sequences or ())
        return float(choices[int(u * len(choices))])
    low, high = config.bounds(parameter)
    value = math.exp(math.log(low) + u * math.log(high / low))
    return min(max(float(f"{value:.{DIGITS - 1}e}"), low), high)


def _points(dimensions: int, seed: int) -> Iterator[tuple[float, ...]]:
    """Endless points of the unit cube, evenly spread from the first on."""
    root = 2.0
    for _ in range(60):  # converges by far
        root = (1 + root) ** (1 / (dimensions + 1))
    place = [int(stable_hash([seed, axis]), 16) / 16**12 for axis in range(dimensions)]
    while True:
        yield tuple(place)
        place = [(u + root ** -(axis + 1)) % 1.0 for axis, u in enumerate(place)]
