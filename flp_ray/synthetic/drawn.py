"""Worlds drawn at random whose best mixture lies where it is told to: for five sources inside the simplex, on an edge
or at a corner; for two near one end of the paper's range.

Of five sources, which belong into the best mixture is decided by which texts the tasks ask for. Every source has a
domain of its own text, whose loss it lowers most; other sources lower it a little. A source whose domain no task asks
for, and which lowers the others not at all or raises them a little (it takes FLOPs from those that help), does not
belong into the best mixture: with one or two such sources the optimum lies on an edge, with all but one at a corner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flp_ray.synthetic.anchor import at_flops
from flp_ray.synthetic.design import paper_size
from flp_ray.synthetic.world import PlantedDomain, PlantedTask, World
from flp_ray.synthetic.worlds import MOST_DRAWS, scale_at, two_source_world

Where = Literal["inside", "edge", "corner"]

SOURCES = ("books", "code", "math", "papers", "web")

TASKS: dict[str, tuple[float, int]] = {
    "chains": (0.0, 6_511),
    "completion": (0.25, 10_042),
    "programs": (0.0, 164),
    "reading": (0.25, 1_045),
    "reasoning": (0.25, 1_172),
    "recall": (0.0, 17_944),
}
"""Chance level and number of questions, those of the paper's benchmarks: BBH, HellaSwag, HumanEval, RACE,
ARC-Challenge, TriviaQA."""

OWN, OTHER, IDLE = (0.01, 0.045), (0.001, 0.01), (-0.0005, 0.003)
"""What a source takes off a domain's power per e-fold of its own FLOPs: of its own text, of other text; and what an
idle source adds. Published slopes of code text on code are 0.05, on other text 0.002 to 0.012."""

ALL = (0.012, 0.03)
"""What all FLOPs take off the power of a domain."""

LOSS = (2.6, 3.8)
"""Loss of a domain at 1e20 FLOPs of every source, nats per token."""

ABSENT, PRESENT = 1e-3, 0.04
"""A ratio below the first is no part of an optimum; inside, every ratio is above the second."""

EVEN_LOSES, USUAL_LOSES = 0.0075, 0.015
"""What the even mixture and the median of random ones lose at least at the target, score 0 to 1."""

HIGHEST_SCORE = 0.93
"""Score that no task passes at the target and its optimum: a ceiling would bend what the ladder shows."""

MIDDLE_LOSES = 0.003
"""What the middle of the paper's range of code ratios loses at least at the target, score 0 to 1."""

CODE_MATTERS = ((0.1, 0.5), (1.5, 4.0))
"""By what the powers of code in `two_source_world` are multiplied where it matters little, and where much."""

Array = NDArray[Any]


def drawn_many_source_world(seed: int, where: Where = "inside") -> World:
    """Five sources, five domains, six tasks with the paper's numbers of questions; the mean peaks where it is told to.

    Tasks emerge along the paper's ladder (0.12B to 1B). Worlds are drawn again until the mean at the paper's 7B has
    its optimum there (`World.optimum`), the even mixture and most others lose points of the mean against it, and no
    score reaches its ceiling.

    Args:
        seed: Seed of the laws.
        where: `inside`: every ratio of the optimum is at least 0.04. `edge`: one or two of the five are 0, the others
            at least 0.04. `corner`: one source alone.

    Raises:
        ValueError: An unknown place.
    """
    if where not in _IDLE_SOURCES:
        raise ValueError(f"The optimum lies at one of {', '.join(_IDLE_SOURCES)}, received {where!r}.")
    generator = np.random.default_rng([seed, 2, list(_IDLE_SOURCES).index(where)])
    for _ in range(MOST_DRAWS):
        idle = generator.permutation(len(SOURCES))[: generator.choice(_IDLE_SOURCES[where])]
        world = _anchored(_laws(generator, idle), generator)
        if _fits(world, where, len(idle), generator):
            return world
    raise AssertionError(f"no world with its optimum {where} in {MOST_DRAWS} draws")


def lopsided_two_source_world(seed: int) -> World:
    """General and code text like `two_source_world`, whose mean peaks near one end of the paper's code ratios 0 to 0.5.

    The worlds of `drawn_two_source_world` peak near the middle of that range, where a guess loses next to nothing.
    Here code matters little or much (either with probability one half), and worlds are drawn again until the middle
    loses 0.3 points of the mean at the paper's 7B. Powers of all FLOPs are multiplied by 0.2 to 0.8, those of general
    text by 1 to 2.5; tasks emerge along the paper's ladder and have the questions of the paper's benchmarks.

    Args:
        seed: Seed of the laws.
    """
    generator = np.random.default_rng([seed, 3])
    span = CODE_MATTERS[int(generator.integers(2))]
    ratios = np.linspace(0, 0.5, 101)
    rows, target = np.column_stack([ratios, 1 - ratios]), paper_size("7B").flops
    for _ in range(MOST_DRAWS):
        world = _anchored(_other_two_source_laws(generator, span), generator)
        world = replace(world, tasks={n: replace(t, items=TASKS[n][1]) for n, t in world.tasks.items()})
        values = world.objective_at("mean", rows, target)
        peak = ratios[np.argmax(values)]
        lost = values.max() - values[len(ratios) // 2]
        if 0.03 <= peak <= 0.47 and lost >= MIDDLE_LOSES and world.scores(world.losses(rows, target)).max() < 0.95:
            return world
    raise AssertionError(f"no world with its peak near an end in {MOST_DRAWS} draws")


def _other_two_source_laws(generator: np.random.Generator, span: tuple[float, float]) -> World:
    """`two_source_world` with other powers, and the same losses at 1e20 FLOPs of each source."""
    base, matters = two_source_world(), float(generator.uniform(*span))
    domains = {}
    for name, law in base.domains.items():
        total = law.exponent_total * float(generator.uniform(0.2, 0.8))
        factors = {"code": matters * generator.uniform(0.5, 1.5), "general": generator.uniform(1.0, 2.5)}
        powers = {s: e * float(factors[s]) for s, e in law.exponents.items()}
        before = law.exponent_total + sum(law.exponents.values())
        loss = float(np.exp(law.log_scale + before * np.log(1e20)))
        domains[name] = PlantedDomain(
            log_scale=scale_at(total + sum(powers.values()), loss, 1e20), exponent_total=total, exponents=powers
        )
    return replace(base, domains=domains)


_IDLE_SOURCES: dict[str, tuple[int, ...]] = {"inside": (0,), "edge": (1, 2), "corner": (4,)}
"""How many sources do not belong into the optimum; drawn among these."""


def _laws(generator: np.random.Generator, idle: Array) -> World:
    """Laws and tasks; the tasks ask for the domains of the sources that are not idle."""
    number = len(SOURCES)
    useful = [k for k in range(number) if k not in idle]
    powers = generator.uniform(*OTHER, (number, number))
    powers[:, idle] = -generator.uniform(*IDLE, (number, len(idle)))
    powers[np.diag_indices(number)] = generator.uniform(*OWN, number)
    domains = {}
    for name, row in zip(SOURCES, powers, strict=True):
        total = -float(generator.uniform(*ALL))
        domains[name] = PlantedDomain(
            log_scale=scale_at(total - float(row.sum()), float(generator.uniform(*LOSS)), 1e20),
            exponent_total=total,
            exponents={s: -float(p) for s, p in zip(SOURCES, row, strict=True)},
        )
    tasks = {}
    wanted = generator.dirichlet(np.ones(len(useful)))  # benchmarks ask for some texts more than for others
    for name, (chance, items) in TASKS.items():
        drawn = generator.dirichlet(0.1 + 3 * wanted)
        shares = {SOURCES[k]: float(s) for k, s in zip(useful, drawn, strict=True)}
        tasks[name] = PlantedTask(random_performance=chance, shares=shares, onset=3.0, slope=0.3, items=items)
    return World(sources=SOURCES, domains=domains, tasks=tasks)


def _anchored(world: World, generator: np.random.Generator) -> World:
    """The world with tasks that emerge between the paper's 0.12B and 1B."""
    small, large, target = (paper_size(n).flops for n in ("0.12B", "1B", "7B"))
    moved = at_flops(world, small, large, target, generator)
    return replace(moved, tasks={n: replace(t, width=0.03) for n, t in moved.tasks.items()})


def _fits(world: World, where: str, idle: int, generator: np.random.Generator) -> bool:
    """Whether the optimum at the target lies where it should and matters."""
    target, number = paper_size("7B").flops, len(world.sources)
    best = np.array([world.optimum("mean", target).ratios])
    absent, present = np.split(np.sort(best[0]), [idle])
    if (absent > ABSENT).any() or (present < PRESENT).any():
        return False
    value = world.objective_at("mean", best, target)[0]
    usual = value - world.objective_at("mean", generator.dirichlet(np.ones(number), 500), target)
    even = value - world.objective_at("mean", np.full((1, number), 1 / number), target)[0]
    highest = world.scores(world.losses(best, target)).max()
    return bool(even >= EVEN_LOSES and np.median(usual) >= USUAL_LOSES and highest <= HIGHEST_SCORE)
