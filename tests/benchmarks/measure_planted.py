"""The paper's design on planted worlds: is the optimum found, do scores and intervals hold what they promise?

    python tests/benchmarks/measure_planted.py --draws 200            # every draw another world and other noise
    python tests/benchmarks/measure_planted.py --world two_source     # one world, 200 draws of its noise
    python tests/benchmarks/measure_planted.py --run-noise 0.0155     # Table 3's whole error taken as noise

Prints one line of JSON for every size that is predicted, and a last one with the settings.

    found      share of draws with the best ratio of code within 0.03, by objective; only objectives whose true
               optimum is clear at that size (`synthetic.clear_objectives`), with the number of draws
    regret     true score lost there in points of 100: median, 90 percent quantile
    score      relative error of the predicted scores against the true ones at four new ratios: median, 90 percent
               quantile, largest, share within 5 percent
    loss       mean relative error of the predicted losses against measured ones
    coverage   share of new measurements (new runs with noise of their own) within their 80 percent intervals
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from flp_ray import synthetic
from flp_ray.fit import FitSettings, fit_surrogate
from flp_ray.power import TOLERANCE, judge
from flp_ray.propose import search_lattice
from flp_ray.propose.config import SearchConfig

SIZES = ("0.5B", "1B", "3B", "7B")
NEW_RATIOS = (0.05, 0.25, 0.3, 0.45)


def worlds(kind: str, draw: int) -> synthetic.World:
    """The world of a draw."""
    if kind == "drawn":
        return synthetic.drawn_two_source_world(draw)
    world = synthetic.two_source_world()
    hostile = {
        "optimum_moves": synthetic.optimum_moves,
        "losses_with_a_floor": synthetic.losses_with_a_floor,
        "swallowed_by_noise": synthetic.swallowed_by_noise,
    }
    return hostile[kind](world) if kind in hostile else world


def measure(
    draws: int, *, members: int, kind: str = "drawn", said: bool = False, **noise: float
) -> dict[str, dict[str, Any]]:
    """Figures by size."""
    lattice = search_lattice(SearchConfig(max_ratios={"code": 0.5}), ("code", "general"))
    mixtures = synthetic.two_source_mixtures("code", "general", NEW_RATIOS)
    kept: dict[str, dict[str, list[Any]]] = {size: defaultdict(list) for size in SIZES}
    for draw in range(draws):
        world = replace(worlds(kind, draw), size_seed=draw, **noise)
        fitted = fit_surrogate(world.records(synthetic.paper_design(), draw), FitSettings(members=members))
        for size in SIZES:
            target = synthetic.paper_size(size)
            clear = synthetic.clear_objectives(world, target.flops)
            found = judge(
                fitted, world, target, lattice=lattice, objectives=list(clear), mixtures=mixtures, seed=10**6 + draw
            )
            of = kept[size]
            for objective, distance in found.distances.items():
                of[f"found {objective}"].append(distance is not None and distance <= TOLERANCE + 1e-9)
            of["regret"] += found.regrets.values()
            of["score"] += found.score_errors
            of["loss"] += found.loss_errors
            for what, inside in found.inside.items():
                of[f"coverage {what}"] += inside
        if said and draw % 10 == 9:
            print(json.dumps({"draws": draw + 1}), flush=True)
    return {size: _figures(of) for size, of in kept.items()}


def _figures(of: dict[str, list[Any]]) -> dict[str, Any]:
    hits = {k.removeprefix("found "): v for k, v in sorted(of.items()) if k.startswith("found ")}
    everything = [h for v in hits.values() for h in v]
    scores, regrets = np.array(of["score"]), 100 * np.array(of["regret"])
    return {
        "found": {k: [round(float(np.mean(v)), 3), len(v)] for k, v in hits.items()},
        "found_all": round(float(np.mean(everything)), 3) if everything else None,
        "regret_points": [round(float(np.quantile(regrets, q)), 4) for q in (0.5, 0.9)] if regrets.size else None,
        "score_error": [round(float(x), 4) for x in (np.median(scores), np.quantile(scores, 0.9), scores.max())],
        "score_within_5_percent": round(float((scores <= 0.05).mean()), 4),
        "loss_error": round(float(np.mean(of["loss"])), 4),
        "coverage": {
            k.removeprefix("coverage "): round(float(np.mean(v)), 3) for k, v in of.items() if k.startswith("coverage")
        },
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--world", default="drawn")
    for name in ("run_noise", "checkpoint_noise", "size_noise", "edge_noise"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float)
    given = vars(parser.parse_args())
    draws, members, kind = given.pop("draws"), given.pop("members"), given.pop("world")
    noise = {name: value for name, value in given.items() if value is not None}
    began = time.monotonic()
    for size, figures in measure(draws, members=members, kind=kind, said=True, **noise).items():
        print(json.dumps({"size": size} | figures))
    print(
        json.dumps(
            {"draws": draws, "members": members, "world": kind, "noise": noise, "seconds": time.monotonic() - began}
        )
    )


if __name__ == "__main__":
    main()
