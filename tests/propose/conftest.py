"""Searches on planted worlds: each decision is made, its run is drawn from the world, and the law is fitted again."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Records
from flp_ray.errors import NotEnoughDataError
from flp_ray.fit.config import FitSettings
from flp_ray.fit.joint import JointSurrogate, fit_joint
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.goals import goals_of
from flp_ray.propose.rounds import Choice, Search, Taken, next_choice
from flp_ray.propose.space import present_mixture, search_space
from flp_ray.propose.start import SearchSize, start_design

SIZES = tuple(synthetic.paper_size(s) for s in ("0.12B", "0.2B", "0.32B", "0.5B", "0.72B", "1B", "3B"))
TARGET = synthetic.paper_size("7B")
BUDGET = 6.7e21
"""FLOPs: about two thirds of one 3B, a hundred times less than the target's training costs."""


@dataclass
class Driven:
    """A search as far as it went."""

    search: Search
    choices: list[Choice] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    waits: list[tuple[int, int]] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    parts: list[Records] = field(default_factory=list)
    model: JointSurrogate | None = None

    @property
    def kinds(self):
        return [c.kind for c in self.choices]

    @property
    def last(self):
        return self.choices[-1]

    @property
    def records(self):
        return joined(self.parts)

    @property
    def trained(self):
        return np.unique([[t.mixture.ratio(s) for s in self.search.space.sources] for t in self.taken], axis=0)


def joined(parts):
    return Records(
        runs=tuple(r for p in parts for r in p.runs),
        measurements=tuple(m for p in parts for m in p.measurements),
        tasks=parts[0].tasks,
    )


def search_of(world, config=None, *, budget=BUDGET, tolerance=0.002, max_runs=None, sizes=SIZES, highest=None, seed=0):
    config = config or SearchConfig()
    space = search_space(config, world.sources)
    present = present_mixture(config, world.sources)
    able = tuple(
        SearchSize(name=s.name, flops=s.flops, highest=(1.0,) * len(world.sources) if highest is None else highest)
        for s in sizes
    )
    return Search(
        goals=goals_of(config, dict.fromkeys(world.tasks, 1.0)),
        space=space,
        sizes=able,
        target_flops=TARGET.flops,
        start=start_design(space, able, mixtures=None, present=present, seed=seed),
        present=present,
        tolerance=tolerance,
        budget_flops=budget,
        max_runs=max_runs,
        seed=seed,
    )


def fit(driven):
    finished = [p for p, t in zip(driven.parts, driven.taken, strict=True) if t.finished]
    try:
        return fit_joint(joined(finished), FitSettings(), like=driven.model) if finished else None
    except NotEnoughDataError:
        return None


def drive(world, search, *, seed=0, slots=1, most=200):
    """Runs a search to its end with so many runs at a time; the oldest finishes where no slot is free."""
    driven, sizes = Driven(search=search), {s.name: s for s in SIZES}

    def finish():
        first = next(i for i, t in enumerate(driven.taken) if not t.finished)
        driven.taken[first] = replace(driven.taken[first], finished=True)
        driven.model = fit(driven)

    for _ in range(most):
        spent = sum(search.cost(t.size) for t in driven.taken)
        choice = next_choice(search, driven.model, driven.taken, spent)
        running = sum(not t.finished for t in driven.taken)
        if choice is None:
            driven.waits.append((len(driven.taken), running))
            assert running, "a search waits where nothing is training"
            finish()
            continue
        driven.choices.append(choice)
        driven.spent.append(spent)
        if choice.kind == "stop":
            return driven
        number = len(driven.taken) + 1
        design = synthetic.Design(sizes=(sizes[choice.size],), mixtures=(choice.mixture,), checkpoints=15)
        driven.parts.append(world.records(design, 1000 * seed + number))
        driven.taken.append(Taken(size=choice.size, mixture=choice.mixture, finished=False))
        if running + 1 >= slots:
            finish()
    raise AssertionError(f"no end within {most} decisions")


@pytest.fixture(scope="session")
def searched():
    """A function: the search for a world, see `search_of`."""
    return search_of


@pytest.fixture(scope="session")
def driven_by():
    """A function: a search driven to its end, see `drive`."""
    return drive


@pytest.fixture(scope="session")
def two_sources():
    """A finished search over code and general text."""
    world = synthetic.drawn_two_source_world(0)
    return world, drive(world, search_of(world))


@pytest.fixture(scope="session")
def modelled():
    """A function: the law of a few runs of a world at two sizes, and a search for it."""

    def made(world, config=None, *, number=None, sizes=("0.2B", "0.5B"), seed=0):
        sources = len(world.sources)
        rows = np.random.default_rng(seed).dirichlet(np.ones(sources), number or 2 * sources + 2)
        mixtures = tuple(Mixture.of(dict(zip(world.sources, row, strict=True))) for row in rows)
        design = synthetic.Design(
            sizes=(synthetic.paper_size(sizes[0]),),
            mixtures=mixtures,
            extra=tuple((synthetic.paper_size(s), m) for s in sizes[1:] for m in mixtures[:3]),
            checkpoints=10,
        )
        return fit_joint(world.records(design, seed), FitSettings()), search_of(world, config), rows

    return made
