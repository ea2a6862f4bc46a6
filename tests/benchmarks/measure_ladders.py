"""How far `auto` is off, and what its intervals hold, on planted ladders: 25 runs or fewer, targets 13x and 30x beyond.

    python tests/benchmarks/measure_ladders.py --draws 200            # every draw another law and other noise
    python tests/benchmarks/measure_ladders.py --world two_source     # FLP-M's own world, new mixtures at 3B and 7B

Prints one line of JSON: mean and largest relative error of scores and losses, the share of measured values inside
their 80 percent intervals, and the seconds a draw.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import numpy as np

from flp_ray import synthetic
from flp_ray.core.records import Records
from flp_ray.fit.predictor.backtest import run_backtest
from flp_ray.fit.predictor.question import question_of

TARGETS = ((6.9e9, 3.9e12), (13.2e9, 5e12))


def records_of(world: str, draw: int) -> Records:
    """Sampling runs and targets of one draw; the laws are drawn too."""
    if world == "two_source":
        planted = replace(synthetic.two_source_world(), size_seed=draw)
        mixtures = synthetic.two_source_mixtures("code", "general", (0.05, 0.25, 0.3, 0.45))
        ahead = synthetic.Design(
            sizes=tuple(synthetic.paper_size(n) for n in ("3B", "7B")), mixtures=mixtures, checkpoints=1
        )
        return synthetic.join(
            planted.records(synthetic.paper_design(), draw), planted.records(ahead, 10_000 + draw, purpose="target")
        )
    generator = np.random.default_rng(draw)
    plain = synthetic.LadderWorld()
    bent = replace(
        plain,
        domains={
            n: tuple(v * generator.lognormal(0, s) for v, s in zip(law, (0.2, 0.15, 0.2, 0.15, 0.1), strict=True))
            for n, law in plain.domains.items()
        },
        tasks={
            n: (
                low,
                high * generator.uniform(0.85, 1.0),
                k * generator.lognormal(0, 0.25),
                m * generator.uniform(0.9, 1.1),
            )
            for n, (low, high, k, m) in plain.tasks.items()
        },
    )
    return synthetic.join(
        bent.records(synthetic.LADDER_SIZES, draw), bent.records(TARGETS, draw, purpose="target", checkpoints=1)
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--world", choices=("ladder", "two_source"), default="ladder")
    given = parser.parse_args()
    errors: dict[str, list[float]] = {"performance": [], "domain_loss": []}
    inside: dict[str, list[bool]] = {"performance": [], "domain_loss": []}
    began = time.perf_counter()
    for draw in range(given.draws):
        question = question_of(records_of(given.world, draw), None, None)
        result = run_backtest(question, ("auto",), source="planted").methods["auto"]
        for kind, found in errors.items():
            for target in result.targets:
                for judged in getattr(target, kind).values():
                    assert judged.actual is not None
                    found.append(judged.relative_error or 0.0)
                    inside[kind].append(judged.low <= judged.actual <= judged.high)
    figures = {
        kind: {
            "mean": round(float(np.mean(found)), 4),
            "median": round(float(np.median(found)), 4),
            "max": round(max(found), 4),
            "coverage": round(float(np.mean(inside[kind])), 3),
            "values": len(found),
        }
        for kind, found in errors.items()
    }
    seconds = (time.perf_counter() - began) / given.draws
    print(json.dumps(figures | {"world": given.world, "draws": given.draws, "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
