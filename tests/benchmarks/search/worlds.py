"""The worlds of the bench: what is planted, what counts as found, and who judges.

Every seed is another drawn world. Losses of an answer are points of truth at the target without any noise, against
the best mixture within the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.propose.simplex import Bounds
from flp_ray.synthetic import World, paper_size
from tests.benchmarks.search.problem import Answer, Problem
from tests.benchmarks.search.regmix_table import load_regmix

LADDER = tuple(paper_size(n) for n in ("0.12B", "0.2B", "0.32B", "0.5B", "0.72B", "1B", "3B"))
TARGET = paper_size("7B")

CAP_TARGET_RUNS = 15
"""The cap on every bill, in runs of the target's size."""

TWO_GOAL, FIVE_GOAL, TABLE_GOAL = 0.002, 0.005, 0.02
"""Regret (score 0 to 1) of the planted worlds; 1 - Spearman of the table."""

HIGHEST_CODE = 0.5
"""Bound of the worlds of two sources: the paper's range of the code ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One world of the bench.

    Attributes:
        name: Its name in tables and files.
        kind: `planted`, `hostile` or `table`.
        goal: Loss that counts as found; None where none is claimed.
        unit: What the bill counts: `FLOPs` or `runs`.
        loss_name: What is lost, for tables and axes.
        make: From a seed to a problem with a new bill, and the judge of its answers.
        title: A line for tables and figures.
    """

    name: str
    kind: str
    goal: float | None
    unit: str
    loss_name: str
    make: Callable[[int], tuple[Any, Callable[[Any], float]]]
    title: str


def planted_case(name: str, draw: Callable[[int], World], *, goal: float | None, title: str) -> Case:
    """A case on drawn worlds of the paper's ladder."""
    return Case(
        name=name,
        kind="hostile" if goal is None else "planted",
        goal=goal,
        unit="FLOPs",
        loss_name="regret at the target, points",
        make=partial(_planted, name, draw, goal),
        title=title,
    )


def table_case(folder: Path) -> Case:
    """RegMix's table."""
    return Case(
        name="regmix",
        kind="table",
        goal=TABLE_GOAL,
        unit="runs",
        loss_name="1 - Spearman at 60M",
        make=partial(_table, folder),
        title="RegMix's runs at 1M, Pile-CC ranked at 60M",
    )


def planted_cases() -> tuple[Case, ...]:
    """All planted and hostile worlds."""
    two = synthetic.drawn_two_source_world
    places = {"inside": "inside", "edge": "on an edge", "corner": "at a corner"}
    return (
        planted_case("two-sources", two, goal=TWO_GOAL, title="Two sources, the paper's ladder"),
        planted_case(
            "two-sources-lopsided",
            synthetic.lopsided_two_source_world,
            goal=TWO_GOAL,
            title="Two sources, optimum near one end",
        ),
        *(
            planted_case(
                f"five-sources-{place}",
                partial(synthetic.drawn_many_source_world, where=place),
                goal=FIVE_GOAL,
                title=f"Five sources, optimum {words}",
            )
            for place, words in places.items()
        ),
        planted_case("noise", _noise, goal=None, title="Hostile: noise swallows the effect"),
        planted_case("optimum-moves", _moving, goal=None, title="Hostile: the optimum moves with the size"),
    )


def bounds_of(world: World) -> Bounds:
    """The bounds of a world's mixtures: the paper's range where there are two sources, else none."""
    high = {"code": HIGHEST_CODE} if len(world.sources) == 2 else {}
    return Bounds.of(world.sources, {}, high)


def best_value(world: World, bounds: Bounds, flops: float) -> float:
    """The highest true mean within the bounds, to about 1e-6."""
    best = world.optimum("mean", flops)
    if bounds.contains(best):
        return float(world.objective("mean", [best], flops)[0])
    first, second = bounds.sources  # only worlds of two sources are bounded
    ratios = np.linspace(max(bounds.low[0], 1 - bounds.high[1]), min(bounds.high[0], 1 - bounds.low[1]), 5001)
    mixtures = [Mixture.of({first: r, second: 1 - r}) for r in ratios.tolist()]
    return float(world.objective("mean", mixtures, flops).max())


def _planted(name: str, draw: Callable[[int], World], goal: float | None, seed: int) -> tuple[Problem, Any]:
    world = draw(seed)
    bounds = bounds_of(world)
    best = best_value(world, bounds, TARGET.flops)
    problem = Problem.of(
        name,
        world,
        seed=seed,
        sizes=LADDER,
        target=TARGET,
        bounds=bounds,
        goal=goal,
        cap_flops=CAP_TARGET_RUNS * TARGET.flops,
    )

    def judge(answer: Answer) -> float:
        return max(0.0, best - float(world.objective("mean", [answer.mixture], TARGET.flops)[0]))

    return problem, judge


def _table(folder: Path, seed: int) -> tuple[Any, Any]:
    table = _load(folder)
    return table.problem(TABLE_GOAL), table.judge


@cache
def _load(folder: Path) -> Any:
    return load_regmix(folder)


def _noise(seed: int) -> World:
    return synthetic.swallowed_by_noise(synthetic.drawn_two_source_world(seed))


def _moving(seed: int) -> World:
    return synthetic.optimum_moves(synthetic.drawn_two_source_world(seed))
