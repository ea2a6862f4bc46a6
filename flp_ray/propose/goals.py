"""Objectives as the search works with them: shares of tasks, and tasks that must not fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.errors import ConfigError
from flp_ray.propose.config import SearchConfig

MEAN = "mean"
"""Name of the objective that is the weighted mean over the tasks."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One objective.

    Attributes:
        name: As shown.
        weights: Weight by task.
        keep: By task, how far its score (0 to 1) may fall below what is expected of the present mixture.
    """

    name: str
    weights: Mapping[str, float]
    keep: Mapping[str, float] = field(default_factory=dict)

    def shares(self, tasks: Sequence[str]) -> Array | None:
        """Shares of these tasks, (T,), sum 1; None where none of them weighs anything."""
        given = np.array([self.weights.get(task, 0.0) for task in tasks])
        return given / given.sum() if given.sum() > 0 else None

    def missing(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Tasks with some weight, or to be kept, that are not among these."""
        wanted = [t for t, w in self.weights.items() if w > 0] + list(self.keep)
        return tuple(t for t in dict.fromkeys(wanted) if t not in tasks)


def goals_of(config: SearchConfig, task_weights: Mapping[str, float]) -> tuple[Goal, ...]:
    """The objectives of a study.

    Args:
        config: The search.
        task_weights: Weight of each task of the study in the mean.

    Raises:
        ConfigError: An objective, or a task that one weighs or keeps, is unknown.
    """
    tasks = list(task_weights)
    made = []
    for given in config.objectives:
        if isinstance(given, str):
            made.append(named_goal(given, task_weights, "search.objectives"))
            continue
        if given.name in (MEAN, *tasks):
            raise ConfigError(
                f"search.objectives: {given.name!r} names an objective with its own weights, but it is "
                f"{'the mean over all tasks' if given.name == MEAN else 'a task'} already. Choose another name."
            )
        for task in (*given.weights, *given.keep):
            _require(task, tasks, f"search.objectives.{given.name}", "task")
        made.append(Goal(name=given.name, weights=dict(given.weights), keep=dict(given.keep)))
    return tuple({goal.name: goal for goal in made}.values())


def named_goal(name: str, task_weights: Mapping[str, float], where: str) -> Goal:
    """The objective of a name: `mean` or a task.

    Raises:
        ConfigError: It is neither.
    """
    _require(name, [MEAN, *task_weights], where, "objective")
    return Goal(name=name, weights=dict(task_weights) if name == MEAN else {name: 1.0})


def _require(name: str, known: Sequence[str], where: str, what: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where} names {name!r}, which is no {what}; known: {', '.join(known)}.{hint}")
