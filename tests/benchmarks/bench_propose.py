"""Proposing from a law of 17 sources and 13 domains: seconds, with at least 100,000 mixtures scored, and their rate.

The law is fitted beforehand, to planted runs of three sizes. What counts is the answer for one objective as
`flp-ray propose` makes it: the sweep, the climbs on the lattice, the expected regret and the interval.
"""

from __future__ import annotations

import time

import numpy as np

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.fit import FitSettings
from flp_ray.fit.joint import fit_joint
from flp_ray.propose.answers import answer
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.goals import goals_of
from flp_ray.propose.rounds import Search
from flp_ray.propose.space import search_space, spread_out
from flp_ray.propose.start import SearchSize
from flp_ray.propose.sweep import POINTS

SOURCES, DOMAINS, RUNS = 17, 13, 128
SIZES = ("0.12B", "0.2B", "0.32B")


def run() -> dict[str, float]:
    """Seconds of a proposal and mixtures scored a second, the law of 128 runs."""
    world = synthetic.many_source_world(SOURCES, seed=0, tasks=3)
    kept = list(world.domains)[:DOMAINS]
    even = world.losses(np.full((1, SOURCES), 1 / SOURCES), synthetic.paper_size(SIZES[0]).flops)[0]
    onset = float(even.mean()) + 0.3  # so that the scores of all sizes have risen
    tasks = {
        name: synthetic.PlantedTask(
            random_performance=t.random_performance,
            shares=dict.fromkeys(kept, 1 / DOMAINS),
            onset=onset,
            slope=t.slope,
        )
        for name, t in world.tasks.items()
    }
    world = synthetic.World(sources=world.sources, domains={d: world.domains[d] for d in kept}, tasks=tasks)
    space = search_space(SearchConfig(), world.sources)
    ratios = spread_out(space.bounds, RUNS, seed=0)
    mixtures = [space.mixture(row) for row in ratios]
    runs = tuple((synthetic.paper_size(SIZES[i % len(SIZES)]), m) for i, m in enumerate(mixtures))
    records = world.records(synthetic.Design(sizes=(), mixtures=(), extra=runs, checkpoints=5), 0)
    fitting = time.perf_counter()
    model = fit_joint(records, FitSettings())
    fitted = time.perf_counter() - fitting
    target = synthetic.paper_size("7B")
    search = Search(
        goals=goals_of(SearchConfig(), dict.fromkeys(world.tasks, 1.0)),
        space=space,
        sizes=(SearchSize(name=target.name, flops=target.flops, highest=(1.0,) * SOURCES),),
        target_flops=target.flops,
        start=(),
        present=None,
        tolerance=0.002,
        budget_flops=1.0,
        max_runs=None,
        seed=0,
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = answer(search, model, search.goals[0], np.array([m.ratios for m in mixtures]))
        seconds.append(time.perf_counter() - began)
    took = sorted(seconds)[1]
    best = world.objective("mean", [world.optimum("mean", target.flops), found.mixture], target.flops)
    print(f"{SOURCES} sources, {len(model.domains)} domains, {RUNS} runs: {took:.2f} s for {POINTS:,} mixtures")
    print(f"fitted in {fitted:.1f} s; the mixture found loses {100 * (best[0] - best[1]):.2f} points")
    assert isinstance(found.mixture, Mixture)
    return {"propose_seconds": took, "mixtures_per_second": POINTS / took}


if __name__ == "__main__":
    print(run())
