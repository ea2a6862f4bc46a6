"""A study's design as planted worlds see it: which runs, of which sizes, and worlds whose optimum lies within."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flp_ray.core.run import RunSpec
from flp_ray.measure import task_records
from flp_ray.study import StudyPlan
from flp_ray.synthetic import Design, PlantedSize, World, many_source_world, two_source_world
from flp_ray.synthetic.anchor import at_flops, with_sources
from flp_ray.synthetic.worlds import other_laws

RUN_NOISE = 0.003
"""Standard deviation of a run's log loss between seeds; a third of it at every checkpoint beside."""

CLEAR, AWAY = 0.005, 0.2
"""A world is drawn again until every mixture of the grid this far from the best one loses this much score."""

MOST_WORLDS = 200
"""Worlds drawn for one that is clear; then the last is taken as it is."""


def planned_runs(plan: StudyPlan, design: str) -> list[tuple[RunSpec, int]]:
    """The sampling runs of a design, each with the number of its repetition.

    Half takes every second run, like one colour of a chess board of sizes and mixtures; twice trains every run
    with two seeds.
    """
    if design == "twice":
        return [(spec, repeat) for repeat in (0, 1) for spec in plan.sampling]
    if design == "planned":
        return [(spec, 0) for spec in plan.sampling]
    sizes = list(dict.fromkeys(spec.size for spec in plan.sampling))
    mixtures = list(dict.fromkeys(spec.mixture for spec in plan.sampling))
    return [(s, 0) for s in plan.sampling if (sizes.index(s.size) + mixtures.index(s.mixture)) % 2 == 0]


def study_world(plan: StudyPlan, draw: int) -> World:
    """A drawn world with the study's sources, tasks, items and FLOPs, whose best mixture lies within the grid.

    Two sources: laws like those of `synthetic.two_source_world`, whose code is the source that the grid has less
    of. More: `synthetic.many_source_world`.
    """
    generator = np.random.default_rng([draw, 2])
    flops = [spec.flops for spec in plan.sampling]
    highest = max(flops)
    lowest = min(flops) if min(flops) < highest / 3 else highest / 10  # one size: its checkpoints are the ladder
    grid = np.array([[m.ratio(s) for s in sorted(plan.config.sources)] for m in plan.mixtures])
    low, high = grid.min(axis=0), grid.max(axis=0)
    for _ in range(MOST_WORLDS):
        world = at_flops(_named(plan, generator), lowest, highest, plan.target_flops, generator)
        best = np.array(world.optimum("mean", plan.target_flops).ratios)
        values = world.objective_at("mean", np.concatenate([best[None], grid]), plan.target_flops)
        far = np.abs(grid - best).max(axis=1) >= AWAY
        inside = (best >= low + 0.01).all() and (best <= high - 0.01).all()
        if inside and (values[0] - values[1:][far] >= CLEAR).all():
            break
    return world


def planted_design(specs: Sequence[RunSpec]) -> Design:
    """The runs as a planted world takes them."""
    return Design(
        sizes=(),
        mixtures=(),
        extra=tuple((planted_size(s), s.mixture) for s in specs),
        checkpoints=len(specs[0].checkpoint_steps()),
    )


def planted_size(spec: RunSpec) -> PlantedSize:
    """The size of a run and what it costs."""
    return PlantedSize(name=spec.size, params=spec.params, train_tokens=spec.train_tokens, flops=spec.flops)


def _named(plan: StudyPlan, generator: np.random.Generator) -> World:
    """A drawn world before it is put at the study's FLOPs."""
    sources, tasks = sorted(plan.config.sources), plan.config.measure.tasks
    if len(sources) == 2:
        drawn = other_laws(two_source_world(), generator)
        rare, other = sorted(sources, key=lambda s: sum(m.ratio(s) for m in plan.mixtures))
        drawn = with_sources(drawn, {"code": rare, "general": other})
    else:
        drawn = many_source_world(len(sources), seed=int(generator.integers(2**31)), tasks=len(tasks))
        drawn = with_sources(drawn, dict(zip(drawn.sources, sources, strict=True)))
    links = list(drawn.tasks.values())
    chance = {t.task: t.random_performance for t in task_records(plan.config.measure)}
    return replace(
        drawn,
        run_noise=RUN_NOISE,
        checkpoint_noise=RUN_NOISE / 3,
        intermediate_items=plan.config.measure.intermediate_items,
        weights=plan.config.task_weights(),
        tasks={
            name: replace(links[i % len(links)], random_performance=chance[name], items=task.items)
            for i, (name, task) in enumerate(tasks.items())
        },
    )
