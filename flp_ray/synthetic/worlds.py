"""The planted worlds: of two sources, of many, drawn at random, and hostile ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flp_ray.synthetic.design import paper_size, two_source_mixtures
from flp_ray.synthetic.world import DRIFT_FROM, PlantedDomain, PlantedTask, World

CLEAR = 0.005
"""How far (0 to 1) both ends of the sampled ratios must fall below an optimum for it to count as clear."""

MOST_DRAWS = 1000
"""Worlds drawn until one has a clear optimum; most draws need fewer than ten."""


def two_source_world() -> World:
    """General and code text, five domains, four tasks; the mean over the tasks peaks inside, near 0.4."""
    laws = {
        "code": (4.6, -0.025, -0.012, -0.05),
        "general": (3.0, -0.028, -0.022, -0.002),
        "math": (3.4, -0.026, -0.024, -0.012),
        "reference": (3.2, -0.026, -0.026, -0.006),
        "science": (3.3, -0.027, -0.020, -0.010),
    }
    domains = {
        name: PlantedDomain(
            log_scale=scale_at(total + general + code, anchor, 1e20),
            exponent_total=total,
            exponents={"general": general, "code": code},
        )
        for name, (anchor, total, general, code) in laws.items()
    }
    tasks = {
        "completion": PlantedTask(
            random_performance=0.25, shares={"general": 0.7, "reference": 0.3}, onset=3.6, slope=0.35
        ),
        "programs": PlantedTask(random_performance=0.0, shares={"code": 0.8, "general": 0.2}, onset=5.2, slope=0.22),
        "reasoning": PlantedTask(random_performance=0.25, shares={"math": 0.6, "science": 0.4}, onset=4.0, slope=0.35),
        "recall": PlantedTask(random_performance=0.0, shares={"reference": 0.8, "science": 0.2}, onset=3.9, slope=0.4),
    }
    return World(sources=("code", "general"), domains=domains, tasks=tasks)


def drawn_two_source_world(seed: int) -> World:
    """A world like `two_source_world` with other laws, whose mean peaks clearly within code ratios 0 to 0.5.

    Exponents of all FLOPs are multiplied by 0.6 to 1.6, those of code by 0.5 to 1.5 and of general text by 1 to
    2.5 (so that a peak within the range is no rarity), slopes of tasks by 0.5 to 1.3. Each task has as many
    questions as the benchmark of the paper that it stands for: completion HellaSwag's 10,042, programs
    HumanEval's 164, reasoning ARC-Challenge's 1,172, recall TriviaQA's 17,944.

    Args:
        seed: Seed of the laws. Worlds are drawn again until the mean at the paper's 1B has a clear optimum and no
            score of a 7B reaches its ceiling.
    """
    generator = np.random.default_rng([seed, 1])
    items = {"completion": 10_042, "programs": 164, "reasoning": 1_172, "recall": 17_944}
    for _ in range(MOST_DRAWS):
        drawn = other_laws(two_source_world(), generator)
        tasks = {
            n: replace(t, slope=t.slope * generator.uniform(0.5, 1.3), items=items[n]) for n, t in drawn.tasks.items()
        }
        drawn = replace(drawn, tasks=tasks)
        highest = drawn.scores(drawn.losses(np.array([[0.5, 0.5], [0.2, 0.8], [0, 1]]), paper_size("7B").flops)).max()
        if highest < 0.95 and "mean" in clear_objectives(drawn, paper_size("1B").flops):
            return drawn
    raise AssertionError(f"no clear optimum in {MOST_DRAWS} drawn worlds")


def other_laws(world: World, generator: np.random.Generator) -> World:
    """A world of the sources code and general with other exponents, and the same losses at 1e20 FLOPs of each."""
    return replace(world, domains={name: _other_law(law, generator) for name, law in world.domains.items()})


def clear_objectives(world: World, flops: float) -> dict[str, float]:
    """Objectives of a two-source world that peak clearly within code ratios 0.03 to 0.47, with the peak's ratio.

    Where a score hardly changes, its best mixture is ill-defined and of no use: finding it is not asked for.

    Args:
        world: A world of the sources code and general.
        flops: Training FLOPs of the model in question.
    """
    ratios = np.linspace(0, 0.5, 501)
    mixtures = two_source_mixtures("code", "general", ratios.tolist())
    found = {}
    for name in ("mean", *world.tasks):
        values = world.objective(name, mixtures, flops)
        peak = float(ratios[np.argmax(values)])
        if 0.03 <= peak <= 0.47 and values.max() - max(values[0], values[-1]) >= CLEAR:
            found[name] = peak
    return found


def many_source_world(sources: int = 5, seed: int = 0, tasks: int = 3) -> World:
    """A world of any number of sources, as many domains and a few tasks; the optimum of the mean lies inside.

    Args:
        sources: Number of sources, 2 or more.
        seed: Seed of the drawn laws.
        tasks: Number of tasks.
    """
    generator = np.random.default_rng(seed)
    names = tuple(f"source{i}" for i in range(sources))
    domains = {}
    for i in range(sources):
        powers = generator.uniform(0.002, 0.01, sources)
        powers[i] = generator.uniform(0.02, 0.04)
        domains[f"domain{i}"] = PlantedDomain(
            log_scale=scale_at(-0.02 - float(powers.sum()), 3.5, 1e20),
            exponent_total=-0.02,
            exponents={s: -float(p) for s, p in zip(names, powers, strict=True)},
        )
    links = {}
    for t in range(tasks):
        shares = generator.dirichlet(np.ones(sources))
        links[f"task{t}"] = PlantedTask(
            random_performance=0.25,
            shares={d: float(s) for d, s in zip(domains, shares, strict=True)},
            onset=4.6,
            slope=0.25,
        )
    return World(sources=names, domains=domains, tasks=links)


def nothing_emerges(world: World) -> World:
    """Hostile: tasks that stay at chance at every loss that can be reached."""
    tasks = {n: replace(t, onset=0.2) for n, t in world.tasks.items()}
    return replace(world, tasks=tasks)


def swallowed_by_noise(world: World) -> World:
    """Hostile: so few items and so much noise that no mixture can be told from another."""
    tasks = {n: replace(t, items=None) for n, t in world.tasks.items()}
    return replace(world, tasks=tasks, run_noise=0.1, checkpoint_noise=0.03, items=50)


def optimum_moves(world: World, drift: float = 0.003) -> World:
    """Hostile: the first source gains with every e-fold of FLOPs, so that the best mixture moves with the size.

    Eq. 5 has no such term: what the small models teach of the mixture is wrong for the large one.

    Args:
        world: Any world.
        drift: What an e-fold of FLOPs beyond 1e20 adds to the power of the first source's ratio.
    """
    domains = {n: replace(law, drift={world.sources[0]: -drift}) for n, law in world.domains.items()}
    return replace(world, domains=domains)


def losses_with_a_floor(world: World, share: float = 0.5) -> World:
    """Hostile: a law that is not FLP-M's. A share of each loss at 1e20 FLOPs can never be trained away.

    At 1e20 FLOPs losses and slopes are about those of the given world; beyond, every gain is smaller than a
    power law says, so that extrapolations are too good.

    Args:
        world: Any world.
        share: Share of the loss at 1e20 FLOPs and even ratios that is the floor, 0 to less than 1.
    """
    even = np.full((1, len(world.sources)), 1 / len(world.sources))
    domains = {}
    for (name, law), loss in zip(world.domains.items(), world.losses(even, DRIFT_FROM)[0].tolist(), strict=True):
        exponents = {s: e / (1 - share) for s, e in law.exponents.items()}
        steeper = replace(law, exponent_total=law.exponent_total / (1 - share), exponents=exponents, log_scale=0.0)
        there = replace(world, domains={name: steeper}).losses(even, DRIFT_FROM)[0, 0]
        domains[name] = replace(steeper, floor=share * loss, log_scale=float(np.log((1 - share) * loss / there)))
    return replace(world, domains=domains)


def scale_at(power: float, loss: float, flops: float) -> float:
    """The `log_scale` that gives a loss (nats per token) at some FLOPs, for a sum of powers."""
    return float(np.log(loss) - power * np.log(flops))


def _other_law(law: PlantedDomain, generator: np.random.Generator) -> PlantedDomain:
    """A law with other exponents and the same loss at 1e20 FLOPs of every source."""
    spans = {"code": (0.5, 1.5), "general": (1.0, 2.5)}
    total = law.exponent_total * float(generator.uniform(0.6, 1.6))
    powers = [e * float(generator.uniform(*spans[s])) for s, e in law.exponents.items()]
    before = law.exponent_total + sum(law.exponents.values())
    loss = float(np.exp(law.log_scale + before * np.log(1e20)))
    return PlantedDomain(
        log_scale=scale_at(total + sum(powers), loss, 1e20),
        exponent_total=total,
        exponents=dict(zip(law.exponents, powers, strict=True)),
    )
