"""A planted world put where a study is: its FLOPs, its sources, its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from flp_ray.synthetic.world import PlantedDomain, PlantedTask, World

HOME = 1e20
"""FLOPs in the middle of the range that the worlds are planted for."""

EMERGENCE = (0.0, 0.4)
"""Where on the ladder a task emerges, as a share of the logarithm of its FLOPs."""

GAIN = (0.2, 0.4)
"""How far above chance a task's score is at the top of the ladder, 0 to 1."""

HIGHEST = 0.88
"""Score that a target beyond the ladder does not pass: above, a ceiling would bend what the ladder shows."""


def at_flops(world: World, lowest: float, highest: float, target: float, generator: np.random.Generator) -> World:
    """The same laws on another range of FLOPs, with tasks that emerge within it.

    Losses in the middle of the range are those that the world has at 1e20 FLOPs; onset and slope of every task
    are drawn.

    Args:
        world: Any world.
        lowest: FLOPs of the smallest sampling run.
        highest: FLOPs of the largest one.
        target: FLOPs of the model that is predicted.
        generator: Draws where each task emerges and how fast it rises.
    """
    shift = np.log(HOME) - np.log(lowest * highest) / 2
    domains = {n: replace(law, log_scale=law.log_scale + _power(law) * shift) for n, law in world.domains.items()}
    moved = replace(world, domains=domains)
    even = np.full((1, len(world.sources)), 1 / len(world.sources))

    def loss(task: PlantedTask, flops: float) -> float:
        shares = np.array([task.shares.get(d, 0.0) for d in domains])
        return float(moved.losses(even, flops)[0] @ shares)

    tasks = {}
    for name, task in world.tasks.items():
        onset = loss(task, lowest * (highest / lowest) ** generator.uniform(*EMERGENCE))
        fall = onset - loss(task, highest)
        most = (HIGHEST - task.random_performance) / max(fall, onset - loss(task, target))
        slope = min(float(generator.uniform(*GAIN)) / fall, most)
        tasks[name] = replace(task, onset=onset, slope=slope, width=fall / 30)
    return replace(moved, tasks=tasks)


def with_sources(world: World, names: Mapping[str, str]) -> World:
    """The same world with other names of its sources, by the present ones."""
    domains = {
        name: replace(
            law,
            exponents={names[s]: e for s, e in law.exponents.items()},
            drift={names[s]: e for s, e in law.drift.items()},
        )
        for name, law in world.domains.items()
    }
    return replace(world, sources=tuple(sorted(names[s] for s in world.sources)), domains=domains)


def _power(law: PlantedDomain) -> float:
    return law.exponent_total + sum(law.exponents.values())
